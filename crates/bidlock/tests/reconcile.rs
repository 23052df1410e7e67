//! How doubts end: by asking the marketplace, from several machines at the same time.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

mod common;

use std::future::pending;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bidlock::ledger::{
    AttemptId, AttemptInfo, AuditQuery, Event as Happened, Fingerprint, Ledger, Obstacle, Outcome,
    Recorded, State, Verdict,
};
use bidlock::{
    Answer, Begin, BidGuard, BidOptions, Error, Placement, Question, Reconcile, ReconcileOptions,
    ReconcileOutcome, Reconciler, Report, Wait,
};
use common::{World, key, settle, ttl};

const SECOND: Duration = Duration::from_secs(1);
/// Past the send-by of a quick bid and the visibility delay.
const LATER: Duration = Duration::from_secs(71);

struct Fleet {
    world: World,
    ledger: Ledger,
    _folder: tempfile::TempDir,
}

impl Fleet {
    fn new() -> Self {
        let world = World::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        let ledger = Ledger::open_sqlite(&path, &world.platform()).unwrap();
        Self { world, ledger, _folder: folder }
    }

    fn bidder(&self) -> BidGuard {
        BidGuard::new(self.world.locker(), self.ledger.clone())
    }

    /// Leaves a doubt behind, on the submitter's own word.
    async fn doubt(&self, posting: &str) -> AttemptId {
        self.end(posting, Outcome::Unknown { reason: Some("no reply".to_owned()) }).await
    }

    async fn end(&self, posting: &str, outcome: Outcome) -> AttemptId {
        let options = quick().payload(Fingerprint::of(posting.as_bytes()));
        let submit = |_| async { outcome };
        match self.bidder().place(&key(posting), &options, submit).await.unwrap() {
            Placement::Recorded(info) => info.id,
            other => panic!("{other:?}"),
        }
    }

    /// Lets everything become due; nobody holds a lock that could expire.
    fn later(&self) {
        self.world.machine.clock.advance(LATER);
    }

    fn reconciler(&self, asker: impl Reconcile + 'static) -> Reconciler {
        Reconciler::new(self.bidder(), asker, ReconcileOptions::default()).unwrap()
    }

    async fn round(&self, answer: Answer) -> Report {
        let asker = move |_: Question| {
            let answer = answer.clone();
            async move { answer }
        };
        self.reconciler(asker).run_once().await.unwrap()
    }

    async fn read(&self, id: AttemptId) -> AttemptInfo {
        self.ledger.attempt(&id).await.unwrap().unwrap()
    }

    async fn events(&self, posting: &str) -> Vec<Happened> {
        let history = self.ledger.history(&key(posting)).await.unwrap();
        history.into_iter().map(|entry| entry.event).collect()
    }
}

fn quick() -> BidOptions {
    BidOptions::default().wait(Wait::For(SECOND)).ttl(ttl(3_000)).submit_timeout(10 * SECOND)
}

fn found() -> Answer {
    Answer::Found { reference: Some("R-1".to_owned()) }
}

