//! A ledger that was restored from an older copy gives nothing out to those who know better (L12).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use bidlock_core::{Clock as _, FencingToken, Key, Platform, ProcessMark, Refusal};
use bidlock_ledger::{
    AttemptId, Fingerprint, Freshness, Ledger, LedgerError, OperatorNote, Outcome, ResendRequest,
    Reservation, ReserveRequest, Start, StartRequest, Verdict,
};
use bidlock_testkit::{TestPlatform, block_on, test_platform};
use tempfile::TempDir;

/// A machine with a ledger, a folder for what it remembers, and copies of the ledger.
struct Machine {
    test: TestPlatform,
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { test: test_platform(), folder: tempfile::tempdir().unwrap() }
    }

    fn platform(&self) -> Platform {
        self.test.platform()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The next process of this machine.
    fn process(&self, ledger: &str) -> Ledger {
        let opened = Ledger::open_sqlite(&self.path(ledger), &self.platform()).unwrap();
        opened.remembering(self.path("marks"))
    }

    fn copy(&self, from: &str, to: &str) {
        let db = rusqlite::Connection::open(self.path(from)).unwrap();
        db.execute("VACUUM INTO ?1", [self.path(to).to_str().unwrap()]).unwrap();
    }

    fn request(&self, token: u64) -> ReserveRequest {
        ReserveRequest {
            attempt: AttemptId::random(self.test.rng.as_ref()),
            token: FencingToken::new(token),
            holder: "host:1:a1b2c3d4".to_owned(),
            process: ProcessMark::new("elsewhere"),
            seen_at: None,
        }
    }

    fn start_request(&self, token: u64) -> StartRequest {
        let send_by = self.test.clock.wall() + Duration::from_mins(1);
        let payload = Some(Fingerprint::of(b"offer"));
        StartRequest { token: FencingToken::new(token), send_by, payload }
    }

    /// Lets an attempt start, a second after the last one.
    fn started(&self, ledger: &Ledger, posting: &str) -> AttemptId {
        self.test.clock.advance(Duration::from_secs(1));
        let request = self.request(5);
        block_on(async {
            ledger.reserve(&key(posting), &request).await.unwrap();
            let start = ledger.start(&request.attempt, &self.start_request(5)).await.unwrap();
            assert!(matches!(start, Start::Yes(_)), "{start:?}");
        });
        request.attempt
    }

    /// Why a bid is not let begin; `None` when it is.
    fn refused(&self, ledger: &Ledger, posting: &str) -> Option<String> {
        match block_on(ledger.reserve(&key(posting), &self.request(5))) {
            Ok(Reservation::Reserved(_)) => None,
            Err(LedgerError::Refused { reason: Refusal::Restored(why), .. }) => Some(why),
            other => panic!("reserved or restored, not {other:?}"),
        }
    }
}

fn key(posting: &str) -> Key {
    Key::new("upwork", posting).unwrap()
}

fn note() -> OperatorNote {
    OperatorNote { actor: "ann".to_owned(), because: "all bids were looked up".to_owned() }
}

fn placed() -> Outcome {
    Outcome::Placed { reference: None }
}

#[test]
fn an_older_copy_is_noticed_and_waits_for_a_person() {
    let machine = Machine::new();
    let before = machine.process("live.db");
    let kept = machine.started(&before, "kept");
    machine.copy("live.db", "copy.db");
    let lost = machine.started(&before, "lost");
    block_on(before.record(&lost, &placed())).unwrap();
    // The live one is well, for this process and for the next.
    assert_eq!(machine.refused(&machine.process("live.db"), "other"), None);

    let ledger = machine.process("copy.db");
    let ids = [&before, &ledger].map(|it| block_on(it.standing()).unwrap().id);
    assert_eq!(ids[0], ids[1], "a copy says that it is the same ledger");
    let why = machine.refused(&ledger, "lost").unwrap();
    assert!(why.contains(&lost.to_string()) && why.contains("is not in it"), "{why}");
    let start = block_on(ledger.start(&kept, &machine.start_request(6))).unwrap_err();
    assert!(start.to_string().contains("restored copy") && !start.is_retryable(), "{start}");
    machine.test.clock.advance(Duration::from_mins(1));
    let resend = ResendRequest {
        token: FencingToken::new(6),
        send_by: machine.test.clock.wall() + Duration::from_mins(1),
        payload: Fingerprint::of(b"offer"),
        retention: Duration::from_hours(1),
        holder: "host:1:a1b2c3d4".to_owned(),
        process: ProcessMark::new("elsewhere"),
    };
    let again = block_on(ledger.resend(&kept, &resend)).unwrap_err();
    assert!(again.to_string().contains("restored copy"), "{again}");
    // Outcomes and reads go on.
    let verdict = block_on(ledger.should_bid(&key("kept"), &Freshness::default())).unwrap();
    assert!(matches!(verdict, Verdict::InDoubt(_)), "{verdict:?}");
    block_on(ledger.record(&kept, &placed())).unwrap();
    assert!(machine.refused(&ledger, "lost").is_some(), "as often as it is asked");

    block_on(ledger.accept(&note())).unwrap();
    assert_eq!(machine.refused(&ledger, "lost"), None);
    assert_eq!(machine.refused(&machine.process("copy.db"), "next"), None);
    // What the copy starts now is remembered in its turn.
    let later = machine.started(&ledger, "later");
    assert_eq!(machine.refused(&machine.process("copy.db"), "last"), None);
    let why = machine.refused(&machine.process("live.db"), "last").unwrap();
    assert!(why.contains(&later.to_string()), "{why}");
}

