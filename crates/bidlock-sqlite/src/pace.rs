//! Short spins in place of sleeping and waking, while requests come one after another.
//!
//! A commit takes some 20 µs, and so does each of the two wake-ups around it. While requests come
//! singly and are answered at once, both sides stay awake for a moment instead. The time is
//! bounded, far below what a runtime notices, and as soon as it does not pay (requests in
//! parallel, a slow disk, other processes on the file, a busy machine) nobody spins.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use bidlock_core::Clock;

/// The longest spin.
const SPIN_MAX: Duration = Duration::from_micros(60);
/// The most turns of one spin, for clocks that stand still.
const TURNS_MAX: u32 = 4_000;
/// The clock is read once in this many turns.
const TURNS_PER_READING: u32 = 16;
/// After so many quick requests in a row it is worth spinning.
const QUICK_MIN: u32 = 4;

/// How requests went lately.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How many requests in a row came alone and were answered quickly.
    quick: AtomicU32,
    /// How many in a row came soon after the one before.
    close: AtomicU32,
    /// One processor cannot do both sides at once.
    parallel: bool,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let parallel = thread::available_parallelism().is_ok_and(|count| count.get() > 1);
        Self { quick: AtomicU32::new(0), close: AtomicU32::new(0), parallel }
    }

    /// Takes note of a batch: its size, how long it took, and how long nothing came before it.
    pub(crate) fn note(&self, size: usize, took: Duration, gap: Duration) {
        let quick = size == 1 && took < SPIN_MAX;
        count(&self.quick, quick);
        count(&self.close, quick && gap < SPIN_MAX);
    }

    /// Spins for a caller until its answer is `there`, if that is likely to be soon.
    pub(crate) fn await_answer(&self, clock: &dyn Clock, there: impl FnMut() -> bool) {
        if self.parallel && self.quick.load(Ordering::Relaxed) >= QUICK_MIN {
            spin(clock, there);
        }
    }

    /// Spins for the thread until a request is `there`, if that is likely to be soon.
    pub(crate) fn await_request(&self, clock: &dyn Clock, there: impl FnMut() -> bool) {
        if self.parallel && self.close.load(Ordering::Relaxed) >= QUICK_MIN {
            spin(clock, there);
        }
    }
}

/// Counts one more in a row, or starts anew.
fn count(run: &AtomicU32, goes_on: bool) {
    let length = if goes_on { run.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
    run.store(length, Ordering::Relaxed);
}

fn spin(clock: &dyn Clock, mut there: impl FnMut() -> bool) {
    let start = clock.now();
    for turn in 1..=TURNS_MAX {
        if there() {
            return;
        }
        hint::spin_loop();
        if turn % TURNS_PER_READING == 0 && clock.now().since(start) >= SPIN_MAX {
            return;
        }
    }
}
