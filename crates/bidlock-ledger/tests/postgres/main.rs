//! The store on real PostgreSQL servers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod access;
mod bids;
mod conformance;
mod copies;
mod deadlines;
mod doctor;
mod durable;
mod look_ups;
mod lost;
mod migrate;
mod racing;
mod rules;
mod support;
mod together;
