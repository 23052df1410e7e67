use std::fmt::{self, Display};
use std::time::Duration;

use crate::{Moment, Ttl, limits};

/// Why a lease is held no longer, other than by its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LossReason {
    /// It ended without being renewed.
    Expired,
    /// Somebody else has the key, or has deleted it before its time was over.
    Taken,
    /// An operator took the key.
    Revoked,
    /// The store could not be asked to renew in time.
    Unreachable,
    /// The store forgot its locks.
    DataLost,
    /// The process or its machine stood still for too long.
    Suspended,
    /// It was held for as long as its `max_hold` allows.
    MaxHold,
}

impl LossReason {
    /// The reason's name, as metrics and JSON say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Taken => "taken",
            Self::Revoked => "revoked",
            Self::Unreachable => "unreachable",
            Self::DataLost => "data_lost",
            Self::Suspended => "suspended",
            Self::MaxHold => "max_hold",
        }
    }
}

impl Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it ended without being renewed",
            Self::Taken => "somebody else has the key, or deleted it",
            Self::Revoked => "an operator took the key",
            Self::Unreachable => "the store could not be reached to renew it in time",
            Self::DataLost => "the store forgot its locks",
            Self::Suspended => "this process or machine stood still for longer than the lease",
            Self::MaxHold => "it was held for as long as max_hold allows",
        })
    }
}

/// What a client may believe of its lease, by its own clock alone (I3, I4).
///
/// Validity counts from the moment before the request was sent, and a margin is taken off for
/// clocks that run at different rates, so the belief ends before the store's lease does.
#[derive(Debug, Clone)]
pub struct Belief {
    /// When the current promise was asked for.
    since: Moment,
    /// Until when it may be believed.
    until: Moment,
    /// The end that no renewal moves.
    hold_until: Option<Moment>,
    lost: Option<LossReason>,
}

impl Belief {
    /// Believes a grant that was asked for at `sent`.
    #[must_use]
    pub fn granted(sent: Moment, ttl: Ttl) -> Self {
        Self { since: sent, until: sent + trusted(ttl.get()), hold_until: None, lost: None }
    }

    /// Believes a grant that was pushed, up to a moment that its store has worked out.
    #[must_use]
    pub const fn pushed(now: Moment, until: Moment) -> Self {
        Self { since: now, until, hold_until: None, lost: None }
    }

    /// Lets no renewal carry the lease past `end`.
    #[must_use]
    pub const fn capped(mut self, end: Moment) -> Self {
        self.hold_until = Some(end);
        self
    }

    /// Believes a renewal that was asked for at `sent`. A lease once lost stays lost, and an
    /// answer that is older than what is known moves nothing.
    pub fn renewed(&mut self, sent: Moment, ttl: Ttl) {
        let until = sent + trusted(ttl.get());
        if self.lost.is_none() && until > self.until {
            self.since = sent;
            self.until = until;
        }
    }

    /// Ends the belief for good; the first reason stays.
    pub fn lose(&mut self, reason: LossReason) -> LossReason {
        *self.lost.get_or_insert(reason)
    }

    /// The time left, or why there is none.
    ///
    /// # Errors
    /// The reason of the loss. A promise that ran out reads as [`LossReason::Expired`] until
    /// [`Belief::lose`] has said it better.
    pub fn check(&self, now: Moment) -> Result<Duration, LossReason> {
        if let Some(reason) = self.lost {
            return Err(reason);
        }
        let left = self.ends_at().since(now);
        if left.is_zero() {
            let held_out = self.hold_until.is_some_and(|end| end <= now && end <= self.until);
            return Err(if held_out { LossReason::MaxHold } else { LossReason::Expired });
        }
        Ok(left)
    }

    /// When the belief ends unless it is renewed.
    #[must_use]
    pub fn ends_at(&self) -> Moment {
        self.hold_until.map_or(self.until, |end| end.min(self.until))
    }

    /// When the last promise of the store ends, whatever caps the belief.
    #[must_use]
    pub const fn promised_until(&self) -> Moment {
        self.until
    }

    /// When to renew: a third into the promise.
    #[must_use]
    pub fn renew_at(&self) -> Moment {
        self.since + self.until.since(self.since) / 3
    }

    /// Why it was lost, where it was.
    #[must_use]
    pub const fn lost(&self) -> Option<LossReason> {
        self.lost
    }
}

/// The part of a promised length that may be believed: the rest covers clocks of different rates.
fn trusted(length: Duration) -> Duration {
    length.saturating_sub(length / limits::DRIFT_PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(millis))
    }

    fn ttl(millis: u64) -> Ttl {
        Ttl::new(Duration::from_millis(millis)).unwrap()
    }

    #[test]
    fn validity_counts_from_before_the_send_less_the_margin() {
        let belief = Belief::granted(at(1_000), ttl(1_000));
        assert_eq!(belief.check(at(1_000)), Ok(Duration::from_millis(990)));
        assert_eq!(belief.check(at(1_989)), Ok(Duration::from_millis(1)));
        assert_eq!(belief.check(at(1_990)), Err(LossReason::Expired));
        assert_eq!(belief.renew_at(), at(1_330));
    }

    #[test]
    fn a_lost_lease_stays_lost_for_its_first_reason() {
        let mut belief = Belief::granted(at(0), ttl(1_000));
        assert_eq!(belief.lose(LossReason::Taken), LossReason::Taken);
        assert_eq!(belief.lose(LossReason::Revoked), LossReason::Taken);
        belief.renewed(at(10), ttl(60_000));
        assert_eq!(belief.check(at(20)), Err(LossReason::Taken));
    }

    #[test]
    fn an_old_answer_never_shortens_or_moves_back() {
        let mut belief = Belief::granted(at(0), ttl(1_000));
        belief.renewed(at(500), ttl(1_000));
        belief.renewed(at(100), ttl(1_000));
        assert_eq!(belief.ends_at(), at(1_490));
    }

    #[test]
    fn no_renewal_passes_max_hold() {
        let mut belief = Belief::granted(at(0), ttl(1_000)).capped(at(1_500));
        belief.renewed(at(900), ttl(1_000));
        assert_eq!(belief.check(at(1_499)), Ok(Duration::from_millis(1)));
        assert_eq!(belief.check(at(1_500)), Err(LossReason::MaxHold));
    }

    #[test]
    fn a_pushed_grant_is_believed_only_as_long_as_its_store_says() {
        let belief = Belief::pushed(at(100), at(3_000));
        assert!(belief.check(at(2_999)).is_ok());
        assert!(belief.check(at(3_000)).is_err());
        assert!(belief.renew_at() < at(3_000));
    }
}
