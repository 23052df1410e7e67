//! What a client knows of the server's clock, from the times in replies of one connection.

use std::time::Duration;

use bidlock_core::{Moment, limits};

/// A difference between what two replies say of the server's clock that is worth a word.
const STEP: i64 = 250_000;

/// The server's clock as seen from here: each reply says that at some instant between the send
/// and the receipt the server's clock read so and so.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ServerTime {
    /// The tightest of «at `local`, the server's clock read at most `server`».
    at_most: Option<Pair>,
    /// The tightest of «at `local`, the server's clock read at least `server`».
    at_least: Option<Pair>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    local: Moment,
    /// Microseconds since 1970.
    server: i64,
}

impl Pair {
    /// The server's clock less the local one.
    fn offset(self) -> i64 {
        self.server.saturating_sub(micros(self.local.since_boot()))
    }
}

impl ServerTime {
    /// Takes in that the server's clock read `server` between two local moments; returns the size
    /// of a step when the server's clock has been stepped since the last reply.
    pub(crate) fn learn(&mut self, sent: Moment, received: Moment, server: i64) -> Option<i64> {
        let at_most = Pair { local: sent, server };
        let at_least = Pair { local: received, server };
        let stepped = match (self.at_most, self.at_least) {
            (Some(high), _) if at_least.offset() > high.offset() => {
                at_least.offset() - high.offset()
            }
            (_, Some(low)) if at_most.offset() < low.offset() => at_most.offset() - low.offset(),
            _ => 0,
        };
        if stepped == 0 {
            // Equal ones are newer, and have aged less.
            if self.at_most.is_none_or(|known| at_most.offset() <= aged(known, sent)) {
                self.at_most = Some(at_most);
            }
            if self.at_least.is_none_or(|known| at_least.offset() >= known.offset()) {
                self.at_least = Some(at_least);
            }
            return None;
        }
        // What was known of another clock is worth nothing; small steps are drift.
        *self = Self { at_most: Some(at_most), at_least: Some(at_least) };
        (stepped.abs() >= STEP).then_some(stepped)
    }

    /// The server's reading that is certain to come no later than the local moment (I9).
    pub(crate) fn deadline(&self, local: Moment) -> Option<i64> {
        let known = self.at_least?;
        Some(micros(local.since_boot()).saturating_add(known.offset()))
    }

    /// Until when a grant may be believed that the server made at `granted`, by its clock, for
    /// `window` (I3): counted from a moment that is certain to lie before the grant, less the
    /// margin for clocks of different rates over all of that time.
    pub(crate) fn believed_until(&self, granted: i64, window: Duration) -> Option<Moment> {
        let known = self.at_most?;
        let since = granted.saturating_sub(known.server);
        let (since_length, window) = (since.saturating_abs(), micros(window));
        let margin = (since_length.saturating_add(window)) / i64::from(limits::DRIFT_PARTS);
        let length = since.saturating_add(window).saturating_sub(margin);
        let length = u64::try_from(length).ok().filter(|length| *length > 0)?;
        Some(known.local + Duration::from_micros(length))
    }
}

/// How loose a bound has become by `now`, when clocks differ by as much as they may.
fn aged(known: Pair, now: Moment) -> i64 {
    let age = micros(now.since(known.local));
    known.offset().saturating_add(age / i64::from(limits::DRIFT_PARTS))
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_boot(Duration::from_millis(millis))
    }

    fn server(millis: i64) -> i64 {
        1_800_000_000_000_000 + millis * 1_000
    }

    #[test]
    fn a_deadline_is_never_later_than_meant_and_a_belief_never_longer() {
        let mut time = ServerTime::default();
        assert_eq!(time.deadline(at(0)), None);
        // The server read its clock at some instant between 1,000 and 1,040.
        assert_eq!(time.learn(at(1_000), at(1_040), server(0)), None);
        // By its clock at most 60 ms can pass until 1,100 even if it read it at 1,040.
        assert_eq!(time.deadline(at(1_100)), Some(server(60)));
        // A grant 100 ms later by its clock was made at 1,100 at the earliest.
        let until = time.believed_until(server(100), Duration::from_secs(3)).unwrap();
        assert_eq!(until, at(1_000 + 100 + 3_000 - 31));
    }

    #[test]
    fn the_tightest_reply_counts() {
        let mut time = ServerTime::default();
        time.learn(at(1_000), at(1_100), server(0));
        time.learn(at(1_200), at(1_202), server(110));
        time.learn(at(1_300), at(1_390), server(250));
        assert_eq!(time.deadline(at(2_000)), Some(server(110 + 798)));
    }

    #[test]
    fn a_grant_from_before_the_reply_is_believed_less() {
        let mut time = ServerTime::default();
        time.learn(at(5_000), at(5_000), server(0));
        let window = Duration::from_secs(1);
        assert_eq!(time.believed_until(server(-500), window), Some(at(5_000 + 500 - 15)));
        assert_eq!(time.believed_until(server(-1_000), window), None, "nothing is left of it");
    }

    #[test]
    fn a_stepped_clock_is_learnt_anew_and_told() {
        for step in [3_600_000, -3_600_000] {
            let mut time = ServerTime::default();
            time.learn(at(1_000), at(1_002), server(0));
            let told = time.learn(at(2_000), at(2_002), server(1_001 + step)).unwrap();
            assert!((told.abs() - 3_600_000_000).abs() < 10_000, "{told}");
            assert_eq!(time.deadline(at(2_102)), Some(server(1_001 + step + 100)));
            assert_eq!(time.learn(at(3_000), at(3_002), server(2_001 + step)), None);
        }
    }

    #[test]
    fn drift_is_followed_without_a_word() {
        let mut time = ServerTime::default();
        time.learn(at(0), at(1), server(0));
        for second in 1..100_i64 {
            let local = u64::try_from(second).unwrap() * 1_000;
            let read = server(second * 1_000 + second / 10); // 100 parts in a million fast
            assert_eq!(time.learn(at(local), at(local + 1), read), None);
        }
        let deadline = time.deadline(at(99_001)).unwrap();
        assert!((deadline - server(99_009)).abs() < 2_000, "{deadline}");
    }
}
