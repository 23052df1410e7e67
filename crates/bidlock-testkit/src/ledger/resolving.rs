use std::time::Duration;

use bidlock_core::Liveness;
use bidlock_ledger::{
    AttemptId, AuditQuery, Event, LedgerError, Obstacle, Reservation, Resolution, SeenSender,
    State, Verdict,
};

use super::scene::{
    LAG, SEND_WITHIN, Scene, finding, found, given_up, key, not_allowed, not_sent, nothing_sent,
    obstacle, placed, sure, unknown,
};

pub(super) async fn resolve_waits_for_send_by_and_lag(scene: &Scene) {
    for (posting, finding, state) in [
        ("a", nothing_sent(false), State::Abandoned),
        ("b", nothing_sent(true), State::Abandoned),
        ("c", Resolution::Refused, State::Refused),
    ] {
        let a = key(posting);
        let id = scene.recorded(&a, 5, &unknown()).await;
        let due = scene.now() + SEND_WITHIN + LAG;
        for wait in [Duration::ZERO, SEND_WITHIN, LAG.saturating_sub(Duration::from_millis(1))] {
            scene.advance(wait);
            let until = not_allowed(scene.resolve(&a, finding.clone()).await);
            assert_eq!(until, Some(due), "it says from when on");
            assert_eq!(scene.state(&id).await, State::Unknown);
        }
        scene.advance(Duration::from_millis(1));
        let resolved = sure(scene.resolve(&a, finding).await);
        assert_eq!((resolved.id, resolved.state), (id, state));
    }
}

pub(super) async fn a_bid_that_was_found_waits_for_nothing(scene: &Scene) {
    // Long before the send-by: crashed senders, and one whose attempt a higher token met.
    for posting in ["started", "met"] {
        let a = key(posting);
        let id = scene.started(&a, 5).await;
        if posting == "met" {
            scene.cannot_reserve(&a, 6).await;
        }
        let resolved = sure(scene.resolve(&a, found()).await);
        assert_eq!((resolved.id, resolved.state), (id, State::Placed));
        assert_eq!(resolved.reference.as_deref(), Some("r-9"));
    }
    // A sender under way that is seen to live speaks for itself …
    let sender = scene.machine().another_process();
    let c = key("c");
    let id = scene.started_by(&sender, &c).await;
    assert_eq!(obstacle(scene.resolve(&c, found()).await), Obstacle::UnderWay);
    assert_eq!(scene.state(&id).await, State::Started);
    // … and once it is in doubt, the bid is the better witness.
    scene.advance(SEND_WITHIN);
    assert_eq!(sure(scene.resolve(&c, found()).await).state, State::Placed);
}

pub(super) async fn resolve_waits_for_the_sender_to_end(scene: &Scene) {
    let (a, b) = (key("a"), key("b"));
    let sender = scene.machine().another_process();
    let id = scene.started_by(&sender, &a).await;
    // That its caller left it alone does not mean that it has stopped.
    let left = scene.started_by(&sender, &b).await;
    sure(scene.ledger.record(&left, &given_up()).await);
    scene.advance(Duration::from_hours(24));
    // Stopped, perhaps, between its commit and its first byte; no word overrules what is seen.
    for finding in [nothing_sent(false), nothing_sent(true), Resolution::Refused] {
        for posting in [&a, &b] {
            let why = obstacle(scene.resolve(posting, finding.clone()).await);
            assert_eq!(why, Obstacle::SenderAlive { sender: "host:5".to_owned() });
        }
    }
    assert_eq!(scene.state(&id).await, State::Unknown);
    sender.processes.end();
    for posting in [&a, &b] {
        let resolved = sure(scene.resolve(posting, nothing_sent(false)).await);
        assert_eq!(resolved.state, State::Abandoned);
    }
}

pub(super) async fn a_sender_that_cannot_tell_has_stopped(scene: &Scene) {
    let lives_on = scene.machine().another_process();
    let (told, met) = (key("told"), key("met"));
    let id = scene.started_by(&lives_on, &told).await;
    sure(scene.ledger.record(&id, &unknown()).await);
    // A higher token came first; the submitter's own word counts all the same.
    let second = scene.started_by(&lives_on, &met).await;
    scene.cannot_reserve(&met, 6).await;
    sure(scene.ledger.record(&second, &unknown()).await);
    not_allowed(scene.resolve(&told, nothing_sent(false)).await);
    scene.advance(SEND_WITHIN + LAG);
    for posting in [&told, &met] {
        let resolved = sure(scene.resolve(posting, nothing_sent(false)).await);
        assert_eq!(resolved.state, State::Abandoned);
    }
}

pub(super) async fn an_unseen_sender_needs_a_word(scene: &Scene) {
    let (a, b) = (key("a"), key("b"));
    // The process of a request made here is on a machine that nobody can ask about.
    let id = scene.started(&a, 5).await;
    scene.started(&b, 5).await;
    scene.advance(SEND_WITHIN + LAG);
    let why = obstacle(scene.resolve(&a, nothing_sent(false)).await);
    assert_eq!(why, Obstacle::SenderUnseen { sender: "host:5".to_owned() });
    assert_eq!(scene.state(&id).await, State::Unknown);
    assert_eq!(sure(scene.ledger.audit(&AuditQuery::default()).await), []);
    let resolved = sure(scene.resolve(&a, nothing_sent(true)).await);
    assert_eq!((resolved.id, resolved.state), (id, State::Abandoned));
    // That it was said is kept.
    assert_eq!(scene.events(&a).await.last(), Some(&Event::ResolvedSenderGone));
    let audit = sure(scene.ledger.audit(&AuditQuery::default()).await);
    assert_eq!(audit[0].act, "resolve_not_sent_sender_is_gone");
    // What keeps the posting closed needs no such word.
    let refused = sure(scene.resolve(&b, Resolution::Refused).await);
    assert_eq!(refused.state, State::Refused);
}

