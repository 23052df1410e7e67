//! Rules that every store keeps, as plain functions.

use std::time::Duration;

use crate::{FencingToken, Ttl, WallTime, limits};

/// The token of the next grant: above the last one, and not below the wall clock in microseconds,
/// so that tokens rise after data loss by the clock and after a clock step by the counter (I1).
///
/// Returns `None` when the clock or the counter has left [`limits::TOKEN_MAX`]: nothing may be
/// granted then.
#[must_use]
pub fn next_token(last: u64, wall: WallTime) -> Option<FencingToken> {
    let next = last.saturating_add(1).max(wall.as_micros());
    (next <= limits::TOKEN_MAX).then(|| FencingToken::new(next))
}

/// How long a waiter has to confirm a lock that was handed over to it (I6).
#[must_use]
pub fn grant_window(ttl: Ttl) -> Duration {
    ttl.get().min(limits::GRANT_WINDOW)
}

/// How long after the expiry of a key a waiter looks, by its place in the queue: the first at
/// once, the rest later, all within [`limits::SPREAD_MAX`].
#[must_use]
pub fn spread(ahead: u32) -> Duration {
    const STEP: Duration = Duration::from_millis(5);
    STEP.saturating_mul(ahead).min(limits::SPREAD_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_rise_by_the_counter_and_by_the_clock() {
        let wall = WallTime::from_micros(1_000);
        assert_eq!(next_token(0, wall).unwrap().get(), 1_000);
        assert_eq!(next_token(1_000, wall).unwrap().get(), 1_001, "clock stands still");
        assert_eq!(next_token(5_000, wall).unwrap().get(), 5_001, "clock stepped back");
    }

    #[test]
    fn nothing_is_granted_past_the_bound() {
        assert_eq!(next_token(limits::TOKEN_MAX, WallTime::default()), None);
        assert_eq!(next_token(0, WallTime::from_micros(limits::TOKEN_MAX + 1)), None);
        assert_eq!(next_token(u64::MAX, WallTime::default()), None);
    }

    #[test]
    fn the_window_is_never_longer_than_the_ttl() {
        let short = Ttl::new(limits::TTL_MIN).unwrap();
        assert_eq!(grant_window(short), limits::TTL_MIN);
        assert_eq!(grant_window(Ttl::default()), limits::GRANT_WINDOW);
    }

    #[test]
    fn looks_are_spread_within_half_a_second() {
        assert_eq!(spread(0), Duration::ZERO);
        assert!(spread(1) < spread(2));
        assert_eq!(spread(u32::MAX), limits::SPREAD_MAX);
    }
}
