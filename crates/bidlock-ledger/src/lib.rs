//! The bid ledger: what was already done for a posting, and whether it may be bid on now.
//!
//! A lock says who may act; the ledger says what was done, and is the part that keeps a second
//! bid from being sent. A bid is one *attempt*: [`Ledger::reserve`] makes it, [`Ledger::start`]
//! lets its one submission begin, [`Ledger::record`] keeps how it went. At most one attempt of a
//! posting is outside [`State::Abandoned`], by a unique index of the database (L1).
//!
//! Numbers such as L1 are those of the protocol's page in the project's documentation.

mod archive;
mod doubt;
mod error;
mod ledger;
mod mark;
#[cfg(feature = "postgres")]
mod postgres;
mod requests;
mod sqlite;
mod state;
mod store;
mod types;
mod values;

pub use archive::{Admitted, Archive, Dossier, KeptAttempt, Pruned, Standing};
pub use error::{LedgerError, Obstacle, Op, Subject};
pub use ledger::Ledger;
#[cfg(feature = "postgres")]
pub use postgres::{BadPostgresUrl, LedgerRole, PostgresConfig, PostgresDoctor, PostgresStore};
pub use requests::{
    AuditAct, AuditQuery, BidQuery, Freshness, OperatorNote, Outcome, ResendRequest,
    ReserveRequest, Resolution, ResolveRequest, SeenSender, StartRequest,
};
#[doc(hidden)]
pub use sqlite::SqliteStep;
pub use sqlite::{SqliteDoctor, SqliteStore};
pub use state::{Event, State};
pub use store::Store;
pub use types::{AttemptInfo, AuditEntry, HistoryEntry, Recorded, Reservation, Start, Verdict};
pub use values::{AttemptId, Fingerprint, LedgerId, limits};

/// What decides, for the model that checks it and for nobody else.
#[doc(hidden)]
pub mod rules {
    pub use crate::doubt::{Case, Hindered};
    pub use crate::state::{RecordStep, Standing, record_step};
}

/// What a call of the ledger returns.
pub type Result<T> = std::result::Result<T, LedgerError>;
