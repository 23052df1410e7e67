use std::time::Duration;

use bidlock_core::{Belief, Moment, Ttl};
use serde::{Deserialize, Serialize};

/// The end of a call that may take effect at any time.
pub const NEVER: u64 = u64::MAX;

/// One call of one lease, as its client saw it. Times are microseconds of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// Whose: the unique part of the lease's id.
    pub lease: u64,
    /// Before it was sent.
    pub invoked: u64,
    /// After its answer was read. For a call without an answer: when it can take effect no more.
    pub returned: u64,
    /// What came of it.
    pub did: Did,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// The key is the lease's.
    Granted {
        /// Of this grant.
        token: u64,
        /// How long it lives, in microseconds.
        ttl: u64,
    },
    /// A message said so. The call began with the request that the lease waited by.
    Pushed {
        /// Of this grant.
        token: u64,
        /// Until when it may be believed.
        until: u64,
    },
    /// Somebody else has the key.
    Held {
        /// Whether the lease stands in the queue now.
        waits: bool,
    },
    /// The lease lives on.
    Renewed {
        /// How long, in microseconds.
        ttl: u64,
    },
    /// The lease is over.
    Lost,
    /// The key, or a place in its queue, was given up.
    Released,
    /// There was nothing to give up.
    NotOurs,
    /// Nobody knows whether the key was asked for.
    MaybeAcquired {
        /// How long the lease would live, in microseconds.
        ttl: u64,
        /// Whether it would wait.
        waits: bool,
    },
    /// Nobody knows whether the lease was extended.
    MaybeRenewed {
        /// How long, in microseconds.
        ttl: u64,
    },
    /// Nobody knows whether something was given up.
    MaybeReleased,
}

impl Call {
    /// Until when a grant, or an extension, of this call may be believed (I3): by the rule that
    /// clients go by.
    #[must_use]
    pub(crate) fn believed_until(&self) -> Option<u64> {
        let (Did::Granted { ttl, .. }
        | Did::Renewed { ttl }
        | Did::MaybeAcquired { ttl, .. }
        | Did::MaybeRenewed { ttl }) = self.did
        else {
            return if let Did::Pushed { until, .. } = self.did { Some(until) } else { None };
        };
        let ttl = Ttl::new(Duration::from_micros(ttl)).ok()?;
        let sent = Moment::from_boot(Duration::from_micros(self.invoked));
        u64::try_from(Belief::granted(sent, ttl).ends_at().since_boot().as_micros()).ok()
    }

    /// The token of a grant.
    #[must_use]
    pub(crate) const fn token(&self) -> Option<u64> {
        match self.did {
            Did::Granted { token, .. } | Did::Pushed { token, .. } => Some(token),
            _ => None,
        }
    }
}
