//! A kit for tests around bidlock; always a development dependency.
//!
//! - [`TestPlatform`]: a clock that is set by hand, seeded randomness, processes that die on
//!   command. A test of an expiry takes no time.

mod clock;
mod executor;
mod processes;
mod rng;
mod world;

pub use clock::ManualClock;
pub use executor::{HeldSpawn, ThreadSpawn, block_on};
pub use processes::ManualProcesses;
pub use rng::SeededRng;
pub use world::{TestPlatform, test_platform};
