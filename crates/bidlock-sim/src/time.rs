//! Virtual time, and the clock of each host.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bidlock_core::{BoxFuture, Clock, Moment, WallTime};

/// Microseconds since the beginning of the simulated world.
pub(crate) type Micros = u64;

/// 1 January 2027, when the world begins.
pub(crate) const EPOCH: u64 = 1_798_761_600_000_000;

/// The time of the world, and who waits for which.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    now: AtomicU64,
    sleepers: Mutex<Sleepers>,
}

#[derive(Debug, Default)]
struct Sleepers {
    due: BTreeMap<(Micros, u64), Waker>,
    next: u64,
}

impl Time {
    pub(crate) fn now(&self) -> Micros {
        self.0.now.load(Ordering::Relaxed)
    }

    fn sleepers(&self) -> MutexGuard<'_, Sleepers> {
        self.0.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the next sleeper is to be woken.
    pub(crate) fn next_timer(&self) -> Option<Micros> {
        self.sleepers().due.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves on to a moment, and wakes whoever slept until then.
    pub(crate) fn advance_to(&self, at: Micros) {
        let now = self.now().max(at);
        self.0.now.store(now, Ordering::Relaxed);
        loop {
            let waker = {
                let mut sleepers = self.sleepers();
                match sleepers.due.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            waker.wake();
        }
    }

    /// Resolves at a moment of the world.
    pub(crate) fn until(&self, at: Micros) -> Sleep {
        Sleep { time: self.clone(), at, id: None }
    }

    /// Resolves after so many microseconds.
    pub(crate) fn after(&self, micros: u64) -> Sleep {
        self.until(self.now() + micros)
    }
}

/// Waits for a moment.
#[derive(Debug)]
pub(crate) struct Sleep {
    time: Time,
    at: Micros,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.time.now() >= self.at {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let (at, known) = (self.at, self.id);
        let id = {
            let mut sleepers = self.time.sleepers();
            let id = known.unwrap_or_else(|| {
                sleepers.next += 1;
                sleepers.next
            });
            sleepers.due.insert((at, id), waker);
            id
        };
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.time.sleepers().due.remove(&(self.at, id));
        }
    }
}

/// The clocks of one host: one that runs through suspend at a rate of its own, and a wall clock
/// that can be stepped.
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    time: Time,
    /// Nanoseconds that the host had run when the world began.
    boot: i64,
    /// How many microseconds of a second it is too fast.
    ppm: i64,
    step: Arc<AtomicI64>,
    /// What the clock that stands still in suspend has missed; nothing for a sound one.
    missed: Arc<AtomicI64>,
    /// Whether what shall never step is read from the wall clock.
    wall: bool,
}

impl HostClock {
    pub(crate) fn new(time: &Time, boot_seconds: u64, ppm: i64, wall_off: i64) -> Self {
        let boot = i64::try_from(boot_seconds).unwrap_or(0) * 1_000_000_000;
        let (step, missed) = (Arc::new(AtomicI64::new(wall_off)), Arc::default());
        Self { time: time.clone(), boot, ppm, step, missed, wall: false }
    }

    /// The same clocks, with what shall never step read from the wall clock.
    pub(crate) fn read_from_wall(self) -> Self {
        Self { wall: true, ..self }
    }

    /// Lets the clock of leases miss a suspend.
    pub(crate) fn miss(&self, micros: u64) {
        self.missed.fetch_add(signed(micros), Ordering::Relaxed);
    }

    /// How far the clock of leases is off, in nanoseconds.
    fn off(&self) -> i64 {
        let step = if self.wall { self.step.load(Ordering::Relaxed) } else { 0 };
        (step - self.missed.load(Ordering::Relaxed)) * 1_000
    }

    /// Sets the wall clock to so many microseconds off the world's.
    pub(crate) fn set_off(&self, micros: i64) {
        self.step.store(micros, Ordering::Relaxed);
    }

    /// Steps the wall clock.
    pub(crate) fn step(&self, micros: i64) {
        self.step.fetch_add(micros, Ordering::Relaxed);
    }

    fn passed(&self) -> i64 {
        signed(self.time.now()) * (1_000_000 + self.ppm) / 1_000
    }

    /// The host's wall clock, in microseconds since 1970.
    pub(crate) fn micros(&self) -> u64 {
        let passed = self.passed() / 1_000 + self.step.load(Ordering::Relaxed);
        EPOCH.saturating_add_signed(passed)
    }

    /// When the host's clock reaches a moment.
    pub(crate) fn world(&self, at: Moment) -> Micros {
        let nanos = i64::try_from(at.since_boot().as_nanos()).unwrap_or(i64::MAX / 2_000);
        let passed = i128::from(nanos - self.boot - self.off()).max(0) * 1_000;
        let rate = i128::from(1_000_000 + self.ppm);
        let micros = (passed + rate - 1) / rate;
        u64::try_from(micros).unwrap_or(u64::MAX)
    }
}

fn signed(micros: u64) -> i64 {
    i64::try_from(micros).unwrap_or(i64::MAX)
}

impl Clock for HostClock {
    fn now(&self) -> Moment {
        let nanos = u64::try_from(self.boot + self.passed() + self.off()).unwrap_or(0);
        Moment::from_boot(Duration::from_nanos(nanos))
    }

    fn wall(&self) -> WallTime {
        WallTime::from_micros(self.micros())
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        Box::pin(self.time.until(self.world(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_of_a_host_fires_when_its_own_clock_is_there_and_not_before() {
        for ppm in [-9_000, 0, 9_000] {
            let time = Time::default();
            let clock = HostClock::new(&time, 3_600, ppm, 0);
            let at = clock.now() + Duration::from_millis(1_234);
            let due = clock.world(at);
            time.advance_to(due - 1);
            assert!(clock.now() < at, "{ppm}");
            time.advance_to(due);
            assert!(clock.now() >= at, "{ppm}");
        }
    }
}
