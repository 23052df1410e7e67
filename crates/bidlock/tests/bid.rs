//! One bid, as the lock and the ledger make it together.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use bidlock::ledger::{Event as Happened, Ledger, Outcome, State, Verdict};
use bidlock::{
    Begin, BidGuard, BidOptions, Clock as _, Error, Key, LossReason, Placement, Wait, WallTime,
};
use common::{World, key, settle, ttl};

const SECOND: Duration = Duration::from_secs(1);

struct Fleet {
    world: World,
    ledger: Ledger,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        let world = World::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let ledger = Ledger::open_sqlite(&path, &world.platform()).unwrap();
        Self { world, ledger, folder }
    }

    fn bidder(&self) -> BidGuard {
        BidGuard::new(self.world.locker(), self.ledger.clone())
    }

    /// Keeps the ledger's file busy until what is returned is dropped.
    fn busy_ledger(&self) -> rusqlite::Connection {
        let path = self.folder.path().join("ledger.db");
        let writer = rusqlite::Connection::open(path).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        writer
    }

    async fn until_asked_for_the_lock(&self) {
        let before = self.world.store.acquires.load(SeqCst);
        while self.world.store.acquires.load(SeqCst) == before {
            settle().await;
        }
        settle().await;
    }

    async fn state(&self, posting: &Key) -> Option<State> {
        let query = bidlock::ledger::BidQuery {
            marketplace: Some(posting.marketplace().to_owned()),
            ..Default::default()
        };
        self.ledger.bids(&query).await.unwrap().first().map(|info| info.state)
    }
}

fn placed() -> Outcome {
    Outcome::Placed { reference: Some("ref-1".to_owned()) }
}

fn quick() -> BidOptions {
    BidOptions::default().wait(Wait::For(SECOND)).ttl(ttl(3_000)).submit_timeout(10 * SECOND)
}

