use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Clock, FencingToken, Key, Moment, WallTime};
use bidlock_ledger::AttemptId;

/// What a submission has to know.
#[derive(Debug, Clone)]
pub struct Submission {
    pub(super) attempt: AttemptId,
    pub(super) key: Key,
    pub(super) token: FencingToken,
    pub(super) deadline: Moment,
    pub(super) send_by: WallTime,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) again: bool,
}

impl Submission {
    /// The attempt's identity: the idempotency key for the marketplace.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Whether it may have been sent before, under the same id: the marketplace honours that, as
    /// [`BidOptions::honours_keys`](crate::BidOptions::honours_keys) has declared.
    #[must_use]
    pub const fn is_again(&self) -> bool {
        self.again
    }

    /// The posting's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The lock's fencing token.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// Until when the submission may be under way, by the wall clock, for the ledger and people.
    #[must_use]
    pub const fn send_by(&self) -> WallTime {
        self.send_by
    }

    /// The same instant by the clock that runs through suspend: what the submission is held to.
    #[must_use]
    pub const fn deadline(&self) -> Moment {
        self.deadline
    }

    /// How much time is left until the send-by. Look right before the first byte is sent: at
    /// zero, nothing may be sent.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.since(self.clock.now())
    }
}
