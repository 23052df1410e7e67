use std::fmt::{self, Debug, Display};
use std::str::FromStr;

use bidlock_core::{InvalidValue, Label, Rng};
use sha2::{Digest as _, Sha256};

/// The named bounds of what the ledger keeps.
pub mod limits {
    use std::time::Duration;

    /// The longest reference of a marketplace, in bytes.
    pub const REFERENCE_BYTES_MAX: usize = 512;
    /// The longest reason, in bytes.
    pub const REASON_BYTES_MAX: usize = 1_024;
    /// The longest name of an operator, in bytes.
    pub const ACTOR_BYTES_MAX: usize = 128;
    /// The longest name of an act in the audit, in bytes.
    pub const ACT_BYTES_MAX: usize = 64;
    /// The longest text about the holder or the process of an attempt, in bytes.
    pub const HOLDER_BYTES_MAX: usize = 512;
    /// A send-by lies at most this far ahead.
    pub const SEND_BY_MAX: Duration = Duration::from_hours(24);
    /// A marketplace's visibility lag is at most this long.
    pub const VISIBILITY_LAG_MAX: Duration = Duration::from_hours(24 * 30);
    /// How old a sighting of a posting may be when the caller says nothing.
    pub const MAX_AGE_DEFAULT: Duration = Duration::from_hours(24);
    /// A marketplace keeps idempotency keys for at most this long, as far as this ledger goes.
    pub const RETENTION_MAX: Duration = Duration::from_hours(24 * 365);
    /// A posting that was seen further ahead than this has a wrong clock behind it.
    pub const AHEAD_MAX: Duration = Duration::from_mins(5);
    /// How long a call waits for a file that other processes write.
    pub const BUSY_MAX: Duration = Duration::from_secs(10);
    /// How many calls may wait in one process.
    pub const QUEUE_MAX: usize = 10_000;
    /// The most calls that share one commit.
    pub const BATCH_MAX: usize = 128;
    /// The most entries of one page.
    pub const PAGE_MAX: u32 = bidlock_core::limits::PAGE_MAX;
}

/// An attempt's identity, and its idempotency key at the marketplace: 128 bits, 122 of them
/// random, written as a UUID of version 4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(u128);

impl AttemptId {
    /// Makes an id that nobody can guess and nobody has had.
    #[must_use]
    pub fn random(rng: &dyn Rng) -> Self {
        Self(uuid::random(rng))
    }
}

impl FromStr for AttemptId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let why = "an attempt id is a UUID of version 4 in lower case";
        uuid::read(text).map(Self).ok_or_else(|| InvalidValue::new("attempt id", text, why))
    }
}

impl Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::write(self.0, f)
    }
}

impl Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttemptId({self})")
    }
}

/// A ledger's identity, made with it: 122 random bits, written as a UUID of version 4. A copy of
/// the ledger has the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerId(u128);

impl LedgerId {
    /// Makes an id that no other ledger has.
    #[must_use]
    pub fn random(rng: &dyn Rng) -> Self {
        Self(uuid::random(rng))
    }
}

impl FromStr for LedgerId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let why = "a ledger id is a UUID of version 4 in lower case";
        uuid::read(text).map(Self).ok_or_else(|| InvalidValue::new("ledger id", text, why))
    }
}

impl Display for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::write(self.0, f)
    }
}

impl Debug for LedgerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerId({self})")
    }
}

/// UUIDs of version 4 in lower case: one spelling for each.
mod uuid {
    use std::fmt;

    use bidlock_core::Rng;

    pub(super) fn random(rng: &dyn Rng) -> u128 {
        const MARKS: u128 = 0xf000 << 64 | 0xc000 << 48;
        const VERSION_4: u128 = 0x4000 << 64 | 0x8000 << 48;
        let drawn = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        drawn & !MARKS | VERSION_4
    }

    pub(super) fn read(text: &str) -> Option<u128> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        let shape = |(at, b): (usize, u8)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            14 => b == b'4',
            19 => matches!(b, b'8' | b'9' | b'a' | b'b'),
            _ => hex(b),
        };
        let sound = text.len() == 36 && text.bytes().enumerate().all(shape);
        let digits: String = text.chars().filter(|c| *c != '-').collect();
        u128::from_str_radix(&digits, 16).ok().filter(|_| sound)
    }

    pub(super) fn write(bits: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            bits >> 80 & 0xffff,
            bits >> 64 & 0xffff,
            bits >> 48 & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

/// What was to be sent, as a SHA-256 over bytes that the caller names: `sha256:` and 64 hex
/// digits. It is fixed when the attempt starts (L9).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes the fingerprint of a payload.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        Self(Sha256::digest(payload).into())
    }
}

