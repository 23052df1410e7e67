use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Clock as _, Platform, Spawn};

use crate::{ManualClock, ManualProcesses, SeededRng, ThreadSpawn};

/// A machine whose time, randomness and processes a test has in its hands.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use bidlock_core::Clock as _;
///
/// let machine = bidlock_testkit::test_platform();
/// let platform = machine.platform();
/// let before = platform.clock.now();
/// machine.clock.advance(Duration::from_hours(5));
/// assert_eq!(platform.clock.now().since(before), Duration::from_hours(5));
/// ```
#[derive(Debug, Clone)]
pub struct TestPlatform {
    /// The clock.
    pub clock: ManualClock,
    /// The randomness; the same in every run.
    pub rng: Arc<SeededRng>,
    /// Where background work runs: a thread, unless the test puts something else here.
    pub spawn: Arc<dyn Spawn>,
    /// The machine's processes, as this one sees them.
    pub processes: ManualProcesses,
}

impl TestPlatform {
    /// Makes a machine with the randomness of a seed.
    ///
    /// # Panics
    /// When there is no thread to be had.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        #[expect(clippy::expect_used, reason = "a test cannot go on without its thread")]
        let spawn = ThreadSpawn::start().expect("a thread starts");
        Self {
            clock: ManualClock::new(),
            rng: Arc::new(SeededRng::new(seed)),
            spawn: Arc::new(spawn),
            processes: ManualProcesses::new(),
        }
    }

    /// What bidlock's constructors take.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform {
            clock: Arc::new(self.clock.clone()),
            rng: Arc::clone(&self.rng) as _,
            spawn: Arc::clone(&self.spawn),
            processes: Arc::new(self.processes.clone()),
        }
    }

    /// The same machine as another process sees it.
    #[must_use]
    pub fn another_process(&self) -> Self {
        Self { processes: self.processes.another(), ..self.clone() }
    }

    /// The machine `down` later, just after a restart: its boot clock begins anew.
    #[must_use]
    pub fn rebooted(&self, down: Duration) -> Self {
        let wall = self.clock.wall() + down;
        Self {
            clock: ManualClock::starting_at(Duration::from_secs(1), wall),
            processes: self.processes.rebooted(),
            ..self.clone()
        }
    }
}

/// A machine in a test's hands, the same in every run.
///
/// # Panics
/// When there is no thread to be had.
#[must_use]
pub fn test_platform() -> TestPlatform {
    TestPlatform::seeded(1)
}
