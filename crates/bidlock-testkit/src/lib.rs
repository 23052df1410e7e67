//! A kit for tests around bidlock; always a development dependency.
//!
//! - [`TestPlatform`]: a clock that is set by hand, seeded randomness, processes that die on
//!   command. A test of an expiry takes no time.
//! - [`conformance`]: what every store must do, as one test per rule.
//! - [`Lossy`]: any store behind a way that loses, doubles and delays.
//! - [`saboteurs`]: stores that break one rule each, so that the suite itself is tested.

mod clock;
pub mod conformance;
mod executor;
mod lossy;
mod processes;
mod rng;
pub mod saboteurs;
mod world;

pub use clock::ManualClock;
pub use executor::{HeldSpawn, ThreadSpawn, block_on};
pub use lossy::{Faults, Lossy};
pub use processes::ManualProcesses;
pub use rng::SeededRng;
pub use world::{TestPlatform, test_platform};
