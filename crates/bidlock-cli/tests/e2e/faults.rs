//! Stores that are busy for long, or fail in the middle of a bid.

use bidlock_testkit::{SubmissionLog, wait_until};
use rusqlite::Connection;

use crate::{SOON, User, end, objects, text};

/// A user whose locks and bids are in two files, made already.
fn user_of_two_files() -> User {
    let user = User::new();
    let settings = "BIDLOCK_URL=sqlite:lock.db\nBIDLOCK_LEDGER_URL=sqlite:ledger.db\n";
    std::fs::write(user.path(".env"), settings).unwrap();
    for words in [&["ledger", "migrate"][..], &["lock", "--key", "made", "true"], &["health"]] {
        assert_eq!(user.run(words).code, 0, "{words:?}");
    }
    user
}

/// Keeps everybody else from writing to a file until it is dropped.
fn block(user: &User, file: &str) -> Connection {
    let file = Connection::open(user.path(file)).unwrap();
    file.busy_timeout(SOON).unwrap();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    file
}

#[test]
fn a_file_that_is_busy_is_waited_for() {
    let user = user_of_two_files();
    for file in ["lock.db", "ledger.db"] {
        let blocked = block(&user, file);
        let bid = user.start(&["bid", "upwork", file, "--wait", "50s", "touch", file]);
        // Others who only read are not in anybody's way.
        assert_eq!(user.run(&["bids"]).code, 0);
        assert_eq!(user.run(&["locks"]).code, 0);
        drop(blocked);
        let ended = end(bid);
        assert_eq!(ended.code, 0, "{file}: {ended:?}");
        assert!(!ended.stderr.contains("busy") && !ended.stderr.contains("locked in the"));
    }
}

#[test]
fn a_file_that_is_busy_for_the_whole_wait_is_busy() {
    let user = user_of_two_files();
    let blocked = block(&user, "lock.db");
    let words = ["lock", "--key", "n", "--wait", "300ms", "--", "touch", "ran"];
    let ran = user.run(&words);
    // R25: within its wait others were in the way, not a fault.
    assert_eq!((ran.code, ran.stdout.as_str()), (75, ""), "{ran:?}");
    assert!(ran.stderr.contains("busy") && ran.stderr.contains("lock.db"), "{ran:?}");
    assert!(!ran.stderr.contains("database is locked"), "{ran:?}");
    drop(blocked);
    assert!(!user.path("ran").exists());
    let locks = user.run(&["locks", "--json"]);
    assert_eq!((locks.code, locks.stdout.as_str()), (0, ""), "no grant and no place is left");
}

#[test]
fn a_waiter_that_cannot_leave_a_busy_queue_is_still_told_that_it_was_held() {
    let user = user_of_two_files();
    let script = "touch held; sleep 1000";
    let words = ["lock", "--key", "n", "--", "sh", "-c", script];
    let _holder = user.start_until("held", &words);
    let waiter = user.start(&["lock", "--key", "n", "--wait", "1s", "--", "touch", "ran"]);
    wait_until("it waits", SOON, || user.json(&["locks"])[0]["waiters"] == 1);
    let blocked = block(&user, "lock.db");
    let ended = end(waiter);
    assert_eq!(ended.code, 75, "{ended:?}");
    drop(blocked);
    assert!(!user.path("ran").exists());
}

/// A user whose ledger refuses one step.
fn user_with_fault(step: &str) -> (User, SubmissionLog, Connection) {
    let user = User::new();
    assert_eq!(user.run(&["health"]).code, 0);
    let file = Connection::open(user.database()).unwrap();
    file.execute_batch(&format!(
        "CREATE TRIGGER fault {step} BEGIN SELECT RAISE(ABORT, 'out of order'); END"
    ))
    .unwrap();
    let log = SubmissionLog::new(&user.path("sent"));
    (user, log, file)
}

#[test]
fn a_ledger_that_does_not_reserve_or_start_sends_nothing() {
    for step in [
        "BEFORE INSERT ON ledger_attempts",
        "BEFORE UPDATE ON ledger_attempts WHEN NEW.state = 'started'",
    ] {
        let (user, log, file) = user_with_fault(step);
        let script = log.shell_line();
        let words = ["bid", "upwork", "j", "--", "sh", "-c", &script];
        let ran = user.run(&words);
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{step}: {ran:?}");
        assert!(ran.stderr.contains("out of order") && ran.stderr.contains("hint:"), "{ran:?}");
        // One error is one error: what was not even reserved needs no record.
        let json = user.run(&[&["--json"], &words[..]].concat());
        assert_eq!(json.stderr.lines().count(), 1, "{step}: {json:?}");
        assert_eq!(objects(&json.stderr)[0]["code"], 69);
        assert!(log.all().unwrap().is_empty(), "{step}");
        assert!(user.json(&["locks"]).is_empty(), "{step}: the lock is released");
        file.execute_batch("DROP TRIGGER fault").unwrap();
        assert_eq!(user.run(&words).code, 0, "{step}: once it is mended");
        assert_eq!(log.all().unwrap().len(), 1);
    }
}

#[test]
fn a_ledger_that_does_not_keep_the_outcome_leaves_a_doubt() {
    let (user, log, file) =
        user_with_fault("BEFORE UPDATE ON ledger_attempts WHEN NEW.state = 'placed'");
    let script = log.shell_line();
    let words = ["bid", "upwork", "j", "--submit-timeout", "1s", "--", "sh", "-c", &script];
    let ran = user.run(&words);
    assert_eq!(ran.code, 11, "{ran:?}");
    for part in ["placed", "out of order", "bidlock resolve upwork j"] {
        assert!(ran.stderr.contains(part), "{part} is not in {}", ran.stderr);
    }
    assert_eq!(user.run(&words).code, 11, "nobody sends it again");
    assert_eq!(log.all().unwrap().len(), 1);
    assert!(user.json(&["locks"]).is_empty());
    file.execute_batch("DROP TRIGGER fault").unwrap();
    wait_until("the send-by", SOON, || user.states("j") == ["unknown"]);
    assert_eq!(user.resolve("j", &["--placed", "R-1"]).code, 0);
    assert_eq!(text(&user.bids("j")[0], "reference"), "R-1");
    assert_eq!(log.all().unwrap().len(), 1);
}
