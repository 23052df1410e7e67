mod schema;

use std::future::Future;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use bidlock_core::{FencingToken, Refusal};
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{Ledger, Reservation, State, Verdict, limits};

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

struct Bench {
    folder: TempDir,
    platform: Platform,
}

impl Bench {
    fn new() -> Self {
        let platform = bidlock_platform::system().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), platform }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    fn open(&self) -> Ledger {
        Ledger::open_sqlite(&self.path(), &self.platform).unwrap()
    }

    fn refused(&self) -> Refusal {
        match Ledger::open_sqlite(&self.path(), &self.platform).unwrap_err() {
            LedgerError::Refused { reason, .. } => reason,
            other => panic!("refused, not {other}"),
        }
    }

    fn raw(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn request(&self, token: u64) -> ReserveRequest {
        ReserveRequest {
            attempt: AttemptId::random(self.platform.rng.as_ref()),
            token: FencingToken::new(token),
            holder: "host:1:a1b2c3d4".to_owned(),
            process: self.platform.processes.current(),
            seen_at: None,
        }
    }

    fn start_request(&self, token: u64) -> StartRequest {
        let send_by = self.platform.clock.wall() + Duration::from_mins(1);
        StartRequest { token: FencingToken::new(token), send_by, payload: None }
    }

    /// An attempt that is placed.
    fn place(&self, ledger: &Ledger, key: &Key) -> AttemptId {
        let request = self.request(1);
        wait(async {
            ledger.reserve(key, &request).await.unwrap();
            ledger.start(&request.attempt, &self.start_request(1)).await.unwrap();
            let placed = Outcome::Placed { reference: Some("r-1".to_owned()) };
            ledger.record(&request.attempt, &placed).await.unwrap();
        });
        request.attempt
    }
}

fn key(posting: &str) -> Key {
    Key::new("upwork", posting).unwrap()
}

#[test]
fn a_bid_is_remembered_after_the_ledger_was_closed() {
    let bench = Bench::new();
    let key = key("job 1");
    let attempt = bench.place(&bench.open(), &key);
    let ledger = bench.open();
    let Verdict::AlreadyPlaced(info) =
        wait(ledger.should_bid(&key, &crate::Freshness::default())).unwrap()
    else {
        panic!("a placed bid stands against another one");
    };
    assert_eq!((info.id, info.posting.as_str()), (attempt, "job 1"));
    assert_eq!(info.posting_encoded, "job%201");
    assert_eq!(info.reference.as_deref(), Some("r-1"));
    let again = wait(ledger.reserve(&key, &bench.request(9))).unwrap();
    assert!(matches!(again, Reservation::Not(Verdict::AlreadyPlaced(_))), "{again:?}");
}

#[test]
fn a_commit_is_on_disk_before_the_answer() {
    // L2: 2 is FULL. The file of the lock store may be opened otherwise; this connection is not.
    let bench = Bench::new();
    let patience = Patience::new(&bench.platform);
    let (connection, ..) = file::open_for_writing(&bench.path(), &patience).unwrap();
    let level: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
    let mode: String =
        connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!((level, mode.as_str()), (2, "wal"));
}

#[test]
fn the_file_is_its_owners_alone_and_so_is_the_folder() {
    let bench = Bench::new();
    let path = bench.folder.path().join("a/b/ledger.db");
    let ledger = Ledger::open_sqlite(&path, &bench.platform).unwrap();
    bench.place(&ledger, &key("a"));
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
}

