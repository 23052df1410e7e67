use std::fmt::{self, Debug, Display};
use std::str::FromStr;
use std::sync::Arc;

use crate::{InvalidValue, Rng, limits, text};

/// A lease's identity, as stores keep it: `hostname:pid:unique`, the unique part 16 lower-case
/// hex digits, new for every lease.
///
/// Whoever knows the whole text can release the lease, so `Debug` and `Display` show only the
/// first 8 digits of the unique part; [`LeaseId::expose`] gives all of it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LeaseId {
    host: Arc<str>,
    pid: u32,
    unique: u64,
}

impl LeaseId {
    /// Makes an identity that nobody can guess. Characters that a host name cannot have become
    /// hyphens, and a long one is cut to 64 bytes.
    #[must_use]
    pub fn random(host: &str, pid: u32, rng: &dyn Rng) -> Self {
        let mut host: String = host
            .chars()
            .map(
                |c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' },
            )
            .take(limits::HOST_BYTES_MAX)
            .collect();
        if host.is_empty() {
            host.push_str("unknown");
        }
        Self { host: host.into(), pid, unique: rng.next_u64() }
    }

    /// The same process's identity for another lease, without reading the host name again.
    #[must_use]
    pub fn sibling(&self, rng: &dyn Rng) -> Self {
        Self { host: Arc::clone(&self.host), pid: self.pid, unique: rng.next_u64() }
    }

    /// The host that asked.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The process that asked.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The part that nobody can guess.
    #[must_use]
    pub const fn unique(&self) -> u64 {
        self.unique
    }

    /// The whole text, which is the right to renew and release.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{}:{}:{:016x}", self.host, self.pid, self.unique)
    }

    /// What people may see of it.
    #[must_use]
    pub fn holder(&self, label: Option<Label>) -> Holder {
        let short = format!("{:08x}", self.unique >> 32);
        Holder::Lease { host: self.host.to_string(), pid: self.pid, short, label }
    }
}

impl FromStr for LeaseId {
    type Err = InvalidValue;

    fn from_str(whole: &str) -> Result<Self, InvalidValue> {
        let read = || {
            let mut parts = whole.rsplitn(3, ':');
            let (unique, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
            let lower_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            let sound = unique.len() == 16
                && unique.bytes().all(lower_hex)
                && (1..=limits::HOST_BYTES_MAX).contains(&host.len())
                && host.bytes().all(fits)
                && pid.bytes().all(|b| b.is_ascii_digit());
            let unique = sound.then(|| u64::from_str_radix(unique, 16).ok())??;
            Some(Self { host: host.into(), pid: pid.parse().ok()?, unique })
        };
        read().ok_or_else(|| {
            // The text may be most of a secret: say its length only.
            let shown = format!("({} characters)", whole.chars().count());
            let why = "a lease id reads HOST:PID:16-HEX-DIGITS, as `acquire` printed it";
            InvalidValue::new("lease id", shown, why)
        })
    }
}

impl Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{:08x}…", self.host, self.pid, self.unique >> 32)
    }
}

impl Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseId({self})")
    }
}

/// A short text for people: why or for whom a key is held. Never compared, never an identity.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label(Arc<str>);

impl Label {
    /// Checks a label: 1 to 128 bytes that people can see, in one line.
    ///
    /// # Errors
    /// [`InvalidValue`] says what is accepted.
    pub fn new(label: &str) -> Result<Self, InvalidValue> {
        let why = if label.is_empty() {
            "empty"
        } else if label.len() > limits::LABEL_BYTES_MAX {
            "longer than 128 bytes"
        } else if label.chars().any(|c| text::unfit(c).is_some()) {
            "has characters that cannot be seen"
        } else {
            return Ok(Self(label.into()));
        };
        Err(InvalidValue::new("label", label, why))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who has a key, for people. It never holds enough to release somebody else's lease.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A client of bidlock.
    Lease {
        /// Its host.
        host: String,
        /// Its process.
        pid: u32,
        /// The first 8 digits of the lease id's unique part.
        short: String,
        /// What it said about itself.
        label: Option<Label>,
    },
    /// A client that bidlock does not know, such as a plain `SET NX`.
    Foreign {
        /// The value under the key, cut and made printable.
        text: String,
    },
}

impl Holder {
    /// Describes a client that bidlock does not know by the value that it left.
    #[must_use]
    pub fn foreign(value: &str) -> Self {
        const SHOWN_MAX: usize = 64;
        Self::Foreign { text: text::escape(value).chars().take(SHOWN_MAX).collect() }
    }

    /// Whether the holder knows no queue and tells nobody when it is done.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Foreign { .. })
    }

    /// The label, where there is one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Lease { label, .. } => label.as_ref().map(Label::as_str),
            Self::Foreign { .. } => None,
        }
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease { host, pid, short, label: None } => write!(f, "{host}:{pid}:{short}"),
            Self::Lease { host, pid, short, label: Some(label) } => {
                write!(f, "{host}:{pid}:{short} ({label})")
            }
            Self::Foreign { text } => write!(f, "foreign client {text:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Fixed;

    impl Rng for Fixed {
        fn next_u64(&self) -> u64 {
            0xa1b2_c3d4_e5f6_0718
        }
    }

    #[test]
    fn the_whole_text_is_read_back_and_shown_only_on_demand() {
        let id = LeaseId::random("ip-172-31-0-42", 12345, &Fixed);
        assert_eq!(id.expose(), "ip-172-31-0-42:12345:a1b2c3d4e5f60718");
        assert_eq!(id.expose().parse::<LeaseId>().unwrap(), id);
        for shown in [format!("{id}"), format!("{id:?}"), id.holder(None).to_string()] {
            assert!(shown.contains("a1b2c3d4") && !shown.contains("e5f60718"), "{shown}");
        }
    }

    #[test]
    fn a_host_name_that_would_break_the_text_is_mended() {
        assert_eq!(LeaseId::random("a:b c", 1, &Fixed).host(), "a-b-c");
        assert_eq!(LeaseId::random("", 1, &Fixed).host(), "unknown");
        assert_eq!(LeaseId::random(&"h".repeat(300), 1, &Fixed).host().len(), 64);
    }

    #[test]
    fn a_bad_lease_id_is_refused_without_being_repeated() {
        for bad in [
            "",
            "a:b",
            "h:1:a1b2",
            "h:x:a1b2c3d4e5f60718",
            "h:1:A1B2C3D4E5F60718",
            ":1:a1b2c3d4e5f60718",
            "h:+1:a1b2c3d4e5f60718",
        ] {
            let refused = bad.parse::<LeaseId>().unwrap_err().to_string();
            assert!(refused.contains("HOST:PID:16-HEX-DIGITS"), "{refused}");
            assert!(bad.is_empty() || !refused.contains(bad), "{refused}");
        }
    }

    #[test]
    fn labels_are_one_visible_line() {
        assert_eq!(Label::new("night shift").unwrap().as_str(), "night shift");
        for bad in ["", "a\nb", "a\u{200b}", &"x".repeat(129)] {
            assert!(Label::new(bad).is_err(), "{bad:?}");
        }
    }
}
