use std::fmt::{self, Display};
use std::time::Duration;

use crate::text;

/// The named bounds of everything that a caller may choose or a store may keep.
pub mod limits {
    use std::time::Duration;

    /// The shortest TTL that a lease may have.
    pub const TTL_MIN: Duration = Duration::from_millis(100);
    /// The longest TTL that a lease may have.
    pub const TTL_MAX: Duration = Duration::from_hours(24);
    /// The TTL of a lease when the caller names none.
    pub const TTL_DEFAULT: Duration = Duration::from_mins(5);
    /// The wait budget when the caller names none.
    pub const WAIT_DEFAULT: Duration = Duration::from_secs(10);
    /// How long a waiter has to confirm a lock that was handed over to it.
    pub const GRANT_WINDOW: Duration = Duration::from_secs(3);
    /// How long a waiter's place in the queue outlives its last look.
    pub const WAITER_LEASE: Duration = Duration::from_secs(90);
    /// A waiting process looks at a key at least this often.
    pub const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(30);
    /// The looks of one queue after an expiry are spread over this long.
    pub const SPREAD_MAX: Duration = Duration::from_millis(500);
    /// The most waiters that one key may have.
    pub const WAITERS_MAX: u32 = 10_000;
    /// The longest encoded posting id or name, in bytes.
    pub const POSTING_BYTES_MAX: usize = 512;
    /// The longest marketplace name, in bytes.
    pub const MARKETPLACE_BYTES_MAX: usize = 64;
    /// The longest key prefix, in bytes.
    pub const PREFIX_BYTES_MAX: usize = 64;
    /// The longest label of a lease, in bytes.
    pub const LABEL_BYTES_MAX: usize = 128;
    /// The longest host name kept in a lease id, in bytes.
    pub const HOST_BYTES_MAX: usize = 64;
    /// No store grants a token above this: Lua numbers are exact only below 2^53.
    pub const TOKEN_MAX: u64 = 1 << 52;
    /// Clock rates of a client and a store may differ by one part in this many.
    pub const DRIFT_PARTS: u32 = 100;
    /// The most locks that one page of a listing holds.
    pub const PAGE_MAX: u32 = 1_000;
}

/// A value that was refused before anything was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} \"{value}\": {why}")]
#[non_exhaustive]
pub struct InvalidValue {
    /// What the value was meant to be, such as `posting id`.
    pub what: &'static str,
    /// The value in one visible line, cut to a length that fits.
    pub value: String,
    /// Why it is refused, and what would be accepted.
    pub why: String,
}

impl InvalidValue {
    /// Describes a refused value; what cannot be seen is spelled out, and long ones are cut.
    pub fn new(what: &'static str, value: impl Display, why: impl Into<String>) -> Self {
        const SHOWN_MAX: usize = 60;
        let full = text::escape(&value.to_string());
        let mut shown: String = full.chars().take(SHOWN_MAX).collect();
        if shown.len() < full.len() {
            shown.push('…');
        }
        Self { what, value: shown, why: why.into() }
    }
}

/// How long a lease lives without renewal: 100 ms to 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(Duration);

impl Ttl {
    /// Checks a length against [`limits::TTL_MIN`] and [`limits::TTL_MAX`]; parts of a
    /// millisecond are cut off, because stores count in milliseconds.
    ///
    /// # Errors
    /// [`InvalidValue`] names the bounds.
    pub fn new(length: Duration) -> Result<Self, InvalidValue> {
        if length < limits::TTL_MIN || length > limits::TTL_MAX {
            let why = "a TTL lies between 100ms and 24h";
            return Err(InvalidValue::new("ttl", format!("{length:?}"), why));
        }
        let whole = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        Ok(Self(Duration::from_millis(whole)))
    }

    /// The length.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }

    /// The length in whole milliseconds.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for Ttl {
    fn default() -> Self {
        Self(limits::TTL_DEFAULT)
    }
}

/// A number that rises with each grant of a key, below 2^53.
///
/// A resource that remembers the highest token it has seen, and refuses lower ones, is safe from
/// a holder that was paused past its lease. Source: Kleppmann16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(u64);

impl FencingToken {
    /// Wraps a number that a store granted.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_outside_its_bounds_is_refused_by_name() {
        for bad in [0, 99, 86_400_001] {
            let refused = Ttl::new(Duration::from_millis(bad)).unwrap_err();
            assert_eq!(refused.what, "ttl");
            assert!(refused.to_string().contains("between 100ms and 24h"), "{refused}");
        }
        assert_eq!(Ttl::new(Duration::from_millis(100)).unwrap().as_millis(), 100);
        assert_eq!(Ttl::new(limits::TTL_MAX).unwrap().get(), limits::TTL_MAX);
    }

    #[test]
    fn a_long_value_is_cut_in_the_error() {
        let refused = InvalidValue::new("posting id", "x".repeat(10_000), "too long");
        assert!(refused.to_string().len() < 200);
        assert!(refused.value.ends_with('…'));
    }
}
