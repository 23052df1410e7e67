//! Attempts whose outcome nobody knew, and the faults that explain them.

use crate::faults::{Fault, Target};
use crate::fleet::host_of;
use crate::history::{History, Kept, Trail};
use crate::plan::Place;

#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) ever: usize,
    pub(super) unexplained: Vec<String>,
}

/// A lease is believed in for so long after Redis has forgotten it.
const BELIEVED: u64 = 1_500_000;

pub(super) fn find(history: &History) -> Found {
    let (trails, births) = (history.trails(), history.births());
    let mut found = Found::default();
    for kept in history.ledger.iter().filter(|kept| kept.was_unknown()) {
        found.ever += 1;
        let trail = trails.get(kept.attempt.as_str()).copied().unwrap_or_default();
        let born = kept.pid().and_then(|pid| births.get(&pid).copied());
        if !explained(history, kept, &trail, born) {
            let Kept { posting, attempt, state, events, holder, .. } = kept;
            let shown =
                format!("{posting}: {attempt} of {holder} is {state} ({events:?}, {trail:?})");
            found.unexplained.push(shown);
        }
    }
    found
}

/// Whether an injected fault hit the attempt between its start and its record.
fn explained(history: &History, kept: &Kept, trail: &Trail, known: Option<(usize, u64)>) -> bool {
    let Some(bidder) = trail.bidder.or(known.map(|(bidder, _)| bidder)) else {
        // Its process was killed before it said that it is ready: it cannot have bid.
        return false;
    };
    // Without a line of its start, the process died between the commit and the line.
    let begin = trail.started.or(trail.first).or(known.map(|(_, up)| up)).unwrap_or(0);
    let end = trail.recorded.unwrap_or(u64::MAX);
    let doubted = kept.was_doubted();
    history.faults.iter().any(|fault| {
        let lasting = if doubted && is_of_locks(fault) { BELIEVED } else { 0 };
        let meets = fault.begin <= end && fault.end + lasting >= begin;
        meets && hits(fault, kept, bidder, doubted)
    })
}

/// Faults by which a key may be granted to another while its holder still believes.
fn is_of_locks(fault: &Fault) -> bool {
    matches!(
        fault.target,
        Target::Redis | Target::Way(_, Some(Place::Redis)) | Target::Host(_) | Target::Bidder(_)
    )
}

fn hits(fault: &Fault, kept: &Kept, bidder: usize, doubted: bool) -> bool {
    let host = host_of(bidder);
    match &fault.target {
        Target::Bidder(hit) => *hit == bidder,
        Target::Bid(attempt) => *attempt == kept.attempt,
        Target::Ledger => true,
        Target::Way(hit, Some(Place::Market | Place::Ledger)) => *hit == host,
        Target::Way(hit, _) => doubted && *hit == host,
        Target::Redis | Target::Host(_) => doubted,
    }
}