#[test]
fn a_path_that_is_no_file_is_refused_by_name_and_leaves_nothing() {
    let bench = Bench::new();
    let path = |name: &str| bench.folder.path().join(name);
    std::fs::write(path("file"), "mine").unwrap();
    std::fs::create_dir(path("empty")).unwrap();
    for (bad, named) in [("file/x.db", "file"), ("file/a/b/x.db", "file"), ("empty", "empty")] {
        let error = Ledger::open_sqlite(&path(bad), &bench.platform).unwrap_err();
        let LedgerError::Refused { reason: Refusal::WrongType(why), .. } = error else {
            panic!("{bad}: {error}");
        };
        assert!(why.contains(&*path(named).to_string_lossy()) && why.contains("name a file"));
    }
    // Folders are made on the way to what turns out to be none.
    for bad in ["new/../empty", "new/x/../../file/x.db", "new/../empty/../file/a/x.db"] {
        Ledger::open_sqlite(&path(bad), &bench.platform).unwrap_err();
    }
    assert_eq!(std::fs::read_to_string(path("file")).unwrap(), "mine");
    let mut left: Vec<_> =
        path("").read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["empty", "file"], "what was there before stays, and nothing else");
}

#[test]
fn one_look_up_answers_should_bid_and_reserve() {
    let bench = Bench::new();
    drop(bench.open());
    let db = bench.raw();
    let plan = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map(["upwork", "a"], |row| row.get("detail")).unwrap();
        steps.collect::<rusqlite::Result<_>>().unwrap()
    };
    let should_bid = plan(&read::open_sql());
    assert_eq!(should_bid.len(), 1, "{should_bid:?}");
    assert!(should_bid[0].contains("SEARCH"), "{should_bid:?}");
    assert!(should_bid[0].contains("ledger_attempts_open (marketplace=? AND posting=?)"));
    let reserve = plan(&read::latest_sql());
    assert_eq!(reserve.len(), 1, "no sorting: {reserve:?}");
    assert!(reserve[0].contains("ledger_attempts_seen (marketplace=? AND posting=?)"));
}

#[test]
fn nothing_is_removed_by_hand_and_no_token_is_forgotten() {
    let bench = Bench::new();
    let ledger = bench.open();
    let not_sent = Outcome::NotSent { reason: None };
    let attempts = [1, 3].map(|token| {
        let request = bench.request(token);
        wait(ledger.reserve(&key("a"), &request)).unwrap();
        wait(ledger.record(&request.attempt, &not_sent)).unwrap();
        request.attempt.to_string()
    });
    let db = bench.raw();
    let remove = "DELETE FROM ledger_attempts WHERE id = ?1";
    // L3: it alone remembers the highest token of the posting.
    let refused = db.execute(remove, [&attempts[1]]).unwrap_err().to_string();
    assert!(refused.contains("keeps others from bidding"), "{refused}");
    let lower = "UPDATE ledger_attempts SET token = 0, token_seen = 2 WHERE id = ?1";
    // It never started, so its token may change; what was seen may not.
    db.execute_batch("DROP TRIGGER ledger_attempts_fixed").unwrap();
    let refused = db.execute(lower, [&attempts[1]]).unwrap_err().to_string();
    assert!(refused.contains("stays seen"), "{refused}");
    // L10: not even the one that no longer stands against anything.
    let refused = db.execute(remove, [&attempts[0]]).unwrap_err().to_string();
    assert!(refused.contains("keeps others from bidding"), "{refused}");
    let answer = wait(ledger.reserve(&key("a"), &bench.request(2))).unwrap();
    assert_eq!(answer, Reservation::TokenTooLow { seen: FencingToken::new(3) });
}

#[test]
fn a_page_of_bids_never_reads_the_whole_table() {
    let bench = Bench::new();
    drop(bench.open());
    let db = bench.raw();
    let now = bench.platform.clock.wall();
    let by_number = (BidQuery::default(), "PRIMARY KEY (rowid<?)");
    let by_state = State::ALL
        .map(|state| (BidQuery { state: Some(state), ..BidQuery::default() }, "(state=?"));
    let (marketplace, posting) = (Some("upwork".to_owned()), Some("a".to_owned()));
    let one = BidQuery { marketplace, posting, ..BidQuery::default() };
    let queries = by_state.into_iter().chain([by_number, (one, "(marketplace=? AND posting=?")]);
    for (query, index) in queries {
        let (sql, values) = read::bids_sql(&query, query.posting.clone(), None, now);
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let values = rusqlite::params_from_iter(values.iter().map(AsRef::as_ref));
        let steps: Vec<String> = statement
            .query_map::<String, _, _>(values, |row| row.get("detail"))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        assert!(!steps.iter().any(|step| step.contains("SCAN")), "{query:?}: {steps:?}");
        assert!(steps.iter().any(|step| step.contains(index)), "{query:?}: {steps:?}");
    }
}

