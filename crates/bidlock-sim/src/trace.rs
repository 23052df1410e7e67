//! What happened, as a number that two runs of one seed share, and as lines for people.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::time::Time;

/// The record of one run.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    inner: Arc<Mutex<Inner>>,
    time: Time,
}

#[derive(Debug)]
struct Inner {
    hash: u64,
    events: u64,
    /// Kept only for a run that somebody reads.
    lines: Option<Vec<String>>,
    text: String,
}

impl Trace {
    pub(crate) fn new(time: &Time, keeps: bool) -> Self {
        let inner = Inner {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            lines: keeps.then(Vec::new),
            text: String::new(),
        };
        Self { inner: Arc::new(Mutex::new(inner)), time: time.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a step of the machinery, which nobody reads.
    pub(crate) fn step(&self, kind: u8, number: u64) {
        let now = self.time.now();
        let mut inner = self.lock();
        inner.events += 1;
        inner.mix(&[kind]);
        inner.mix(&now.to_le_bytes());
        inner.mix(&number.to_le_bytes());
    }

    /// Adds what went over a wire to the number.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        self.lock().mix(bytes);
    }

    /// Tells something that people read.
    pub(crate) fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        let now = self.time.now();
        let mut inner = self.lock();
        inner.events += 1;
        let mut text = std::mem::take(&mut inner.text);
        text.clear();
        let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
        let written = write!(text, "{seconds:>3}.{micros:06} {who:<8} {what}");
        debug_assert!(written.is_ok(), "a string takes everything");
        inner.mix(text.as_bytes());
        if let Some(lines) = &mut inner.lines {
            lines.push(text.clone());
        }
        inner.text = text;
    }

    /// Adds a line for people that is part of no number.
    pub(crate) fn detail(&self, what: impl FnOnce() -> String) {
        let now = self.time.now();
        let mut inner = self.lock();
        if let Some(lines) = &mut inner.lines {
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            lines.push(format!("{seconds:>3}.{micros:06}   - {}", what()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.lock().hash
    }

    pub(crate) fn events(&self) -> u64 {
        self.lock().events
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.lock().lines.clone().unwrap_or_default()
    }
}

impl Inner {
    fn mix(&mut self, bytes: &[u8]) {
        // As FNV-1a, but eight bytes at a time, so that long runs stay cheap.
        let mut hash = self.hash;
        for chunk in bytes.chunks(8) {
            let mut word = [0_u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01b3);
            hash ^= hash >> 29;
        }
        self.hash = hash;
    }
}

/// Tells something that people read.
macro_rules! note {
    ($trace:expr, $who:expr, $($text:tt)*) => {
        $trace.note($who, format_args!($($text)*))
    };
}
pub(crate) use note;
