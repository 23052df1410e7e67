//! Who held what when: lines that every process appends to one file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bidlock::{Lease, Locker};

use super::now;

/// Bytes per line, so that each is one write, and the file's length tells how far it all is.
const LINE: usize = 160;

#[derive(Debug)]
pub(crate) struct Log(Mutex<File>);

/// When one lease was believed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) key: String,
    pub(crate) token: u64,
    pub(crate) lease: String,
    pub(crate) entered: Duration,
    pub(crate) ended: Duration,
    pub(crate) exited: bool,
}

impl Log {
    pub(crate) fn open(folder: &Path) -> Self {
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log"));
        Self(Mutex::new(log.expect("the log opens")))
    }

    /// Writes that a lease begins, with the end of what is believed; nothing when it is lost.
    pub(crate) fn enter(&self, locker: &Locker, lease: &Lease) -> Option<Duration> {
        let entered = now(locker);
        let left = lease.check().ok()?;
        let until = (entered + left).since_boot();
        self.write(lease, "enter", entered.since_boot(), until);
        Some(until)
    }

    /// Writes that a lease ends, before anything of its release is sent.
    pub(crate) fn exit(&self, locker: &Locker, lease: &Lease, until: Duration) {
        // Renewed meanwhile, or lost at some moment before the end that was believed first.
        let at = now(locker).since_boot();
        let at = if lease.check().is_ok() { at } else { at.min(until) };
        self.write(lease, "exit", at, until);
    }

    fn write(&self, lease: &Lease, what: &str, at: Duration, until: Duration) {
        let (key, token, id) = (lease.key(), lease.token(), lease.id().expose());
        let (at, until) = (at.as_micros(), until.as_micros());
        let line = format!("{key} {} {id} {what} {at} {until}", token.get());
        assert!(line.len() < LINE, "{line}");
        let line = format!("{line:<width$}\n", width = LINE - 1);
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).expect("the log takes a line");
    }
}

/// How many lines there are: two for each lease that was entered and left.
pub(crate) fn lines(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("log")).map_or(0, |meta| meta.len()) / LINE as u64
}

/// What the log says, in the order of keys and tokens.
pub(crate) fn intervals(log: &str) -> Vec<Interval> {
    let mut all: BTreeMap<(String, u64), Interval> = BTreeMap::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [key, token, lease, what, at, until] = words[..] else { panic!("torn line {line:?}") };
        let [token, at, until] = [token, at, until].map(|n| n.parse::<u64>().expect("a number"));
        let place = (key.to_owned(), token);
        if what == "enter" {
            let interval = Interval {
                key: key.to_owned(),
                token,
                lease: lease.to_owned(),
                entered: Duration::from_micros(at),
                ended: Duration::from_micros(until),
                exited: false,
            };
            // I1: no two grants have the same token.
            assert!(all.insert(place, interval).is_none(), "{key}: token {token} twice");
        } else {
            let interval = all.get_mut(&place).expect("entered before");
            interval.ended = Duration::from_micros(at);
            interval.exited = true;
        }
    }
    all.into_values().collect()
}

/// Checks that the intervals of each key, in the order of their tokens, follow one another.
pub(crate) fn check(all: &[Interval]) {
    for pair in all.windows(2) {
        let [before, after] = pair else { continue };
        // I1, I2
        let sound = before.key != after.key || after.entered >= before.ended;
        assert!(sound, "two held at once: {before:?} {after:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(log: &str) {
        check(&intervals(log));
    }

    #[test]
    fn what_follows_one_another_is_sound() {
        verdict("k 5 a enter 100 900\nk 5 a exit 200 900\nk 6 b enter 200 1800\nl 1 c enter 1 9\n");
    }

    #[test]
    #[should_panic(expected = "two held at once")]
    fn an_overlap_is_found() {
        verdict("k 5 a enter 100 900\nk 6 b enter 899 1800\nk 6 b exit 900 1800\n");
    }

    #[test]
    #[should_panic(expected = "two held at once")]
    fn a_falling_token_is_found() {
        verdict("k 6 a enter 100 900\nk 6 a exit 200 900\nk 5 b enter 300 1200\n");
    }
}
