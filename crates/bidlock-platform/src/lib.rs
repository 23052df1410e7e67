//! The real world behind [`bidlock_core::Platform`]: Linux clocks that run through suspend,
//! the operating system's randomness, its process table, and one background thread.

#[cfg(not(target_os = "linux"))]
compile_error!("bidlock runs on Linux: it needs CLOCK_BOOTTIME, the boot id and /proc");

mod clock;
mod engine;
mod processes;
mod rng;

use std::sync::Arc;

use bidlock_core::Platform;

pub use clock::SystemClock;
pub use engine::Engine;
pub use processes::LinuxProcesses;
pub use rng::OsRng;

/// The platform of a product: one background thread, started here, does timers, renewals and
/// late releases, so that a blocked runtime of the caller cannot starve them.
///
/// # Errors
/// The operating system's error when the thread cannot be started.
///
/// # Panics
/// Later, when the operating system has no randomness to give: nothing would be safe then.
pub fn system() -> std::io::Result<Platform> {
    let engine = Arc::new(Engine::start()?);
    Ok(Platform {
        clock: Arc::new(SystemClock::new(engine.handle())),
        rng: Arc::new(OsRng),
        processes: Arc::new(LinuxProcesses::read()?),
        spawn: engine,
    })
}
