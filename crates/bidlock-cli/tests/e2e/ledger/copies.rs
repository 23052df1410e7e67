//! Copies: an import that is killed, one that meets another ledger, one that is restored.

use std::fs;

use bidlock_testkit::wait_until;
use rusqlite::{Connection, OpenFlags};

use super::{import, made, postings, told};
use crate::{SOON, User, end, objects, text};

/// How many attempts a file has by now.
fn attempts(user: &User, file: &str) -> usize {
    let path = user.path(file);
    let Ok(db) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return 0;
    };
    let sql = "SELECT count(*) FROM ledger_attempts";
    db.query_row(sql, [], |row| row.get::<_, i64>(0))
        .map_or(0, |count| usize::try_from(count).unwrap())
}

#[test]
fn an_import_that_was_killed_is_run_again_and_loses_nothing() {
    const POSTINGS: usize = 10_000;
    let user = User::new();
    made::export(&user, "all.jsonl", POSTINGS);
    for n in 1..=2 {
        let words = ["ledger", "import", "all.jsonl", "--ledger-url", "sqlite:b.db", "--json"];
        let killed = user.start(&words);
        wait_until("a part of it", 5 * SOON, || attempts(&user, "b.db") > n * 1_500);
        killed.kill().unwrap();
        let ended = end(killed);
        assert_eq!((ended.code, ended.stdout.as_str()), (1009, ""), "{ended:?}");
        let part = attempts(&user, "b.db");
        assert!(part < POSTINGS, "{part}");
    }
    let done = import(&user, "all.jsonl", "sqlite:b.db");
    assert_eq!(done.code, 0, "{done:?}");
    let taken = &objects(&done.stdout)[0];
    let known = taken["postings_known"].as_u64().unwrap();
    assert!(known > 3_000 - 300 && known < 10_000, "{taken}");
    assert_eq!(taken["postings"].as_u64().unwrap() + known, 10_000);
    let export = ["ledger", "export", "b.jsonl", "--ledger-url", "sqlite:b.db"];
    assert_eq!(user.run(&export).code, 0);
    let (there, here) = (postings(&user, "all.jsonl"), postings(&user, "b.jsonl"));
    assert_eq!(here.len(), POSTINGS);
    for (here, there) in here.iter().zip(&there) {
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(read(here), read(there));
    }
    let status = &user.json(&["ledger", "status", "--ledger-url", "sqlite:b.db"])[0];
    // Of twelve ways, four end as placed; what was started long ago reads as unknown.
    assert_eq!(status["counts"]["started"], 0, "{status}");
    assert_eq!(status["counts"]["placed"], 2_500, "{status}");
    let audit = user.json(&["audit", "--ledger-url", "sqlite:b.db", "--limit", "1000"]);
    assert_eq!(audit.iter().filter(|entry| text(entry, "act") == "withdraw").count(), 100);
}

#[test]
fn a_later_export_goes_over_an_earlier_one_and_an_older_one_changes_nothing() {
    let user = User::new();
    let bid = |posting: &str, script: &str| {
        user.run(&["bid", "upwork", posting, "--", "sh", "-c", script]).code
    };
    assert_eq!((bid("a", "exit 3"), bid("b", "true")), (11, 0));
    assert_eq!(user.run(&["ledger", "export", "old.jsonl"]).code, 0);
    let found = ["resolve", "upwork", "a", "--placed", "R-1", "--because", "looked"];
    assert_eq!((user.run(&found).code, bid("c", "true")), (0, 0));
    assert_eq!(user.run(&["ledger", "export", "new.jsonl"]).code, 0);
    assert_eq!(import(&user, "old.jsonl", "sqlite:b.db").code, 0);
    let done = import(&user, "new.jsonl", "sqlite:b.db");
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(objects(&done.stdout)[0]["postings"], 2, "what has gone on, and what is new");
    let source = format!("sqlite://{}", user.database().display());
    assert_eq!(told(&user, "sqlite:b.db"), told(&user, &source));
    // The older one knows less of a: it must not take the ledger back.
    let before = told(&user, "sqlite:b.db");
    let refused = import(&user, "old.jsonl", "sqlite:b.db");
    assert_eq!(refused.code, 78, "{refused:?}");
    let failure = &objects(&refused.stderr)[0];
    assert!(text(failure, "message").starts_with("old.jsonl, line 2: "), "{failure}");
    assert_eq!(text(failure, "kind"), "differs");
    assert_eq!(told(&user, "sqlite:b.db"), before);
}

