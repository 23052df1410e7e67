use bidlock_ledger::{AuditAct, AuditQuery, LedgerError, Obstacle, Recorded, Resolution, State};

use super::scene::{
    LAG, SEND_WITHIN, Scene, found, key, not_allowed, not_sent, note, nothing_sent, obstacle,
    placed, refused, sure, unknown,
};

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

pub(super) async fn without_an_open_attempt_nothing_is_done_by_hand(scene: &Scene) {
    let a = key("a");
    scene.recorded(&a, 5, &not_sent()).await;
    let last = scene.recorded(&a, 6, &not_sent()).await;
    let none = Obstacle::NoneOpen { last };
    for finding in [found(), Resolution::Refused, nothing_sent(true)] {
        assert_eq!(obstacle(scene.resolve(&a, finding.clone()).await), none);
        assert_eq!(obstacle(scene.resolve_one(&a, last, finding).await), none);
    }
    assert_eq!(obstacle(scene.ledger.withdraw(&a, &note()).await), none);
    assert_eq!(obstacle(scene.ledger.reopen(&a, &note()).await), none);
    assert_eq!(scene.state(&last).await, State::Abandoned);
    assert_eq!(sure(scene.ledger.audit(&AuditQuery::default()).await), []);
    // What was never tried is another answer.
    let never = scene.ledger.withdraw(&key("b"), &note()).await;
    assert!(matches!(never, Err(LedgerError::NotFound { .. })), "{never:?}");
}

pub(super) async fn acts_by_hand_are_audited(scene: &Scene) {
    let a = key("a");
    let id = scene.recorded(&a, 5, &unknown()).await;
    not_allowed(scene.resolve(&a, Resolution::Refused).await);
    scene.advance(SEND_WITHIN + LAG);
    sure(scene.resolve(&a, Resolution::Refused).await);
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
