//! What is checked: which clients, and what goes wrong.

use super::{Budget, Config, FOREVER, Lock, Mutant};
use crate::check::{Report, check, find};

const NOTHING: Budget = Budget {
    crashes: 0,
    pauses: 0,
    slow: 0,
    lost: 0,
    repeated: 0,
    delayed: 0,
    data_losses: 0,
    clock_steps: 0,
    revokes: 0,
    cancels: 0,
};

/// Three clients on one key, two leases each, one after the other.
const THREE: &[u8] = &[0, 1, 2];
/// Two processes with two tasks each.
const PAIRS: &[u8] = &[0, 0, 1, 1];

/// Name, the client of each task, leases of each task, the wait, what goes wrong.
type Run = (&'static str, &'static [u8], u8, u8, Budget);

const RUNS: &[Run] = &[
    (
        "lock: crash, lost message, data loss",
        THREE,
        2,
        FOREVER,
        Budget { crashes: 1, lost: 1, data_losses: 1, ..NOTHING },
    ),
    (
        "lock: lost and repeated message",
        THREE,
        2,
        FOREVER,
        Budget { lost: 1, repeated: 1, ..NOTHING },
    ),
    (
        "lock: crash, lost and repeated message, data loss",
        THREE,
        1,
        FOREVER,
        Budget { crashes: 1, lost: 1, repeated: 1, data_losses: 1, ..NOTHING },
    ),
    ("lock: slow and lost message", THREE, 2, FOREVER, Budget { slow: 1, lost: 1, ..NOTHING }),
    (
        "lock: delayed request, cancel",
        THREE,
        2,
        FOREVER,
        Budget { delayed: 1, cancels: 1, ..NOTHING },
    ),
    ("lock: pause, cancel", THREE, 2, FOREVER, Budget { pauses: 1, cancels: 1, ..NOTHING }),
    ("lock: revoke, slow message", THREE, 2, FOREVER, Budget { revokes: 1, slow: 1, ..NOTHING }),
    (
        "lock: clock set back, lost message",
        THREE,
        2,
        FOREVER,
        Budget { clock_steps: 1, lost: 1, ..NOTHING },
    ),
    (
        "lock: short waits, slow and delayed message",
        THREE,
        1,
        2,
        Budget { slow: 1, delayed: 1, ..NOTHING },
    ),
    (
        "lock: two processes with two tasks each, crash, lost message",
        PAIRS,
        1,
        FOREVER,
        Budget { crashes: 1, lost: 1, ..NOTHING },
    ),
    (
        "lock: two processes with two tasks each, pause, cancel",
        PAIRS,
        1,
        FOREVER,
        Budget { pauses: 1, cancels: 1, ..NOTHING },
    ),
];

/// Runs all, one after the other.
pub(crate) fn all(only: &str) -> impl Iterator<Item = Report> {
    let runs = RUNS.iter().filter(move |(name, ..)| name.starts_with(only));
    runs.map(|&(name, clients, leases, wait, budget)| {
        let clients: Vec<u8> = clients.to_vec();
        let mut known = clients.clone();
        known.dedup();
        let symmetric = known.len() == clients.len();
        let config = Config { clients, leases, wait, budget, symmetric, mutant: None };
        check(name, Lock { config })
    })
}

/// A mistake, the property that finds it, and what it takes.
type Found = (Mutant, &'static str, &'static [u8], u8, u8, Budget);

const TWO: &[u8] = &[0, 1];

const MUTANTS: &[Found] = &[
    (
        Mutant::ReleaseWithoutCompare,
        "I2 only its lease releases a key",
        TWO,
        1,
        FOREVER,
        Budget { pauses: 1, ..NOTHING },
    ),
    (
        Mutant::TokenFromCounterAlone,
        "P3 tokens rise",
        TWO,
        1,
        FOREVER,
        Budget { data_losses: 1, ..NOTHING },
    ),
    (
        Mutant::OwnRepeatIsAnother,
        "I8 a repeat has the same token",
        TWO,
        1,
        FOREVER,
        Budget { lost: 1, ..NOTHING },
    ),
    (
        Mutant::RenewRevives,
        "I5 a renewal makes no grant",
        TWO,
        1,
        FOREVER,
        Budget { data_losses: 1, lost: 1, delayed: 1, ..NOTHING },
    ),
    (
        Mutant::RenewOfNothingIsYes,
        "a holder is told of data loss and revocation",
        TWO,
        1,
        FOREVER,
        Budget { data_losses: 1, ..NOTHING },
    ),
    (
        Mutant::BeliefFromReply,
        "P6 the holder knows first",
        TWO,
        1,
        FOREVER,
        Budget { slow: 1, pauses: 1, ..NOTHING },
    ),
    (
        Mutant::BeliefWithoutMargin,
        "P6 the holder knows first",
        TWO,
        1,
        FOREVER,
        Budget { pauses: 1, ..NOTHING },
    ),
    (
        Mutant::PushedFromReceipt,
        "P6 the holder knows first",
        TWO,
        1,
        FOREVER,
        Budget { slow: 1, pauses: 1, ..NOTHING },
    ),
    (
        Mutant::WindowIgnoresDeadline,
        "I6 first come, first served",
        TWO,
        1,
        2,
        Budget { pauses: 1, ..NOTHING },
    ),
    (
        Mutant::CancelForgetsGrant,
        "I11 leaving leaves nothing",
        TWO,
        1,
        FOREVER,
        Budget { slow: 1, cancels: 1, ..NOTHING },
    ),
    (
        Mutant::ReleasedOnce,
        "I11 leaving leaves nothing",
        TWO,
        1,
        FOREVER,
        Budget { delayed: 1, cancels: 1, ..NOTHING },
    ),
    (
        Mutant::NotifyOnlyWait,
        "P4 nobody is forgotten",
        TWO,
        1,
        FOREVER,
        Budget { crashes: 1, ..NOTHING },
    ),
    (
        Mutant::LateTakesEffect,
        "I11 leaving leaves nothing",
        TWO,
        1,
        FOREVER,
        Budget { delayed: 1, cancels: 1, ..NOTHING },
    ),
    (
        Mutant::NewcomerFirst,
        "I6 first come, first served",
        THREE,
        1,
        FOREVER,
        Budget { crashes: 1, ..NOTHING },
    ),
    (Mutant::KeyWithoutEnd, "I10 everything ends", TWO, 1, FOREVER, NOTHING),
    (
        Mutant::ErrorIsSuccess,
        "P5 nothing runs without a grant",
        TWO,
        1,
        FOREVER,
        Budget { lost: 1, ..NOTHING },
    ),
];

/// Runs every mistake until the property beside it is found broken.
pub(crate) fn mutants() -> impl Iterator<Item = (String, &'static str, Report)> {
    MUTANTS.iter().map(|&(mutant, property, clients, leases, wait, budget)| {
        let (clients, mutant) = (clients.to_vec(), Some(mutant));
        let config = Config { clients, leases, wait, budget, symmetric: false, mutant };
        let name = config.mutant.map_or_else(String::new, |mutant| format!("{mutant:?}"));
        (name, property, find(property, &Lock { config }))
    })
}
