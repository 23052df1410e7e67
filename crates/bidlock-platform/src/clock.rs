use std::time::Duration;

use bidlock_core::{BoxFuture, Clock, Moment, WallTime};
use nix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;

/// Linux's clocks, with timers on the background thread.
#[derive(Debug, Clone)]
pub struct SystemClock {
    timers: Handle,
}

impl SystemClock {
    /// Lets timers run on the runtime behind `timers`.
    #[must_use]
    pub const fn new(timers: Handle) -> Self {
        Self { timers }
    }
}

/// Timers of the runtime stand still while the machine sleeps, so a long pause is taken in
/// pieces, and a machine that slept is noticed within this long after it woke.
const PIECE: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        boot_time()
    }

    fn wall(&self) -> WallTime {
        let since_1970 = read(ClockId::CLOCK_REALTIME);
        WallTime::from_micros(u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX))
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        let timers = self.timers.clone();
        Box::pin(async move {
            loop {
                let left = at.since(boot_time());
                if left.is_zero() {
                    return;
                }
                let piece = {
                    let _timers = timers.enter();
                    #[expect(clippy::disallowed_methods, reason = "this is the one real timer")]
                    tokio::time::sleep(left.min(PIECE))
                };
                piece.await;
            }
        })
    }
}

fn boot_time() -> Moment {
    Moment::from_boot(read(ClockId::CLOCK_BOOTTIME))
}

/// Reads a clock that every Linux since 2.6.39 has.
fn read(clock: ClockId) -> Duration {
    #[expect(clippy::expect_used, reason = "without a clock no lease would ever end")]
    clock_gettime(clock).map(Duration::from).expect("the kernel has its clocks")
}