#[test]
fn the_database_itself_refuses_what_the_state_machine_has_not() {
    let bench = Bench::new();
    bench.place(&bench.open(), &key("a"));
    let db = bench.raw();
    for (sql, said) in [
        ("UPDATE ledger_attempts SET state = 'reserved'", "no such step"), // L4
        ("UPDATE ledger_attempts SET state = 'abandoned'", "no such step"),
        ("UPDATE ledger_attempts SET payload = 'sha256:0'", "fixed at the start"), // L9
        ("UPDATE ledger_attempts SET posting = 'b'", "keeps its identity"),
        ("UPDATE ledger_history SET event = 'refused'", "append-only"), // L7
        ("DELETE FROM ledger_history", "append-only"),
        ("INSERT OR REPLACE INTO ledger_history SELECT * FROM ledger_history", "append-only"),
        (
            "INSERT INTO ledger_attempts (id, marketplace, posting, state, event, token,
                 token_seen, holder, process, reserved_at_us)
             SELECT 'other', marketplace, posting, 'reserved', 'reserved', 9, 9, 'h', 'p', 1
             FROM ledger_attempts",
            "takes the place of another",
        ),
        // P1: a posting that was bid on is not opened by forgetting the bid.
        ("DELETE FROM ledger_attempts", "keeps others from bidding"),
        (
            "INSERT OR REPLACE INTO ledger_attempts (id, marketplace, posting, state, event, token,
                 token_seen, holder, process, reserved_at_us)
             SELECT id, marketplace, posting, 'reserved', 'reserved', 9, 9, 'h', 'p', 1
             FROM ledger_attempts",
            "takes the place of another",
        ),
        ("UPDATE ledger_attempts SET token_seen = 0", "stays seen"), // L3
        (
            "INSERT INTO ledger_attempts (id, marketplace, posting, state, event, token,
                 token_seen, holder, process, reserved_at_us)
             VALUES ('x', 'm', 'p', 'started', 'started', 9, 9, 'h', 'p', 1)",
            "begins reserved",
        ),
    ] {
        let refused = db.execute(sql, []).unwrap_err().to_string();
        assert!(refused.contains(said), "{sql}: {refused}");
    }
    // L1: without the trigger, the index says the same.
    db.execute_batch("DROP TRIGGER ledger_attempts_replace").unwrap();
    let second = "INSERT INTO ledger_attempts (id, marketplace, posting, state, event, token,
             token_seen, holder, process, reserved_at_us)
         SELECT 'other', marketplace, posting, 'reserved', 'reserved', 9, 9, 'h', 'p', 1
         FROM ledger_attempts";
    let refused = db.execute(second, []).unwrap_err().to_string();
    assert!(refused.contains("UNIQUE constraint failed: ledger_attempts.marketplace"), "{refused}");
    let audit = "INSERT INTO ledger_audit (at_us, actor, act, because) VALUES (1, 'a', 'b', 'c')";
    db.execute(audit, []).unwrap();
    for sql in ["UPDATE ledger_audit SET actor = 'x'", "DELETE FROM ledger_audit"] {
        assert!(db.execute(sql, []).unwrap_err().to_string().contains("append-only"), "{sql}");
    }
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_as_it_was() {
    let bench = Bench::new();
    let text = "this is not a database, whatever its name says ".repeat(100);
    std::fs::write(bench.path(), &text).unwrap();
    assert!(matches!(bench.refused(), Refusal::Corrupt(_)));
    assert_eq!(std::fs::read_to_string(bench.path()).unwrap(), text);
}

