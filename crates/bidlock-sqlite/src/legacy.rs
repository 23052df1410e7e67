//! A bridge to the lock table of an older system, for the time in which both systems work.
//!
//! The older system keeps a lock as a row: it inserts one, which fails where the unique
//! `lock_key` is there already, deletes rows that have ended, and deletes its own. Nobody renews,
//! and the ends of rows are seconds of the wall clock. A [`Bridge`] around any store makes every
//! lease of a posting hold such a row too, so that neither system can take what the other has.

mod bridge;
mod browse;
mod doctor;
mod open;
mod rows;
mod worker;

pub use bridge::Bridge;
pub use doctor::Doctor;
pub use worker::OldLocks;

use std::time::Duration;

use bidlock_core::{Key, LeaseId};

/// How far the wall clock may step without harm: rows of bidlock outlive their leases by this, and
/// rows of old workers are left alone for as long after their end.
const CLOCK_MARGIN: Duration = Duration::from_secs(2);

/// What the holders of bidlock's rows begin with.
const MARK: &str = "bidlock:";

/// Whether a text can be the name of a table: `[A-Za-z_][A-Za-z0-9_]*`, at most 64 characters.
#[must_use]
pub fn is_table_name(text: &str) -> bool {
    const BYTES_MAX: usize = 64;
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= BYTES_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Whose row is meant, and under which key of the older system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    lock_key: String,
    /// Shows no more of the lease than listings do: whoever can read the old file shall not be
    /// able to release the lease.
    holder: String,
}

impl Place {
    fn of(key: &Key, lease: &LeaseId) -> Self {
        let holder = format!("{MARK}{}:{}:{:08x}", lease.host(), lease.pid(), lease.unique() >> 32);
        Self { lock_key: lock_key(key), holder }
    }
}

/// The older system's name of a posting, in which nothing is encoded.
fn lock_key(key: &Key) -> String {
    format!("bid:lock:{}:{}", key.marketplace(), key.posting())
}

/// The posting that the older system means by a name, where bidlock has the same one.
fn key_of(lock_key: &str) -> Option<Key> {
    let (marketplace, posting) = lock_key.strip_prefix("bid:lock:")?.split_once(':')?;
    let key = Key::new(marketplace, posting).ok()?;
    // Another spelling of the same text (NFC) would be another row.
    (key.posting() == posting).then_some(key)
}

/// A lock of somebody else in the old table.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    lock_key: String,
    holder: String,
    /// When it was taken, in seconds since 1970, where that is a number.
    since: Option<f64>,
    /// How long it has to be respected; zero when it has no end.
    remaining: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_words_are_table_names() {
        for good in ["distributed_locks", "_x", "T1"] {
            assert!(is_table_name(good), "{good}");
        }
        for bad in ["", "1a", "a b", "a\"b", "a;drop", "a.b", "ä", "a-b", &"x".repeat(65)] {
            assert!(!is_table_name(bad), "{bad}");
        }
    }

    #[test]
    fn old_names_are_read_back_where_they_mean_the_same() {
        let key = Key::new("upwork", "a:b%c d").unwrap();
        assert_eq!(lock_key(&key), "bid:lock:upwork:a:b%c d");
        assert_eq!(key_of(&lock_key(&key)), Some(key));
        for other in ["bid:lock:Upwork:a", "bid:lock:upwork", "bid:lock:upwork:", "x:upwork:a"] {
            assert_eq!(key_of(other), None, "{other}");
        }
        assert_eq!(key_of("bid:lock:upwork:e\u{301}"), None, "another text than its NFC");
    }
}
