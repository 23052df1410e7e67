use std::fmt::Debug;
use std::time::Duration;

use bidlock_core::LossReason;
use bidlock_ledger::{Recorded, State};

use crate::ReconcileOutcome;

/// How an acquire ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AcquireOutcome {
    /// With a lease.
    Acquired,
    /// Held by somebody else, without a wait.
    Busy,
    /// Held by somebody else for the whole wait.
    TimedOut,
    /// Given up by its caller.
    Cancelled,
    /// By an error of the store.
    Failed,
}

/// What sent a waiter to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WakeSource {
    /// A message from the store.
    Push,
    /// Its own timer.
    Timer,
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReleaseOutcome {
    /// The key was given up.
    Released,
    /// The key was not the lease's any more.
    NotOwner,
    /// The store gave no answer for as long as the lease lasted: its TTL ended it.
    Failed,
}

/// How a bid ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BidOutcome {
    /// Placed by this call.
    Placed,
    /// Refused by the marketplace.
    Refused,
    /// Nothing was sent.
    NotSent,
    /// Nobody knows.
    Unknown,
    /// Decided before: nothing was done.
    AlreadyDecided,
    /// In doubt before: nothing was done.
    InDoubt,
    /// Somebody else is at it: nothing was done.
    InProgress,
    /// The lock was not to be had, or lost before the start: nothing was sent.
    NoLock,
    /// A store gave no answer.
    Failed,
    /// Seen too long ago: nothing was done.
    Stale,
    /// An outcome that came after its attempt was closed.
    Late,
}

impl BidOutcome {
    /// How an attempt stands after its outcome was recorded.
    pub(crate) const fn of(recorded: &Recorded) -> Self {
        if let Recorded::Late(_) = recorded {
            return Self::Late;
        }
        match recorded.attempt().state {
            State::Placed | State::Withdrawn => Self::Placed,
            State::Refused => Self::Refused,
            State::Abandoned => Self::NotSent,
            _ => Self::Unknown,
        }
    }
}

/// Something that happened, for metrics. None of them names a key: `class` is the marketplace,
/// or `named` for keys that have none.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// An acquire ended.
    Acquire {
        /// The marketplace, or `named`.
        class: &'a str,
        /// How it ended.
        outcome: AcquireOutcome,
        /// How long it took in all.
        waited: Duration,
        /// How often the store was asked.
        attempts: u32,
    },
    /// A waiter looks again.
    Woken {
        /// The marketplace, or `named`.
        class: &'a str,
        /// What sent it.
        source: WakeSource,
    },
    /// A lease was renewed.
    Renewed {
        /// The marketplace, or `named`.
        class: &'a str,
        /// How much later than planned the renewal was sent.
        lag: Duration,
        /// How much time the lease had left when the answer came.
        slack: Duration,
    },
    /// A renewal had no answer; it is tried again while the lease lasts.
    RenewalFailed {
        /// The marketplace, or `named`.
        class: &'a str,
    },
    /// A lease was lost.
    Lost {
        /// The marketplace, or `named`.
        class: &'a str,
        /// Why.
        reason: LossReason,
        /// How long it was held.
        held: Duration,
    },
    /// A lease was released.
    Released {
        /// The marketplace, or `named`.
        class: &'a str,
        /// How that went.
        outcome: ReleaseOutcome,
        /// How long it was held.
        held: Duration,
    },
    /// A bid ended, or was not made.
    Bid {
        /// The marketplace, or `named`.
        class: &'a str,
        /// How.
        outcome: BidOutcome,
    },
    /// A reconciler looked at an attempt in doubt.
    Reconciled {
        /// The marketplace, or `named`.
        class: &'a str,
        /// What came of it.
        outcome: ReconcileOutcome,
    },
}

/// Hears of everything that happens, to count it. It is called in line, so it must not block; it
/// may call back, and its panic is caught.
pub trait Observer: Debug + Send + Sync + 'static {
    /// Takes note of an event.
    fn on(&self, event: &Event<'_>);
}

/// Hears and forgets.
#[derive(Debug)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    fn on(&self, _event: &Event<'_>) {}
}
