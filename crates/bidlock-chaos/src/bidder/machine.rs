//! The simulated host of a bidder: a wall clock of its own, and a process table that no other
//! host can look into.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bidlock::platform::{Engine, LinuxProcesses, OsRng, SystemClock};
use bidlock::{Clock, Liveness, Moment, Platform, ProcessMark, WallTime};
use bidlock_core::{BoxFuture, Processes};

/// The machine's clocks; the wall clock is off by what stands in a file.
#[derive(Debug)]
struct HostClock {
    inner: SystemClock,
    offset: File,
}

impl Clock for HostClock {
    fn now(&self) -> Moment {
        self.inner.now()
    }

    fn wall(&self) -> WallTime {
        let mut bytes = [0; 8];
        let read = self.offset.read_exact_at(&mut bytes, 0);
        let offset = if read.is_ok() { i64::from_ne_bytes(bytes) } else { 0 };
        WallTime::from_micros(self.inner.wall().as_micros().saturating_add_signed(offset))
    }

    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()> {
        self.inner.sleep_until(at)
    }
}

/// The processes of one simulated host; nothing is known of those of others.
#[derive(Debug)]
struct HostProcesses {
    inner: LinuxProcesses,
    host: String,
}

impl Processes for HostProcesses {
    fn current(&self) -> ProcessMark {
        ProcessMark::new(format!("{}|{}", self.host, self.inner.current().as_str()))
    }

    fn liveness(&self, process: &ProcessMark) -> Liveness {
        match process.as_str().split_once('|') {
            Some((host, rest)) if host == self.host => self.inner.liveness(&ProcessMark::new(rest)),
            _ => Liveness::Unknown,
        }
    }

    fn boot_id(&self) -> &str {
        self.inner.boot_id()
    }

    fn host(&self) -> &str {
        &self.host
    }
}

/// The name of a simulated host.
pub(crate) fn host_name(host: usize) -> String {
    format!("host-{host}")
}

/// What a process on a simulated host sees of time and of other processes.
pub(crate) fn platform(host: usize, clock: &Path) -> Result<Platform> {
    let engine = Arc::new(Engine::start()?);
    let offset = File::open(clock).context("the host's clock")?;
    Ok(Platform {
        clock: Arc::new(HostClock { inner: SystemClock::new(engine.handle()), offset }),
        rng: Arc::new(OsRng),
        processes: Arc::new(HostProcesses {
            inner: LinuxProcesses::read()?,
            host: host_name(host),
        }),
        spawn: engine,
    })
}
