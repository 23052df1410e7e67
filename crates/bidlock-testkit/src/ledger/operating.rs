use std::time::Duration;

use bidlock_ledger::{
    AuditAct, AuditQuery, Event, LedgerError, Recorded, Reservation, Resolution, Start, State,
    Verdict,
};

use super::scene::{
    SEND_WITHIN, Scene, key, not_allowed, not_sent, note, placed, refused, sure, unknown,
};

const LAG: Duration = Duration::from_mins(10);

pub(super) async fn resolve_waits_for_send_by_and_lag(scene: &Scene) {
    let a = key("a");
    let id = scene.recorded(&a, 5, &unknown()).await;
    let due = scene.now() + SEND_WITHIN + LAG;
    let note = note();
    let resolve = || scene.ledger.resolve(&a, &Resolution::NotSent, &note, LAG);
    for wait in [Duration::ZERO, SEND_WITHIN, LAG.saturating_sub(Duration::from_millis(1))] {
        scene.advance(wait);
        assert_eq!(not_allowed(resolve().await), Some(due), "it says from when on");
        assert_eq!(scene.state(&id).await, State::Unknown);
    }
    scene.advance(Duration::from_millis(1));
    let resolved = sure(resolve().await);
    assert_eq!((resolved.id, resolved.state), (id, State::Abandoned));
}

pub(super) async fn resolve_waits_for_the_sender_to_end(scene: &Scene) {
    let a = key("a");
    let sender = scene.machine().another_process();
    let mut request = scene.request(5);
    request.process = sender.platform().processes.current();
    sure(scene.ledger.reserve(&a, &request).await);
    assert!(matches!(scene.start(&request.attempt, 5).await, Start::Yes(_)));
    scene.advance(Duration::from_hours(24));
    // Stopped, perhaps, between its commit and its first byte: L6.
    not_allowed(scene.ledger.resolve(&a, &Resolution::NotSent, &note(), LAG).await);
    assert_eq!(scene.state(&request.attempt).await, State::Unknown);
    sender.processes.end();
    let resolved = sure(scene.ledger.resolve(&a, &Resolution::NotSent, &note(), LAG).await);
    assert_eq!(resolved.state, State::Abandoned);
    // A sender that says itself that it cannot tell has stopped, though its process lives on.
    let b = key("b");
    let lives_on = scene.machine().another_process();
    let mut request = scene.request(5);
    request.process = lives_on.platform().processes.current();
    sure(scene.ledger.reserve(&b, &request).await);
    assert!(matches!(scene.start(&request.attempt, 5).await, Start::Yes(_)));
    sure(scene.ledger.record(&request.attempt, &unknown()).await);
    not_allowed(scene.ledger.resolve(&b, &Resolution::NotSent, &note(), LAG).await);
    scene.advance(SEND_WITHIN + LAG);
    let resolved = sure(scene.ledger.resolve(&b, &Resolution::NotSent, &note(), LAG).await);
    assert_eq!(resolved.state, State::Abandoned);
}

pub(super) async fn resolve_needs_a_doubt(scene: &Scene) {
    let (reserved, done, free) = (key("reserved"), key("done"), key("free"));
    scene.reserve(&reserved, 5).await;
    let id = scene.recorded(&done, 5, &placed()).await;
    scene.advance(Duration::from_hours(24));
    for a in [&reserved, &done] {
        not_allowed(scene.ledger.resolve(a, &Resolution::NotSent, &note(), LAG).await);
    }
    assert_eq!(scene.state(&id).await, State::Placed);
    let nothing = scene.ledger.resolve(&free, &Resolution::NotSent, &note(), LAG).await;
    assert!(matches!(nothing, Err(LedgerError::NotFound { .. })), "{nothing:?}");
    let young = key("young");
    scene.started(&young, 5).await;
    let until = not_allowed(scene.ledger.resolve(&young, &Resolution::Refused, &note(), LAG).await);
    assert_eq!(until, Some(scene.now() + SEND_WITHIN + LAG));
}

pub(super) async fn each_finding_leads_to_its_state(scene: &Scene) {
    let found = Resolution::Placed { reference: Some("r-9".to_owned()) };
    for (posting, finding, state, event) in [
        ("a", found, State::Placed, Event::ResolvedPlaced),
        ("b", Resolution::Refused, State::Refused, Event::ResolvedRefused),
        ("c", Resolution::NotSent, State::Abandoned, Event::ResolvedNotSent),
    ] {
        // Nobody wrote `unknown`: the send-by alone makes it so.
        let id = scene.started(&key(posting), 5).await;
        scene.advance(SEND_WITHIN + LAG);
        let resolved = sure(scene.ledger.resolve(&key(posting), &finding, &note(), LAG).await);
        assert_eq!((resolved.id, resolved.state), (id, state));
        assert_eq!(resolved.reference.as_deref(), finding.reference());
        assert_eq!(scene.info(&id).await, resolved);
        assert_eq!(scene.events(&key(posting)).await.last(), Some(&event));
    }
    scene.reserve(&key("c"), 6).await;
    let answer = scene.cannot_reserve(&key("a"), 6).await;
    assert!(matches!(answer, Reservation::Not(Verdict::AlreadyPlaced(_))), "{answer:?}");
}

