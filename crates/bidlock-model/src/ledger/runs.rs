//! What is checked: how many bidders, in what kind of world.

use super::{Budget, Config, Ledger, Mutant};
use crate::check::{Report, check, find};

const NOTHING: Budget =
    Budget { crashes: 0, lost_answers: 0, given_up: 0, acts: 0, settles: 0, prunes: 0 };

const BASE: Config = Config {
    bidders: 3,
    tries: 1,
    budget: NOTHING,
    stalls: false,
    keys: false,
    rash: false,
    mutant: None,
};

const RUNS: &[(&str, Config)] = &[
    (
        "ledger: crash, given up, lost answer, two acts by hand",
        Config {
            budget: Budget { crashes: 1, lost_answers: 1, given_up: 1, acts: 2, ..NOTHING },
            rash: true,
            ..BASE
        },
    ),
    (
        "ledger: crash, three acts by hand, a reconciler, a prune",
        Config {
            budget: Budget { crashes: 1, acts: 3, settles: 1, prunes: 1, ..NOTHING },
            rash: true,
            ..BASE
        },
    ),
    (
        "ledger: senders that stall, a person who looks for their processes",
        Config {
            budget: Budget { crashes: 1, given_up: 1, acts: 3, settles: 1, ..NOTHING },
            stalls: true,
            ..BASE
        },
    ),
    (
        "ledger: sent again, crash, given up, two acts by hand",
        Config {
            budget: Budget { crashes: 1, given_up: 1, acts: 2, ..NOTHING },
            keys: true,
            ..BASE
        },
    ),
    (
        "ledger: sent again by senders that stall",
        Config {
            budget: Budget { crashes: 1, acts: 2, ..NOTHING },
            stalls: true,
            keys: true,
            ..BASE
        },
    ),
    (
        "hole: a sender that stalls, a person who vouches for its end",
        Config {
            bidders: 2,
            budget: Budget { acts: 1, ..NOTHING },
            stalls: true,
            rash: true,
            ..BASE
        },
    ),
];

/// The world of the model that has locks as well.
pub(crate) fn joined() -> Config {
    Config { budget: Budget { crashes: 1, acts: 1, ..NOTHING }, rash: true, ..BASE }
}

/// Runs all, one after the other.
pub(crate) fn all(only: &str) -> impl Iterator<Item = Report> {
    let runs = RUNS.iter().filter(move |(name, _)| name.starts_with(only));
    runs.map(|(name, config)| check(name, Ledger { config: config.clone() }))
}

const ACTS: Budget =
    Budget { crashes: 1, lost_answers: 1, given_up: 1, acts: 2, settles: 1, prunes: 1 };

const STARTS: &str = "P1 nothing starts while another may have happened";

/// A mistake, the property that finds it, and the world that it takes.
const MUTANTS: &[(Mutant, &str, Config)] = &[
    (Mutant::StartIsNoCompareAndSet, STARTS, Config { bidders: 2, ..BASE }),
    (Mutant::LostStartIsSent, "P1 one bid", Config { bidders: 2, budget: ACTS, ..BASE }),
    (Mutant::StartedIsSentAgain, "P1 one bid", Config { bidders: 2, ..BASE }),
    (Mutant::NotFoundReopens, STARTS, Config { bidders: 2, budget: ACTS, stalls: true, ..BASE }),
    (
        Mutant::TakeOverByAge,
        "L4, L6 no way back, and no way out by age",
        Config { bidders: 2, ..BASE },
    ),
    (
        Mutant::TakeOverOfStarted,
        "L4, L6 no way back, and no way out by age",
        Config { bidders: 2, ..BASE },
    ),
    (Mutant::RecordNeedsLease, "L8 outcomes need no lease", Config { bidders: 2, ..BASE }),
    (
        Mutant::PruneTakesOpenOnes,
        "L10 only what is over is pruned",
        Config { bidders: 2, budget: ACTS, ..BASE },
    ),
    (Mutant::PruneForgetsHorizon, STARTS, Config { bidders: 2, budget: ACTS, ..BASE }),
    (
        Mutant::SentAfterSendBy,
        "P1 one bid",
        Config { bidders: 2, budget: ACTS, rash: true, ..BASE },
    ),
    (Mutant::GivenUpHasStopped, STARTS, Config { bidders: 2, budget: ACTS, stalls: true, ..BASE }),
    (Mutant::ResentWithoutKeys, "P1 one bid", Config { bidders: 3, ..BASE }),
    (
        Mutant::ResentWithOtherPayload,
        "L9 the payload is fixed at the start",
        Config { bidders: 2, keys: true, ..BASE },
    ),
    (Mutant::NotSentEndsTwoSendings, STARTS, Config { bidders: 2, tries: 2, keys: true, ..BASE }),
    (
        Mutant::SecondSenderSpeaksForFirst,
        STARTS,
        Config {
            stalls: true,
            keys: true,
            budget: Budget { crashes: 1, acts: 1, ..NOTHING },
            ..BASE
        },
    ),
    (Mutant::ResolvedTooEarly, STARTS, Config { bidders: 2, budget: ACTS, rash: true, ..BASE }),
];

/// Runs every mistake until the property beside it is found broken.
pub(crate) fn mutants() -> impl Iterator<Item = (String, &'static str, Report)> {
    MUTANTS.iter().map(|(mutant, property, config)| {
        let config = Config { mutant: Some(*mutant), ..config.clone() };
        (format!("{mutant:?}"), *property, find(property, &Ledger { config }))
    })
}
