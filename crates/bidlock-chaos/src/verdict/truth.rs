//! Compares the ledger with the marketplace, posting by posting.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::Event;
use crate::history::{History, Kept};
use crate::market::Arrival;

/// What the ledger says and the marketplace denies, or the other way round.
pub(super) fn compare(history: &History) -> Vec<String> {
    let mut broken = Vec::new();
    let mut arrivals = HashMap::<&str, Vec<&Arrival>>::new();
    for arrival in &history.arrivals {
        arrivals.entry(&arrival.attempt).or_default().push(arrival);
    }
    let known: BTreeSet<&str> = history.ledger.iter().map(|kept| kept.attempt.as_str()).collect();
    for arrival in history.arrivals.iter().filter(|one| !known.contains(one.attempt.as_str())) {
        let (posting, attempt) = (&arrival.posting, &arrival.attempt);
        broken.push(format!("{posting}: the ledger does not know the submission of {attempt}"));
    }
    let mut open = BTreeMap::<&str, Vec<&str>>::new();
    for kept in &history.ledger {
        let came = arrivals.get(kept.attempt.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(why) = contradiction(kept, came, history.reconciled) {
            let Kept { posting, attempt, state, events, .. } = kept;
            broken.push(format!("{posting}: {attempt} is {state} ({events:?}), but {why}"));
        }
        if kept.state != "abandoned" {
            open.entry(&kept.posting).or_default().push(&kept.attempt);
        }
    }
    let several = open.iter().filter(|(_, attempts)| attempts.len() > 1);
    broken.extend(several.map(|(posting, all)| format!("{posting}: several are open: {all:?}")));
    broken.extend(left_reserved(history));
    broken
}

fn contradiction(kept: &Kept, came: &[&Arrival], reconciled: bool) -> Option<&'static str> {
    let taken = came.iter().any(|one| one.taken);
    if came.iter().any(|one| one.posting != kept.posting) {
        return Some("it was sent for another posting");
    }
    match kept.state.as_str() {
        "placed" if !taken => Some("the marketplace has no such bid"),
        "refused" if taken => Some("the marketplace has the bid"),
        "refused" if !came.iter().any(|one| one.refused) => Some("nothing was refused"),
        "abandoned" | "reserved" if !came.is_empty() => Some("it was sent"),
        "unknown" if taken && reconciled => Some("the marketplace shows the bid"),
        "started" => Some("it can still be under way, after all have ended"),
        _ => None,
    }
}

/// Attempts that were left reserved by processes that ended in order.
fn left_reserved(history: &History) -> Vec<String> {
    let lives = |wanted: fn(&Event) -> bool| -> BTreeSet<(usize, u64)> {
        let told = history.told.iter().filter(|told| wanted(&told.line.event));
        told.map(|told| (told.bidder, told.life)).collect()
    };
    let done = lives(|event| matches!(event, Event::Done));
    let reserved = history.ledger.iter().filter(|kept| kept.state == "reserved");
    let orderly = reserved.filter(|kept| {
        let mut made = history.told.iter().filter(|told| {
            matches!(&told.line.event, Event::Reserved { attempt, .. } if *attempt == kept.attempt)
        });
        made.any(|told| done.contains(&(told.bidder, told.life)))
    });
    orderly
        .map(|kept| format!("{}: {} is left reserved, in order", kept.posting, kept.attempt))
        .collect()
}