pub(super) async fn a_placed_bid_is_not_reopened(scene: &Scene) {
    let id = scene.recorded(&key("a"), 5, &placed()).await;
    not_allowed(scene.ledger.reopen(&key("a"), &note()).await);
    let doubt = scene.recorded(&key("b"), 5, &unknown()).await;
    not_allowed(scene.ledger.reopen(&key("b"), &note()).await);
    let open = scene.reserve(&key("c"), 5).await;
    not_allowed(scene.ledger.reopen(&key("c"), &note()).await);
    let nothing = scene.ledger.reopen(&key("d"), &note()).await;
    assert!(matches!(nothing, Err(LedgerError::NotFound { .. })), "{nothing:?}");
    let states = [(id, State::Placed), (doubt, State::Unknown), (open, State::Reserved)];
    for (id, state) in states {
        assert_eq!(scene.state(&id).await, state);
    }
}

pub(super) async fn reopen_lets_another_try(scene: &Scene) {
    let a = key("a");
    let id = scene.recorded(&a, 5, &refused()).await;
    let closed = sure(scene.ledger.reopen(&a, &note()).await);
    assert_eq!((closed.id, closed.state), (id, State::Abandoned));
    assert_eq!(closed.reason.as_deref(), Some("looked at the marketplace"));
    // The submitter said «refused»; that it was not sent after all is news (L8).
    let late = sure(scene.ledger.record(&id, &not_sent()).await);
    assert!(matches!(late, Recorded::Late(_)), "{late:?}");
    let second = scene.recorded(&a, 6, &placed()).await;
    sure(scene.ledger.withdraw(&a, &note()).await);
    assert_eq!(scene.state(&second).await, State::Withdrawn);
    sure(scene.ledger.reopen(&a, &note()).await);
    scene.reserve(&a, 7).await;
    assert_eq!(scene.state(&second).await, State::Abandoned);
}

pub(super) async fn only_a_placed_bid_is_withdrawn(scene: &Scene) {
    scene.recorded(&key("refused"), 5, &refused()).await;
    scene.recorded(&key("unknown"), 5, &unknown()).await;
    scene.started(&key("started"), 5).await;
    for posting in ["refused", "unknown", "started"] {
        not_allowed(scene.ledger.withdraw(&key(posting), &note()).await);
    }
    let id = scene.recorded(&key("placed"), 5, &placed()).await;
    let withdrawn = sure(scene.ledger.withdraw(&key("placed"), &note()).await);
    assert_eq!((withdrawn.id, withdrawn.state), (id, State::Withdrawn));
    assert_eq!(withdrawn.reference.as_deref(), Some("r-1"), "the bid's name is kept");
}

pub(super) async fn acts_by_hand_are_audited(scene: &Scene) {
    let a = key("a");
    let id = scene.recorded(&a, 5, &unknown()).await;
    not_allowed(scene.ledger.resolve(&a, &Resolution::Refused, &note(), LAG).await);
    scene.advance(SEND_WITHIN + LAG);
    sure(scene.ledger.resolve(&a, &Resolution::Refused, &note(), LAG).await);
    sure(scene.ledger.reopen(&a, &note()).await);
    let revoked = AuditAct {
        act: "revoke".to_owned(),
        key: Some(key("b")),
        attempt: None,
        token: Some(bidlock_core::FencingToken::new(7)),
        note: note(),
    };
    sure(scene.ledger.audit_append(&revoked).await);
    let all = sure(scene.ledger.audit(&AuditQuery::default()).await);
    let acts: Vec<_> = all.iter().map(|entry| entry.act.as_str()).collect();
    assert_eq!(acts, ["revoke", "reopen", "resolve_refused"], "newest first, no refused act");
    for entry in &all {
        assert_eq!((entry.actor.as_str(), entry.because.as_str()), ("ann", &*note().because));
        assert_eq!(entry.at, scene.now());
    }
    assert_eq!(all[0].token, revoked.token);
    assert_eq!(all[2].attempt, Some(id));
    let of_a = AuditQuery { key: Some(a), limit: 1, ..AuditQuery::default() };
    let first = sure(scene.ledger.audit(&of_a).await);
    assert_eq!(first, all[1..2]);
    let next = AuditQuery { after: Some(first[0].seq), ..of_a };
    assert_eq!(sure(scene.ledger.audit(&next).await), all[2..]);
}