#[test]
fn a_damaged_file_is_refused() {
    let bench = Bench::new();
    bench.place(&bench.open(), &key("a"));
    bench.raw().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let mut bytes = std::fs::read(bench.path()).unwrap();
    bytes[100..].fill(0xff);
    std::fs::write(bench.path(), bytes).unwrap();
    assert!(matches!(bench.refused(), Refusal::Corrupt(_)));
}

#[test]
fn a_newer_ledger_is_refused_and_the_locks_beside_it_do_not_matter() {
    let bench = Bench::new();
    drop(bench.open());
    bench.raw().execute_batch("CREATE TABLE lock_locks (x); PRAGMA user_version = 77").unwrap();
    drop(bench.open());
    // One that this program may use as it is …
    bench.raw().execute("UPDATE ledger_schema SET version = version + 1", []).unwrap();
    bench.place(&bench.open(), &key("a"));
    let version: i64 =
        bench.raw().query_row("SELECT version FROM ledger_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 3, "it is left as it is");
    // … and one that it would misread.
    bench.raw().execute("UPDATE ledger_meta SET compatible_from = 3", []).unwrap();
    let Refusal::Newer(why) = bench.refused() else { panic!("refused as newer") };
    assert!(why.contains("version 3"), "{why}");
}

#[test]
fn a_folder_is_no_ledger() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path()).unwrap();
    assert!(matches!(bench.refused(), Refusal::WrongType(_)));
}

#[test]
fn a_file_that_was_replaced_takes_no_more_bids() {
    let bench = Bench::new();
    let ledger = bench.open();
    let attempt = bench.place(&ledger, &key("a"));
    std::fs::rename(bench.path(), bench.folder.path().join("old.db")).unwrap();
    let removed = wait(ledger.reserve(&key("b"), &bench.request(2))).unwrap_err();
    assert!(removed.to_string().contains("was removed while it was open"), "{removed}");
    drop(bench.open());
    let outcome = Outcome::Refused { reason: None };
    let replaced = wait(ledger.record(&attempt, &outcome)).unwrap_err();
    assert!(replaced.to_string().contains("was replaced"), "{replaced}");
    // L12: the new file does not know what was started. The log of the one before still lies there:
    // where the reader has it, it finds no ledger at all, or a part of each.
    let forgot = wait(ledger.reserve(&key("b"), &bench.request(2))).unwrap_err();
    let said = forgot.to_string();
    let expected = ["restored copy: attempt", "no such table", "malformed"];
    assert!(expected.iter().any(|part| said.contains(part)), "{said}");
    assert!(!replaced.may_have_applied() && !forgot.may_have_applied());
}

#[test]
fn a_full_disk_is_said_and_nothing_is_changed() {
    let bench = Bench::new();
    let patience = Patience::new(&bench.platform);
    let path = bench.path();
    let (connection, identity, _) = file::open_for_writing(&path, &patience).unwrap();
    connection.pragma_update(None, "max_page_count", 1).unwrap();
    let writer = Writer { connection, path, identity, patience: patience.clone() };
    let worker = Worker::start("full", patience, move |jobs| writer.serve(jobs)).unwrap();
    let mut refused = None;
    for n in 0..1_000_u32 {
        let (key, request) = (key(&format!("{n}{}", "x".repeat(400))), bench.request(1));
        let now = bench.platform.clock.wall();
        let work = move |db: &Connection| write::reserve(db, &key, &request, now);
        match wait(worker.write(Wanted::Always, work)) {
            Ok(_) => {}
            Err(Fail::File(Fault::Refused(Refusal::Full(_)))) => {
                refused = Some(n);
                break;
            }
            Err(other) => panic!("full, not {other:?}"),
        }
    }
    let refused = refused.expect("the file cannot grow for ever");
    let kept: u32 =
        bench.raw().query_row("SELECT count(*) FROM ledger_attempts", [], |r| r.get(0)).unwrap();
    assert_eq!(kept, refused, "what was answered is kept, and nothing else");
}

