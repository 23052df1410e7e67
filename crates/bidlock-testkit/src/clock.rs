use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bidlock_core::{BoxFuture, Clock, Moment, WallTime};

/// A clock that moves only when a test says so, under any executor.
///
/// It starts an hour after boot, on 1 January 2026. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    boot: Duration,
    wall: u64,
    tick: Duration,
    sleepers: Vec<Sleeper>,
    sleeps: u64,
}

const START_SINCE_BOOT: Duration = Duration::from_hours(1);
const START_WALL: WallTime = WallTime::from_micros(1_767_225_600_000_000);

impl ManualClock {
    /// Makes a clock that stands still.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(START_SINCE_BOOT, START_WALL)
    }

    /// Makes a clock that stands still `since_boot` after the machine started.
    #[must_use]
    pub fn starting_at(since_boot: Duration, wall: WallTime) -> Self {
        let state = State {
            boot: since_boot,
            wall: wall.as_micros(),
            tick: Duration::ZERO,
            sleepers: Vec::new(),
            sleeps: 0,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets time pass on all clocks, and wakes whoever slept until then.
    pub fn advance(&self, time: Duration) {
        self.change(|state| state.pass(time));
    }

    /// Steps the wall clock alone, as a person or a time server does.
    pub fn step_wall(&self, micros: i64) {
        self.change(|state| state.wall = state.wall.saturating_add_signed(micros));
    }

    /// From now on, lets `time` pass after every reading of [`Clock::now`]: whoever reads the
    /// clock twice sees that work takes time. Zero stops it.
    pub fn tick(&self, time: Duration) {
        self.change(|state| state.tick = time);
    }

    /// How many sleep on this clock; a test may wait for that before it advances the clock.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.lock().sleepers.len()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let due = {
            let mut state = self.lock();
            change(&mut state);
            state.take_due()
        };
        due.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn pass(&mut self, time: Duration) {
        self.boot = self.boot.saturating_add(time);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.wall = self.wall.saturating_add(micros);
    }

    fn take_due(&mut self) -> Vec<Waker> {
        let boot = self.boot;
        let due = self.sleepers.extract_if(.., |sleeper| sleeper.at.since_boot() <= boot);
        due.map(|sleeper| sleeper.waker).collect()
    }
}

#[derive(Debug)]
struct Sleeper {
    id: u64,
    at: Moment,
    waker: Waker,
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let mut read = Duration::ZERO;
        self.change(|state| {
            read = state.boot;
            state.pass(state.tick);
        });
        Moment::from_boot(read)
    }

    fn wall(&self) -> WallTime {
        WallTime::from_micros(self.lock().wall)
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        let mut state = self.lock();
        state.sleeps += 1;
        Box::pin(Sleep { clock: self.clone(), at, id: state.sleeps })
    }
}

struct Sleep {
    clock: ManualClock,
    at: Moment,
    id: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.clock.lock();
        state.sleepers.retain(|sleeper| sleeper.id != self.id);
        if state.boot >= self.at.since_boot() {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        state.sleepers.push(Sleeper { id: self.id, at: self.at, waker });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.clock.lock().sleepers.retain(|sleeper| sleeper.id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn a_sleeper_wakes_when_its_moment_is_reached_and_not_before() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep_until(clock.now() + Duration::from_secs(10));
        let mut context = Context::from_waker(Waker::noop());
        clock.advance(Duration::from_secs(9));
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(clock.sleepers(), 1);
        clock.advance(Duration::from_secs(1));
        assert!(sleep.as_mut().poll(&mut context).is_ready());
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn a_dropped_sleeper_is_forgotten() {
        let clock = ManualClock::new();
        let mut sleep = clock.sleep_until(clock.now() + Duration::from_secs(10));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(clock.sleepers(), 1);
        drop(sleep);
        assert_eq!(clock.sleepers(), 0);
    }

    #[test]
    fn a_sleeper_on_another_thread_is_woken() {
        let clock = ManualClock::new();
        let sleep = clock.sleep_until(clock.now() + Duration::from_hours(24));
        let sleeper = std::thread::spawn(move || block_on(sleep));
        clock.advance(Duration::from_hours(24));
        sleeper.join().unwrap();
    }

    #[test]
    fn the_wall_clock_steps_alone() {
        let clock = ManualClock::new();
        let (now, wall) = (clock.now(), clock.wall());
        clock.advance(Duration::from_mins(1));
        assert_eq!(clock.wall().since(wall), Duration::from_mins(1));
        clock.step_wall(-3_600_000_000);
        assert!(clock.wall() < wall);
        assert_eq!(clock.now().since(now), Duration::from_mins(1), "never steps");
    }

    #[test]
    fn a_ticking_clock_moves_by_being_read() {
        let clock = ManualClock::new();
        clock.tick(Duration::from_millis(1));
        let first = clock.now();
        assert_eq!(clock.now().since(first), Duration::from_millis(1));
        clock.tick(Duration::ZERO);
        assert_eq!(clock.now(), clock.now());
    }
}
