//! Runs bidlock's own code in a simulated world: many clients, a network that loses and delays,
//! a server that restarts and forgets, clocks that differ, processes that stop and end. One seed
//! decides everything; the same seed gives the same run, event for event.
//!
//! What is simulated is what surrounds bidlock. `Locker`, `Lease` and the Redis backend are the
//! code that users run, and the server executes the very scripts in the Lua that servers have.

mod bidder;
mod client;
mod coverage;
mod exec;
mod facts;
mod faulty;
mod hunt;
mod invariants;
mod ledger;
mod look;
mod market;
mod mutants;
mod net;
mod plan;
mod rand;
pub mod redis;
mod report;
mod shrink;
mod time;
mod trace;
mod witness;
mod world;

pub use hunt::{all_mutants, known_mutants, list_mutants, mutant_names};
pub use report::{Failed, Options, main};
