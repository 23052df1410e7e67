//! A lock manager and bid ledger: do a thing at most once across a fleet.
//!
//! - [`Locker`] decides who may act now: a [`Lease`] of a [`Key`] is renewed in the background,
//!   carries a [`FencingToken`], and tells its holder in time when it is lost.
//! - [`ledger::Ledger`] remembers what was already done.
//! - [`BidGuard`] joins both: no submission for a posting starts while another may have happened.

mod acquire;
mod bid;
mod bridge;
mod builder;
mod doctor;
mod error;
mod held;
mod inbox;
mod inner;
mod keeper;
mod lease;
mod locker;
mod observe;
mod open;
mod reconcile;
mod store_url;

pub use acquire::{Acquire, Wait};
pub use bid::{Begin, BidGuard, BidOptions, OpenBid, Placement, Submission};
pub use bidlock_core::{
    Backend, BackendError, Browse, Cleanup, Clock, Diagnose, Endpoint, FencingToken, Finding,
    Health, Holder, InvalidValue, Key, Label, LeaseId, Leftover, Liveness, LockInfo, LockQuery,
    LossReason, Memory, Moment, Op, Ownership, Platform, Prefix, ProcessMark, Refusal, Renewal,
    Revocation, Revoke, Severity, Ttl, WallTime, limits,
};
pub use bidlock_ledger as ledger;
pub use bidlock_platform as platform;
pub use bridge::OldTable;
pub use builder::Builder;
pub use error::Error;
pub use lease::{Lease, LeaseView};
pub use locker::Locker;
pub use observe::{AcquireOutcome, BidOutcome, Event, Observer, ReleaseOutcome, WakeSource};
pub use open::{ConfigError, doctor, find_ledger, ledger_doctor, migrate_ledger, open_ledger};
pub use reconcile::{
    Answer, Asked, Question, Reconcile, ReconcileOptions, ReconcileOutcome, Reconciler, Report,
};
pub use store_url::{PostgresConfig, RedisConfig, StoreUrl, masked};
