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
            // One that the marketplace knows by its key is the same submission once more.
            let open = arrivals[..index].iter().find(|earlier| !settled(earlier, later));
            if let Some(open) = open.filter(|_| !later.repeated) {
                found.submissions += 1;
                let (first, second) = (&open.attempt, &later.attempt);
                let apart = (later.at - open.at) / 1_000;
                found.shown.push(format!("{posting}: {first}, {apart} ms later {second}"));
            }
        }
    }
    found
}

/// Whether a submission was answered by a refusal before another one arrived.
fn settled(earlier: &Arrival, later: &Arrival) -> bool {
    earlier.refused && earlier.answered.is_some_and(|answered| answered <= later.at)
}