#[tokio::test]
async fn a_bid_that_is_found_is_placed_and_the_reason_is_kept() {
    let fleet = Fleet::new();
    let id = fleet.doubt("a").await;
    fleet.later();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asker = {
        let seen = Arc::clone(&seen);
        move |question: Question| {
            seen.lock().unwrap().push(question);
            async { found() }
        }
    };
    let report = fleet.reconciler(asker).run_once().await.unwrap();
    assert_eq!((report.due, report.asked, report.placed, report.in_doubt()), (1, 1, 1, 0));
    let question = seen.lock().unwrap().pop().unwrap();
    assert_eq!((question.attempt, question.marketplace.as_str()), (id, "upwork"));
    assert_eq!(question.posting, "a");
    assert_eq!(question.payload, Some(Fingerprint::of(b"a")));
    assert!(question.started_at < question.send_by && question.reference.is_none());
    let events: Vec<Happened> = question.history.iter().map(|entry| entry.event).collect();
    assert_eq!(events, [Happened::Reserved, Happened::Started, Happened::Unknown]);
    let info = fleet.read(id).await;
    assert_eq!((info.state, info.reference.as_deref()), (State::Placed, Some("R-1")));
    let audit = fleet.ledger.audit(&AuditQuery::default()).await.unwrap();
    assert_eq!((audit.len(), audit[0].actor.as_str()), (1, "reconciler"));
    assert!(audit[0].because.contains("has the bid"), "{audit:?}");
    assert_eq!(fleet.world.seen.count("Reconciled { class: \"upwork\", outcome: Placed }"), 1);
    assert_eq!(fleet.round(found()).await, Report::default(), "nothing is left to ask");
    assert!(fleet.world.locker().try_acquire(&key("a")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_refusal_is_kept_and_other_answers_change_nothing() {
    let fleet = Fleet::new();
    let id = fleet.doubt("a").await;
    fleet.later();
    let before = fleet.read(id).await;
    let report = fleet.round(Answer::NotFound).await;
    assert_eq!((report.asked, report.not_found, report.in_doubt()), (1, 1, 1));
    let report = fleet.round(Answer::CannotTell { why: Some("down".to_owned()) }).await;
    assert_eq!((report.asked, report.cannot_tell, report.in_doubt()), (1, 1, 1));
    assert_eq!(fleet.read(id).await, before);
    assert_eq!(fleet.events("a").await.len(), 3, "nor does the history grow");
    let never = |_| async { panic!("a posting in doubt is not bid on") };
    let again = fleet.bidder().place(&key("a"), &quick(), never).await.unwrap();
    assert!(matches!(again, Placement::Not(Verdict::InDoubt(_))), "{again:?}");
    let reason = Some(format!("too\nlate {}", "x".repeat(3_000)));
    let report = fleet.round(Answer::Refused { reason }).await;
    assert_eq!((report.refused, report.in_doubt()), (1, 0));
    let info = fleet.read(id).await;
    assert_eq!(info.state, State::Refused);
    assert!(info.reason.unwrap().contains("too late xxx"), "it is made to fit");
}

#[tokio::test]
async fn nothing_is_asked_before_the_send_by_and_the_visibility_delay() {
    let fleet = Fleet::new();
    let id = fleet.doubt("a").await;
    for wait in [SECOND, 58 * SECOND] {
        fleet.world.machine.clock.advance(wait);
        let report = fleet.round(found()).await;
        assert_eq!((report.waiting, report.due, report.asked, report.in_doubt()), (1, 0, 0, 1));
    }
    assert_eq!(fleet.read(id).await.state, State::Unknown);
    fleet.later();
    assert_eq!(fleet.round(found()).await.placed, 1);
}

#[tokio::test]
async fn a_refusal_waits_for_the_end_of_a_sender_that_lives() {
    // L6: that its code was dropped is no word of the submitter.
    let fleet = Fleet::new();
    let id = fleet.end("a", Outcome::GivenUp { reason: None }).await;
    fleet.later();
    let refused = || async { Answer::Refused { reason: None } };
    let mut told = Vec::new();
    let report = fleet
        .reconciler(move |_: Question| refused())
        .run_each(|asked| {
            told.push((asked.outcome, asked.error.as_ref().map(ToString::to_string)));
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert_eq!((report.asked, report.left, report.in_doubt()), (1, 1, 1));
    let alive = Obstacle::SenderAlive { sender: String::new() }.to_string();
    let (outcome, why) = told.pop().unwrap();
    assert_eq!(outcome, ReconcileOutcome::Left);
    assert!(why.unwrap().contains(alive.trim_start_matches(", ")), "it says why");
    assert_eq!(fleet.read(id).await.state, State::Unknown);
    fleet.world.machine.processes.end();
    assert_eq!(fleet.round(Answer::Refused { reason: None }).await.refused, 1);
}

#[tokio::test]
async fn two_reconcilers_never_ask_the_same_at_once() {
    let fleet = Fleet::new();
    for posting in ["a", "b", "c", "d", "e"] {
        fleet.doubt(posting).await;
    }
    fleet.later();
    let open = Arc::new(Mutex::new(Vec::<AttemptId>::new()));
    let asked = Arc::new(AtomicUsize::new(0));
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let (open, asked) = (Arc::clone(&open), Arc::clone(&asked));
        let reconciler = fleet.reconciler(move |question: Question| {
            let (open, asked) = (Arc::clone(&open), Arc::clone(&asked));
            async move {
                asked.fetch_add(1, SeqCst);
                let mut others = open.lock().unwrap().clone();
                assert!(!others.contains(&question.attempt), "somebody asks this already");
                others.push(question.attempt);
                *open.lock().unwrap() = others;
                settle().await;
                open.lock().unwrap().retain(|id| *id != question.attempt);
                found()
            }
        });
        rounds.push(tokio::spawn(async move { reconciler.run_once().await.unwrap() }));
    }
    let mut total = (0, 0);
    for round in rounds {
        let report = round.await.unwrap();
        assert_eq!((report.cannot_tell, report.failed), (0, 0), "{report:?}");
        total = (total.0 + report.placed, total.1 + report.skipped_busy + report.overtaken);
    }
    assert_eq!(total, (5, 15), "each is settled once, and left alone three times");
    assert_eq!(asked.load(SeqCst), 5);
}

#[tokio::test]
async fn a_bidder_that_holds_the_posting_is_not_waited_for() {
    let fleet = Fleet::new();
    fleet.doubt("a").await;
    let other = fleet.doubt("b").await;
    fleet.later();
    let held = fleet.world.locker().acquire(&key("a")).await.unwrap();
    let report = fleet.round(found()).await;
    assert_eq!((report.skipped_busy, report.placed, report.in_doubt()), (1, 1, 1));
    assert_eq!(fleet.read(other).await.state, State::Placed);
    held.release().await.unwrap();
    assert_eq!(fleet.round(found()).await.placed, 1);
}

#[tokio::test]
async fn a_lock_that_is_lost_while_asking_ends_the_question() {
    let fleet = Fleet::new();
    let id = fleet.doubt("a").await;
    fleet.later();
    let dropped = Arc::new(AtomicUsize::new(0));
    let reconciler = fleet.reconciler({
        let dropped = Arc::clone(&dropped);
        move |_: Question| {
            let dropped = CountsDrop(Arc::clone(&dropped));
            async move {
                pending::<()>().await;
                drop(dropped);
                found()
            }
        }
    });
    let patient = ReconcileOptions::default().ask_timeout(LATER);
    let reconciler = reconciler.with_options(patient).unwrap();
    let asks = fleet.world.store.acquires.load(SeqCst);
    let round = tokio::spawn(async move { reconciler.run_once().await.unwrap() });
    while fleet.world.store.acquires.load(SeqCst) == asks {
        settle().await;
    }
    settle().await;
    fleet.world.store.unreachable.store(true, SeqCst);
    fleet.world.pass(31 * SECOND).await;
    fleet.world.store.unreachable.store(false, SeqCst);
    let report = round.await.unwrap();
    assert_eq!((report.asked, report.cannot_tell, report.in_doubt()), (1, 1, 1), "{report:?}");
    assert_eq!(dropped.load(SeqCst), 1);
    assert_eq!(fleet.read(id).await.state, State::Unknown);
}

struct CountsDrop(Arc<AtomicUsize>);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[tokio::test]
async fn the_senders_own_word_meanwhile_comes_first() {
    let fleet = Fleet::new();
    let Begin::Started(bid) = fleet.bidder().begin(&key("a"), &quick()).await.unwrap() else {
        panic!()
    };
    let id = bid.submission().attempt();
    drop(bid);
    fleet.later();
    settle().await;
    let (ledger, refuse) = (fleet.ledger.clone(), Outcome::Refused { reason: None });
    let report = fleet
        .reconciler(move |question: Question| {
            let (ledger, refuse) = (ledger.clone(), refuse.clone());
            async move {
                let late = ledger.record(&question.attempt, &refuse).await.unwrap();
                assert!(matches!(late, Recorded::Written(_)), "{late:?}");
                found()
            }
        })
        .run_once()
        .await
        .unwrap();
    assert_eq!((report.asked, report.overtaken, report.in_doubt()), (1, 1, 0));
    assert_eq!(fleet.read(id).await.state, State::Refused, "an answer changes nothing settled");
    assert!(fleet.ledger.audit(&AuditQuery::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn one_bad_answer_holds_up_nothing() {
    let fleet = Fleet::new();
    let panics = fleet.doubt("panics").await;
    let hangs = fleet.doubt("hangs").await;
    let odd = fleet.doubt("odd").await;
    let last = fleet.doubt("last").await;
    fleet.later();
    let reconciler = fleet.reconciler(move |question: Question| async move {
        match question.posting.as_str() {
            "panics" => panic!("this one is bad"),
            "hangs" => pending().await,
            "odd" => Answer::Found { reference: Some("\u{200b}\n".repeat(2_000)) },
            _ => found(),
        }
    });
    let round = tokio::spawn(async move { reconciler.run_once().await.unwrap() });
    fleet.world.pass(35 * SECOND).await;
    let report = round.await.unwrap();
    assert_eq!((report.asked, report.placed, report.cannot_tell), (4, 2, 2));
    for id in [panics, hangs] {
        assert_eq!(fleet.read(id).await.state, State::Unknown);
    }
    for id in [odd, last] {
        assert_eq!(fleet.read(id).await.state, State::Placed);
    }
    assert!(fleet.world.locker().try_acquire(&key("hangs")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_is_away_ends_the_round_and_not_the_process() {
    let fleet = Fleet::new();
    for posting in ["a", "b", "c", "d", "e"] {
        fleet.doubt(posting).await;
    }
    fleet.later();
    fleet.world.store.unreachable.store(true, SeqCst);
    let mut errors = Vec::new();
    let report = fleet
        .reconciler(|_: Question| async { found() })
        .run_each(|asked| {
            errors.push(matches!(asked.error, Some(Error::Store(_))));
            ControlFlow::Continue(())
        })
        .await
        .unwrap();
    assert_eq!((report.failed, report.left_over, report.asked, report.in_doubt()), (3, 2, 0, 5));
    assert_eq!(errors, [true; 3]);
    fleet.world.store.unreachable.store(false, SeqCst);
    assert_eq!(fleet.round(found()).await.placed, 5);
}

#[tokio::test]
async fn a_round_has_a_limit_and_leaves_nobody_behind() {
    let fleet = Fleet::new();
    for n in 0..12 {
        fleet.doubt(&format!("job_{n}")).await;
    }
    fleet.later();
    let seen = Arc::new(Mutex::new(std::collections::BTreeSet::new()));
    let reconciler = {
        let seen = Arc::clone(&seen);
        let asker = move |question: Question| {
            seen.lock().unwrap().insert(question.posting);
            async { Answer::NotFound }
        };
        fleet.reconciler(asker).with_options(ReconcileOptions::default().limit(3)).unwrap()
    };
    let report = reconciler.run_once().await.unwrap();
    assert_eq!((report.due, report.asked, report.left_over, report.in_doubt()), (12, 3, 9, 12));
    for _ in 0..60 {
        reconciler.run_once().await.unwrap();
    }
    assert_eq!(seen.lock().unwrap().len(), 12, "each has its turn, though none is ever settled");
    let mut left = 0;
    let report = reconciler
        .run_each(|_| {
            left += 1;
            ControlFlow::Break(())
        })
        .await
        .unwrap();
    assert_eq!((left, report.asked, report.left_over), (1, 1, 11));
}

#[tokio::test]
async fn a_round_that_is_dropped_gives_the_lock_back_and_changes_nothing() {
    let fleet = Fleet::new();
    let id = fleet.doubt("a").await;
    fleet.later();
    let reconciler = fleet.reconciler(|_: Question| pending());
    let asks = fleet.world.store.acquires.load(SeqCst);
    let round = tokio::spawn(async move { reconciler.run_once().await.map(drop) });
    while fleet.world.store.acquires.load(SeqCst) == asks {
        settle().await;
    }
    settle().await;
    round.abort();
    assert!(round.await.unwrap_err().is_cancelled());
    fleet.world.pass(SECOND).await;
    assert!(fleet.world.locker().try_acquire(&key("a")).await.unwrap().is_some());
    assert_eq!(fleet.read(id).await.state, State::Unknown);
}

#[tokio::test]
async fn only_one_marketplace_is_asked_where_one_is_named_and_bad_options_are_refused() {
    let fleet = Fleet::new();
    fleet.doubt("a").await;
    fleet.later();
    let asker = || |_: Question| async { found() };
    let options = ReconcileOptions::default;
    let other = Reconciler::new(fleet.bidder(), asker(), options().marketplace("fiverr")).unwrap();
    assert_eq!(other.run_once().await.unwrap(), Report::default());
    let bad = Reconciler::new(fleet.bidder(), asker(), options().marketplace("Up work")).unwrap();
    assert!(matches!(bad.run_once().await, Err(Error::Ledger(_))));
    let days = Duration::from_hours(24 * 31);
    for bad in [
        options().limit(0),
        options().limit(10_001),
        options().ask_timeout(Duration::ZERO),
        options().visibility_delay(days),
    ] {
        assert!(Reconciler::new(fleet.bidder(), asker(), bad).is_err());
    }
    let upwork = Reconciler::new(fleet.bidder(), asker(), options().marketplace("upwork")).unwrap();
    let (due, report) = upwork.due().await.unwrap();
    assert_eq!((due.len(), report.due, report.asked), (1, 1, 0));
    assert_eq!(upwork.run_once().await.unwrap().placed, 1);
}
