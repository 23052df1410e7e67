use std::sync::Barrier;
use std::thread;

use bidlock_core::{FencingToken, Prefix};
use bidlock_ledger::{BidQuery, Event, LedgerError, Reservation, Start, State, Verdict};

use super::scene::{Scene, key, sure};

pub(super) async fn a_free_posting_is_reserved_once(scene: &Scene) {
    let (a, b) = (key("a"), key("b"));
    let id = scene.reserve(&a, 5).await;
    // The same lease with another attempt: nothing to take over.
    let other = scene.cannot_reserve(&a, 5).await;
    let Reservation::Not(Verdict::InProgress(info)) = other else { panic!("{other:?}") };
    assert_eq!((info.id, info.state), (id, State::Reserved));
    scene.reserve(&b, 1).await;
    assert_eq!(scene.state(&id).await, State::Reserved, "postings do not disturb each other");
    assert_eq!(scene.events(&a).await, [Event::Reserved]);
}

pub(super) async fn a_repeat_of_reserve_is_recognised(scene: &Scene) {
    let (a, request) = (key("a"), scene.request(5));
    let first = sure(scene.ledger.reserve(&a, &request).await);
    let second = sure(scene.ledger.reserve(&a, &request).await);
    assert!(matches!(first, Reservation::Reserved(_)), "{first:?}");
    assert_eq!(first, second, "a lost answer is asked for again");
    assert_eq!(scene.events(&a).await, [Event::Reserved], "nothing happened twice");
}

pub(super) async fn an_attempt_id_serves_once(scene: &Scene) {
    let request = scene.request(5);
    sure(scene.ledger.reserve(&key("a"), &request).await);
    let elsewhere = scene.ledger.reserve(&key("b"), &request).await;
    assert!(matches!(elsewhere, Err(LedgerError::Invalid(_))), "{elsewhere:?}");
    assert_eq!(scene.events(&key("b")).await, []);
    // Taken over, and asked for again by the one that was late.
    scene.reserve(&key("a"), 6).await;
    let late = sure(scene.ledger.reserve(&key("a"), &request).await);
    assert_eq!(late, Reservation::TokenTooLow { seen: FencingToken::new(6) });
    assert_eq!(scene.state(&request.attempt).await, State::Abandoned);
}

pub(super) async fn a_posting_is_one_under_every_prefix(scene: &Scene) {
    let other = Prefix::new("other").unwrap_or_default();
    assert_ne!(other, Prefix::default());
    let (a, elsewhere) = (key("a"), key("a").with_prefix(&other));
    scene.started(&a, 5).await;
    let answer = scene.cannot_reserve(&elsewhere, 5).await;
    assert!(matches!(answer, Reservation::Not(Verdict::InProgress(_))), "{answer:?}");
}

pub(super) async fn a_lower_token_is_refused_and_changes_nothing(scene: &Scene) {
    let a = key("a");
    let id = scene.reserve(&a, 5).await;
    let before = scene.info(&id).await;
    let answer = scene.cannot_reserve(&a, 4).await;
    assert_eq!(answer, Reservation::TokenTooLow { seen: FencingToken::new(5) });
    assert_eq!(scene.info(&id).await, before);
    assert_eq!(scene.events(&a).await, [Event::Reserved]);
    // What a token has closed it goes on keeping lower ones from.
    let outcome = super::scene::not_sent();
    sure(scene.ledger.record(&id, &outcome).await);
    let answer = scene.cannot_reserve(&a, 4).await;
    assert_eq!(answer, Reservation::TokenTooLow { seen: FencingToken::new(5) });
    scene.reserve(&a, 5).await;
}

pub(super) async fn a_higher_token_takes_over_what_is_only_reserved(scene: &Scene) {
    let a = key("a");
    let first = scene.reserve(&a, 5).await;
    let second = scene.reserve(&a, 6).await;
    assert_eq!(scene.state(&first).await, State::Abandoned);
    let start = scene.start(&first, 5).await;
    let Start::No(info) = start else { panic!("taken over: {start:?}") };
    assert_eq!(info.state, State::Abandoned);
    assert!(matches!(scene.start(&second, 6).await, Start::Yes(_)));
    let expected = [Event::Reserved, Event::TakenOver, Event::Reserved, Event::Started];
    assert_eq!(scene.events(&a).await, expected);
}

/// How many bidders race in one rule.
const RACERS: u64 = 16;

pub(super) async fn racing_bidders_start_once(scene: &Scene) {
    for round in 0..5 {
        let a = key(&format!("round-{round}"));
        let gate = Barrier::new(usize::try_from(RACERS).unwrap_or(1));
        let race = |token: u64| {
            let (ledger, request) = (scene.ledger.clone(), scene.request(token));
            let start = scene.start_request(token);
            let (a, gate) = (&a, &gate);
            move || {
                gate.wait();
                crate::block_on(async {
                    match sure(ledger.reserve(a, &request).await) {
                        Reservation::Reserved(info) => {
                            let answer = sure(ledger.start(&info.id, &start).await);
                            u32::from(matches!(answer, Start::Yes(_)))
                        }
                        _ => 0,
                    }
                })
            }
        };
        let started: u32 = thread::scope(|threads| {
            // Half of them have a token of their own, half share one.
            let racers: Vec<_> =
                (0..RACERS).map(|n| threads.spawn(race(1 + n.min(RACERS / 2)))).collect();
            racers.into_iter().map(|racer| racer.join().unwrap_or(RACERS_LOST)).sum()
        });
        assert_eq!(started, 1, "one submission of {a}");
        let all = BidQuery { posting: Some(a.posting()), ..BidQuery::default() };
        let attempts = sure(scene.ledger.bids(&all).await);
        let open = attempts.iter().filter(|info| info.state != State::Abandoned).count();
        assert_eq!(open, 1, "{attempts:?}");
    }
}

/// Counts a racer that failed so that the sum cannot be right.
const RACERS_LOST: u32 = 1_000;
