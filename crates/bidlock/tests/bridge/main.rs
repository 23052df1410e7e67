//! Locks over a bridge to the lock table of an older system: both stores hold them, or none.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod conformance;
mod kit;
mod leases;
mod opening;
mod processes;
mod rows;
