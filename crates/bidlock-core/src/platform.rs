use std::fmt::Debug;
use std::future::Future;
use std::ops::{Add, Sub};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An instant on this machine's clock that keeps running while the machine sleeps.
///
/// Comparable only with moments of the same [`Clock`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that lies `since_boot` after the clock's origin.
    #[must_use]
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// The time since the clock's origin.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// How long `self` lies after `earlier`; zero when it does not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(length))
    }
}

/// Wall-clock time in microseconds since 1970, for people and for the floor of fencing tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallTime(u64);

impl WallTime {
    /// The wall time that many microseconds after 1970.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long `self` lies after `earlier`; zero when it does not.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        let micros = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

/// Where time comes from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Reads the clock that keeps running while the machine sleeps and never steps.
    fn now(&self) -> Moment;

    /// Reads the wall clock, which a person or a time server may step.
    fn wall(&self) -> WallTime;

    /// Resolves once [`Clock::now`] has reached `at`.
    ///
    /// # Cancel safety
    /// Dropping the future forgets the timer and nothing else.
    fn sleep_until(&self, at: Moment) -> BoxFuture<'static, ()>;
}

/// Where randomness comes from: lease ids, attempt ids, jitter.
pub trait Rng: Debug + Send + Sync + 'static {
    /// Returns 64 random bits that nobody can guess.
    fn next_u64(&self) -> u64;
}

/// Where background work runs: renewals, and releases of what was dropped.
pub trait Spawn: Debug + Send + Sync + 'static {
    /// Runs `task` to its end, independently of the caller's own runtime.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}

/// Names one run of one process, so that it can be told later whether that run is over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProcessMark(String);

impl ProcessMark {
    /// Wraps a text that [`Processes`] made.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, as stores keep it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// It runs, or is stopped and may run again.
    Alive,
    /// It has ended, and cannot come back.
    Gone,
    /// It belongs to another machine or container, so nobody here can tell.
    Unknown,
}

/// Where the processes of this machine can be asked about.
pub trait Processes: Debug + Send + Sync + 'static {
    /// Names this run of this process.
    fn current(&self) -> ProcessMark;

    /// Tells whether that run is over.
    fn liveness(&self, process: &ProcessMark) -> Liveness;

    /// Names this boot of the machine: [`Moment`]s of another boot mean nothing.
    fn boot_id(&self) -> &str;

    /// The machine's name, for lease ids.
    fn host(&self) -> &str;

    /// This process's number, for lease ids and for people who list connections.
    fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// Time, randomness, processes and background work in one bundle.
#[derive(Debug, Clone)]
pub struct Platform {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The source of randomness.
    pub rng: Arc<dyn Rng>,
    /// The place for background work.
    pub spawn: Arc<dyn Spawn>,
    /// The processes of this machine.
    pub processes: Arc<dyn Processes>,
}
