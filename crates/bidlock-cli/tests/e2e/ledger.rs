//! The ledger as a whole: taken along, forgotten on purpose, restored from an older copy.

mod bad_files;
mod copies;
pub(crate) mod made;
mod pages;
mod prune;

use std::fs;

use crate::{Ran, SOON, User, end_within, objects, text};

/// Leaves one posting in each state that real bids and operators bring about.
pub(crate) fn every_state(user: &User) {
    let bid = |posting: &str, script: &str| {
        let words =
            ["bid", "upwork", posting, "--submit-timeout", "30s", "--reference-from-stdout"];
        user.run(&[&words[..], &["--", "sh", "-c", script]].concat()).code
    };
    let by_hand = |words: &[&str]| {
        let done = user.run(&[words, &["--because", "looked"]].concat());
        assert_eq!(done.code, 0, "{words:?}: {done:?}");
    };
    assert_eq!(bid("placed", "echo R-1"), 0);
    assert_eq!(bid("späť 🚀", "echo R-2"), 0);
    assert_eq!(bid("refused", "exit 65"), 12);
    assert_eq!(bid("unknown", "exit 3"), 11);
    assert_eq!(bid("not sent", "exit 75"), 13);
    assert_eq!(bid("withdrawn", "echo R-3"), 0);
    by_hand(&["withdraw", "upwork", "withdrawn"]);
    assert_eq!(bid("again", "exit 65"), 12);
    by_hand(&["reopen", "upwork", "again"]);
    assert_eq!(bid("again", "echo R-4"), 0);
    assert_eq!(bid("found", "exit 3"), 11);
    by_hand(&["resolve", "upwork", "found", "--placed", "R-5"]);
    assert_eq!(user.run(&["bid", "fiverr", "placed", "true"]).code, 0);
}

/// All that a ledger says of its postings, in an order of its own.
pub(crate) fn told(user: &User, ledger: &str) -> Vec<String> {
    let read = |words: &[&str]| {
        let mut words = words.to_vec();
        words.extend(["--ledger-url", ledger]);
        user.json(&words)
    };
    let bids = read(&["bids", "--all"]);
    let mut lines: Vec<String> = bids.iter().map(ToString::to_string).collect();
    for bid in &bids {
        let (marketplace, posting) = (text(bid, "marketplace"), text(bid, "posting"));
        for mut entry in read(&["bids", &marketplace, &posting, "--history"]) {
            entry["seq"] = 0.into();
            lines.push(entry.to_string());
        }
    }
    for mut entry in read(&["audit"]) {
        entry["seq"] = 0.into();
        if text(&entry, "act") != "import" {
            lines.push(entry.to_string());
        }
    }
    lines.sort();
    lines.dedup();
    lines
}

pub(crate) fn import(user: &User, file: &str, ledger: &str) -> Ran {
    let words = ["ledger", "import", file, "--ledger-url", ledger, "--json"];
    end_within(user.start(&words), 5 * SOON)
}

/// The postings of an export: what is between its head and its audit.
pub(crate) fn postings(user: &User, file: &str) -> Vec<String> {
    let text = fs::read_to_string(user.path(file)).unwrap();
    text.lines().filter(|line| line.starts_with("{\"posting\"")).map(str::to_owned).collect()
}

#[test]
fn an_export_is_imported_without_loss() {
    let user = User::new();
    every_state(&user);
    let source = format!("sqlite://{}", user.database().display());
    assert_eq!(user.run(&["ledger", "export", "all.jsonl"]).code, 0);
    let done = import(&user, "all.jsonl", "sqlite:other.db");
    assert_eq!(done.code, 0, "{done:?}");
    let taken = &objects(&done.stdout)[0];
    assert_eq!(
        (taken["postings"].as_u64(), taken["audit"].as_u64()),
        (Some(9), Some(3)),
        "{taken}"
    );
    assert_eq!(told(&user, "sqlite:other.db"), told(&user, &source));
    let counts = |ledger: &str| {
        let mut words = vec!["ledger", "status"];
        words.extend(["--ledger-url", ledger]);
        user.json(&words).remove(0)["counts"].clone()
    };
    assert_eq!(counts("sqlite:other.db"), counts(&source));
    assert_eq!(counts(&source)["placed"], 5, "{}", counts(&source));
    // Another bidder on the new ledger finds every posting as it was.
    for (posting, code) in [("placed", 10), ("späť 🚀", 10), ("unknown", 11), ("not sent", 0)] {
        let bid = ["bid", "upwork", posting, "--ledger-url", "sqlite:other.db", "true"];
        assert_eq!(user.run(&bid).code, code, "{posting}");
    }
    let again = import(&user, "all.jsonl", "sqlite:third.db");
    assert_eq!(again.code, 0, "{again:?}");
    for _ in 0..2 {
        let known = import(&user, "all.jsonl", "sqlite:third.db");
        let known = &objects(&known.stdout)[0];
        assert_eq!(
            (known["postings"].as_u64(), known["postings_known"].as_u64()),
            (Some(0), Some(9))
        );
        assert_eq!(known["audit_known"].as_u64(), Some(3));
    }
    let export = ["ledger", "export", "third.jsonl", "--ledger-url", "sqlite:third.db"];
    assert_eq!(user.run(&export).code, 0);
    assert_eq!(postings(&user, "third.jsonl"), postings(&user, "all.jsonl"));
}

