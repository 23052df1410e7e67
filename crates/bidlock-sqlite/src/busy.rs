//! Waiting for SQLite's write lock, within the time that a request has.

use std::cell::RefCell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bidlock_core::{Clock, Moment, Platform};

/// The first pause; it doubles with every further one. A commit takes some 20 µs.
const PAUSE_FIRST: Duration = Duration::from_micros(100);
/// How often the pause doubles: up to 6.4 ms, so that nobody sleeps through many free moments.
const DOUBLINGS_MAX: u32 = 6;

thread_local! {
    /// SQLite's busy handler is a plain function: what it may spend lies beside it.
    static BUDGET: RefCell<Option<Budget>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Budget {
    clock: Arc<dyn Clock>,
    deadline: Moment,
    /// The pauses count too, so that a clock which stands still cannot hold the thread for ever.
    left: Duration,
    seed: u64,
}

/// Lets SQLite calls of this thread wait for other writers until `deadline`.
pub(crate) fn wait_until(platform: &Platform, deadline: Moment) {
    BUDGET.with_borrow_mut(|budget| {
        let budget = budget.get_or_insert_with(|| Budget {
            clock: Arc::clone(&platform.clock),
            deadline,
            left: Duration::ZERO,
            seed: platform.rng.next_u64() | 1,
        });
        budget.deadline = deadline;
        budget.left = deadline.since(platform.clock.now());
    });
}

/// Lets SQLite calls of this thread fail as soon as they would have to wait for other writers.
pub(crate) fn wait_for_nobody() {
    BUDGET.with_borrow_mut(|budget| *budget = None);
}

/// SQLite's busy handler: pauses, or says that there is no more time.
pub(crate) fn on_busy(times: i32) -> bool {
    BUDGET.with_borrow_mut(|budget| {
        let Some(budget) = budget else { return false };
        if budget.left.is_zero() || budget.clock.now() >= budget.deadline {
            return false;
        }
        let doublings = u32::try_from(times).unwrap_or(0).min(DOUBLINGS_MAX);
        let length = budget.jitter(PAUSE_FIRST * 2_u32.pow(doublings)).min(budget.left);
        budget.left -= length;
        pause(length);
        true
    })
}

/// Pauses the thread that owns the connection.
#[expect(
    clippy::disallowed_methods,
    reason = "another process holds the write lock and tells nobody when it is done; this thread \
              has nothing else to do, and no async runtime runs on it"
)]
pub(crate) fn pause(length: Duration) {
    thread::sleep(length);
}

impl Budget {
    /// A pause between half of `step` and all of it, so that processes do not come in step.
    fn jitter(&mut self, step: Duration) -> Duration {
        // Source: Marsaglia03, xorshift64 with (13, 7, 17).
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let half = step / 2;
        let nanos = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_nanos(self.seed % nanos)
    }
}
