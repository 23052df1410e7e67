//! What a bidder does when the ledger's answer is lost, and when a bid may be sent again.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bidlock::ledger::{
    AttemptInfo, Event as Happened, Fingerprint, Ledger, Outcome, SqliteStore, State, Verdict,
};
use bidlock::{Begin, BidGuard, BidOptions, Clock as _, Error, Placement, Submission, Wait};
use bidlock_testkit::ledger::{Fate, LossyLedger};
use common::{World, key, settle, ttl};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

struct Fleet {
    world: World,
    link: Arc<LossyLedger>,
    ledger: Ledger,
    folder: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        let world = World::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let store = Arc::new(SqliteStore::open(&path, &world.platform()).unwrap());
        let link = Arc::new(LossyLedger::new(store));
        let ledger = Ledger::new(Arc::clone(&link) as _, &world.platform());
        Self { world, link, ledger, folder }
    }

    fn bidder(&self) -> BidGuard {
        BidGuard::new(self.world.locker(), self.ledger.clone())
    }

    /// Begins a bid, while time passes for whatever waits.
    async fn begin(&self, guard: &BidGuard, options: &BidOptions) -> Result<Begin, Error> {
        let (guard, options) = (guard.clone(), options.clone());
        let begun = tokio::spawn(async move { guard.begin(&key("a"), &options).await });
        while !begun.is_finished() {
            // Ten times as fast as the file, which needs its own time.
            let rest = || std::thread::park_timeout(Duration::from_millis(1));
            tokio::task::spawn_blocking(rest).await.unwrap();
            self.world.pass(Duration::from_millis(10)).await;
        }
        begun.await.unwrap()
    }

    async fn attempts(&self) -> Vec<AttemptInfo> {
        self.ledger.bids(&bidlock::ledger::BidQuery::default()).await.unwrap()
    }

    async fn events(&self) -> Vec<Happened> {
        let history = self.ledger.history(&key("a")).await.unwrap();
        history.into_iter().map(|entry| entry.event).collect()
    }

    /// A bid whose outcome nobody knows, past its send-by.
    async fn in_doubt(&self, options: &BidOptions) -> AttemptInfo {
        let unsure = |_| async { Outcome::Unknown { reason: Some("no answer".to_owned()) } };
        let placed = self.bidder().place(&key("a"), options, unsure).await.unwrap();
        let Placement::Recorded(info) = placed else { panic!("{placed:?}") };
        assert_eq!(info.state, State::Unknown);
        self.world.machine.clock.advance(10 * SECOND);
        info
    }
}

fn placed() -> Outcome {
    Outcome::Placed { reference: Some("ref-1".to_owned()) }
}

fn quick() -> BidOptions {
    BidOptions::default().wait(Wait::For(SECOND)).ttl(ttl(30_000)).submit_timeout(10 * SECOND)
}

fn honoured() -> BidOptions {
    quick().payload(Fingerprint::of(b"offer")).honours_keys(HOUR)
}

async fn never(_: Submission) -> Outcome {
    panic!("nothing may be sent")
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_read_back_until_the_ledger_answers() {
    // L2
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    fleet.link.spoil_starts(&[Fate::AnswerLost]);
    fleet.link.spoil_reads(&[Fate::Unreachable, Fate::AnswerLost, Fate::Unreachable]);
    let Begin::Started(bid) = fleet.begin(&guard, &quick()).await.unwrap() else { panic!() };
    assert!(!bid.submission().left().is_zero());
    let Placement::Recorded(info) = bid.finish(placed()).await.unwrap() else { panic!() };
    assert_eq!(info.state, State::Placed);
}

#[tokio::test]
async fn a_start_that_was_read_back_is_remembered() {
    // L12
    let fleet = Fleet::new();
    let folder = fleet.folder.path().join("marks");
    let ledger = fleet.ledger.clone().remembering(&folder);
    let guard = BidGuard::new(fleet.world.locker(), ledger);
    fleet.link.spoil_starts(&[Fate::AnswerLost]);
    let Begin::Started(bid) = fleet.begin(&guard, &quick()).await.unwrap() else { panic!() };
    let attempt = bid.submission().attempt().to_string();
    let kept: Vec<_> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "of the ledger and of its place: {kept:?}");
    for mark in kept {
        let line = std::fs::read_to_string(mark).unwrap();
        assert!(line.starts_with(&attempt), "{line}");
    }
}