#[test]
fn an_export_goes_to_standard_output_and_comes_from_standard_input() {
    let user = User::new();
    every_state(&user);
    let pipe = "\"$BIDLOCK\" ledger export | \"$BIDLOCK\" ledger import --ledger-url sqlite:b.db";
    let mut shell = user.program("sh");
    shell.args(["-c", pipe]).env("BIDLOCK", env!("CARGO_BIN_EXE_bidlock"));
    let done = shell.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("imported 9 postings and 3 lines of the audit"), "{said}");
    let source = format!("sqlite://{}", user.database().display());
    assert_eq!(told(&user, "sqlite:b.db"), told(&user, &source));
}

#[test]
fn an_export_takes_its_name_when_it_is_complete_and_replaces_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let user = User::new();
    every_state(&user);
    fs::write(user.path("kept.jsonl"), "mine").unwrap();
    let refused = user.run(&["ledger", "export", "kept.jsonl"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("there already") && refused.stderr.contains("--overwrite"));
    assert_eq!(fs::read_to_string(user.path("kept.jsonl")).unwrap(), "mine");
    assert_eq!(user.run(&["ledger", "export", "kept.jsonl", "--overwrite"]).code, 0);
    assert_eq!(postings(&user, "kept.jsonl").len(), 9);
    let mode = fs::metadata(user.path("kept.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let missing = user.run(&["ledger", "export", "no/such/folder.jsonl"]);
    assert!(missing.code == 2 && missing.stderr.contains("folder.jsonl"), "{missing:?}");
    // Neither a pipe nor a folder is put out of the way.
    let fifo = user.program("mkfifo").arg("pipe").status().unwrap();
    assert!(fifo.success());
    fs::create_dir(user.path("folder")).unwrap();
    for place in ["pipe", "folder"] {
        let odd = user.run(&["ledger", "export", place, "--overwrite"]);
        assert_eq!(odd.code, 2, "{odd:?}");
        assert!(odd.stderr.contains("is no regular file"), "{odd:?}");
    }
    let mut shell = user.program("sh");
    let line = "\"$BIDLOCK\" ledger export > /dev/full";
    let full =
        shell.args(["-c", line]).env("BIDLOCK", env!("CARGO_BIN_EXE_bidlock")).output().unwrap();
    assert_eq!(full.status.code(), Some(69), "{full:?}");
    assert!(!user.path("kept.jsonl.part").exists());
}

#[test]
fn status_says_which_ledger_it_is_and_what_is_in_it() {
    let user = User::new();
    every_state(&user);
    let status = &user.json(&["ledger", "status"])[0];
    assert_eq!(text(status, "endpoint"), format!("sqlite://{}", user.database().display()));
    assert_eq!(text(status, "id").len(), 36);
    assert!(status["schema"].as_u64().unwrap() >= 2);
    for (state, count) in
        [("placed", 5), ("refused", 1), ("unknown", 1), ("withdrawn", 1), ("abandoned", 2)]
    {
        assert_eq!(status["counts"][state], count, "{state}: {status}");
    }
    assert_eq!(text(&status["oldest_doubt"], "posting"), "unknown");
    for nothing in ["restored", "accepted_at", "pruned_before"] {
        assert!(status[nothing].is_null(), "{status}");
    }
    let shown = user.run(&["ledger", "status"]).stdout;
    assert!(shown.contains("unknown\t1\n") && shown.contains("restored\tno\n"), "{shown}");
    let schema = status["schema"].clone();
    let known = &user.json(&["ledger", "migrate"])[0];
    assert_eq!((&known["from"], &known["to"]), (&schema, &schema));
    let fresh = &user.json(&["ledger", "migrate", "--ledger-url", "sqlite:new.db"])[0];
    assert_eq!((fresh["from"].is_null(), &fresh["to"]), (true, &schema));
}
