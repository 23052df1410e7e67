//! Which faults happen when: drawn from the seed before the run begins.

mod lanes;

use crate::draw::{below, draw};
use crate::scenario::Scenario;

pub(crate) use lanes::HOSTS;
use serde::Serialize;

/// What a host is connected with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Redis,
    Ledger,
    Market,
}

impl Place {
    pub(crate) const ALL: [Self; 3] = [Self::Redis, Self::Ledger, Self::Market];
}

/// Which way nothing gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Blocked {
    There,
    Back,
    Both,
    /// Nobody listens, and open connections are cut.
    Refused,
}

/// What is done to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    /// `kill -9` of a bidder, which is started again.
    Kill { bidder: usize },
    /// SIGSTOP of a bidder, and SIGCONT.
    Stop { bidder: usize },
    /// A host cannot reach a place.
    Partition { host: usize, place: Place, blocked: Blocked },
    /// Bytes between a host and a place come late by so many milliseconds and a half more.
    Delay { host: usize, place: Place, by: u64 },
    /// The replies to a host's requests to Redis do not arrive, one after the other.
    LoseReplies { host: usize },
    /// The replica cannot reach its primary.
    CutReplica,
    /// `kill -9` of Redis, which comes back with its data.
    RestartRedis,
    /// The same without data.
    EmptyRedis,
    /// The same with the data of the moment at which the fault begins.
    RestoreRedis,
    /// FLUSHALL.
    Flushall,
    /// The replica is cut off, its primary killed, and the replica takes its place.
    Failover,
    /// An orderly restart of the ledger's server.
    RestartLedger,
    /// `kill -9` of the ledger's server.
    KillLedger,
    /// The ledger's files, or those of its server, cannot grow.
    FillDisk,
    /// The wall clocks of Redis step by so many milliseconds, and back.
    StepServer { by: i64 },
    /// The wall clock of a host steps by so many milliseconds, and back.
    StepHost { host: usize, by: i64 },
    /// Many connections of a host to a place at once.
    Storm { host: usize, place: Place },
}

impl Deed {
    /// The name under which it is counted.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Stop { .. } => "stop",
            Self::Partition { .. } => "partition",
            Self::Delay { .. } => "delay",
            Self::LoseReplies { .. } => "lost-replies",
            Self::CutReplica => "replica-cut",
            Self::RestartRedis => "redis-restart",
            Self::EmptyRedis => "redis-empty",
            Self::RestoreRedis => "redis-snapshot",
            Self::Flushall => "flushall",
            Self::Failover => "failover",
            Self::RestartLedger => "ledger-restart",
            Self::KillLedger => "ledger-kill",
            Self::FillDisk => "disk-full",
            Self::StepServer { .. } => "clock-server",
            Self::StepHost { .. } => "clock-client",
            Self::Storm { .. } => "storm",
        }
    }
}

/// One fault as it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Planned {
    /// Microseconds after the first posting.
    pub(crate) at: u64,
    /// Microseconds until it is undone.
    pub(crate) lasts: u64,
    pub(crate) deed: Deed,
}

/// Faults that follow one another; several sequences run at once.
pub(crate) type Lane = Vec<Planned>;

/// Plans the faults of a scenario for so many microseconds and bidders, as dense as `pace` says in
/// percent of what is usual.
pub(crate) fn plan(
    seed: u64,
    scenario: Scenario,
    length: u64,
    bidders: usize,
    pace: u64,
) -> Vec<Lane> {
    let lanes = lanes::of(scenario).into_iter().enumerate();
    let denser = |it: lanes::Rates| lanes::Rates {
        gap: (it.gap.0 * 100 / pace, it.gap.1 * 100 / pace),
        ..it
    };
    lanes.map(|(number, it)| one(seed, number as u64, &denser(it), length, bidders)).collect()
}

fn one(seed: u64, number: u64, lane: &lanes::Rates, length: u64, bidders: usize) -> Lane {
    let mut planned = Vec::new();
    let between = |(least, most): (u64, u64), drawn| (least + below(drawn, most - least)) * 1_000;
    let mut at = between((lane.gap.0 / 2, lane.gap.1), draw(seed, &[number, u64::MAX]));
    for step in 0_u64.. {
        let drawn = |what: u64| draw(seed, &[number, step, what]);
        let kind = &lane.kinds[lanes::index(below(drawn(0), lane.kinds.len() as u64))];
        let lasts = between(kind.lasts, drawn(1));
        if at + lasts > length {
            break;
        }
        planned.push(Planned { at, lasts, deed: (kind.make)(drawn(2), bidders) });
        at += lasts + between(lane.gap, drawn(3));
    }
    planned
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LENGTH: u64 = 300_000_000;

    fn names(scenario: Scenario) -> BTreeSet<&'static str> {
        plan(5, scenario, LENGTH, 8, 100).iter().flatten().map(|fault| fault.deed.name()).collect()
    }

    #[test]
    fn one_seed_gives_one_plan_and_another_seed_another() {
        for scenario in Scenario::ALL {
            let of = |seed| plan(seed, *scenario, LENGTH, 8, 100);
            assert_eq!(of(11), of(11), "{scenario}");
            assert!(of(11) != of(12) || of(11).is_empty(), "{scenario}");
        }
    }

    #[test]
    fn every_scenario_but_the_marketplaces_own_has_its_faults() {
        for scenario in Scenario::ALL {
            assert_eq!(names(*scenario).is_empty(), *scenario == Scenario::Market, "{scenario}");
        }
        assert_eq!(names(Scenario::RedisEmpty), BTreeSet::from(["redis-empty"]));
        let mixed = names(Scenario::Mixed);
        for name in
            ["kill", "stop", "partition", "failover", "redis-snapshot", "storm", "disk-full"]
        {
            assert!(mixed.contains(name), "{name}");
        }
    }

    #[test]
    fn faults_of_a_lane_follow_one_another_and_end_in_time() {
        for lane in plan(9, Scenario::Mixed, LENGTH, 8, 100) {
            assert!(lane.windows(2).all(|two| two[0].at + two[0].lasts < two[1].at));
            assert!(lane.iter().all(|fault| fault.at + fault.lasts <= LENGTH));
        }
    }

    #[test]
    fn five_minutes_of_all_faults_hold_what_the_ten_minute_run_has_to_show() {
        let all: Vec<_> = plan(1, Scenario::Mixed, LENGTH, 8, 100).concat();
        let count = |wanted: &[&str]| {
            all.iter().filter(|fault| wanted.contains(&fault.deed.name())).count()
        };
        let redis = ["redis-restart", "redis-empty", "redis-snapshot", "failover"];
        assert!(count(&["kill"]) >= 200, "{}", count(&["kill"]));
        assert!(count(&["stop"]) >= 200, "{}", count(&["stop"]));
        assert!(count(&redis) >= 40, "{}", count(&redis));
    }
}
