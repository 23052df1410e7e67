use std::time::Duration;

use bidlock_core::{Key, WallTime};
use bidlock_ledger::{
    AuditQuery, BidQuery, Freshness, LedgerError, Pruned, Reservation, ReserveRequest, State,
    Verdict,
};

use super::scene::{SEND_WITHIN, Scene, key, not_sent, note, placed, refused, sure, unknown};

const LIMIT: u32 = 100;

fn earlier(at: WallTime, by: Duration) -> WallTime {
    WallTime::from_micros(at.as_micros().saturating_sub(u64::try_from(by.as_micros()).unwrap_or(0)))
}

async fn pruned(scene: &Scene, before: WallTime) -> u64 {
    let Pruned { attempts, more } = sure(scene.ledger.prune(before, LIMIT).await);
    assert!(!more, "that was all");
    attempts
}

async fn is_there(scene: &Scene, posting: &str) -> bool {
    let query = BidQuery { posting: Some(posting.to_owned()), ..BidQuery::default() };
    let attempts = sure(scene.ledger.bids(&query).await).len();
    let history = sure(scene.ledger.history(&key(posting)).await).len();
    assert_eq!(attempts > 0, history > 0, "{posting} is there whole or not at all");
    attempts > 0
}

pub(super) async fn a_prune_takes_only_what_is_over_for_long(scene: &Scene) {
    for (posting, outcome) in [
        ("placed", placed()),
        ("refused", refused()),
        ("withdrawn", placed()),
        ("gone", not_sent()),
    ] {
        scene.recorded(&key(posting), 5, &outcome).await;
    }
    sure(scene.ledger.withdraw(&key("withdrawn"), &note()).await);
    // Two attempts of one posting, and one that never started.
    scene.recorded(&key("gone"), 6, &not_sent()).await;
    let given_back = scene.reserve(&key("given back"), 5).await;
    sure(scene.ledger.record(&given_back, &not_sent()).await);
    let late = scene.recorded(&key("late"), 5, &not_sent()).await;
    scene.recorded(&key("again"), 5, &not_sent()).await;
    scene.reserve(&key("reserved"), 5).await;
    scene.started(&key("started"), 5).await;
    scene.recorded(&key("unknown"), 5, &unknown()).await;
    let doubt = scene.recorded(&key("resolved"), 5, &unknown()).await;
    scene.advance(Duration::from_hours(24 * 100));
    let horizon = scene.now();
    // Its last step is no change of the attempt (L8).
    sure(scene.ledger.record(&late, &placed()).await);
    scene.reserve(&key("again"), 6).await;
    sure(scene.ledger.record(&doubt, &refused()).await);
    scene.recorded(&key("new"), 5, &placed()).await;
    scene.advance(Duration::from_secs(1));
    assert_eq!(pruned(scene, horizon).await, 6);
    for posting in ["placed", "refused", "withdrawn", "gone", "given back"] {
        assert!(!is_there(scene, posting).await, "{posting} is over for long");
    }
    for posting in ["late", "again", "reserved", "started", "unknown", "resolved", "new"] {
        assert!(is_there(scene, posting).await, "{posting} is not");
    }
    assert_eq!(pruned(scene, horizon).await, 0, "once is enough");
    let never = scene.ledger.prune(scene.now() + Duration::from_micros(1), LIMIT).await;
    assert!(matches!(never, Err(LedgerError::Invalid(_))), "{never:?}");
}

pub(super) async fn an_open_attempt_is_never_pruned(scene: &Scene) {
    let open = [
        scene.reserve(&key("reserved"), 5).await,
        scene.started(&key("started"), 5).await,
        scene.recorded(&key("unknown"), 5, &unknown()).await,
    ];
    // An abandoned one does not take the open one along.
    scene.recorded(&key("second"), 5, &not_sent()).await;
    let second = scene.started(&key("second"), 6).await;
    scene.advance(Duration::from_hours(24 * 1_000));
    assert_eq!(pruned(scene, scene.now()).await, 0);
    for id in open.iter().chain([&second]) {
        assert_ne!(scene.state(id).await, State::Abandoned);
    }
    for token in [5, 9] {
        scene.cannot_reserve(&key("unknown"), token).await;
    }
    let both = BidQuery { posting: Some("second".to_owned()), ..BidQuery::default() };
    assert_eq!(sure(scene.ledger.bids(&both).await).len(), 2);
}

async fn seen(scene: &Scene, posting: &Key, token: u64, seen_at: WallTime) -> Reservation {
    let request = ReserveRequest { seen_at: Some(seen_at), ..scene.request(token) };
    sure(scene.ledger.reserve(posting, &request).await)
}

