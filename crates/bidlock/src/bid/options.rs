use std::time::Duration;

use bidlock_core::{Label, Ttl, WallTime};
use bidlock_ledger::{Fingerprint, Freshness};

use crate::Wait;

/// How to place a bid.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct BidOptions {
    pub(super) wait: Wait,
    pub(super) ttl: Ttl,
    pub(super) max_hold: Option<Duration>,
    pub(super) label: Option<Label>,
    pub(super) submit_timeout: Duration,
    pub(super) freshness: Freshness,
    pub(super) payload: Option<Fingerprint>,
    pub(super) honours_keys: Option<Duration>,
}

impl Default for BidOptions {
    fn default() -> Self {
        Self {
            wait: Wait::default(),
            ttl: Ttl::default(),
            max_hold: None,
            label: None,
            submit_timeout: Self::SUBMIT_TIMEOUT,
            freshness: Freshness::default(),
            payload: None,
            honours_keys: None,
        }
    }
}

impl BidOptions {
    /// How long a submission may take when the caller names nothing: 60 s.
    pub const SUBMIT_TIMEOUT: Duration = Duration::from_mins(1);

    /// Waits so long for the lock at most; 10 s by default.
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The lock's TTL; 5 min by default.
    pub const fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Loses the lock after so long; unbounded by default.
    pub const fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// Tells people for whom the key is held.
    pub fn holder_label(mut self, label: Label) -> Self {
        self.label = Some(label);
        self
    }

    /// Stops a submission so long after its start; 60 s by default. The moment is its send-by.
    pub const fn submit_timeout(mut self, submit_timeout: Duration) -> Self {
        self.submit_timeout = submit_timeout;
        self
    }

    /// Does nothing for a posting that was seen longer ago than `max_age`.
    pub const fn seen(mut self, seen_at: WallTime, max_age: Duration) -> Self {
        self.freshness = Freshness { seen_at: Some(seen_at), max_age };
        self
    }

    /// Keeps a fingerprint of what is sent.
    pub const fn payload(mut self, payload: Fingerprint) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Declares that the marketplace takes the attempt's id for an idempotency key: it places a
    /// bid once, however often it comes with that key, for `retention` after it came first.
    ///
    /// A posting in doubt is then sent again, under the id of the attempt in doubt, once its
    /// send-by has passed; [`BidOptions::payload`] has to be the one of that attempt. Declared of
    /// a marketplace that does not do so, this places bids twice. A submission that was sent
    /// again and says «not sent» leaves the posting in doubt: it speaks for one of two.
    pub const fn honours_keys(mut self, retention: Duration) -> Self {
        self.honours_keys = Some(retention);
        self
    }
}
