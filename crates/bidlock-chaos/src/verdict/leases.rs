//! Whether two leases of one key were valid at once, and whether tokens rose.

use std::collections::{BTreeMap, HashMap};

use crate::event::Event;
use crate::faults::Fault;
use crate::history::History;

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) count: usize,
    pub(super) overlaps: usize,
    pub(super) excused: usize,
    pub(super) broken: Vec<String>,
}

/// One lease, as its holder believed in it; microseconds since boot.
#[derive(Debug, Clone)]
struct Lease {
    posting: String,
    token: u64,
    /// When it was asked for.
    asked: u64,
    /// When its holder knew of it.
    begin: u64,
    end: u64,
}

pub(super) fn check(history: &History) -> Found {
    let mut found = Found::default();
    let mut keys = BTreeMap::<String, Vec<Lease>>::new();
    for lease in leases(history) {
        found.count += 1;
        keys.entry(lease.posting.clone()).or_default().push(lease);
    }
    for (_, mut leases) in keys {
        leases.sort_by_key(|lease| lease.token);
        overlapping(history, &leases, &mut found);
        leases.sort_by_key(|lease| lease.asked);
        falling(history, &leases, &mut found);
    }
    found
}

/// Every lease from its first grant to the end of the belief in it.
fn leases(history: &History) -> Vec<Lease> {
    let mut leases = HashMap::<&str, Lease>::new();
    let mut ended = HashMap::<&str, u64>::new();
    let mut lines: Vec<_> = history.told.iter().collect();
    lines.sort_by_key(|told| told.line.at);
    for told in lines {
        let at = told.line.at;
        match &told.line.event {
            Event::Granted { posting, lease, token, from, until } => {
                let one = leases.entry(lease).or_insert_with(|| Lease {
                    posting: posting.clone(),
                    token: *token,
                    asked: *from,
                    begin: at,
                    end: *until,
                });
                one.end = one.end.max(*until);
            }
            Event::Extended { lease, until } => {
                if let Some(one) = leases.get_mut(lease.as_str()) {
                    one.end = one.end.max(*until);
                }
            }
            Event::Ended { lease } => {
                ended.entry(lease).or_insert(at);
            }
            _ => {}
        }
    }
    let cut = |(id, mut lease): (&str, Lease)| {
        let ended = ended.get(id).copied().unwrap_or(u64::MAX);
        lease.end = lease.end.min(ended.max(lease.begin));
        lease
    };
    leases.into_iter().map(cut).collect()
}

fn overlapping(history: &History, by_token: &[Lease], found: &mut Found) {
    let mut last: Option<&Lease> = None;
    for lease in by_token {
        if let Some(before) =
            last.filter(|before| before.end > lease.begin && lease.end > before.begin)
        {
            found.overlaps += 1;
            if !history.scenario.may_overlap() {
                found.broken.push(format!("two leases at once: {before:?} and {lease:?}"));
            }
        }
        if last.is_none_or(|before| lease.end > before.end) {
            last = Some(lease);
        }
    }
}

fn falling(history: &History, by_time: &[Lease], found: &mut Found) {
    for (index, later) in by_time.iter().enumerate() {
        let earlier = by_time[..index].iter().filter(|earlier| earlier.begin < later.asked);
        let Some(highest) = earlier.max_by_key(|earlier| earlier.token) else { continue };
        if highest.token < later.token {
            continue;
        }
        if condition_is_broken(&history.faults, highest, later) {
            found.excused += 1;
        } else {
            found.broken.push(format!("a token fell: {highest:?}, then {later:?}"));
        }
    }
}

/// P3 holds while a server that lost data has not stepped its clock back: tokens of before the
/// step count as well, because the counter goes on from them.
fn condition_is_broken(faults: &[Fault], earlier: &Lease, later: &Lease) -> bool {
    const BEFORE: u64 = 10_000_000;
    const LOSSES: [&str; 4] = ["redis-empty", "redis-snapshot", "flushall", "failover"];
    let within = |fault: &Fault, since: u64| fault.begin <= later.begin && fault.end >= since;
    let lost = |fault: &Fault| LOSSES.contains(&fault.kind) && within(fault, earlier.asked);
    let stepped =
        |fault: &Fault| fault.step != 0 && within(fault, earlier.asked - BEFORE.min(earlier.asked));
    faults.iter().any(lost) && faults.iter().any(stepped)
}