#[tokio::test]
async fn a_posting_is_bid_on_once_also_by_late_comers() {
    // P1, R5
    let fleet = Fleet::new();
    let sent = Arc::new(AtomicU32::new(0));
    for n in 0..5 {
        let sent = Arc::clone(&sent);
        let submit = move |submission: bidlock::Submission| async move {
            sent.fetch_add(1, SeqCst);
            assert!(submission.left() > Duration::ZERO);
            placed()
        };
        match fleet.bidder().place(&key("a"), &quick(), submit).await.unwrap() {
            Placement::Recorded(info) => assert_eq!((n, info.state), (0, State::Placed)),
            Placement::Not(Verdict::AlreadyPlaced(info)) => {
                assert!(n > 0);
                assert_eq!(info.reference.as_deref(), Some("ref-1"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(sent.load(SeqCst), 1);
    assert_eq!(fleet.world.seen.count("AlreadyDecided"), 4);
}

#[tokio::test]
async fn bidders_at_one_moment_submit_once() {
    // P1
    let fleet = Fleet::new();
    let sent = Arc::new(AtomicU32::new(0));
    let mut bidders = Vec::new();
    for _ in 0..20 {
        let (guard, sent) = (fleet.bidder(), Arc::clone(&sent));
        bidders.push(tokio::spawn(async move {
            let submit = move |_| async move {
                sent.fetch_add(1, SeqCst);
                settle().await;
                placed()
            };
            guard.place(&key("a"), &quick().wait(Wait::Forever), submit).await.unwrap()
        }));
    }
    let mut recorded = 0;
    for bidder in bidders {
        match bidder.await.unwrap() {
            Placement::Recorded(_) => recorded += 1,
            Placement::Not(Verdict::AlreadyPlaced(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((recorded, sent.load(SeqCst)), (1, 1));
}

#[tokio::test]
async fn what_was_not_sent_may_be_tried_again_and_a_refusal_may_not() {
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let not_sent = |_| async { Outcome::NotSent { reason: None } };
    let Placement::Recorded(info) = guard.place(&key("a"), &quick(), not_sent).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(info.state, State::Abandoned);
    let refused = |_| async { Outcome::Refused { reason: Some("closed".to_owned()) } };
    let Placement::Recorded(info) = guard.place(&key("a"), &quick(), refused).await.unwrap() else {
        panic!()
    };
    assert_eq!(info.state, State::Refused);
    let never = |_| async { panic!("a refused posting is not bid on again") };
    let again = guard.place(&key("a"), &quick(), never).await.unwrap();
    assert!(matches!(again, Placement::Not(Verdict::Refused(_))), "{again:?}");
}

#[tokio::test]
async fn a_submission_is_dropped_at_its_send_by_and_blocks_the_posting() {
    // R16
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let bidding = {
        let guard = guard.clone();
        tokio::spawn(async move {
            guard.place(&key("a"), &quick(), |_| std::future::pending()).await.unwrap()
        })
    };
    until_started(&fleet).await;
    fleet.world.pass(10 * SECOND).await;
    let Placement::Recorded(info) = bidding.await.unwrap() else { panic!() };
    // L6: nobody has said that it sends nothing any more.
    assert_eq!((info.state, info.event), (State::Unknown, Happened::GivenUp));
    let never = |_| async { panic!("a posting in doubt is not bid on") };
    let again = guard.place(&key("a"), &quick(), never).await.unwrap();
    assert!(matches!(again, Placement::Not(Verdict::InDoubt(_))), "{again:?}");
}

#[tokio::test]
async fn a_lease_that_is_lost_before_the_start_sends_nothing() {
    // P5, R20: the ledger is so slow to reserve that the lease has ended by then.
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let writer = fleet.busy_ledger();
    let bidding = {
        let guard = guard.clone();
        let never = |_| async { panic!("nothing may be sent without a lease") };
        tokio::spawn(async move { guard.place(&key("a"), &quick(), never).await })
    };
    fleet.until_asked_for_the_lock().await;
    fleet.world.store.unreachable.store(true, SeqCst);
    fleet.world.pass(4 * SECOND).await;
    drop(writer);
    let ended = bidding.await.unwrap();
    assert!(matches!(ended, Err(Error::Lost { .. })), "{ended:?}");
    assert_eq!(fleet.state(&key("a")).await, Some(State::Abandoned));
    assert_eq!(fleet.world.seen.count("NoLock"), 1);
}

#[tokio::test]
async fn a_start_that_the_ledger_refuses_sends_nothing_and_is_abandoned() {
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let file = rusqlite::Connection::open(fleet.folder.path().join("ledger.db")).unwrap();
    file.execute_batch(
        "CREATE TRIGGER no_start BEFORE UPDATE ON ledger_attempts WHEN NEW.state = 'started'
         BEGIN SELECT RAISE(ABORT, 'not today'); END",
    )
    .unwrap();
    let never = |_| async { panic!("the ledger did not say yes") };
    let refused = guard.place(&key("a"), &quick(), never).await;
    assert!(matches!(refused, Err(Error::Ledger(_))), "{refused:?}");
    guard.locker().close().await;
    assert_eq!(fleet.state(&key("a")).await, Some(State::Abandoned));
    file.execute_batch("DROP TRIGGER no_start").unwrap();
    let again = guard.place(&key("a"), &quick(), |_| async { placed() }).await.unwrap();
    assert!(matches!(again, Placement::Recorded(_)), "{again:?}");
}

#[tokio::test]
async fn a_posting_that_grew_old_during_the_wait_is_left_alone() {
    let fleet = Fleet::new();
    let held = fleet.world.locker().acquire(&key("a")).await.unwrap();
    let now = fleet.world.machine.clock.wall();
    let options = quick().wait(Wait::Forever).seen(now, SECOND);
    let guard = fleet.bidder();
    let bidding = {
        let never = |_| async { panic!("stale") };
        tokio::spawn(async move { guard.place(&key("a"), &options, never).await })
    };
    fleet.until_asked_for_the_lock().await;
    fleet.world.pass(2 * SECOND).await;
    held.release().await.unwrap();
    let stale = bidding.await.unwrap().unwrap();
    assert!(matches!(stale, Placement::Not(Verdict::Stale { .. })), "{stale:?}");
    assert!(fleet.world.locker().try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn after_the_start_the_loss_of_the_lock_stops_nothing_and_the_outcome_is_kept() {
    let fleet = Fleet::new();
    let Begin::Started(bid) = fleet.bidder().begin(&key("a"), &quick()).await.unwrap() else {
        panic!()
    };
    fleet.world.store.unreachable.store(true, SeqCst);
    fleet.world.pass(3 * SECOND).await;
    assert_eq!(bid.lock_lost().await, LossReason::Unreachable);
    fleet.world.store.unreachable.store(false, SeqCst);
    assert!(bid.submission().left() > Duration::ZERO);
    let Placement::Recorded(info) = bid.finish(placed()).await.unwrap() else { panic!() };
    assert_eq!(info.state, State::Placed);
}

#[tokio::test]
async fn a_later_bidder_with_a_higher_token_meets_a_started_attempt_as_doubt() {
    // L5: the first bidder's process stands still, and its lease has ended.
    let fleet = Fleet::new();
    let Begin::Started(first) = fleet.bidder().begin(&key("a"), &quick()).await.unwrap() else {
        panic!()
    };
    fleet.world.store.unreachable.store(true, SeqCst);
    fleet.world.pass(4 * SECOND).await;
    fleet.world.store.unreachable.store(false, SeqCst);
    let never = |_| async { panic!("another may have sent it") };
    let second = fleet.bidder().place(&key("a"), &quick(), never).await.unwrap();
    assert!(matches!(second, Placement::Not(Verdict::InDoubt(_))), "{second:?}");
    let Placement::Recorded(info) = first.finish(placed()).await.unwrap() else { panic!() };
    assert_eq!(info.state, State::Placed, "the submitter's own word ends the doubt");
}

#[tokio::test]
async fn a_bid_that_is_dropped_before_its_start_is_abandoned_and_after_it_unknown() {
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let Begin::Started(bid) = guard.begin(&key("a"), &quick()).await.unwrap() else { panic!() };
    drop(bid);
    guard.locker().close().await;
    assert_eq!(fleet.state(&key("a")).await, Some(State::Unknown));
    let history = fleet.ledger.history(&key("a")).await.unwrap();
    assert_eq!(history.last().map(|entry| entry.event), Some(Happened::GivenUp));

    let other = Key::new("fiverr", "b").unwrap();
    let writer = fleet.busy_ledger();
    let bidding = {
        let (guard, other) = (guard.clone(), other.clone());
        tokio::spawn(async move { guard.begin(&other, &quick()).await.map(drop) })
    };
    fleet.until_asked_for_the_lock().await;
    bidding.abort();
    settle().await;
    drop(writer);
    guard.locker().close().await;
    let state = fleet.state(&other).await;
    assert!(matches!(state, None | Some(State::Abandoned)), "{state:?}");
    let again = guard.place(&other, &quick(), |_| async { placed() }).await.unwrap();
    assert!(matches!(again, Placement::Recorded(_)), "{again:?}");
}

#[tokio::test]
async fn a_posting_that_was_seen_too_long_ago_is_left_alone() {
    let fleet = Fleet::new();
    let now = fleet.world.machine.clock.wall().as_micros();
    let seen = WallTime::from_micros(now - 2 * 3_600_000_000);
    let options = quick().seen(seen, Duration::from_hours(1));
    let never = |_| async { panic!("stale") };
    let stale = fleet.bidder().place(&key("a"), &options, never).await.unwrap();
    let Placement::Not(Verdict::Stale { age }) = stale else { panic!("{stale:?}") };
    assert_eq!(age, Duration::from_hours(2));
}

#[tokio::test]
async fn an_outcome_that_comes_after_its_attempt_was_closed_is_kept_and_told() {
    // L8
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let Begin::Started(bid) = guard.begin(&key("a"), &quick()).await.unwrap() else { panic!() };
    fleet.world.machine.clock.advance(Duration::from_mins(2));
    fleet.world.machine.processes.end();
    let note = bidlock::ledger::OperatorNote {
        actor: "ops".to_owned(),
        because: "the marketplace shows no bid".to_owned(),
    };
    let request = bidlock::ledger::ResolveRequest {
        attempt: Some(bid.submission().attempt()),
        resolution: bidlock::ledger::Resolution::NotSent { sender_is_gone: false },
        note,
        visibility_lag: Duration::ZERO,
    };
    fleet.ledger.resolve(&key("a"), &request).await.unwrap();
    let late = bid.finish(placed()).await.unwrap();
    assert!(matches!(late, Placement::Late(_)), "{late:?}");
    let history = fleet.ledger.history(&key("a")).await.unwrap();
    assert!(history.iter().any(|entry| entry.event == Happened::LatePlaced));
    assert_eq!(fleet.world.seen.count("Late"), 1);
}

#[tokio::test]
async fn a_busy_lock_is_an_error_of_its_own_and_nothing_is_reserved() {
    let fleet = Fleet::new();
    let _held = fleet.world.locker().acquire(&key("a")).await.unwrap();
    let never = |_| async { panic!("somebody else holds it") };
    let busy = fleet.bidder().place(&key("a"), &quick().wait(Wait::No), never).await;
    assert!(matches!(busy, Err(Error::Held { .. })), "{busy:?}");
    assert_eq!(fleet.state(&key("a")).await, None);
}

/// Lets a bid that runs beside the test come to its start.
async fn until_started(fleet: &Fleet) {
    while fleet.state(&key("a")).await != Some(State::Started) {
        settle().await;
    }
}
