use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bidlock_core::{Clock, Moment, Platform, Rng, WallTime};

use super::fault::{Fault, is_busy};
use crate::values::{LedgerId, limits};

/// Waits for other processes, in short pauses that no two processes keep in step.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
}

impl Patience {
    pub(super) fn new(platform: &Platform) -> Self {
        Self { clock: Arc::clone(&platform.clock), rng: Arc::clone(&platform.rng) }
    }

    /// When a call that begins now gives up.
    pub(super) fn deadline(&self) -> Moment {
        self.clock.now() + limits::BUSY_MAX
    }

    /// The wall clock.
    pub(super) fn wall(&self) -> WallTime {
        self.clock.wall()
    }

    /// An identity for a ledger that has none.
    pub(super) fn ledger_id(&self) -> LedgerId {
        LedgerId::random(&*self.rng)
    }

    pub(super) fn is_over(&self, deadline: Moment) -> bool {
        self.clock.now() >= deadline
    }

    /// Rests on a thread of the ledger's own, 0.2 ms to 1 ms at first and up to 8 ms later.
    pub(super) fn pause(&self, tries: u32) {
        const FIRST_MICROS: u64 = 1_000;
        let most = FIRST_MICROS << (tries.min(24) / 8);
        let least = FIRST_MICROS / 5;
        let micros = least + self.rng.next_u64() % (most - least);
        thread::park_timeout(Duration::from_micros(micros));
    }

    /// Does something again until no other process is in the way, or the deadline passes.
    pub(super) fn insist<T>(
        &self,
        deadline: Moment,
        mut act: impl FnMut() -> rusqlite::Result<T>,
    ) -> Result<T, Fault> {
        let mut tries = 0;
        loop {
            match act() {
                Err(error) if is_busy(&error) => {
                    if self.is_over(deadline) {
                        return Err(Fault::Busy);
                    }
                    self.pause(tries);
                    tries += 1;
                }
                done => return done.map_err(Fault::before_commit),
            }
        }
    }
}
