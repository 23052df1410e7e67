//! The checker itself: bad histories are caught, good ones pass.

use super::*;
use crate::event::{Event, Line};
use crate::faults::{Fault, Target};
use crate::fleet::Told;
use crate::history::Kept;
use crate::market::Arrival;
use crate::plan::Place;
use crate::scenario::Scenario;

const MS: u64 = 1_000;

fn history(scenario: Scenario) -> History {
    History {
        design: Design::Bidlock,
        scenario,
        told: Vec::new(),
        calls: BTreeMap::new(),
        faults: Vec::new(),
        arrivals: Vec::new(),
        ledger: Vec::new(),
        end: 9_000 * MS,
        reconciled: true,
    }
}

fn verdict(history: &History) -> Verdict {
    let about = About { seed: 1, server: "redis70", ledger: "sqlite", postings: 9, seconds: 1.0 };
    judge(history, &about, Vec::new())
}

fn says(history: &History, what: &str) -> bool {
    let verdict = verdict(history);
    let said = verdict.broken.iter().any(|broken| broken.contains(what));
    assert_eq!(said, !verdict.broken.is_empty(), "{what}: {:?}", verdict.broken);
    said
}

fn tell(history: &mut History, bidder: usize, at: u64, event: Event) {
    history.told.push(Told { bidder, life: 0, line: Line { at: at * MS, event } });
}

fn arrive(history: &mut History, posting: &str, attempt: &str, at: u64) -> usize {
    let (posting, attempt) = (posting.to_owned(), attempt.to_owned());
    let (taken, refused, keyed) = (true, false, false);
    let (at, answered) = (at * MS, Some((at + 5) * MS));
    let arrival = Arrival { posting, attempt, at, taken, refused, keyed, answered };
    history.arrivals.push(arrival);
    history.arrivals.len() - 1
}

