use std::time::Duration;

use bidlock_ledger::{
    AttemptId, Event, Freshness, LedgerError, Outcome, Recorded, Reservation, State, Verdict,
};

use super::scene::{
    Scene, given_up, key, not_allowed, not_sent, note, nothing_sent, placed, refused, sure, unknown,
};

pub(super) async fn a_decision_stands_for_ever(scene: &Scene) {
    scene.recorded(&key("placed"), 5, &placed()).await;
    scene.recorded(&key("refused"), 5, &refused()).await;
    scene.recorded(&key("withdrawn"), 5, &placed()).await;
    sure(scene.ledger.withdraw(&key("withdrawn"), &note()).await);
    scene.advance(Duration::from_hours(24 * 400));
    // P1 holds for old tokens, equal ones and new ones.
    for token in [4, 5, 6] {
        let answer = scene.cannot_reserve(&key("placed"), token).await;
        let Reservation::Not(Verdict::AlreadyPlaced(info)) = answer else { panic!("{answer:?}") };
        assert_eq!(info.reference.as_deref(), Some("r-1"));
        let answer = scene.cannot_reserve(&key("refused"), token).await;
        let Reservation::Not(Verdict::Refused(info)) = answer else { panic!("{answer:?}") };
        assert_eq!(info.reason.as_deref(), Some("closed"));
        let answer = scene.cannot_reserve(&key("withdrawn"), token).await;
        assert!(matches!(answer, Reservation::Not(Verdict::Withdrawn(_))), "{answer:?}");
    }
}

pub(super) async fn not_sent_lets_another_try(scene: &Scene) {
    let a = key("a");
    let first = scene.recorded(&a, 5, &not_sent()).await;
    assert_eq!(scene.state(&first).await, State::Abandoned);
    // Given up before the start, by the same lease.
    let second = scene.reserve(&a, 5).await;
    sure(scene.ledger.record(&second, &not_sent()).await);
    let third = scene.recorded(&a, 5, &placed()).await;
    assert_eq!(scene.state(&third).await, State::Placed);
    assert_eq!(scene.state(&first).await, State::Abandoned, "closed is closed");
}

pub(super) async fn record_needs_no_token(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    scene.cannot_reserve(&a, 1_000).await;
    let recorded = sure(scene.ledger.record(&id, &placed()).await);
    assert!(matches!(recorded, Recorded::Written(_)), "{recorded:?}");
    assert_eq!(scene.state(&id).await, State::Placed);
}

pub(super) async fn a_doubt_ends_by_the_submitters_word(scene: &Scene) {
    for (posting, outcome, state) in [
        ("a", placed(), State::Placed),
        ("b", refused(), State::Refused),
        ("c", not_sent(), State::Abandoned),
    ] {
        let id = scene.recorded(&key(posting), 5, &unknown()).await;
        assert_eq!(scene.state(&id).await, State::Unknown);
        let recorded = sure(scene.ledger.record(&id, &outcome).await);
        assert!(matches!(recorded, Recorded::Written(_)), "{recorded:?}");
        assert_eq!(scene.state(&id).await, state);
    }
    // Started past its send-by is no different.
    let id = scene.started(&key("d"), 5).await;
    scene.advance(Duration::from_hours(1));
    let recorded = sure(scene.ledger.record(&id, &placed()).await);
    assert!(matches!(recorded, Recorded::Written(_)), "{recorded:?}");
    assert_eq!(scene.state(&id).await, State::Placed);
}

pub(super) async fn a_repeated_outcome_changes_nothing(scene: &Scene) {
    let outcomes = [placed(), refused(), not_sent(), unknown(), given_up()];
    for (posting, outcome) in ["a", "b", "c", "d", "e"].into_iter().zip(outcomes) {
        let id = scene.recorded(&key(posting), 5, &outcome).await;
        let (before, events) = (scene.info(&id).await, scene.events(&key(posting)).await);
        scene.advance(Duration::from_secs(1));
        let again = sure(scene.ledger.record(&id, &outcome).await);
        assert!(matches!(again, Recorded::Already(_)), "{again:?}");
        assert_eq!(scene.info(&id).await, before);
        assert_eq!(scene.events(&key(posting)).await, events);
    }
}

pub(super) async fn the_submitters_own_doubt_replaces_a_guess(scene: &Scene) {
    // Met by a higher token, and left alone by its caller: neither is the submitter's word.
    let (met, left) = (key("met"), key("left"));
    let doubted = scene.started(&met, 5).await;
    scene.cannot_reserve(&met, 6).await;
    let dropped = scene.recorded(&left, 5, &given_up()).await;
    for (posting, id, guess) in [(met, doubted, Event::Doubted), (left, dropped, Event::GivenUp)] {
        assert_eq!(scene.info(&id).await.event, guess);
        let again = sure(scene.ledger.record(&id, &given_up()).await);
        assert!(matches!(again, Recorded::Already(_)), "a guess replaces nothing: {again:?}");
        let told = sure(scene.ledger.record(&id, &unknown()).await);
        let Recorded::Written(info) = told else { panic!("news: {told:?}") };
        assert_eq!((info.state, info.event), (State::Unknown, Event::Unknown));
        assert_eq!(info.reason.as_deref(), Some("no answer"));
        assert_eq!(scene.info(&id).await, info);
        let expected = [Event::Reserved, Event::Started, guess, Event::Unknown];
        assert_eq!(scene.events(&posting).await, expected, "both are kept");
        let again = sure(scene.ledger.record(&id, &given_up()).await);
        assert!(matches!(again, Recorded::Already(_)), "{again:?}");
        assert_eq!(scene.info(&id).await.event, Event::Unknown, "its word is not taken back");
    }
}

pub(super) async fn a_late_outcome_is_kept_and_reported(scene: &Scene) {
    let a = key("a");
    let id = scene.recorded(&a, 5, &unknown()).await;
    scene.advance(Duration::from_hours(1));
    sure(scene.resolve(&a, nothing_sent(false)).await);
    let before = scene.info(&id).await;
    let late = sure(scene.ledger.record(&id, &placed()).await);
    assert!(matches!(late, Recorded::Late(_)), "{late:?}");
    assert_eq!(scene.info(&id).await, before, "a person decides what it means");
    let history = sure(scene.ledger.history(&a).await);
    let last = history.last().unwrap_or_else(|| panic!("there is a history"));
    assert_eq!((last.event, last.detail.as_deref()), (Event::LatePlaced, Some("r-1")));
    // Said again after a lost answer: reported again, kept once.
    let again = sure(scene.ledger.record(&id, &placed()).await);
    assert!(matches!(again, Recorded::Late(_)), "{again:?}");
    assert_eq!(sure(scene.ledger.history(&a).await), history);
}

pub(super) async fn what_never_started_has_no_outcome(scene: &Scene) {
    let id = scene.reserve(&key("a"), 5).await;
    for outcome in [placed(), refused(), unknown(), given_up()] {
        not_allowed(scene.ledger.record(&id, &outcome).await);
        assert_eq!(scene.state(&id).await, State::Reserved);
    }
    assert_eq!(scene.events(&key("a")).await, [Event::Reserved]);
    let nobody = AttemptId::random(scene.machine().rng.as_ref());
    let answer = scene.ledger.record(&nobody, &Outcome::Placed { reference: None }).await;
    assert!(matches!(answer, Err(LedgerError::NotFound { .. })), "{answer:?}");
    let verdict = sure(scene.ledger.should_bid(&key("a"), &Freshness::default()).await);
    assert!(matches!(verdict, Verdict::InProgress(_)), "{verdict:?}");
}
