//! What the keys of one lock are called.

use bidlock_core::{Key, Prefix};

/// The names of everything that a script may touch for one lock. All but the counter lie in the
/// cluster slot of the lock key, whose whole text is hashed, because it has no braces.
#[derive(Debug)]
pub(crate) struct Names {
    text: String,
    /// Where each of them ends; the lock key comes first.
    ends: [usize; 5],
}

impl Names {
    pub(crate) fn of(key: &Key) -> Self {
        let lock = key.as_str();
        let mut text = String::with_capacity(4 * (lock.len() + 11) + 16);
        let mut ends = [0; 5];
        text.push_str(lock);
        ends[0] = text.len();
        for (end, what) in [(1, "waiters"), (2, "places"), (4, "revoked")] {
            // The counter stands between, so that the scripts that need no more take the first.
            if end == 4 {
                text.push_str(key.prefix());
                text.push_str(":#tokens");
                ends[3] = text.len();
            }
            for part in ["{", lock, "}:", what] {
                text.push_str(part);
            }
            ends[end] = text.len();
        }
        Self { text, ends }
    }

    pub(crate) fn get(&self, n: usize) -> &[u8] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text.as_bytes()[start..self.ends[n]]
    }
}

/// What the channels of clients begin with. A `#` is in no key.
pub(crate) fn channels(prefix: &Prefix) -> String {
    format!("{}:#client:", prefix.as_str())
}

/// The lock key that a name belongs to, when it is one of this module's.
pub(crate) fn lock_of(name: &str) -> Option<Key> {
    let lock = name.strip_prefix('{').and_then(|rest| rest.split_once("}:"));
    Key::read(lock.map_or(name, |(lock, _)| lock)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_share_the_slot_of_their_key_and_nothing_else() {
        let key = Key::new("upwork", "job_1").unwrap();
        let names = Names::of(&key);
        let all: Vec<_> = (0..5).map(|n| std::str::from_utf8(names.get(n)).unwrap()).collect();
        assert_eq!(
            all,
            [
                "bid_lock:upwork:job_1",
                "{bid_lock:upwork:job_1}:waiters",
                "{bid_lock:upwork:job_1}:places",
                "bid_lock:#tokens",
                "{bid_lock:upwork:job_1}:revoked",
            ]
        );
        for n in [0, 1, 2, 4] {
            assert_eq!(lock_of(all[n]), Some(key.clone()));
        }
        assert_eq!(lock_of(all[3]), None);
        assert_eq!(lock_of("something else"), None);
    }
}
