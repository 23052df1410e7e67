//! Where the ledger is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::scenario::Scenario;

/// The ledger of all hosts.
#[derive(Debug)]
pub(crate) enum LedgerSite {
    /// One file that all bidders share.
    File(PathBuf),
}

impl LedgerSite {
    pub(super) fn start(scenario: Scenario, folder: &Path) -> Result<Self> {
        let _chosen = scenario.wants_file();
        Ok(Self::File(folder.join("ledger.db")))
    }

    /// The address of a server; none for a file.
    pub(super) const fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::File(_) => None,
        }
    }

    /// The ledger behind a proxy.
    pub(super) fn url(&self, _through: Option<SocketAddr>) -> String {
        match self {
            Self::File(path) => format!("sqlite://{}", path.display()),
        }
    }

    /// The ledger without a proxy before it.
    pub(crate) fn direct_url(&self) -> String {
        self.url(self.address())
    }

    /// The name that reports show.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "sqlite",
        }
    }
}
