//! What was done to the world, and when.

mod perform;

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::plan::Place;

pub(crate) use perform::Performer;

/// Whom a fault hit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    Bidder(usize),
    /// A host's way to a place.
    Way(usize, Option<Place>),
    /// A host as a whole, such as its clock.
    Host(usize),
    Redis,
    Ledger,
    /// One submission.
    Bid(String),
}

/// One fault as it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Fault {
    pub(crate) kind: &'static str,
    pub(crate) target: Target,
    /// Microseconds since boot.
    pub(crate) begin: u64,
    pub(crate) end: u64,
    /// By how many microseconds a clock stepped at its begin, and back at its end.
    pub(crate) step: i64,
}

/// All faults of a part of a run.
#[derive(Debug, Default)]
pub(crate) struct FaultLog {
    faults: Mutex<Vec<Fault>>,
}

impl FaultLog {
    pub(crate) fn note(&self, fault: Fault) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// All of them, in the order of their begins.
    pub(crate) fn all(&self) -> Vec<Fault> {
        let mut all = self.faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by_key(|fault| fault.begin);
        all
    }
}
