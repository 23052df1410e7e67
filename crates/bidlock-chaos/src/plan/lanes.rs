//! How often which fault happens in which scenario.

use super::{Blocked, Deed, Place};
use crate::draw::{below, draw};
use crate::scenario::Scenario;

/// How many machines are simulated.
pub(crate) const HOSTS: usize = 3;

/// One sequence of faults; lengths are milliseconds, from the least to less than the most.
pub(super) struct Rates {
    /// From the end of one to the begin of the next.
    pub(super) gap: (u64, u64),
    /// One of these, each as likely as the others.
    pub(super) kinds: Vec<Kind>,
}

pub(super) struct Kind {
    pub(super) lasts: (u64, u64),
    /// Draws the rest, for so many bidders.
    pub(super) make: fn(u64, usize) -> Deed,
}

/// A place in a list of so many, whatever the width of a pointer.
pub(super) fn index(drawn: u64) -> usize {
    usize::try_from(drawn).unwrap_or(0)
}

fn pick(drawn: u64, about: u64, count: usize) -> usize {
    index(below(draw(drawn, &[about]), count as u64))
}

const KILL: Kind = Kind { lasts: (0, 1), make: |d, n| Deed::Kill { bidder: pick(d, 0, n) } };
/// Longer than a lease lasts.
const STOP: Kind =
    Kind { lasts: (1_200, 1_900), make: |d, n| Deed::Stop { bidder: pick(d, 0, n) } };
const PARTITION: Kind = Kind { lasts: (700, 2_500), make: partition };
const CUT_REPLICA: Kind = Kind { lasts: (500, 2_000), make: |_, _| Deed::CutReplica };
const DELAY: Kind = Kind { lasts: (800, 2_500), make: delay };
const LOSE: Kind =
    Kind { lasts: (500, 1_500), make: |d, _| Deed::LoseReplies { host: pick(d, 0, HOSTS) } };
const RESTART: Kind = Kind { lasts: (50, 1_000), make: |_, _| Deed::RestartRedis };
const EMPTY: Kind = Kind { lasts: (50, 600), make: |_, _| Deed::EmptyRedis };
const RESTORE: Kind = Kind { lasts: (300, 1_500), make: |_, _| Deed::RestoreRedis };
const FLUSHALL: Kind = Kind { lasts: (0, 1), make: |_, _| Deed::Flushall };
const FAILOVER: Kind = Kind { lasts: (300, 900), make: |_, _| Deed::Failover };
const RESTART_LEDGER: Kind = Kind { lasts: (50, 500), make: |_, _| Deed::RestartLedger };
const KILL_LEDGER: Kind = Kind { lasts: (50, 1_000), make: |_, _| Deed::KillLedger };
const FILL: Kind = Kind { lasts: (300, 1_500), make: |_, _| Deed::FillDisk };
const STEP_SERVER: Kind =
    Kind { lasts: (500, 3_000), make: |d, _| Deed::StepServer { by: step(d) } };
const STEP_HOST: Kind = Kind {
    lasts: (500, 4_000),
    make: |d, _| Deed::StepHost { host: pick(d, 0, HOSTS), by: step(d) },
};
const STORM: Kind = Kind { lasts: (500, 2_000), make: storm };

/// One to two leases, forward or back.
fn step(drawn: u64) -> i64 {
    let by = 1_000 + i64::try_from(below(draw(drawn, &[1]), 1_000)).unwrap_or(0);
    if draw(drawn, &[2]).is_multiple_of(2) { by } else { -by }
}

fn partition(drawn: u64, _bidders: usize) -> Deed {
    let ways = [Blocked::There, Blocked::Back, Blocked::Both, Blocked::Refused];
    Deed::Partition {
        host: pick(drawn, 0, HOSTS),
        place: Place::ALL[pick(drawn, 1, Place::ALL.len())],
        blocked: ways[pick(drawn, 2, ways.len())],
    }
}

fn delay(drawn: u64, _bidders: usize) -> Deed {
    let (host, place) = (pick(drawn, 0, HOSTS), Place::ALL[pick(drawn, 1, Place::ALL.len())]);
    Deed::Delay { host, place, by: 20 + below(draw(drawn, &[2]), 230) }
}

fn storm(drawn: u64, _bidders: usize) -> Deed {
    let places = [Place::Redis, Place::Ledger];
    Deed::Storm { host: pick(drawn, 0, HOSTS), place: places[pick(drawn, 1, places.len())] }
}

/// The sequences of a scenario.
pub(super) fn of(scenario: Scenario) -> Vec<Rates> {
    let often = |kinds: Vec<Kind>| Rates { gap: (1_000, 2_500), kinds };
    let now_and_then = |kinds: Vec<Kind>| Rates { gap: (2_500, 4_500), kinds };
    match scenario {
        Scenario::Crash => vec![Rates { gap: (150, 800), kinds: vec![KILL] }],
        Scenario::Pause => (0..3).map(|_| Rates { gap: (200, 900), kinds: vec![STOP] }).collect(),
        Scenario::Partition => {
            let also = Rates { gap: (800, 2_000), kinds: vec![PARTITION, PARTITION, CUT_REPLICA] };
            vec![often(vec![PARTITION]), also]
        }
        Scenario::Delay => vec![often(vec![DELAY, LOSE]), often(vec![DELAY])],
        Scenario::RedisRestart => vec![often(vec![RESTART])],
        Scenario::RedisEmpty => vec![often(vec![EMPTY])],
        Scenario::Flushall => vec![Rates { gap: (300, 1_500), kinds: vec![FLUSHALL] }],
        Scenario::Failover => vec![often(vec![FAILOVER])],
        Scenario::Snapshot => vec![often(vec![RESTORE])],
        Scenario::PostgresRestart => vec![now_and_then(vec![RESTART_LEDGER])],
        Scenario::PostgresKill => vec![now_and_then(vec![KILL_LEDGER])],
        Scenario::ClockServer => vec![often(vec![STEP_SERVER])],
        Scenario::ClockClient => vec![often(vec![STEP_HOST]), often(vec![STEP_HOST])],
        Scenario::DiskFull | Scenario::PostgresFull => vec![often(vec![FILL])],
        Scenario::Storm => vec![often(vec![STORM])],
        Scenario::Market => Vec::new(),
        Scenario::Mixed => mixed(),
    }
}

fn mixed() -> Vec<Rates> {
    let rarely = |kinds: Vec<Kind>| Rates { gap: (4_000, 9_000), kinds };
    let redis = vec![RESTART, EMPTY, RESTORE, FAILOVER, RESTART, FLUSHALL];
    vec![
        Rates { gap: (500, 1_300), kinds: vec![KILL] },
        Rates { gap: (300, 1_100), kinds: vec![STOP] },
        Rates { gap: (300, 1_100), kinds: vec![STOP] },
        Rates { gap: (300, 1_100), kinds: vec![STOP] },
        Rates { gap: (2_500, 4_500), kinds: redis },
        rarely(vec![PARTITION, PARTITION, PARTITION, CUT_REPLICA]),
        rarely(vec![DELAY, LOSE]),
        Rates { gap: (4_000, 9_000), kinds: vec![RESTART_LEDGER, KILL_LEDGER, KILL_LEDGER, FILL] },
        rarely(vec![STEP_SERVER, STEP_HOST, STEP_HOST]),
        Rates { gap: (10_000, 20_000), kinds: vec![STORM] },
    ]
}
