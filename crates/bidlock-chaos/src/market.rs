//! How the marketplace treats the bids of a run.

use std::time::{Duration, Instant};

use bidlock_testkit::{Behaviour, Cut, Submission};
use serde::Serialize;

use crate::draw::{below, draw_for};
use crate::faults::{Fault, Target};
use crate::scenario::Scenario;

/// An answer later than this finds no sender any more.
pub(crate) const LATE: Duration = Duration::from_secs(4);

/// Whether the attempt id is known as an idempotency key where this posting is.
pub(crate) fn honours_keys(seed: u64, posting: &str) -> bool {
    below(draw_for(seed, posting, 4), 1_000) < 300
}

/// How the bid is treated that comes after so many of its posting: the same in every run of a
/// seed.
pub(crate) fn judge(seed: u64, scenario: Scenario, bid: &Submission, before: usize) -> Behaviour {
    let drawn = |about| below(draw_for(seed, &bid.posting, about), 1_000);
    let slow = if drawn(1) < 700 { 3 + drawn(2) / 20 } else { 60 + drawn(2) * 3 / 10 };
    let mut behaviour = Behaviour {
        slow: Duration::from_millis(slow),
        refuses: drawn(3) < 30,
        honours_keys: honours_keys(seed, &bid.posting),
        ..Behaviour::default()
    };
    // Who comes again is served well: otherwise nothing could ever be settled.
    if scenario.market_misbehaves() && before == 0 {
        let alone = scenario == Scenario::Market;
        let rare = if alone { 40 } else { 8 };
        let kind = drawn(5);
        behaviour.cuts = match kind {
            _ if kind < rare => Some(Cut::Before),
            _ if kind < 2 * rare => Some(Cut::After),
            _ => None,
        };
        if (2 * rare..3 * rare).contains(&kind) {
            behaviour.answers_after = LATE;
        }
        if drawn(6) < 300 {
            behaviour.shows_after = Duration::from_millis(drawn(7));
        }
    }
    behaviour
}

/// One bid that came to the marketplace, in the run's own time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Arrival {
    pub(crate) posting: String,
    pub(crate) attempt: String,
    /// Microseconds since boot.
    pub(crate) at: u64,
    /// Whether it made a bid; a repeat that was known by its key made none.
    pub(crate) taken: bool,
    pub(crate) refused: bool,
    /// Whether a repeat of the same attempt is the same bid to the marketplace.
    pub(crate) keyed: bool,
    /// When the answer was sent, if one was.
    pub(crate) answered: Option<u64>,
}

/// What came to the marketplace, and the faults that it was itself.
pub(crate) fn arrivals(
    visits: &[bidlock_testkit::Visit],
    now: (Instant, u64),
) -> (Vec<Arrival>, Vec<Fault>) {
    let mut faults = Vec::new();
    let arrivals = visits.iter().map(|visit| {
        let ago = now.0.saturating_duration_since(visit.arrived);
        let at = now.1.saturating_sub(crate::time::micros(ago));
        let decided = at + crate::time::micros(visit.behaviour.slow);
        let answered = decided + crate::time::micros(visit.behaviour.answers_after);
        let attempt = visit.submission.attempt.clone();
        let late = visit.behaviour.answers_after >= LATE;
        let kind = match visit.behaviour.cuts {
            Some(Cut::Before) => Some("market-cut-before"),
            Some(Cut::After) => Some("market-cut-after"),
            None if late => Some("market-late"),
            None => None,
        };
        if let Some(kind) = kind {
            let target = Target::Bid(attempt.clone());
            faults.push(Fault { kind, target, begin: at, end: answered, step: 0 });
        }
        let taken = visit.taken.is_some();
        // A refusal is always told, unless the connection broke before.
        let cut_before = visit.behaviour.cuts == Some(Cut::Before);
        let refused = visit.behaviour.refuses && !taken && !visit.repeated && !cut_before;
        Arrival {
            posting: visit.submission.posting.clone(),
            attempt,
            at,
            taken,
            refused,
            keyed: visit.behaviour.honours_keys,
            answered: (refused || visit.behaviour.cuts.is_none()).then_some(answered),
        }
    });
    (arrivals.collect(), faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bid(posting: &str) -> Submission {
        Submission { posting: posting.to_owned(), attempt: "a".to_owned() }
    }

    #[test]
    fn a_seed_decides_how_each_posting_is_treated() {
        let all = |seed, scenario| -> Vec<Behaviour> {
            (0..400).map(|n| judge(seed, scenario, &bid(&format!("p{n}")), 0)).collect()
        };
        assert_eq!(all(4, Scenario::Market), all(4, Scenario::Market));
        assert_ne!(all(4, Scenario::Market), all(5, Scenario::Market));
        let count = |wanted: fn(&Behaviour) -> bool| {
            all(4, Scenario::Market).iter().filter(|one| wanted(one)).count()
        };
        assert!(count(|one| one.cuts == Some(Cut::Before)) > 0);
        assert!(count(|one| one.cuts == Some(Cut::After)) > 0);
        assert!(count(|one| one.answers_after == LATE) > 0);
        assert!(count(|one| one.refuses) > 0 && count(|one| one.honours_keys) > 0);
        let again = |n| judge(4, Scenario::Market, &bid(&format!("p{n}")), 1);
        assert!((0..400).map(again).all(|one| one.cuts.is_none() && one.answers_after.is_zero()));
        let calm = all(4, Scenario::Crash);
        assert!(calm.iter().all(|one| one.cuts.is_none() && one.answers_after.is_zero()));
    }
}
