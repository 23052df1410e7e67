use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bidlock_core::{BoxFuture, Clock, Moment, WallTime};

use crate::process::now;

/// The machine's time and real timers, plus what a test adds.
///
/// For clients of a real server: waits are real, and [`OffsetClock::advance`] takes them all a
/// leap ahead. Works under any executor. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct OffsetClock {
    inner: Arc<Inner>,
}

/// Ends the thread of the timers with the last clone.
#[derive(Debug)]
struct Inner {
    timers: Arc<Timers>,
}

#[derive(Debug)]
struct Timers {
    origin: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    offset: Duration,
    sleepers: Vec<Sleeper>,
    sleeps: u64,
    closed: bool,
}

#[derive(Debug)]
struct Sleeper {
    id: u64,
    at: Moment,
    waker: Waker,
}

/// The clock's origin lies so long before its making.
const START_SINCE_BOOT: Duration = Duration::from_hours(1);

impl OffsetClock {
    /// Makes a clock that agrees with the machine's.
    ///
    /// # Errors
    /// The operating system's when there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let timers = Arc::new(Timers { origin: now(), state, changed });
        let shared = Arc::clone(&timers);
        thread::Builder::new().name("clock".to_owned()).spawn(move || shared.run())?;
        Ok(Self { inner: Arc::new(Inner { timers }) })
    }

    /// Lets so much time pass at once, and wakes whoever slept until then.
    pub fn advance(&self, time: Duration) {
        let timers = &self.inner.timers;
        timers.lock().offset += time;
        timers.changed.notify_all();
    }

    /// By how much the clock is ahead of the machine's.
    #[must_use]
    pub fn offset(&self) -> Duration {
        self.inner.timers.lock().offset
    }
}

impl Clock for OffsetClock {
    fn now(&self) -> Moment {
        self.inner.timers.moment(&self.inner.timers.lock())
    }

    fn wall(&self) -> WallTime {
        let since_1970 = real_wall() + self.offset();
        WallTime::from_micros(u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        let mut state = self.inner.timers.lock();
        state.sleeps += 1;
        Box::pin(Sleep { timers: Arc::clone(&self.inner.timers), at, id: state.sleeps })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.timers.lock().closed = true;
        self.timers.changed.notify_all();
    }
}

impl Timers {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moment(&self, state: &State) -> Moment {
        Moment::from_boot(START_SINCE_BOOT + (now() - self.origin) + state.offset)
    }

    /// Wakes sleepers as their moments come.
    fn run(&self) {
        let mut state = self.lock();
        while !state.closed {
            let reached = self.moment(&state);
            let due = state.sleepers.extract_if(.., |sleeper| sleeper.at <= reached);
            let due: Vec<Waker> = due.map(|sleeper| sleeper.waker).collect();
            if !due.is_empty() {
                drop(state);
                due.into_iter().for_each(Waker::wake);
                state = self.lock();
                continue;
            }
            let next = state.sleepers.iter().map(|sleeper| sleeper.at).min();
            let wait = next.map_or(Duration::MAX, |at| at.since(reached));
            let woken = self.changed.wait_timeout(state, wait);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

struct Sleep {
    timers: Arc<Timers>,
    at: Moment,
    id: u64,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.timers.lock();
        state.sleepers.retain(|sleeper| sleeper.id != self.id);
        if self.timers.moment(&state) >= self.at {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        state.sleepers.push(Sleeper { id: self.id, at: self.at, waker });
        drop(state);
        self.timers.changed.notify_all();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.timers.lock().sleepers.retain(|sleeper| sleeper.id != self.id);
    }
}

#[expect(clippy::disallowed_methods, reason = "real servers run in real time")]
fn real_wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn a_sleep_ends_by_real_time_or_by_a_leap() {
        let clock = OffsetClock::start().unwrap();
        let before = now();
        block_on(clock.sleep_until(clock.now() + Duration::from_millis(30)));
        assert!(now() - before >= Duration::from_millis(30));

        let sleep = clock.sleep_until(clock.now() + Duration::from_hours(5));
        let sleeper = thread::spawn(move || block_on(sleep));
        clock.advance(Duration::from_hours(4));
        assert!(!sleeper.is_finished(), "an hour is left");
        clock.advance(Duration::from_hours(1));
        sleeper.join().unwrap();
    }

    #[test]
    fn both_clocks_leap() {
        let clock = OffsetClock::start().unwrap();
        let (moment, wall) = (clock.now(), clock.wall());
        clock.clone().advance(Duration::from_hours(1));
        let hour = Duration::from_hours(1)..Duration::from_mins(61);
        assert!(hour.contains(&clock.now().since(moment)));
        assert!(hour.contains(&clock.wall().since(wall)));
        assert_eq!(clock.offset(), Duration::from_hours(1));
    }

    #[test]
    fn a_dropped_sleep_is_forgotten() {
        let clock = OffsetClock::start().unwrap();
        let mut sleep = clock.sleep_until(clock.now() + Duration::from_hours(1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut context).is_pending());
        assert_eq!(clock.inner.timers.lock().sleepers.len(), 1);
        drop(sleep);
        assert_eq!(clock.inner.timers.lock().sleepers.len(), 0);
    }
}