#[test]
fn a_reader_is_not_held_up_by_a_writer_and_a_writer_is_waited_for() {
    let bench = Bench::new();
    let ledger = bench.open();
    bench.place(&ledger, &key("a"));
    let other = bench.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let verdict = wait(ledger.should_bid(&key("a"), &crate::Freshness::default())).unwrap();
    assert!(matches!(verdict, Verdict::AlreadyPlaced(_)));
    let request = bench.request(5);
    let waiting = std::thread::spawn({
        let ledger = ledger.clone();
        move || wait(ledger.reserve(&key("b"), &request))
    });
    // The other process ends its work while the call waits.
    wait(ledger.ping()).unwrap();
    assert!(!waiting.is_finished());
    other.execute_batch("COMMIT").unwrap();
    assert!(matches!(waiting.join().unwrap().unwrap(), Reservation::Reserved(_)));
}

#[test]
fn a_file_that_stays_locked_is_said_to_be_busy_in_time() {
    // Each look at the clock takes 10 ms off the ten seconds.
    let machine = bidlock_testkit::test_platform();
    machine.clock.tick(Duration::from_millis(10));
    let bench = Bench { folder: tempfile::tempdir().unwrap(), platform: machine.platform() };
    let ledger = bench.open();
    let other = bench.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = bench.platform.clock.now();
    let busy = wait(ledger.reserve(&key("a"), &bench.request(1))).unwrap_err();
    let waited = bench.platform.clock.now().since(began);
    assert!(waited >= limits::BUSY_MAX && waited < limits::BUSY_MAX * 2, "{waited:?}");
    assert!(busy.is_retryable() && !busy.may_have_applied());
    let said = busy.to_string();
    assert!(said.contains("other processes kept writing"), "{said}");
    assert!(!said.contains("database is locked"), "{said}");
    other.execute_batch("ROLLBACK").unwrap();
    wait(ledger.reserve(&key("a"), &bench.request(1))).unwrap();
}

#[test]
fn calls_that_wait_at_the_same_time_share_a_commit_and_fail_alone() {
    let bench = Bench::new();
    let ledger = bench.open();
    let other = bench.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut calls: Vec<_> = (0..20)
        .map(|n| {
            let (ledger, request) = (ledger.clone(), bench.request(1));
            std::thread::spawn(move || wait(ledger.reserve(&key(&format!("p{n}")), &request)))
        })
        .collect();
    let stranger = bench.request(1).attempt;
    let lonely = {
        let ledger = ledger.clone();
        let outcome = Outcome::NotSent { reason: None };
        std::thread::spawn(move || wait(ledger.record(&stranger, &outcome)))
    };
    other.execute_batch("COMMIT").unwrap();
    for call in calls.drain(..) {
        assert!(matches!(call.join().unwrap().unwrap(), Reservation::Reserved(_)));
    }
    assert!(matches!(lonely.join().unwrap(), Err(LedgerError::NotFound { .. })));
    let made = wait(ledger.bids(&BidQuery::default())).unwrap();
    assert_eq!(made.len(), 20);
}

#[test]
fn a_call_that_nobody_awaits_any_more_reserves_nothing() {
    let bench = Bench::new();
    let ledger = bench.open();
    let other = bench.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (posting, request) = (key("a"), bench.request(1));
    wait(async {
        let mut call = Box::pin(ledger.reserve(&posting, &request));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
        });
        assert!(!polled.await);
    });
    other.execute_batch("COMMIT").unwrap();
    // A later call on the same thread comes after it.
    wait(ledger.reserve(&key("b"), &bench.request(1))).unwrap();
    assert_eq!(wait(ledger.attempt(&request.attempt)).unwrap(), None);
}
