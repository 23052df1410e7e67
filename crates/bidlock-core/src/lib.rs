//! The waist of bidlock: what is locked ([`Key`]), by whom ([`LeaseId`]), for how long ([`Ttl`]),
//! in which order ([`FencingToken`]), and the trait that every store implements ([`Backend`]).
//!
//! Nothing in here does I/O or knows a runtime: time, randomness and background tasks come in
//! through [`Clock`], [`Rng`] and [`Spawn`], so that a simulator can drive all of it.

mod backend;
mod backoff;
mod belief;
mod error;
mod holder;
mod key;
mod memory;
mod operate;
mod platform;
mod rules;
mod text;
mod values;

pub use backend::{
    AcquireRequest, Attempt, Backend, Browse, Health, Listener, LockInfo, LockQuery, News,
    Ownership, RenewRequest, Renewal, Revocation, Revoke, Wake,
};
pub use backoff::Backoff;
pub use belief::{Belief, LossReason};
pub use error::{BackendError, Endpoint, Op, Refusal, Source};
pub use holder::{Holder, Label, LeaseId};
pub use key::{Key, Prefix};
pub use memory::Memory;
pub use operate::{Cleanup, Diagnose, Finding, Leftover, Severity};
pub use platform::{
    BoxFuture, Clock, Liveness, Moment, Platform, ProcessMark, Processes, Rng, Spawn, WallTime,
};
pub use rules::{grant_window, next_token, spread};
pub use values::{FencingToken, InvalidValue, Ttl, limits};

/// What a store's call returns.
pub type Result<T, E = BackendError> = std::result::Result<T, E>;