#[tokio::test]
async fn a_start_that_has_not_applied_is_closed_before_it_can() {
    // L4: whatever sits in a buffer between here and the ledger.
    for fate in [Fate::Late, Fate::RequestLost] {
        let fleet = Fleet::new();
        let guard = fleet.bidder();
        fleet.link.spoil_starts(&[fate]);
        let failed = fleet.begin(&guard, &quick()).await;
        assert!(matches!(failed, Err(Error::Ledger(_))), "{failed:?}");
        let late = fleet.link.deliver().await.unwrap();
        assert!(!late.contains(&true), "a late start is answered no");
        assert_eq!(fleet.attempts().await[0].state, State::Abandoned);
        assert_eq!(fleet.events().await, [Happened::Reserved, Happened::NotSent]);
        // The posting is free again at once, and so is the lock.
        let again = guard.place(&key("a"), &quick(), |_| async { placed() }).await.unwrap();
        assert!(matches!(again, Placement::Recorded(_)), "{again:?}");
    }
}

#[tokio::test]
async fn a_start_that_cannot_be_read_back_is_not_sent() {
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    fleet.link.spoil_starts(&[Fate::AnswerLost]);
    fleet.link.spoil_reads(&[Fate::Unreachable; 100]);
    let failed = fleet.begin(&guard, &quick()).await;
    assert!(matches!(failed, Err(Error::Ledger(_))), "{failed:?}");
    let reads = 100 - fleet.link.spoiled_reads();
    assert!((2..20).contains(&reads), "it is read for 5 s with pauses, not {reads} times");
    guard.locker().close().await;
    // The submitter's own word: it has sent nothing, and will not.
    let events = [Happened::Reserved, Happened::Started, Happened::NotSent];
    assert_eq!(fleet.events().await, events);
}

#[tokio::test]
async fn a_start_is_not_read_back_past_its_send_by() {
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    fleet.link.spoil_starts(&[Fate::AnswerLost]);
    // More than fit into a second, and fewer than fit into five.
    fleet.link.spoil_reads(&[Fate::Unreachable; 8]);
    let failed = fleet.begin(&guard, &quick().submit_timeout(SECOND)).await;
    assert!(matches!(failed, Err(Error::Ledger(_))), "{failed:?}");
}

#[tokio::test]
async fn a_doubt_is_sent_again_under_its_own_id_where_keys_are_honoured() {
    // L11
    let fleet = Fleet::new();
    let doubt = fleet.in_doubt(&honoured()).await;
    let guard = fleet.bidder();
    let submit = |submission: Submission| async move {
        assert_eq!(submission.attempt(), doubt.id);
        assert!(submission.left() > 9 * SECOND && submission.token() > doubt.token);
        placed()
    };
    let again = guard.place(&key("a"), &honoured(), submit).await.unwrap();
    let Placement::Recorded(info) = again else { panic!("{again:?}") };
    assert_eq!((info.id, info.state), (doubt.id, State::Placed));
    assert_eq!(fleet.attempts().await.len(), 1, "there is no second attempt");
    let done = guard.place(&key("a"), &honoured(), never).await.unwrap();
    assert!(matches!(done, Placement::Not(Verdict::AlreadyPlaced(_))), "{done:?}");
    let events = [
        Happened::Reserved,
        Happened::Started,
        Happened::Unknown,
        Happened::Resent,
        Happened::Placed,
    ];
    assert_eq!(fleet.events().await, events);
}

#[tokio::test]
async fn a_doubt_is_left_alone_by_whoever_may_not_send_it_again() {
    let fleet = Fleet::new();
    let options = honoured();
    fleet.in_doubt(&options).await;
    let now = fleet.world.machine.clock.wall();
    let other = Fingerprint::of(b"another offer");
    for (why, options) in [
        ("it is not declared", quick().payload(Fingerprint::of(b"offer"))),
        ("no payload", quick().honours_keys(HOUR)),
        ("another payload", honoured().payload(other)),
        ("the marketplace has forgotten the id", honoured().honours_keys(15 * SECOND)),
        ("the posting was seen too long ago", {
            let hours = Duration::from_hours(2);
            let seen = bidlock::WallTime::from_micros(
                now.as_micros() - u64::try_from(hours.as_micros()).unwrap(),
            );
            honoured().seen(seen, HOUR)
        }),
    ] {
        let answer = fleet.bidder().place(&key("a"), &options, never).await.unwrap();
        assert!(matches!(answer, Placement::Not(Verdict::InDoubt(_))), "{why}: {answer:?}");
    }
    assert_eq!(fleet.events().await.last(), Some(&Happened::Unknown));
}

