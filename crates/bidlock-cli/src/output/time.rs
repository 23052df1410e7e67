use std::time::Duration;

use bidlock::WallTime;
use jiff::Timestamp;

use crate::args::duration;

/// A wall time that a person gave.
pub(crate) type Stamp = WallTime;

/// Reads RFC 3339, or seconds since 1970.
pub(crate) fn parse(text: &str) -> Result<Stamp, String> {
    const FORMS: &str = "write 2026-11-23T08:00:00Z or seconds since 1970";
    let seconds = |digits: &str| {
        let seconds: i64 = digits.parse().ok()?;
        // What was seen before 2001 was not seen: the number means milliseconds, or nothing.
        (1_000_000_000..100_000_000_000).contains(&seconds).then_some(seconds)
    };
    let stamp = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        seconds(text).and_then(|s| Timestamp::from_second(s).ok())
    } else {
        text.parse::<Timestamp>().ok()
    };
    stamp
        .and_then(|stamp| u64::try_from(stamp.as_microsecond()).ok())
        .map(WallTime::from_micros)
        .ok_or_else(|| format!("not a time; {FORMS}"))
}

/// Writes a wall time as RFC 3339 in UTC, to the millisecond.
pub(crate) fn rfc3339(at: WallTime) -> String {
    let stamp = i64::try_from(at.as_micros())
        .ok()
        .and_then(|micros| Timestamp::from_microsecond(micros).ok())
        .unwrap_or(Timestamp::MAX);
    format!("{stamp:.3}")
}

/// Writes a wall time for people: when, and how long ago.
pub(crate) fn with_age(at: WallTime, now: WallTime) -> String {
    let when = rfc3339(at);
    if at > now {
        format!("{when} (in {})", age(at.since(now)))
    } else {
        format!("{when} ({} ago)", age(now.since(at)))
    }
}

/// Writes how long something took, for people.
pub(crate) fn age(length: Duration) -> String {
    if length < Duration::from_secs(1) { "under 1s".to_owned() } else { duration::show(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_time_are_read() {
        let at = WallTime::from_micros(1_795_420_800_000_000);
        assert_eq!(parse("1795420800"), Ok(at));
        assert_eq!(parse(&rfc3339(at)), Ok(at));
        assert_eq!(parse("2026-11-23T10:00:00+02:00"), Ok(at));
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_accepted_forms() {
        for bad in ["", "yesterday", "2026-11-23", "2026-13-01T00:00:00Z", "-5", "12", "1.5e9"] {
            assert!(parse(bad).unwrap_err().contains("seconds since 1970"), "{bad}");
        }
        assert!(parse("1795420800000").is_err(), "milliseconds would lie far in the future");
        assert!(parse("1960-01-01T00:00:00Z").is_err());
    }

    #[test]
    fn people_read_when_and_how_long_ago() {
        let at = WallTime::from_micros(1_795_420_800_123_456);
        let later = at + Duration::from_secs(250);
        assert_eq!(rfc3339(at), "2026-11-23T08:00:00.123Z");
        assert_eq!(with_age(at, later), "2026-11-23T08:00:00.123Z (4m 10s ago)");
        assert_eq!(with_age(later, at), "2026-11-23T08:04:10.123Z (in 4m 10s)");
    }
}
