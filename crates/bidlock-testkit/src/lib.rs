//! A kit for tests around bidlock; always a development dependency.
//!
//! - [`TestPlatform`]: a clock that is set by hand, seeded randomness, processes that die on
//!   command. A test of an expiry takes no time.
//! - [`mod@conformance`]: what every store must do, as one test per rule.
//! - [`Lossy`]: any store behind a way that loses, doubles and delays.
//! - [`saboteurs`]: stores that break one rule each, so that the suite itself is tested.
//! - [`Marketplace`] and [`SubmissionLog`]: where bids are sent to, and counted.
//! - [`Process`]: real processes that are killed, stopped and never left behind.
//! - `servers`, behind the feature of that name: real Redis and Valkey servers.
//!
//! # Examples
//! What happens when a lease runs out, without waiting for it:
//! ```
//! use std::time::Duration;
//!
//! use bidlock_core::{AcquireRequest, Attempt, Backend as _, Key, LeaseId, Memory, Ttl};
//!
//! let machine = bidlock_testkit::test_platform();
//! let store = Memory::new(&machine.platform());
//! let ask = |pid| AcquireRequest {
//!     key: Key::new("upwork", "job_123").expect("a valid key"),
//!     lease: LeaseId::random("bot", pid, machine.rng.as_ref()),
//!     ttl: Ttl::default(),
//!     label: None,
//!     wait: None,
//!     routine: false,
//!     within: Duration::from_secs(5),
//! };
//! bidlock_testkit::block_on(async {
//!     assert!(matches!(store.acquire(&ask(1)).await?, Attempt::Granted { .. }));
//!     assert!(matches!(store.acquire(&ask(2)).await?, Attempt::Held { .. }));
//!     machine.clock.advance(Ttl::default().get());
//!     assert!(matches!(store.acquire(&ask(2)).await?, Attempt::Granted { .. }));
//!     Ok::<(), bidlock_core::BackendError>(())
//! })?;
//! # Ok::<(), bidlock_core::BackendError>(())
//! ```

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
#[cfg(feature = "servers")]
pub mod servers;
mod submissions;
mod world;

pub use clock::ManualClock;
pub use executor::{HeldSpawn, ThreadSpawn, block_on};
pub use lossy::{Faults, Lossy};
pub use marketplace::{Behaviour, Cut, MarketAnswer, Marketplace, Visit};
pub use process::{Process, temp_dir, wait_until};
pub use processes::ManualProcesses;
pub use rng::SeededRng;
pub use submissions::{Submission, SubmissionLog};
pub use world::{TestPlatform, test_platform};
