//! Submissions that started while an earlier one of the same posting may have happened.

use std::collections::BTreeMap;

use crate::history::History;
use crate::market::Arrival;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) submissions: usize,
    pub(super) bids: usize,
    /// Some of them, for people.
    pub(super) shown: Vec<String>,
}

pub(super) fn find(history: &History) -> Found {
    let mut postings = BTreeMap::<&str, Vec<&Arrival>>::new();
    for arrival in &history.arrivals {
        postings.entry(&arrival.posting).or_default().push(arrival);
    }
    let mut found = Found::default();
    for (posting, mut arrivals) in postings {
        arrivals.sort_by_key(|arrival| arrival.at);
        found.bids += arrivals.iter().filter(|one| one.taken).count().saturating_sub(1);
        for (index, later) in arrivals.iter().enumerate() {
            let may_have_happened =
                |earlier: &&&Arrival| !settled(earlier, later) && !same(earlier, later);
            if let Some(open) = arrivals[..index].iter().find(may_have_happened) {
                found.submissions += 1;
                let (first, second) = (&open.attempt, &later.attempt);
                let apart = (later.at - open.at) / 1_000;
                found.shown.push(format!("{posting}: {first}, {apart} ms later {second}"));
            }
        }
    }
    found
}

/// Whether both are one bid to the marketplace, which knows the attempt by its key.
fn same(earlier: &Arrival, later: &Arrival) -> bool {
    later.keyed && earlier.attempt == later.attempt
}

/// Whether a submission was answered by a refusal before another one arrived.
fn settled(earlier: &Arrival, later: &Arrival) -> bool {
    earlier.refused && earlier.answered.is_some_and(|answered| answered <= later.at)
}