#[tokio::test]
async fn a_doubt_waits_for_its_send_by_before_it_is_sent_again() {
    let fleet = Fleet::new();
    let guard = fleet.bidder();
    let Begin::Started(bid) = guard.begin(&key("a"), &honoured()).await.unwrap() else { panic!() };
    drop(bid);
    guard.locker().close().await;
    fleet.world.machine.clock.advance(9 * SECOND);
    let early = fleet.bidder().place(&key("a"), &honoured(), never).await.unwrap();
    assert!(matches!(early, Placement::Not(Verdict::InDoubt(_))), "{early:?}");
    fleet.world.machine.clock.advance(SECOND);
    let due = fleet.bidder().place(&key("a"), &honoured(), |_| async { placed() }).await.unwrap();
    assert!(matches!(due, Placement::Recorded(_)), "{due:?}");
}

#[tokio::test]
async fn a_bid_that_is_sent_again_in_vain_stays_in_doubt() {
    // P1: the first one may have gone through.
    let fleet = Fleet::new();
    let doubt = fleet.in_doubt(&honoured()).await;
    let guard = fleet.bidder();
    let vain = |_| async { Outcome::NotSent { reason: Some("no route".to_owned()) } };
    let again = guard.place(&key("a"), &honoured(), vain).await.unwrap();
    let Placement::Recorded(info) = again else { panic!("{again:?}") };
    assert_eq!((info.id, info.state), (doubt.id, State::Unknown));
    let other = guard.place(&key("a"), &quick(), never).await.unwrap();
    assert!(matches!(other, Placement::Not(Verdict::InDoubt(_))), "{other:?}");
    // Dropped before it was let begin, it says nothing about the first one either.
    fleet.world.machine.clock.advance(10 * SECOND);
    fleet.world.store.slow_answers.store(true, std::sync::atomic::Ordering::SeqCst);
    let bidding = {
        let guard = fleet.bidder();
        tokio::spawn(async move { guard.begin(&key("a"), &honoured()).await.map(drop) })
    };
    settle().await;
    bidding.abort();
    fleet.world.store.slow_answers.store(false, std::sync::atomic::Ordering::SeqCst);
    settle().await;
    assert_eq!(fleet.attempts().await[0].state, State::Unknown);
}

#[tokio::test]
async fn bidders_at_one_moment_send_again_once() {
    // L11
    let fleet = Fleet::new();
    fleet.in_doubt(&honoured()).await;
    let sent = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut bidders = Vec::new();
    for _ in 0..10 {
        let (guard, sent) = (fleet.bidder(), Arc::clone(&sent));
        bidders.push(tokio::spawn(async move {
            let submit = move |_| async move {
                sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                settle().await;
                placed()
            };
            let options = honoured().wait(Wait::Forever);
            guard.place(&key("a"), &options, submit).await.unwrap()
        }));
    }
    for bidder in bidders {
        let answer = bidder.await.unwrap();
        let fits = matches!(
            answer,
            Placement::Recorded(_)
                | Placement::Not(Verdict::AlreadyPlaced(_) | Verdict::InDoubt(_))
        );
        assert!(fits, "{answer:?}");
    }
    assert_eq!(sent.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_lost_answer_of_sending_again_is_read_back() {
    for (fate, begins) in
        [(Fate::AnswerLost, true), (Fate::RequestLost, false), (Fate::Late, false)]
    {
        let fleet = Fleet::new();
        let doubt = fleet.in_doubt(&honoured()).await;
        fleet.link.spoil_starts(&[fate]);
        fleet.link.spoil_reads(&[Fate::Unreachable]);
        let begun = fleet.begin(&fleet.bidder(), &honoured()).await;
        match begun {
            Ok(Begin::Started(bid)) if begins => {
                assert_eq!(bid.submission().attempt(), doubt.id);
                bid.finish(placed()).await.unwrap();
            }
            Err(Error::Ledger(_)) if !begins => {
                // It may apply later: nobody sends then, and the doubt stays.
                fleet.link.deliver().await.unwrap();
                assert_eq!(fleet.attempts().await[0].state, State::Unknown);
            }
            other => panic!("{fate:?}: {other:?}"),
        }
    }
}