pub(super) async fn what_was_seen_before_the_horizon_is_stale(scene: &Scene) {
    let day = Duration::from_hours(24);
    let (a, free, open) = (key("a"), key("free"), key("open"));
    scene.recorded(&a, 5, &placed()).await;
    scene.reserve(&open, 5).await;
    let kept = scene.recorded(&key("kept"), 5, &placed()).await;
    scene.advance(day);
    let horizon = scene.now();
    sure(scene.ledger.withdraw(&key("kept"), &note()).await);
    let before = earlier(horizon, Duration::from_micros(1));
    let asked = |seen_at| Freshness { seen_at: Some(seen_at), max_age: day * 400 };
    let verdict = sure(scene.ledger.should_bid(&free, &asked(before)).await);
    assert_eq!(verdict, Verdict::Yes, "there is no horizon yet");
    assert_eq!(pruned(scene, horizon).await, 1);
    let stale = Verdict::Stale { age: Duration::from_micros(1) };
    for posting in [&a, &free] {
        let answer = seen(scene, posting, 6, before).await;
        assert_eq!(answer, Reservation::Not(stale.clone()), "it may be forgotten");
        let verdict = sure(scene.ledger.should_bid(posting, &asked(before)).await);
        assert_eq!(verdict, stale);
        assert!(!is_there(scene, &posting.posting()).await, "nothing was made");
    }
    // Nor is an attempt that is only reserved taken over for it.
    assert_eq!(seen(scene, &open, 6, before).await, Reservation::Not(stale));
    // What is known comes first.
    let answer = seen(scene, &key("kept"), 6, before).await;
    let Reservation::Not(Verdict::Withdrawn(info)) = answer else { panic!("{answer:?}") };
    assert_eq!(info.id, kept);
    let answer = seen(scene, &open, 4, before).await;
    assert!(matches!(answer, Reservation::TokenTooLow { .. }), "{answer:?}");
    // Seen at the horizon, or nobody knows when.
    assert_eq!(sure(scene.ledger.should_bid(&free, &asked(horizon)).await), Verdict::Yes);
    let answer = seen(scene, &free, 6, horizon).await;
    assert!(matches!(answer, Reservation::Reserved(_)), "{answer:?}");
    scene.reserve(&a, 1).await;
}

pub(super) async fn the_horizon_never_goes_back(scene: &Scene) {
    let hour = Duration::from_hours(1);
    assert_eq!(sure(scene.ledger.standing().await).pruned_before, None);
    scene.advance(hour * 2);
    let horizon = scene.now();
    // It stands also when nothing was there to remove.
    assert_eq!(pruned(scene, horizon).await, 0);
    assert_eq!(pruned(scene, earlier(horizon, hour)).await, 0);
    for ledger in [scene.ledger.clone(), scene.open_again()] {
        assert_eq!(sure(ledger.standing().await).pruned_before, Some(horizon));
    }
    let answer = seen(scene, &key("a"), 5, earlier(horizon, Duration::from_micros(1))).await;
    assert!(matches!(answer, Reservation::Not(Verdict::Stale { .. })), "{answer:?}");
}

pub(super) async fn a_prune_is_audited_and_never_of_the_audit(scene: &Scene) {
    scene.recorded(&key("a"), 5, &placed()).await;
    sure(scene.ledger.withdraw(&key("a"), &note()).await);
    scene.advance(SEND_WITHIN);
    assert_eq!(pruned(scene, scene.now()).await, 1);
    let acts = |audit: &[bidlock_ledger::AuditEntry]| {
        audit.iter().map(|entry| entry.act.clone()).collect::<Vec<_>>()
    };
    let audit = sure(scene.ledger.audit(&AuditQuery::default()).await);
    assert_eq!(acts(&audit), ["prune", "withdraw"]);
    assert_eq!((audit[0].at, audit[0].posting.as_deref()), (scene.now(), None));
    assert!(audit[0].because.contains("1 attempts"), "{}", audit[0].because);
    // One that changes nothing is not worth a line.
    assert_eq!(pruned(scene, scene.now()).await, 0);
    assert_eq!(sure(scene.ledger.audit(&AuditQuery::default()).await), audit);
}

pub(super) async fn a_prune_goes_on_in_steps(scene: &Scene) {
    for n in 0..5 {
        scene.recorded(&key(&format!("p{n}")), 5, &placed()).await;
        scene.advance(Duration::from_secs(1));
    }
    let mut left = vec![];
    loop {
        let Pruned { attempts, more } = sure(scene.ledger.prune(scene.now(), 2).await);
        assert!(attempts <= 2, "{attempts} in one step");
        left.push(attempts);
        // The oldest go first.
        assert_eq!(is_there(scene, "p4").await, left.iter().sum::<u64>() < 5);
        if !more {
            break;
        }
    }
    assert_eq!(left, [2, 2, 1]);
    for bad in [0, 1_001] {
        let answer = scene.ledger.prune(scene.now(), bad).await;
        assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");
    }
}
