//! The one clock of a run: every process of it reads the same machine's time since boot.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Microseconds since the machine started, comparable between processes.
pub(crate) fn boot() -> u64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// Microseconds since 1970, for names of folders and fresh seeds.
pub(crate) fn wall() -> u64 {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> u64 {
    #[expect(clippy::expect_used, reason = "every Linux has these clocks")]
    let time = clock_gettime(clock).map(Duration::from).expect("the kernel has its clocks");
    micros(time)
}

/// A length in microseconds.
pub(crate) fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

/// Stands still for a while: real processes and servers run in real time.
#[expect(clippy::disallowed_methods, reason = "faults happen at real times")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// The same for a task.
#[expect(clippy::disallowed_methods, reason = "bidders run in real time")]
pub(crate) async fn sleep(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Stands still until a moment of [`boot`].
pub(crate) fn pause_until(at: u64) {
    pause(Duration::from_micros(at.saturating_sub(boot())));
}