impl FromStr for Fingerprint {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let read = || {
            let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?;
            let digit = |b: u8| match b {
                b'0'..=b'9' => Some(b - b'0'),
                b'a'..=b'f' => Some(b - b'a' + 10),
                _ => None,
            };
            let mut bytes = [0; 32];
            for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
                *byte = digit(pair[0])? << 4 | digit(pair[1])?;
            }
            Some(Self(bytes))
        };
        read().ok_or_else(|| {
            let why = "a fingerprint is sha256: and 64 hex digits in lower case";
            InvalidValue::new("payload fingerprint", text, why)
        })
    }
}

impl Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Refuses a text that is empty, longer than its bound, or not one line that people can see.
pub(crate) fn check_line(
    what: &'static str,
    text: &str,
    bytes_max: usize,
) -> Result<(), InvalidValue> {
    let why = if text.trim().is_empty() {
        "empty".to_owned()
    } else if text.len() > bytes_max {
        format!("longer than {bytes_max} bytes")
    } else if !text.chars().all(is_visible) {
        "has characters that cannot be seen, or more than one line".to_owned()
    } else {
        return Ok(());
    };
    Err(InvalidValue::new(what, text, why))
}

/// Makes a text fit [`check_line`]: unseen characters become spaces, what is too long is cut.
pub(crate) fn fit_line(text: &str, bytes_max: usize) -> Option<String> {
    let mut line = String::with_capacity(text.len().min(bytes_max));
    for c in text.trim().chars().map(|c| if is_visible(c) { c } else { ' ' }) {
        if line.len() + c.len_utf8() > bytes_max {
            break;
        }
        line.push(c);
    }
    line.truncate(line.trim_end().len());
    (!line.trim().is_empty()).then_some(line)
}

/// Core's rule for labels, one character at a time.
fn is_visible(c: char) -> bool {
    matches!(c, ' '..='~') || (!c.is_ascii() && Label::new(c.encode_utf8(&mut [0; 4])).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed(u64);

    impl Rng for Fixed {
        fn next_u64(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn an_attempt_id_is_a_uuid_of_version_4() {
        for bits in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            let id = AttemptId::random(&Fixed(bits));
            assert_eq!(id.to_string().parse::<AttemptId>().unwrap(), id);
        }
        let id = AttemptId::random(&Fixed(u64::MAX));
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }

    #[test]
    fn another_spelling_of_an_attempt_id_is_refused() {
        for bad in [
            "",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "FFFFFFFF-ffff-4fff-bfff-ffffffffffff",
            "ffffffff-ffff-1fff-bfff-ffffffffffff",
            "ffffffff-ffff-4fff-cfff-ffffffffffff",
            "ffffffffffff-4fff-bfff-ffffffffffff-",
            "+fffffff-ffff-4fff-bfff-ffffffffffff",
        ] {
            assert!(bad.parse::<AttemptId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_sha256_and_is_read_back() {
        let print = Fingerprint::of(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(print.to_string(), text);
        assert_eq!(text.parse::<Fingerprint>().unwrap(), print);
        assert_ne!(Fingerprint::of(b"abd"), print);
        for bad in ["", "sha256:", &text.to_uppercase(), &text[..70], &text.replace("sha", "md")] {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_line_is_visible_and_bounded() {
        assert!(check_line("reason", "späť 🚀 ok", 64).is_ok());
        for bad in ["", "  ", "a\nb", "a\u{200b}b", "a\tb", "a\u{202e}b", &"x".repeat(65)] {
            assert!(check_line("reason", bad, 64).is_err(), "{bad:?}");
            if let Some(fitted) = fit_line(bad, 64) {
                check_line("reason", &fitted, 64).unwrap();
            }
        }
        assert_eq!(fit_line("a\nb ", 64).as_deref(), Some("a b"));
        assert_eq!(fit_line("\n", 64), None);
        assert_eq!(fit_line("éé", 3).as_deref(), Some("é"));
    }
}
