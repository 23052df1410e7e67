//! Whether what bidders saw of the lock of each posting is what one lock can have done: leases that
//! end, tokens that rise, and an order of all calls (linearizability).

use bidlock_history::{Call, Verdict, order, search};

use crate::history::History;

/// So many calls of a history that cannot be are shown.
const SHOWN: usize = 40;

#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of how many postings there were calls.
    pub(super) histories: usize,
    pub(super) calls: usize,
    /// Histories that no one lock has made.
    pub(super) wrong: usize,
    /// Histories with too many possible orders.
    pub(super) undecided: usize,
    /// Those that are wrong where the server lost nothing and its clock stood.
    pub(super) broken: Vec<String>,
}

pub(super) fn check(history: &History) -> Found {
    let mut found = Found::default();
    for (posting, calls) in &history.calls {
        found.histories += 1;
        found.calls += calls.len();
        // The quick judge first: what it refuses needs no search.
        let judged = order(calls).map(|()| search(calls));
        let why = match judged {
            Err(why) => why,
            Ok(Verdict::Not(stuck)) => format!("no lock does this: {stuck:?}"),
            Ok(Verdict::Linearizable) => continue,
            Ok(Verdict::Undecided) => {
                found.undecided += 1;
                continue;
            }
        };
        found.wrong += 1;
        if !history.scenario.may_overlap() {
            found.broken.push(format!("{posting}: {why}; of {}", told(calls)));
        }
    }
    found
}

/// The calls in the order of their beginnings, in microseconds after the first.
fn told(calls: &[Call]) -> String {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.invoked);
    let first = calls.first().map_or(0, |call| call.invoked);
    let line = |call: &Call| {
        let (from, to) = (call.invoked - first, call.returned.saturating_sub(first));
        let Call { lease, did, .. } = call;
        format!("{lease:016x} {from}..{to} {did:?}")
    };
    calls.iter().take(SHOWN).map(line).collect::<Vec<_>>().join(", ")
}
