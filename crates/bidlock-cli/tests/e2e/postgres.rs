//! A ledger on a real PostgreSQL server, as users and operators meet it.

use std::fs;

use bidlock_testkit::servers::{Postgres, PostgresOptions};
use bidlock_testkit::wait_until;
use serde_json::Value;

use crate::ledger::{every_state, import, made, postings, told};
use crate::{SOON, User, end, objects, text};

/// A server, and the URL of a database on it for a ledger.
fn ledger() -> (Postgres, String) {
    let (server, _, url) = empty_database();
    (server, url)
}

/// A server, an empty database on it, and its URL.
pub(crate) fn empty_database() -> (Postgres, String, String) {
    let server = Postgres::start();
    let database = server.new_database();
    let url = server.url(&database);
    (server, database, url)
}

fn export(user: &User, file: &str, ledger: &str) -> Vec<Value> {
    let done = user.run(&["ledger", "export", file, "--ledger-url", ledger]);
    assert_eq!(done.code, 0, "{done:?}");
    let read = |line: &String| serde_json::from_str(line).unwrap();
    postings(user, file).iter().map(read).collect()
}

fn status(user: &User, ledger: &str) -> Value {
    user.json(&["ledger", "status", "--ledger-url", ledger]).remove(0)
}

#[test]
fn a_ledger_moves_from_a_file_to_a_server_and_back_without_loss() {
    let user = User::new();
    every_state(&user);
    let (_server, url) = ledger();
    let file = format!("sqlite://{}", user.database().display());
    let before = export(&user, "file.jsonl", &file);
    let moved = import(&user, "file.jsonl", &url);
    assert_eq!(moved.code, 0, "{moved:?}");
    assert_eq!(told(&user, &url), told(&user, &file));
    assert_eq!(status(&user, &url)["counts"], status(&user, &file)["counts"]);
    assert_eq!(export(&user, "server.jsonl", &url), before);
    // Bidders find every posting as it was.
    for (posting, code) in [("placed", 10), ("späť 🚀", 10), ("unknown", 11), ("not sent", 0)] {
        let bid = user.run(&["bid", "upwork", posting, "--ledger-url", &url, "true"]);
        assert_eq!(bid.code, code, "{posting}: {bid:?}");
    }
    assert_eq!(import(&user, "server.jsonl", "sqlite:back.db").code, 0);
    assert_eq!(export(&user, "back.jsonl", "sqlite:back.db"), before);
    let known = import(&user, "file.jsonl", "sqlite:back.db");
    assert_eq!(objects(&known.stdout)[0]["postings_known"], 9, "{known:?}");
    // The server knows more by now than the file did.
    let older = import(&user, "file.jsonl", &url);
    assert_eq!(older.code, 78, "{older:?}");
    assert!(older.stderr.contains("file.jsonl, line"), "{older:?}");
}

#[test]
fn an_import_into_a_server_that_was_killed_is_run_again_and_loses_nothing() {
    const POSTINGS: usize = 10_000;
    let user = User::new();
    let (server, url) = ledger();
    let migrate = ["ledger", "migrate", "--ledger-url", &url];
    let first = user.run(&migrate);
    assert!(first.code == 0 && first.stderr.contains("made new"), "{first:?}");
    let known = user.run(&migrate);
    assert!(known.code == 0 && known.stderr.contains("already"), "{known:?}");
    made::export(&user, "all.jsonl", POSTINGS);
    let database = url.rsplit_once('/').unwrap().1;
    let count = || -> usize {
        server.text(database, "SELECT count(*) FROM bidlock.attempts").parse().unwrap()
    };
    for n in 1..=2 {
        let words = ["ledger", "import", "all.jsonl", "--ledger-url", &url];
        let killed = user.start(&words);
        wait_until("a part of it", 5 * SOON, || count() > n * 1_000);
        killed.kill().unwrap();
        assert_eq!(end(killed).code, 1009);
        assert!(count() < POSTINGS, "{} are there already", count());
    }
    let done = import(&user, "all.jsonl", &url);
    assert_eq!(done.code, 0, "{done:?}");
    let taken = &objects(&done.stdout)[0];
    let known = taken["postings_known"].as_u64().unwrap();
    assert!(known > 1_500 && known < 10_000, "{taken}");
    assert_eq!(taken["postings"].as_u64().unwrap() + known, 10_000);
    let here = export(&user, "server.jsonl", &url);
    let there = fs::read_to_string(user.path("all.jsonl")).unwrap();
    let there = there.lines().filter(|line| line.starts_with("{\"posting\""));
    assert_eq!(here.len(), POSTINGS);
    for (here, there) in here.iter().zip(there) {
        assert_eq!(*here, serde_json::from_str::<Value>(there).unwrap());
    }
    let audit = user.json(&["audit", "--ledger-url", &url, "--limit", "1000"]);
    assert_eq!(audit.iter().filter(|entry| text(entry, "act") == "withdraw").count(), 100);
    let pruned = ["ledger", "prune", "--yes", "--json", "--ledger-url", &url];
    let pruned = objects(&user.run(&pruned).stdout)[0]["attempts"].as_u64().unwrap();
    let left = status(&user, &url)["counts"].clone();
    assert_eq!(left["placed"], 0, "{left}");
    assert_eq!(count() as u64 + pruned, 10_833, "of the twelfth kind each has two attempts");
}