#[test]
fn a_copy_from_between_reserve_and_start_has_forgotten_the_start() {
    let machine = Machine::new();
    let ledger = machine.process("live.db");
    let request = machine.request(5);
    block_on(ledger.reserve(&key("a"), &request)).unwrap();
    machine.copy("live.db", "copy.db");
    block_on(ledger.start(&request.attempt, &machine.start_request(5))).unwrap();
    let why = machine.refused(&machine.process("copy.db"), "b").unwrap();
    assert!(why.contains("has not started here"), "{why}");
    // Without what is remembered nobody can tell.
    let stranger = Ledger::open_sqlite(&machine.path("copy.db"), &machine.platform()).unwrap();
    assert_eq!(machine.refused(&stranger, "b"), None);
}

#[test]
fn a_copy_that_was_pruned_before_the_last_start_does_not_pass_for_it() {
    let machine = Machine::new();
    let ledger = machine.process("live.db");
    machine.test.clock.advance(Duration::from_hours(24));
    block_on(ledger.prune(machine.test.clock.wall(), 100)).unwrap();
    machine.copy("live.db", "copy.db");
    machine.started(&ledger, "a");
    assert!(machine.refused(&machine.process("copy.db"), "b").is_some());
}

#[test]
fn a_ledger_that_was_made_anew_in_the_place_of_a_lost_one_is_noticed() {
    let machine = Machine::new();
    let ledger = machine.process("live.db");
    let lost = machine.started(&ledger, "a");
    machine.copy("live.db", "copy.db");
    drop(ledger);
    let empty = |path: &Path| {
        for end in ["", "-wal", "-shm"] {
            let file = PathBuf::from(format!("{}{end}", path.display()));
            std::fs::remove_file(file).unwrap_or_default();
        }
    };
    empty(&machine.path("live.db"));
    let anew = machine.process("live.db");
    let why = machine.refused(&anew, "a").unwrap();
    assert!(why.contains(&lost.to_string()) && why.contains("is not in it"), "{why}");
    // Elsewhere a new ledger is what it looks like.
    assert_eq!(machine.refused(&machine.process("new.db"), "a"), None);
    machine.test.clock.advance(Duration::from_secs(1));
    block_on(anew.accept(&note())).unwrap();
    let later = machine.started(&anew, "b");
    assert_eq!(machine.refused(&machine.process("live.db"), "c"), None);
    // The first one comes back, whole, and knows nothing of what the second one let begin.
    drop(anew);
    empty(&machine.path("live.db"));
    std::fs::copy(machine.path("copy.db"), machine.path("live.db")).unwrap();
    let why = machine.refused(&machine.process("live.db"), "b").unwrap();
    assert!(why.contains(&later.to_string()), "{why}");
}

#[test]
fn a_mark_that_cannot_be_read_or_written_keeps_nobody_from_bidding() {
    let machine = Machine::new();
    let ledger = machine.process("live.db");
    machine.started(&ledger, "a");
    let id = block_on(ledger.standing()).unwrap().id.to_string();
    let mark = machine.path("marks").join(&id);
    let line = std::fs::read_to_string(&mark).unwrap();
    assert_eq!(line.lines().count(), 1, "{line:?}");
    let only = || -> Vec<_> {
        machine.path("marks").read_dir().unwrap().map(|it| it.unwrap().file_name()).collect()
    };
    let place = only().into_iter().find(|name| *name != *id).unwrap();
    assert!(place.to_string_lossy().starts_with("at-") && only().len() == 2, "{:?}", only());
    let ledger = machine.process("live.db");
    assert_eq!(block_on(ledger.marks_unreadable()).unwrap(), None);
    std::fs::write(&mark, "torn").unwrap();
    std::fs::remove_file(machine.path("marks").join(&place)).unwrap();
    assert_eq!(machine.refused(&machine.process("live.db"), "b"), None);
    let why = block_on(ledger.marks_unreadable()).unwrap().unwrap();
    assert!(why.contains(&id) && why.contains("not a line of an attempt id"), "{why}");
    std::fs::remove_file(&mark).unwrap();
    std::fs::create_dir(&mark).unwrap();
    let ledger = machine.process("live.db");
    machine.started(&ledger, "c");
    assert_eq!(only().len(), 2, "what could not be put in its place is gone: {:?}", only());
    // No folder at all: a file is in its place.
    let none = |path: &Path| {
        let opened = Ledger::open_sqlite(&machine.path("live.db"), &machine.platform());
        opened.unwrap().remembering(path)
    };
    machine.started(&none(&machine.path("live.db")), "d");
}

#[test]
fn a_process_remembers_without_a_file_too() {
    let machine = Machine::new();
    let path = machine.path("live.db");
    let ledger = Ledger::open_sqlite(&path, &machine.platform()).unwrap();
    machine.started(&ledger, "a");
    assert!(!machine.path("marks").exists());
    // The path leads to another file, as after a hasty restore.
    std::fs::rename(&path, machine.path("old.db")).unwrap();
    drop(Ledger::open_sqlite(&path, &machine.platform()).unwrap());
    let first = block_on(ledger.record(&machine.request(5).attempt, &placed())).unwrap_err();
    assert!(matches!(first, LedgerError::Refused { reason: Refusal::Corrupt(_), .. }), "{first}");
    assert!(block_on(ledger.reserve(&key("b"), &machine.request(5))).is_err());
}
