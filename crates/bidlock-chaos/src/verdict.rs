//! What a part of a run has shown.

mod calls;
mod doubles;
mod leases;
mod recovery;
#[cfg(test)]
mod tests;
mod truth;
mod unknowns;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{History, Kept};
use crate::scenario::Design;

/// After a fault the fleet bids again within this long.
pub(crate) const RECOVERY_MAX: u64 = 10_000_000;

/// What is printed of one design.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    pub(crate) design: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) seed: u64,
    pub(crate) server: &'static str,
    pub(crate) ledger: &'static str,
    pub(crate) postings: u64,
    /// Bids that reached the marketplace, whatever became of them.
    pub(crate) submissions: usize,
    /// Of those, the ones that it took.
    pub(crate) taken: usize,
    /// Submissions that started while an earlier one of the posting may have happened.
    pub(crate) duplicates: usize,
    /// Bids that were taken although the posting had one.
    pub(crate) double_bids: usize,
    /// Attempts in doubt that were sent again, where the marketplace knows them by their id.
    pub(crate) resent: usize,
    /// Attempts whose outcome nobody knows at the end.
    pub(crate) unknown: usize,
    /// Attempts whose outcome nobody knew at some time.
    pub(crate) unknown_ever: usize,
    pub(crate) unknown_unexplained: usize,
    pub(crate) faults: BTreeMap<&'static str, usize>,
    pub(crate) recovery_ms_max: u64,
    /// After which fault it took so long.
    pub(crate) slowest: String,
    /// Pairs of leases of one key that were valid at once by their holders' clocks.
    pub(crate) overlaps: usize,
    /// Tokens that fell where P3's own condition was broken.
    pub(crate) token_falls_excused: usize,
    pub(crate) leases: usize,
    /// Postings whose calls to the lock store were judged.
    pub(crate) histories: usize,
    pub(crate) calls: usize,
    /// Of those, the ones that no one lock can have made.
    pub(crate) histories_wrong: usize,
    /// Of those, the ones with too many possible orders.
    pub(crate) histories_undecided: usize,
    pub(crate) seconds: f64,
    /// What must not be; empty where all is well.
    pub(crate) broken: Vec<String>,
}

/// What stays the same for all checks.
pub(crate) struct About {
    pub(crate) seed: u64,
    pub(crate) server: &'static str,
    pub(crate) ledger: &'static str,
    pub(crate) postings: u64,
    pub(crate) seconds: f64,
}

/// Checks a history; `broken` is what was found wrong before.
pub(crate) fn judge(history: &History, about: &About, mut broken: Vec<String>) -> Verdict {
    let doubles = doubles::find(history);
    let recovery = recovery::measure(history);
    let (mut unknowns, mut leases) = (unknowns::Found::default(), leases::Found::default());
    let mut calls = calls::Found::default();
    if history.design == Design::Bidlock {
        unknowns = unknowns::find(history);
        leases = leases::check(history);
        calls = calls::check(history);
        broken.append(&mut calls.broken);
        broken.extend(truth::compare(history));
        broken.extend(leases.broken.iter().cloned());
        broken.extend(unknowns.unexplained.iter().map(|why| format!("unexplained: {why}")));
        broken.extend(doubles.shown.iter().map(|double| format!("duplicate: {double}")));
        broken.extend(recovery.broken.iter().cloned());
    }
    let mut faults = BTreeMap::new();
    for fault in &history.faults {
        *faults.entry(fault.kind).or_default() += 1;
    }
    let unknown = history.ledger.iter().filter(|kept| kept.state == "unknown").count();
    Verdict {
        design: history.design.name(),
        scenario: history.scenario.name(),
        seed: about.seed,
        server: about.server,
        ledger: about.ledger,
        postings: about.postings,
        submissions: history.arrivals.len(),
        taken: history.arrivals.iter().filter(|arrival| arrival.taken).count(),
        duplicates: doubles.submissions,
        double_bids: doubles.bids,
        resent: history.ledger.iter().map(Kept::resent).sum(),
        unknown,
        unknown_ever: unknowns.ever,
        unknown_unexplained: unknowns.unexplained.len(),
        faults,
        recovery_ms_max: recovery.max / 1_000,
        slowest: recovery.slowest,
        overlaps: leases.overlaps,
        token_falls_excused: leases.excused,
        leases: leases.count,
        histories: calls.histories,
        calls: calls.calls,
        histories_wrong: calls.wrong,
        histories_undecided: calls.undecided,
        seconds: about.seconds,
        broken,
    }
}