#[test]
fn several_reconcilers_settle_the_doubts_of_a_server_once() {
    let user = User::new();
    let (_server, url) = ledger();
    for n in 0..5 {
        let posting = format!("job_{n}");
        let words = ["bid", "upwork", &posting, "--submit-timeout", "100ms", "--ledger-url", &url];
        assert_eq!(user.run(&[&words[..], &["--", "sh", "-c", "exit 3"]].concat()).code, 11);
    }
    let dry = ["reconcile", "--dry-run", "--visibility-delay", "0", "--ledger-url", &url];
    wait_until("the send-by", SOON, || user.run(&dry).stdout.lines().count() == 5);
    let script = "echo $BIDLOCK_POSTING >> asked; sleep 0.1; echo found R-$BIDLOCK_POSTING";
    let words = ["reconcile", "--visibility-delay", "0", "--ledger-url", &url];
    let words = [&words[..], &["--", "sh", "-c", script]].concat();
    let rounds: Vec<_> = (0..3).map(|_| user.start(&words)).collect();
    for round in rounds {
        let ended = end(round);
        assert!(matches!(ended.code, 0 | 11), "{ended:?}");
    }
    assert_eq!(fs::read_to_string(user.path("asked")).unwrap().lines().count(), 5);
    assert_eq!(status(&user, &url)["counts"]["placed"], 5);
}

#[test]
fn a_server_that_is_not_there_or_a_bad_name_of_one_is_told() {
    let user = User::new();
    for (url, codes, said) in [
        ("postgres://postgres@127.0.0.1:1/x", &[69][..], "127.0.0.1:1"),
        ("postgres://postgres:s3cret@127.0.0.1:1/x", &[69], "127.0.0.1:1"),
        ("postgres://h:port/x", &[78], "postgres"),
        ("postgres:", &[78], "postgres"),
    ] {
        for words in
            [&["ledger", "status"][..], &["reconcile", "true"], &["bid", "upwork", "j", "true"]]
        {
            let ran = user.run(&[&["--ledger-url", url][..], words].concat());
            assert!(codes.contains(&ran.code), "{url} {words:?}: {ran:?}");
            assert!(ran.stderr.contains(said) && !ran.stderr.contains("s3cret"), "{url}: {ran:?}");
        }
    }
}

#[test]
fn a_doctor_makes_no_ledger_and_names_the_rights_that_are_missing() {
    let user = User::new();
    let (server, database, url) = empty_database();
    let ran = user.run(&["doctor", "--ledger-url", &url]);
    assert!(ran.stdout.contains("there is no ledger in the schema"), "{ran:?}");
    let there = "SELECT to_regnamespace('bidlock') IS NULL";
    assert_eq!(server.text(&database, there), "t", "{ran:?}");
    assert_eq!(user.run(&["ledger", "migrate", "--ledger-url", &url]).code, 0);
    server.sql(&database, "CREATE ROLE bidlock_reader LOGIN");
    let rights = user.run(&["doctor", "--acl", "--ledger-url", &url]).stdout;
    let reader = rights.split("-- For reports.").nth(1).unwrap();
    server.sql(&database, reader);
    let url = server.url_as("bidlock_reader", &database);
    let ran = user.run(&["doctor", "--ledger-url", &url]);
    assert_eq!(ran.code, 77, "{ran:?}");
    let line = ran.stdout.lines().find(|line| line.contains("\tledger rights\t")).unwrap();
    assert!(line.contains("lacks INSERT on attempts, UPDATE on attempts, INSERT"), "{line}");
    assert!(!line.contains("SELECT") && line.contains("bidlock doctor --acl"), "{line}");
}

#[test]
fn a_doctor_looks_at_the_ledger_too_and_prints_its_rights() {
    let user = User::new();
    let options = PostgresOptions::new().set("fsync=on").set("full_page_writes=on");
    let server = Postgres::start_with(options);
    let url = server.url(&server.new_database());
    assert_eq!(user.run(&["bid", "upwork", "j", "--ledger-url", &url, "true"]).code, 0);
    let ran = user.run(&["doctor", "--json", "--ledger-url", &url]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let findings = objects(&ran.stdout);
    let of = |store: &str| findings.iter().filter(|found| text(found, "store") == store).count();
    assert!(of("lock") > 0 && of("ledger") > 3, "{ran:?}");
    let copy = findings.iter().find(|found| text(found, "check") == "marks").unwrap();
    assert_eq!(text(copy, "severity"), "good");
    let lines = user.run(&["doctor", "--ledger-url", &url]).stdout;
    assert!(lines.contains("\tledger reach\t"), "{lines}");
    server.kill();
    let gone = user.run(&["doctor", "--ledger-url", &url]);
    assert_eq!(gone.code, 69, "{gone:?}");
    assert!(gone.stdout.contains("failure\tledger "), "{gone:?}");
    // Nothing is contacted for the rights.
    let rights = user.run(&["doctor", "--acl", "--ledger-url", &url]);
    assert_eq!((rights.code, rights.stderr.as_str()), (0, ""), "{rights:?}");
    assert!(rights.stdout.contains("GRANT SELECT ON ALL TABLES"), "{rights:?}");
}