fn keep(history: &mut History, posting: &str, attempt: &str, events: &[&str]) {
    let state = match *events.last().expect("an event") {
        "doubted" | "given_up" => "unknown",
        "not_sent" | "taken_over" => "abandoned",
        "resolved_placed" => "placed",
        other => other,
    };
    history.ledger.push(Kept {
        posting: posting.to_owned(),
        attempt: attempt.to_owned(),
        state: state.to_owned(),
        holder: "host-0:77:0011aabb".to_owned(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
    });
}

/// A bid as it should go, from `at` on.
fn bid(history: &mut History, bidder: usize, posting: &str, attempt: &str, at: u64) {
    let (posting_text, attempt_text) = (posting.to_owned(), attempt.to_owned());
    tell(
        history,
        bidder,
        at,
        Event::Reserved { posting: posting_text, attempt: attempt_text.clone() },
    );
    tell(history, bidder, at + 1, Event::Started { attempt: attempt_text.clone() });
    arrive(history, posting, attempt, at + 2);
    let state = "placed".to_owned();
    tell(history, bidder, at + 9, Event::Recorded { attempt: attempt_text, state });
    keep(history, posting, attempt, &["reserved", "started", "placed"]);
}

fn grant(history: &mut History, posting: &str, lease: &str, token: u64, span: (u64, u64)) {
    let (posting, lease) = (posting.to_owned(), lease.to_owned());
    let (from, until) = ((span.0 - 1) * MS, span.1 * MS);
    tell(history, 0, span.0, Event::Granted { posting, lease, token, from, until });
}

fn fault(kind: &'static str, target: Target, begin: u64, end: u64) -> Fault {
    Fault { kind, target, begin: begin * MS, end: end * MS, step: 0 }
}

#[test]
fn a_history_without_fault_is_good() {
    let mut good = history(Scenario::Crash);
    bid(&mut good, 0, "p1", "a", 100);
    bid(&mut good, 1, "p2", "b", 120);
    let verdict = verdict(&good);
    assert_eq!(verdict.broken, [""; 0]);
    assert_eq!((verdict.submissions, verdict.duplicates, verdict.unknown_ever), (2, 0, 0));
}

#[test]
fn a_second_submission_is_a_duplicate_whatever_the_marketplace_did() {
    let mut twice = history(Scenario::Crash);
    bid(&mut twice, 0, "p1", "a", 100);
    let second = arrive(&mut twice, "p1", "a", 300);
    assert!(says(&twice, "duplicate: p1"));
    assert_eq!((verdict(&twice).duplicates, verdict(&twice).double_bids), (1, 1));
    // That it was cut off helps nobody: it could have been taken.
    twice.arrivals[second].taken = false;
    assert_eq!((verdict(&twice).duplicates, verdict(&twice).double_bids), (1, 0));
    twice.arrivals[second].keyed = true;
    assert_eq!(verdict(&twice).duplicates, 0, "the marketplace knows it by its key");
    "b".clone_into(&mut twice.arrivals[second].attempt);
    assert_eq!(verdict(&twice).duplicates, 1, "another attempt has another key");
}

#[test]
fn after_a_refusal_that_was_told_another_submission_is_none() {
    let mut again = history(Scenario::Crash);
    let first = arrive(&mut again, "p1", "a", 100);
    arrive(&mut again, "p1", "b", 200);
    again.arrivals[first].taken = false;
    again.arrivals[first].refused = true;
    keep(&mut again, "p1", "a", &["reserved", "started", "refused"]);
    again.ledger[0].state = "abandoned".to_owned();
    assert_eq!(verdict(&again).duplicates, 0);
    again.arrivals[first].answered = Some(201 * MS);
    assert_eq!(verdict(&again).duplicates, 1, "nobody knew of the refusal yet");
}

#[test]
fn ledger_and_marketplace_have_to_agree() {
    let mut unknown_to_ledger = history(Scenario::Crash);
    arrive(&mut unknown_to_ledger, "p1", "a", 100);
    assert!(says(&unknown_to_ledger, "does not know the submission"));

    for (events, came, what) in [
        (&["reserved", "started", "placed"][..], false, "has no such bid"),
        (&["reserved", "started", "refused"][..], true, "has the bid"),
        (&["reserved", "started", "refused"][..], false, "nothing was refused"),
        (&["reserved", "started", "not_sent"][..], true, "it was sent"),
        (&["reserved"][..], true, "it was sent"),
        (&["reserved", "started"][..], false, "under way"),
    ] {
        let mut bad = history(Scenario::Crash);
        keep(&mut bad, "p1", "a", events);
        if came {
            arrive(&mut bad, "p1", "a", 100);
        }
        assert!(says(&bad, what), "{events:?}");
    }
    let mut two = history(Scenario::Crash);
    keep(&mut two, "p1", "a", &["reserved"]);
    keep(&mut two, "p1", "b", &["reserved"]);
    assert!(says(&two, "several are open"));
}

#[test]
fn what_the_marketplace_shows_does_not_stay_unknown() {
    let mut missed = history(Scenario::Crash);
    arrive(&mut missed, "p1", "a", 100);
    keep(&mut missed, "p1", "a", &["reserved", "started", "unknown"]);
    tell(&mut missed, 0, 100, Event::Started { attempt: "a".to_owned() });
    missed.faults.push(fault("kill", Target::Bidder(0), 101, 200));
    assert!(says(&missed, "shows the bid"));
}

#[test]
fn an_attempt_is_not_left_reserved_by_a_process_that_ended_in_order() {
    let mut left = history(Scenario::Crash);
    let (posting, attempt) = ("p1".to_owned(), "a".to_owned());
    tell(&mut left, 0, 100, Event::Reserved { posting, attempt });
    keep(&mut left, "p1", "a", &["reserved"]);
    assert_eq!(verdict(&left).broken, [""; 0], "its process was killed");
    tell(&mut left, 0, 200, Event::Done);
    assert!(says(&left, "left reserved"));
}

#[test]
fn leases_of_one_key_do_not_overlap_unless_redis_forgot() {
    let overlap = |scenario| {
        let mut both = history(scenario);
        grant(&mut both, "p1", "x", 5, (100, 1_100));
        grant(&mut both, "p1", "y", 6, (1_050, 2_000));
        both
    };
    assert!(says(&overlap(Scenario::Pause), "two leases at once"));
    let forgotten = verdict(&overlap(Scenario::RedisEmpty));
    assert_eq!((forgotten.overlaps, forgotten.broken.len()), (1, 0), "counted and reported");

    let mut given_back = overlap(Scenario::Pause);
    tell(&mut given_back, 0, 900, Event::Ended { lease: "x".to_owned() });
    assert_eq!((verdict(&given_back).overlaps, verdict(&given_back).leases), (0, 2));

    let mut renewed = history(Scenario::Pause);
    grant(&mut renewed, "p1", "x", 5, (100, 1_100));
    let until = 3_000 * MS;
    tell(&mut renewed, 0, 800, Event::Extended { lease: "x".to_owned(), until });
    grant(&mut renewed, "p1", "y", 6, (2_000, 3_000));
    assert!(says(&renewed, "two leases at once"));

    let mut other_keys = history(Scenario::Pause);
    grant(&mut other_keys, "p1", "x", 5, (100, 1_100));
    grant(&mut other_keys, "p2", "y", 6, (100, 1_100));
    assert_eq!(verdict(&other_keys).overlaps, 0);
}

#[test]
fn what_bidders_saw_of_a_lock_is_what_one_lock_can_have_done() {
    use bidlock_history::{Call, Did};
    let ttl = 1_000 * MS;
    let call = |lease, span: (u64, u64), did| {
        let (invoked, returned) = (span.0 * MS, span.1 * MS);
        Call { lease, invoked, returned, did }
    };
    let granted = |token| Did::Granted { token, ttl };
    let with = |scenario, calls: &[Call]| {
        let mut seen = history(scenario);
        seen.calls.insert("p1".to_owned(), calls.to_vec());
        seen
    };
    let good = [
        call(1, (100, 102), granted(5)),
        call(2, (103, 104), Did::Held { waits: false }),
        call(1, (110, 111), Did::Released),
        call(2, (112, 113), granted(6)),
        // Its process was killed before the answer.
        call(2, (120, u64::MAX / MS), Did::MaybeReleased),
        call(3, (130, 131), granted(7)),
    ];
    let verdict_of = verdict(&with(Scenario::Pause, &good));
    assert_eq!((verdict_of.histories, verdict_of.calls), (1, 6));
    assert_eq!(verdict_of.broken, [""; 0]);

    let mut two = good;
    two[2] = call(4, (110, 111), Did::NotOurs);
    assert!(says(&with(Scenario::Pause, &two), "two believe at once"));
    let mut falls = good;
    falls[3] = call(2, (112, 113), granted(4));
    assert!(says(&with(Scenario::Delay, &falls), "tokens fell"));
    let mut refused = good;
    refused[1] = call(2, (90, 91), Did::Held { waits: false });
    assert!(says(&with(Scenario::Crash, &refused), "no lock does this"));
    let counted = verdict(&with(Scenario::Failover, &two));
    assert_eq!((counted.histories_wrong, counted.broken.len()), (1, 0), "counted and reported");
}

#[test]
fn a_token_that_falls_is_caught_unless_data_was_lost_and_the_clock_stepped() {
    let falling = || {
        let mut falls = history(Scenario::Mixed);
        grant(&mut falls, "p1", "x", 9, (100, 200));
        grant(&mut falls, "p1", "y", 8, (300, 400));
        falls
    };
    assert!(says(&falling(), "a token fell"));
    let mut equal = falling();
    equal.told.pop();
    grant(&mut equal, "p1", "y", 9, (300, 400));
    assert!(says(&equal, "a token fell"));
    let mut lost = falling();
    lost.faults.push(fault("flushall", Target::Redis, 250, 250));
    assert!(says(&lost, "a token fell"), "the clock did not step");
    lost.faults.push(Fault { step: 1, ..fault("clock-server", Target::Redis, 10, 210) });
    let excused = verdict(&lost);
    assert_eq!((excused.token_falls_excused, excused.broken.len()), (1, 0));
}

#[test]
fn an_unknown_outcome_needs_a_fault_between_start_and_record() {
    let unknown = |events: &[&str]| {
        let mut one = history(Scenario::Mixed);
        tell(&mut one, 0, 100, Event::Started { attempt: "a".to_owned() });
        let state = "unknown".to_owned();
        tell(&mut one, 0, 900, Event::Recorded { attempt: "a".to_owned(), state });
        keep(&mut one, "p1", "a", events);
        one
    };
    let plain = ["reserved", "started", "unknown"];
    assert!(says(&unknown(&plain), "unexplained: p1"));
    assert_eq!(verdict(&unknown(&plain)).unknown_unexplained, 1);
    let explains = |fault: Fault, events: &[&str]| {
        let mut hit = unknown(events);
        hit.faults.push(fault);
        verdict(&hit).unknown_unexplained == 0
    };
    let market = |host| Target::Way(host, Some(Place::Market));
    assert!(explains(fault("stop", Target::Bidder(0), 300, 400), &plain));
    assert!(explains(fault("partition", market(0), 50, 101), &plain));
    assert!(explains(fault("market-late", Target::Bid("a".to_owned()), 110, 900), &plain));
    assert!(explains(fault("ledger-kill", Target::Ledger, 880, 1_500), &plain));
    assert!(!explains(fault("stop", Target::Bidder(1), 300, 400), &plain), "another bidder");
    assert!(!explains(fault("partition", market(1), 300, 400), &plain), "another host");
    assert!(!explains(fault("stop", Target::Bidder(0), 20, 99), &plain), "too early");
    assert!(!explains(fault("stop", Target::Bidder(0), 901, 999), &plain), "too late");
    assert!(!explains(fault("market-late", Target::Bid("b".to_owned()), 110, 900), &plain));
    let mut resent = unknown(&["reserved", "started", "unknown", "resent", "placed"]);
    tell(&mut resent, 3, 5_000, Event::Sending { posting: "p1".into(), attempt: "a".into() });
    arrive(&mut resent, "p1", "a", 5_001);
    resent.faults.push(fault("stop", Target::Bidder(3), 300, 9_000));
    assert!(says(&resent, "unexplained: p1"), "it was not the sender of the doubt");
    resent.faults.push(fault("stop", Target::Bidder(0), 300, 400));
    assert_eq!((verdict(&resent).unknown_unexplained, verdict(&resent).resent), (0, 1));
    let redis = || fault("flushall", Target::Redis, 20, 20);
    assert!(!explains(redis(), &plain), "the lock has no part in it");
    assert!(explains(redis(), &["reserved", "started", "doubted"]), "it was met by another");
}

#[test]
fn recovery_counts_from_the_end_of_the_last_fault_of_the_host() {
    let mut slow = history(Scenario::Crash);
    slow.end = 60_000 * MS;
    slow.faults.push(fault("partition", Target::Way(0, Some(Place::Redis)), 1_000, 2_000));
    bid(&mut slow, 0, "p1", "a", 7_000);
    bid(&mut slow, 1, "p2", "b", 2_100);
    let verdict_of = |history: &History| verdict(history);
    assert_eq!(verdict_of(&slow).recovery_ms_max, 5_009);
    slow.faults.push(fault("kill", Target::Bidder(3), 6_000, 6_500));
    assert_eq!(verdict_of(&slow).recovery_ms_max, 509, "it was hit again");
    slow.faults.push(fault("flushall", Target::Redis, 8_000, 8_000));
    assert!(says(&slow, "does not bid"), "nobody bids until the end");
}
