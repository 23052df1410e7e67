use std::time::Duration;

use bidlock_core::FencingToken;
use bidlock_ledger::{
    AttemptId, BidQuery, Event, Fingerprint, Freshness, LedgerError, Reservation, Resolution,
    Start, StartRequest, State, Verdict,
};

use super::scene::{SEND_WITHIN, Scene, key, not_allowed, not_sent, sure};

pub(super) async fn start_is_answered_yes_once(scene: &Scene) {
    let id = scene.reserve(&key("a"), 5).await;
    assert!(matches!(scene.start(&id, 5).await, Start::Yes(_)));
    for token in [5, 6, 5] {
        let again = scene.start(&id, token).await;
        let Start::No(info) = again else { panic!("yes is said once: {again:?}") };
        assert_eq!((info.id, info.state), (id, State::Started));
    }
    assert_eq!(scene.events(&key("a")).await, [Event::Reserved, Event::Started]);
}

pub(super) async fn a_start_with_a_lower_token_is_refused(scene: &Scene) {
    let id = scene.reserve(&key("a"), 5).await;
    let answer = scene.start(&id, 4).await;
    assert!(matches!(answer, Start::No(_)), "{answer:?}");
    assert_eq!(scene.state(&id).await, State::Reserved, "nothing was changed");
    assert!(matches!(scene.start(&id, 5).await, Start::Yes(_)));
}

pub(super) async fn an_unknown_attempt_never_starts(scene: &Scene) {
    let nobody = AttemptId::random(scene.machine().rng.as_ref());
    let answer = scene.ledger.start(&nobody, &scene.start_request(5)).await;
    assert!(matches!(answer, Err(LedgerError::NotFound { .. })), "{answer:?}");
    assert_eq!(sure(scene.ledger.attempt(&nobody).await), None);
}

pub(super) async fn a_started_attempt_is_never_taken_over(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    let same = scene.cannot_reserve(&a, 5).await;
    assert!(matches!(same, Reservation::Not(Verdict::InProgress(_))), "{same:?}");
    // Its lease is over, its submission may not be: L5.
    let higher = scene.cannot_reserve(&a, 6).await;
    let Reservation::Not(Verdict::InDoubt(info)) = higher else { panic!("{higher:?}") };
    assert_eq!((info.id, info.state), (id, State::Unknown));
    let kept = scene.info(&id).await;
    assert_eq!((kept.state, kept.token), (State::Unknown, FencingToken::new(5)));
    assert_eq!(scene.events(&a).await, [Event::Reserved, Event::Started, Event::Doubted]);
    // L3: the higher token was seen, also once the attempt is closed.
    sure(scene.ledger.record(&id, &not_sent()).await);
    let lower = scene.cannot_reserve(&a, 5).await;
    assert_eq!(lower, Reservation::TokenTooLow { seen: FencingToken::new(6) });
}

pub(super) async fn a_lower_token_that_meets_a_start_changes_nothing(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    let answer = scene.cannot_reserve(&a, 4).await;
    assert_eq!(answer, Reservation::TokenTooLow { seen: FencingToken::new(5) });
    assert_eq!(scene.state(&id).await, State::Started);
    assert_eq!(scene.events(&a).await, [Event::Reserved, Event::Started]);
}

pub(super) async fn started_past_its_send_by_reads_as_unknown(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    scene.advance(SEND_WITHIN.saturating_sub(Duration::from_millis(1)));
    assert_eq!(scene.state(&id).await, State::Started, "not before");
    scene.advance(Duration::from_millis(1));
    assert_eq!(scene.state(&id).await, State::Unknown);
    let verdict = sure(scene.ledger.should_bid(&a, &Freshness::default()).await);
    assert!(matches!(verdict, Verdict::InDoubt(_)), "{verdict:?}");
    for token in [5, 6] {
        let answer = scene.cannot_reserve(&a, token).await;
        assert!(matches!(answer, Reservation::Not(Verdict::InDoubt(_))), "{answer:?}");
    }
    let listed = |state| BidQuery { state: Some(state), ..BidQuery::default() };
    assert_eq!(sure(scene.ledger.bids(&listed(State::Unknown)).await).len(), 1);
    assert_eq!(sure(scene.ledger.bids(&listed(State::Started)).await), []);
}

pub(super) async fn doubt_never_ends_by_age(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    for (token, later) in [(6, Duration::from_hours(1)), (7, Duration::from_hours(24 * 400))] {
        scene.advance(later);
        let answer = scene.cannot_reserve(&a, token).await;
        assert!(matches!(answer, Reservation::Not(Verdict::InDoubt(_))), "{answer:?}");
    }
    assert_eq!(scene.state(&id).await, State::Unknown);
}

pub(super) async fn the_payload_is_fixed_at_the_start(scene: &Scene) {
    let id = scene.reserve(&key("a"), 5).await;
    assert_eq!(scene.info(&id).await.payload, None);
    assert!(matches!(scene.start(&id, 5).await, Start::Yes(_)));
    let before = scene.info(&id).await;
    assert_eq!(before.payload, Some(Fingerprint::of(b"offer")));
    let other = StartRequest {
        payload: Some(Fingerprint::of(b"another offer")),
        send_by: scene.now() + SEND_WITHIN * 2,
        ..scene.start_request(5)
    };
    assert!(matches!(sure(scene.ledger.start(&id, &other).await), Start::No(_)));
    assert_eq!(scene.info(&id).await, before, "neither payload nor send-by moves");
}

pub(super) async fn a_start_whose_process_is_gone_reads_as_unknown(scene: &Scene) {
    let a = key("a");
    let sender = scene.machine().another_process();
    let id = scene.started_by(&sender, &a).await;
    let listed = |state| BidQuery { state: Some(state), ..BidQuery::default() };
    assert_eq!(sure(scene.ledger.bids(&listed(State::Started)).await).len(), 1);
    assert!(sure(scene.ledger.bids(&listed(State::Unknown)).await).is_empty());
    sender.processes.end();
    let verdict = sure(scene.ledger.should_bid(&a, &Freshness::default()).await);
    assert!(matches!(verdict, Verdict::InDoubt(_)), "{verdict:?}");
    assert!(sure(scene.ledger.bids(&listed(State::Started)).await).is_empty());
    let unknown = sure(scene.ledger.bids(&listed(State::Unknown)).await);
    assert_eq!(unknown.iter().map(|info| info.id).collect::<Vec<_>>(), [id]);
    // Its command may still be sending: nobody ends the doubt before its send-by (L6).
    not_allowed(scene.resolve(&a, Resolution::Refused).await);
}
