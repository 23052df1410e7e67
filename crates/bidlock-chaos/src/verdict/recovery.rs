//! How long it takes after a fault until those whom it hit bid again.

use crate::faults::{Fault, Target};
use crate::fleet::host_of;
use crate::history::History;
use crate::plan::HOSTS;

use super::RECOVERY_MAX;

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) max: u64,
    /// After which fault it took so long.
    pub(super) slowest: String,
    pub(super) broken: Vec<String>,
}

/// Time from the end of each fault to the next bid of each host that it hit, without the time in
/// which other faults hit that host.
pub(super) fn measure(history: &History) -> Found {
    let mut placed: Vec<Vec<u64>> = vec![Vec::new(); HOSTS];
    for told in &history.told {
        if told.line.event.is_placed() {
            placed[host_of(told.bidder)].push(told.line.at);
        }
    }
    for times in &mut placed {
        times.sort_unstable();
    }
    let mut found = Found::default();
    for (host, times) in placed.iter().enumerate() {
        let faults: Vec<&Fault> = history.faults.iter().filter(|one| hits(one, host)).collect();
        for fault in &faults {
            one(history, host, times, &faults, fault, &mut found);
        }
    }
    found
}

fn one(
    history: &History,
    host: usize,
    placed: &[u64],
    faults: &[&Fault],
    fault: &Fault,
    found: &mut Found,
) {
    let next = placed.iter().find(|at| **at > fault.end).copied();
    let until = next.unwrap_or(history.end);
    // Whoever is hit again before has to recover from that.
    let last = faults.iter().filter(|one| one.begin < until).map(|one| one.end.min(until));
    let from = last.max().unwrap_or(fault.end).max(fault.end);
    let took = until.saturating_sub(from);
    if took > RECOVERY_MAX {
        let word = if next.is_some() { "bids again" } else { "does not bid" };
        found.broken.push(format!("host {host} {word} {} ms after {fault:?}", took / 1_000));
    }
    if next.is_some() && took > found.max {
        found.max = took;
        found.slowest = format!("host {host}, {} at {}", fault.kind, fault.begin);
    }
}

fn hits(fault: &Fault, host: usize) -> bool {
    match fault.target {
        Target::Bidder(bidder) => host_of(bidder) == host,
        Target::Way(hit, _) | Target::Host(hit) => hit == host,
        Target::Redis | Target::Ledger => true,
        Target::Bid(_) => false,
    }
}
