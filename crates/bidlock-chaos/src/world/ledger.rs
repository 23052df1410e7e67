//! Where the ledger is.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use bidlock_testkit::servers::{Postgres, PostgresOptions};

use crate::scenario::{Design, Scenario};

/// The ledger of all hosts.
#[derive(Debug)]
pub(crate) enum LedgerSite {
    /// Files in a folder that all bidders share, one for each design.
    File(PathBuf),
    /// A database of a server.
    Server { server: Box<Postgres>, database: Mutex<String> },
}

impl LedgerSite {
    pub(super) fn start(scenario: Scenario, folder: &Path) -> Self {
        if scenario.wants_file() {
            return Self::File(folder.to_owned());
        }
        // Sessions of those that were killed or cut off stay for a while.
        let options = PostgresOptions::new().durable(true).small_disk();
        let options = options.set("max_connections=400");
        let server = Box::new(Postgres::start_with(options));
        Self::Server { server, database: Mutex::default() }
    }

    /// Begins with an empty one.
    pub(super) fn renew(&self) {
        if let Self::Server { server, database } = self {
            let new = server.new_database();
            *database.lock().unwrap_or_else(PoisonError::into_inner) = new;
        }
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
    pub(super) fn url(&self, design: Design, through: Option<SocketAddr>) -> String {
        match self {
            Self::File(folder) => {
                format!("sqlite://{}", folder.join(format!("{design}.db")).display())
            }
            Self::Server { server, database } => {
                let port = through.unwrap_or(server.address()).port();
                let own = format!(":{}/", server.port());
                let database = database.lock().unwrap_or_else(PoisonError::into_inner);
                server.url(&database).replace(&own, &format!(":{port}/"))
            }
        }
    }

    /// The ledger without a proxy before it.
    pub(crate) fn direct_url(&self, design: Design) -> String {
        self.url(design, None)
    }

    /// The name that reports show.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "sqlite",
            Self::Server { .. } => "postgres",
        }
    }
}