#[test]
fn a_restored_copy_gives_nothing_out_until_it_is_accepted() {
    // L12
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "a", "true"]).code, 0);
    assert_eq!(user.run(&["ledger", "export", "backup.jsonl"]).code, 0);
    let database = user.database();
    let copy = Connection::open(&database).unwrap();
    copy.execute("VACUUM INTO ?1", [user.path("copy.db").to_str().unwrap()]).unwrap();
    drop(copy);
    assert_eq!(user.run(&["bid", "upwork", "b", "true"]).code, 0);
    assert_eq!(user.run(&["ledger", "export", "newest.jsonl"]).code, 0);
    let restore = || {
        for end in ["-wal", "-shm"] {
            fs::remove_file(format!("{}{end}", database.display())).unwrap_or_default();
        }
        fs::copy(user.path("copy.db"), &database).unwrap();
    };
    restore();
    // The bid on b is forgotten, and would be made again.
    for posting in ["b", "c"] {
        let refused = user.run(&["bid", "upwork", posting, "--", "touch", "ran"]);
        assert_eq!(refused.code, 69, "{refused:?}");
        assert!(
            refused.stderr.contains("restored") && refused.stderr.contains("hint"),
            "{refused:?}"
        );
    }
    assert!(!user.path("ran").exists());
    let status = &user.json(&["ledger", "status"])[0];
    assert!(text(status, "restored").contains("restored from an older copy"), "{status}");
    assert_eq!(user.run(&["ledger", "accept"]).code, 2, "it needs a reason");
    let doctor = user.run(&["doctor", "--json"]);
    assert_eq!(doctor.code, 78, "{doctor:?}");
    let found =
        objects(&doctor.stdout).into_iter().find(|it| text(it, "check") == "marks").unwrap();
    assert_eq!(
        (text(&found, "severity"), text(&found, "store")),
        ("failure".into(), "ledger".into())
    );
    assert!(text(&found, "mend").contains("bidlock ledger accept"), "{found}");
    // The newest export brings back what was forgotten: nothing has to be accepted then.
    let newest = user.run(&["ledger", "import", "newest.jsonl"]);
    assert_eq!(newest.code, 0, "{newest:?}");
    assert!(user.json(&["ledger", "status"])[0]["restored"].is_null());
    assert_eq!(user.run(&["bid", "upwork", "b", "touch", "ran"]).code, 10);
    assert_eq!(user.run(&["bid", "upwork", "c", "true"]).code, 0);
    // Without one, a person answers for it.
    restore();
    let reason = "asked the marketplaces for all bids since the copy";
    let accepted = user.run(&["ledger", "accept", "--because", reason]);
    assert_eq!(accepted.code, 0, "{accepted:?}");
    assert!(accepted.stderr.contains("accepted, though"), "{accepted:?}");
    assert!(user.json(&["audit"]).iter().any(|entry| text(entry, "because") == reason));
    assert_eq!(user.run(&["bid", "upwork", "b", "true"]).code, 0);
    assert!(!user.path("ran").exists());
}

#[test]
fn a_lost_ledger_that_was_made_anew_gives_nothing_out_until_it_is_accepted() {
    // L12
    let user = User::new();
    let url = ["--ledger-url", "sqlite:bids.db"];
    let bid =
        |posting| user.run(&[&["bid", "upwork", posting], &url[..], &["touch", "ran"]].concat());
    assert_eq!(bid("a").code, 0);
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(user.path(&format!("bids.db{end}"))).unwrap_or_default();
    }
    fs::remove_file(user.path("ran")).unwrap();
    let refused = bid("a");
    assert_eq!(refused.code, 69, "{refused:?}");
    assert!(refused.stderr.contains("bidlock ledger accept"), "{refused:?}");
    assert!(!user.path("ran").exists());
    let accept = [&["ledger", "accept", "--because", "nothing is lost"], &url[..]].concat();
    assert_eq!(user.run(&accept).code, 0);
    assert_eq!(bid("a").code, 0);
    // What cannot be read tells nothing, and the doctor says so.
    for mark in user.marks().read_dir().unwrap() {
        fs::write(mark.unwrap().path(), "torn").unwrap();
    }
    let doctor = user.run(&[&["doctor", "--json"], &url[..]].concat());
    let found = objects(&doctor.stdout);
    let found = found.iter().find(|it| text(it, "check") == "marks").unwrap();
    assert_eq!(text(found, "severity"), "warning", "{found}");
    assert!(text(found, "found").contains("cannot be read"), "{found}");
}

#[test]
fn a_mark_that_cannot_be_read_is_told_once_by_each_call() {
    // L12
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "a", "true"]).code, 0);
    let tear = || {
        for mark in user.marks().read_dir().unwrap() {
            fs::write(mark.unwrap().path(), "torn").unwrap();
        }
    };
    let said = |stderr: &str| stderr.matches("warning: ").count();
    tear();
    let status = user.run(&["ledger", "status"]);
    assert_eq!((status.code, said(&status.stderr)), (0, 1), "{status:?}");
    assert!(status.stderr.contains("cannot be read"), "{status:?}");
    let status = &user.json(&["ledger", "status"])[0];
    assert!(text(status, "marks_unreadable").contains("cannot be read"), "{status}");
    let bid = user.run(&["bid", "upwork", "b", "true"]);
    assert_eq!((bid.code, said(&bid.stderr)), (0, 1), "{bid:?}");
    assert!(bid.stderr.contains("cannot be read"), "{bid:?}");
    // That bid has written it anew.
    let bid = user.run(&["bid", "upwork", "c", "true"]);
    assert_eq!((bid.code, said(&bid.stderr)), (0, 0), "{bid:?}");
    let status = user.run(&["ledger", "status"]);
    assert_eq!(said(&status.stderr), 0, "{status:?}");
    assert!(user.json(&["ledger", "status"])[0]["marks_unreadable"].is_null());
    tear();
    let bid = user.run(&["bid", "upwork", "d", "--json", "true"]);
    let object = &objects(&bid.stderr)[0];
    assert!(text(object, "marks_unreadable").contains("cannot be read"), "{bid:?}");
}
