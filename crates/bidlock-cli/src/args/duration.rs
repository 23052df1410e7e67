use std::time::Duration;

/// The forms that every duration flag accepts, as error texts and help say them.
pub(crate) const FORMS: &str = "write 250ms, 30s, 5m, 1h30m, 2d or a bare 0";

/// The longest duration that flags take which name no other: what is longer is a typing error.
pub(crate) const LONGEST: Duration = Duration::from_hours(24 * 366);

/// The units that a duration may have, longest name first so that `ms` is not read as `m`.
const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `250ms`, `30s`, `5m`, `1h30m` or a bare `0`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let length = read(text, LONGEST)?;
    if length > LONGEST { Err(too_long(LONGEST)) } else { Ok(length) }
}

/// Reads any duration; the longest that is meant is for the message.
fn read(text: &str, longest: Duration) -> Result<Duration, String> {
    if text.is_empty() {
        return Err(format!("empty; {FORMS}"));
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.starts_with('-') {
        return Err(format!("a duration is not negative; {FORMS}"));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("a unit is missing; {FORMS}"));
    }
    let mut rest = text;
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let (part, after) = read_part(rest, longest)?;
        millis = millis.checked_add(part).ok_or_else(|| too_long(longest))?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Reads a duration that must lie between two bounds, both included.
pub(crate) fn parse_between(
    text: &str,
    shortest: Duration,
    longest: Duration,
) -> Result<Duration, String> {
    let length = read(text, longest)?;
    if length < shortest || length > longest {
        let (low, high) = (show(shortest), show(longest));
        return Err(format!("it lies between {low} and {high}; {FORMS}"));
    }
    Ok(length)
}

fn too_long(longest: Duration) -> String {
    format!("longer than {}; {FORMS}", show(longest))
}

/// Reads one number with its unit, and returns what follows.
fn read_part(text: &str, longest: Duration) -> Result<(u64, &str), String> {
    let odd = || format!("not a duration; {FORMS}");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.is_empty() {
        return Err(odd());
    }
    let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let (unit, after) = rest.split_at(letters);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(odd)?;
    // Only digits are left, so a failure means that there are too many.
    let number: u64 = number.parse().map_err(|_| too_long(longest))?;
    Ok((number.checked_mul(*factor).ok_or_else(|| too_long(longest))?, after))
}

/// Writes a duration as people would: `250ms`, `4m 10s`, `2d 3h`; at most two units.
pub(crate) fn show(length: Duration) -> String {
    let millis = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let mut rest = millis / 1_000;
    let mut parts = Vec::new();
    for (name, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count}{name}"));
        } else if !parts.is_empty() {
            // `1h 5s` would look more exact than it is.
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_help_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
            ("366d", 31_622_400_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused_with_the_accepted_forms() {
        for bad in [
            "",
            "-5s",
            "-1",
            "5",
            "300",
            "5 s",
            "s",
            "1.5s",
            "5sec",
            "5M",
            "1h-5m",
            "∞",
            "forever",
            "367d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            let why = parse(bad).unwrap_err();
            assert!(why.contains("250ms, 30s, 5m, 1h30m"), "{bad}: {why}");
        }
    }

    #[test]
    fn bounds_are_named() {
        let (low, high) = (Duration::from_millis(100), Duration::from_hours(24));
        assert_eq!(parse_between("24h", low, high), Ok(high));
        for bad in ["0", "99ms", "24h1ms"] {
            let why = parse_between(bad, low, high).unwrap_err();
            assert!(why.contains("between 100ms and 1d"), "{why}");
        }
        // One flag takes more than all others.
        let years = Duration::from_hours(24 * 3_653);
        assert_eq!(parse_between("3653d", low, years), Ok(years));
        assert!(parse_between("3654d", low, years).unwrap_err().contains("and 3653d"));
        let much = parse_between("99999999999999999999d", low, years).unwrap_err();
        assert!(much.contains("longer than 3653d"), "{much}");
    }

    #[test]
    fn durations_are_shown_in_at_most_two_units() {
        for (millis, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_000, "1s"),
            (250_000, "4m 10s"),
            (3_605_000, "1h"),
            (97_200_000, "1d 3h"),
        ] {
            assert_eq!(show(Duration::from_millis(millis)), text);
        }
    }
}
