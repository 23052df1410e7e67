//! What theory says: in which scenario which control must bid twice.

use crate::scenario::{Design, Scenario};
use crate::verdict::Verdict;

/// Why a control must fail in a scenario, and how much of it has to happen before that shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) because: &'static str,
    pub(crate) postings: u64,
    /// Faults of these kinds, together; no faults needed when there are none.
    pub(crate) kinds: &'static [&'static str],
    pub(crate) faults: usize,
}

const LATECOMER: Demand = Demand {
    because: "nothing is remembered once the lock is released",
    postings: 20,
    kinds: &[],
    faults: 0,
};
const HOSTS: Demand = Demand {
    because: "a file is of one host, and forgets too",
    postings: 20,
    kinds: &[],
    faults: 0,
};

const fn demand(
    because: &'static str,
    postings: u64,
    kinds: &'static [&'static str],
    faults: usize,
) -> Demand {
    Demand { because, postings, kinds, faults }
}

/// What must show of a control; `None` where theory lets it pass.
pub(crate) const fn demanded(design: Design, scenario: Scenario) -> Option<Demand> {
    match design {
        Design::Bidlock => None,
        Design::SetNx => Some(LATECOMER),
        Design::SqliteRow => Some(HOSTS),
        Design::SetNxQuery => of_query(scenario),
    }
}

/// Control b remembers what it has recorded, and nothing else.
const fn of_query(scenario: Scenario) -> Option<Demand> {
    Some(match scenario {
        Scenario::Crash => {
            demand("it dies between the bid and its record", 200, &["kill", "crash"], 40)
        }
        Scenario::Pause => demand("it pauses for longer than its lock lasts", 200, &["stop"], 60),
        Scenario::Partition => {
            demand("a reply that is lost is no bid to it", 200, &["partition"], 25)
        }
        Scenario::Flushall => demand("the lock is forgotten", 200, &["flushall"], 20),
        Scenario::Failover => demand("the lock is forgotten", 300, &["failover"], 20),
        Scenario::ClockServer => demand("all locks end at once", 300, &["clock-server"], 20),
        Scenario::PostgresRestart => demand("the record fails", 300, &["ledger-restart"], 10),
        Scenario::PostgresKill => demand("the record fails", 300, &["ledger-kill"], 10),
        Scenario::DiskFull => demand("the record fails", 300, &["disk-full"], 10),
        Scenario::PostgresFull => demand("the record fails", 500, &["disk-full"], 20),
        Scenario::Market => demand("a reply that is cut is no bid to it", 300, &[], 0),
        Scenario::Mixed => demand("any of the above", 500, &["kill", "crash", "stop"], 40),
        Scenario::RedisEmpty => demand("the lock is forgotten", 500, &["redis-empty"], 30),
        Scenario::Snapshot => demand("the lock is forgotten", 500, &["redis-snapshot"], 30),
        Scenario::Delay | Scenario::RedisRestart | Scenario::ClockClient | Scenario::Storm => {
            return None;
        }
    })
}

/// How a control stands to what theory demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is demanded.
    Free,
    /// It bid twice, as it must.
    Shown,
    /// The run is too short to demand it.
    TooShort,
    /// It did not, although it must: the run is broken.
    Missing(&'static str),
}

/// Whether a design has shown what it must.
pub(crate) fn standing(design: Design, scenario: Scenario, verdict: &Verdict) -> Standing {
    let Some(demand) = demanded(design, scenario) else { return Standing::Free };
    if verdict.duplicates > 0 {
        return Standing::Shown;
    }
    let faults: usize =
        demand.kinds.iter().filter_map(|kind| verdict.faults.get(kind)).copied().sum();
    if verdict.postings < demand.postings || faults < demand.faults {
        Standing::TooShort
    } else {
        Standing::Missing(demand.because)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::history::History;
    use crate::verdict::{About, judge};

    fn verdict(design: Design, scenario: Scenario, postings: u64) -> Verdict {
        let history = History {
            design,
            scenario,
            told: Vec::new(),
            calls: std::collections::BTreeMap::new(),
            faults: Vec::new(),
            arrivals: Vec::new(),
            ledger: Vec::new(),
            end: 0,
            reconciled: false,
        };
        let about = About { seed: 1, server: "redis70", ledger: "sqlite", postings, seconds: 1.0 };
        judge(&history, &about, Vec::new())
    }

    #[test]
    fn a_control_that_does_nothing_wrong_breaks_a_run_that_is_long_enough() {
        for scenario in Scenario::ALL {
            for design in [Design::SetNx, Design::SqliteRow] {
                let missing = standing(design, *scenario, &verdict(design, *scenario, 1_000));
                assert!(matches!(missing, Standing::Missing(_)), "{design}, {scenario}");
            }
        }
        let (design, scenario) = (Design::SetNxQuery, Scenario::Crash);
        let mut quiet = verdict(design, scenario, 1_000);
        assert_eq!(standing(design, scenario, &quiet), Standing::TooShort, "no bidder has died");
        quiet.faults = BTreeMap::from([("kill", 30), ("crash", 20)]);
        assert!(matches!(standing(design, scenario, &quiet), Standing::Missing(_)));
        quiet.duplicates = 1;
        assert_eq!(standing(design, scenario, &quiet), Standing::Shown);
        quiet.postings = 1;
        assert_eq!(standing(design, scenario, &quiet), Standing::Shown);
    }

    #[test]
    fn nothing_is_demanded_where_a_lock_and_a_table_stand() {
        for scenario in [Scenario::RedisRestart, Scenario::ClockClient, Scenario::Storm] {
            let one = verdict(Design::SetNxQuery, scenario, 1_000);
            assert_eq!(standing(Design::SetNxQuery, scenario, &one), Standing::Free);
        }
        let own = verdict(Design::Bidlock, Scenario::Mixed, 1_000);
        assert_eq!(standing(Design::Bidlock, Scenario::Mixed, &own), Standing::Free);
    }
}
