//! A kit for tests around bidlock; always a development dependency.
//!
//! - [`TestPlatform`]: a clock that is set by hand, seeded randomness, processes that die on
//!   command. A test of an expiry takes no time.
//! - [`conformance`]: what every store must do, as one test per rule.
//! - [`Lossy`]: any store behind a way that loses, doubles and delays.
//! - [`saboteurs`]: stores that break one rule each, so that the suite itself is tested.
//! - [`Marketplace`] and [`SubmissionLog`]: where bids are sent to, and counted.
//! - [`Process`]: real processes that are killed, stopped and never left behind.

mod clock;
pub mod conformance;
mod executor;
#[cfg(feature = "ledger")]
pub mod ledger;
mod lossy;
mod marketplace;
mod process;
mod processes;
mod rng;
pub mod saboteurs;
mod submissions;
mod world;

pub use clock::ManualClock;
pub use executor::{HeldSpawn, ThreadSpawn, block_on};
pub use lossy::{Faults, Lossy};
pub use marketplace::{Behaviour, Cut, MarketAnswer, Marketplace};
pub use process::{Process, temp_dir, wait_until};
pub use processes::ManualProcesses;
pub use rng::SeededRng;
pub use submissions::{Submission, SubmissionLog};
pub use world::{TestPlatform, test_platform};
