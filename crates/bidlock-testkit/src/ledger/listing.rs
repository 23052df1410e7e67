use std::time::Duration;

use bidlock_core::FencingToken;
use bidlock_ledger::{BidQuery, Event, Freshness, LedgerError, State, Verdict};

use super::scene::{SEND_WITHIN, Scene, key, not_sent, placed, refused, sure, unknown};

pub(super) async fn history_tells_every_step_in_order(scene: &Scene) {
    let a = key("a");
    let first = scene.recorded(&a, 5, &not_sent()).await;
    scene.advance(Duration::from_secs(1));
    let second = scene.recorded(&a, 6, &placed()).await;
    let history = sure(scene.ledger.history(&a).await);
    let told: Vec<_> = history.iter().map(|e| (e.attempt, e.event, e.detail.as_deref())).collect();
    let payload = bidlock_ledger::Fingerprint::of(b"offer").to_string();
    assert_eq!(
        told,
        [
            (first, Event::Reserved, None),
            (first, Event::Started, Some(payload.as_str())),
            (first, Event::NotSent, Some("no route")),
            (second, Event::Reserved, None),
            (second, Event::Started, Some(payload.as_str())),
            (second, Event::Placed, Some("r-1")),
        ]
    );
    assert!(history.is_sorted_by(|a, b| a.seq < b.seq && a.at <= b.at), "{history:?}");
    assert_eq!(history[0].token, Some(FencingToken::new(5)));
    assert_eq!(history[3].by, "host:6:a1b2c3d4");
    assert_eq!(sure(scene.ledger.history(&key("b")).await), []);
}

pub(super) async fn bids_are_filtered_as_everybody_reads_them(scene: &Scene) {
    let expired = scene.started(&key("expired"), 5).await;
    let doubt = scene.recorded(&key("doubt"), 5, &unknown()).await;
    scene.advance(SEND_WITHIN);
    let started = scene.started(&key("started"), 5).await;
    let open = scene.reserve(&key("reserved"), 5).await;
    let done = scene.recorded(&key("placed"), 5, &placed()).await;
    let not = scene.recorded(&key("refused"), 5, &refused()).await;
    for (state, expected) in [
        (State::Unknown, vec![doubt, expired]),
        (State::Started, vec![started]),
        (State::Reserved, vec![open]),
        (State::Placed, vec![done]),
        (State::Refused, vec![not]),
        (State::Abandoned, vec![]),
    ] {
        let query = BidQuery { state: Some(state), ..BidQuery::default() };
        let found = sure(scene.ledger.bids(&query).await);
        assert!(found.iter().all(|info| info.state == state), "{found:?}");
        assert_eq!(found.iter().map(|info| info.id).collect::<Vec<_>>(), expected, "{state}");
    }
    for (marketplace, posting, expected) in [
        (Some("upwork"), Some("placed"), vec![done]),
        (Some("fiverr"), Some("placed"), vec![]),
        (None, Some("placed"), vec![done]),
        (Some("fiverr"), None, vec![]),
    ] {
        let (marketplace, posting) = (marketplace.map(str::to_owned), posting.map(str::to_owned));
        let query = BidQuery { marketplace, posting, ..BidQuery::default() };
        let found = sure(scene.ledger.bids(&query).await);
        assert_eq!(found.iter().map(|info| info.id).collect::<Vec<_>>(), expected, "{query:?}");
    }
    for bad in [0, 1_001] {
        let answer = scene.ledger.bids(&BidQuery { limit: bad, ..BidQuery::default() }).await;
        assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");
    }
}

pub(super) async fn bids_are_paged_newest_first(scene: &Scene) {
    let mut made = Vec::new();
    for n in 0..25 {
        made.push(scene.reserve(&key(&format!("p{n} {{}}")), 5).await);
    }
    made.reverse();
    let mut query = BidQuery { limit: 10, ..BidQuery::default() };
    let mut listed = Vec::new();
    for expected in [10, 10, 5, 0] {
        let page = sure(scene.ledger.bids(&query).await);
        assert_eq!(page.len(), expected);
        // What comes in between does not shift the pages.
        scene.reserve(&key(&format!("new {}", listed.len())), 5).await;
        listed.extend(page.iter().map(|info| info.id));
        query.after = listed.last().copied();
        if expected == 5 {
            assert_eq!(page.last().map(|info| info.posting.as_str()), Some("p0 {}"));
        }
        if expected == 0 {
            break;
        }
    }
    assert_eq!(listed, made);
}

pub(super) async fn a_ledger_opened_again_has_forgotten_nothing(scene: &Scene) {
    let a = key("a");
    let id = scene.started(&a, 5).await;
    let before = (scene.info(&id).await, sure(scene.ledger.history(&a).await));
    let again = scene.open_again();
    let found = sure(again.attempt(&id).await);
    assert_eq!(found.as_ref(), Some(&before.0));
    assert_eq!(sure(again.history(&a).await), before.1);
    let verdict = sure(again.should_bid(&a, &Freshness::default()).await);
    assert!(matches!(verdict, Verdict::InProgress(_)), "{verdict:?}");
    sure(again.record(&id, &placed()).await);
    assert_eq!(scene.state(&id).await, State::Placed, "both see the same");
}

pub(super) async fn should_bid_gives_the_reason(scene: &Scene) {
    let hour = Duration::from_hours(1);
    let seen = scene.now();
    scene.recorded(&key("placed"), 5, &placed()).await;
    scene.reserve(&key("reserved"), 5).await;
    scene.recorded(&key("gone"), 5, &not_sent()).await;
    scene.advance(hour);
    let fresh = Freshness { seen_at: Some(seen), max_age: hour };
    for free in ["free", "gone"] {
        let verdict = sure(scene.ledger.should_bid(&key(free), &fresh).await);
        assert_eq!(verdict, Verdict::Yes);
    }
    scene.advance(Duration::from_secs(1));
    let verdict = sure(scene.ledger.should_bid(&key("free"), &fresh).await);
    assert_eq!(verdict, Verdict::Stale { age: hour + Duration::from_secs(1) });
    let verdict = sure(scene.ledger.should_bid(&key("placed"), &fresh).await);
    assert!(matches!(verdict, Verdict::AlreadyPlaced(_)), "decided comes first: {verdict:?}");
    let verdict = sure(scene.ledger.should_bid(&key("reserved"), &fresh).await);
    assert!(matches!(verdict, Verdict::InProgress(_)), "{verdict:?}");
    let ahead = scene.now() + Duration::from_mins(5);
    let near = Freshness { seen_at: Some(ahead), ..fresh };
    assert_eq!(sure(scene.ledger.should_bid(&key("free"), &near).await), Verdict::Yes);
    let far = Freshness { seen_at: Some(ahead + Duration::from_micros(1)), ..fresh };
    let answer = scene.ledger.should_bid(&key("free"), &far).await;
    assert!(matches!(answer, Err(LedgerError::Invalid(_))), "{answer:?}");
}
