//! Where the ledger is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bidlock_testkit::servers::{Postgres, PostgresOptions};

use crate::scenario::Scenario;

const POSTGRES_IS_TO_COME: bool = true;

/// The ledger of all hosts.
#[derive(Debug)]
pub(crate) enum LedgerSite {
    /// One file that all bidders share.
    File(PathBuf),
    /// A database of a server of its own.
    Server { server: Box<Postgres>, database: String },
}

impl LedgerSite {
    pub(super) fn start(scenario: Scenario, folder: &Path) -> Self {
        if scenario.wants_file() || POSTGRES_IS_TO_COME {
            return Self::File(folder.join("ledger.db"));
        }
        let server = Box::new(Postgres::start_with(PostgresOptions::new().durable(true)));
        let database = server.new_database();
        Self::Server { server, database }
    }

    /// The server, unless it is a file.
    pub(crate) const fn server(&self) -> Option<&Postgres> {
        match self {
            Self::File(_) => None,
            Self::Server { server, .. } => Some(server),
        }
    }

    /// The address of a server; none for a file.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.server().map(Postgres::address)
    }

    /// The ledger, by way of this address where there is one.
    pub(super) fn url(&self, through: Option<SocketAddr>) -> String {
        match self {
            Self::File(path) => format!("sqlite://{}", path.display()),
            Self::Server { server, database } => {
                let port = through.unwrap_or(server.address()).port();
                let own = format!(":{}/", server.port());
                server.url(database).replace(&own, &format!(":{port}/"))
            }
        }
    }

    /// The ledger without a proxy before it.
    pub(crate) fn direct_url(&self) -> String {
        self.url(None)
    }

    /// The name that reports show.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "sqlite",
            Self::Server { .. } => "postgres",
        }
    }
}