pub(super) async fn the_same_word_twice_ends_one_doubt(scene: &Scene) {
    let a = key("a");
    let first = scene.recorded(&a, 5, &unknown()).await;
    scene.advance(SEND_WITHIN + LAG);
    // One attempt, so no doubt which one is meant.
    sure(scene.resolve(&a, nothing_sent(false)).await);
    let second = scene.recorded(&a, 6, &unknown()).await;
    scene.advance(SEND_WITHIN + LAG);
    for finding in [nothing_sent(false), nothing_sent(true), Resolution::Refused, found()] {
        let stale = scene.resolve_one(&a, first, finding).await;
        assert_eq!(obstacle(stale), Obstacle::OtherAttempt { open: second });
    }
    for gone in [false, true] {
        let unnamed = scene.resolve(&a, nothing_sent(gone)).await;
        assert_eq!(obstacle(unnamed), Obstacle::AttemptNotNamed { open: second });
    }
    assert_eq!(scene.state(&second).await, State::Unknown);
    let other = scene.recorded(&key("b"), 5, &unknown()).await;
    let nobody = AttemptId::random(scene.machine().rng.as_ref());
    for stranger in [other, nobody] {
        let answer = scene.resolve_one(&a, stranger, nothing_sent(true)).await;
        assert!(matches!(answer, Err(LedgerError::NotFound { .. })), "{answer:?}");
    }
    let resolved = sure(scene.resolve_one(&a, second, nothing_sent(false)).await);
    assert_eq!((resolved.id, resolved.state), (second, State::Abandoned));
    // What keeps the posting closed may be said of whatever is open.
    scene.recorded(&a, 7, &unknown()).await;
    assert_eq!(sure(scene.resolve(&a, found()).await).state, State::Placed);
}

pub(super) async fn a_sender_that_was_seen_vouches_for_its_own_attempt(scene: &Scene) {
    // Another operator was faster, and another bidder too, after this one had looked.
    let (a, store) = (key("a"), scene.store());
    let first = scene.recorded(&a, 5, &not_sent()).await;
    let second = scene.started(&a, 6).await;
    scene.advance(SEND_WITHIN + LAG);
    let gone = |attempt| Some(SeenSender { attempt, liveness: Liveness::Gone });
    let named = finding(Some(second), nothing_sent(false));
    for seen in [gone(first), None] {
        let answer = store.resolve(&a, &named, seen, scene.now()).await;
        assert_eq!(obstacle(answer), Obstacle::OtherAttempt { open: second });
    }
    assert_eq!(scene.state(&second).await, State::Unknown);
    let resolved = sure(store.resolve(&a, &named, gone(second), scene.now()).await);
    assert_eq!((resolved.id, resolved.state), (second, State::Abandoned));
}

pub(super) async fn resolve_needs_a_doubt(scene: &Scene) {
    let (reserved, done, free) = (key("reserved"), key("done"), key("free"));
    scene.reserve(&reserved, 5).await;
    let id = scene.recorded(&done, 5, &placed()).await;
    scene.advance(Duration::from_hours(24));
    for (a, why) in [(&reserved, Obstacle::OnlyReserved), (&done, Obstacle::Known)] {
        for finding in [nothing_sent(true), Resolution::Refused, found()] {
            assert_eq!(obstacle(scene.resolve(a, finding).await), why);
        }
    }
    assert_eq!(scene.state(&id).await, State::Placed);
    let nothing = scene.resolve(&free, nothing_sent(true)).await;
    assert!(matches!(nothing, Err(LedgerError::NotFound { .. })), "{nothing:?}");
    let young = key("young");
    scene.started(&young, 5).await;
    let until = not_allowed(scene.resolve(&young, Resolution::Refused).await);
    assert_eq!(until, Some(scene.now() + SEND_WITHIN + LAG));
}

pub(super) async fn each_finding_leads_to_its_state(scene: &Scene) {
    for (posting, finding, state, event) in [
        ("a", found(), State::Placed, Event::ResolvedPlaced),
        ("b", Resolution::Refused, State::Refused, Event::ResolvedRefused),
        ("c", nothing_sent(true), State::Abandoned, Event::ResolvedSenderGone),
    ] {
        // Nobody wrote `unknown`: the send-by alone makes it so.
        let id = scene.started(&key(posting), 5).await;
        scene.advance(SEND_WITHIN + LAG);
        let resolved = sure(scene.resolve(&key(posting), finding.clone()).await);
        assert_eq!((resolved.id, resolved.state), (id, state));
        assert_eq!(resolved.reference.as_deref(), finding.reference());
        assert_eq!(scene.info(&id).await, resolved);
        assert_eq!(scene.events(&key(posting)).await.last(), Some(&event));
    }
    scene.reserve(&key("c"), 6).await;
    let answer = scene.cannot_reserve(&key("a"), 6).await;
    assert!(matches!(answer, Reservation::Not(Verdict::AlreadyPlaced(_))), "{answer:?}");
}
