//! The store on real PostgreSQL servers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod conformance;
mod support;
