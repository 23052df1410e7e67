//! Files that are no export, not a whole one, or not one that a ledger has written.

use std::fs;

use super::{import, made};
use crate::{User, objects, text};

/// What `ledger import` says of a file, which must change nothing.
fn refused(user: &User, content: &[u8]) -> String {
    fs::write(user.path("bad.jsonl"), content).unwrap();
    let ran = import(user, "bad.jsonl", "sqlite:b.db");
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{ran:?}");
    let failure = objects(&ran.stderr).pop().unwrap();
    assert_eq!(text(&failure, "kind"), "bad_export");
    assert!(!text(&failure, "hint").is_empty());
    assert!(!user.path("b.db").exists(), "nothing is made for it");
    text(&failure, "message")
}

#[test]
fn what_is_no_whole_export_is_refused_by_its_line_before_anything_is_changed() {
    let user = User::new();
    made::export(&user, "good.jsonl", 30);
    let good = fs::read_to_string(user.path("good.jsonl")).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let join = |lines: &[&str]| lines.join("\n") + "\n";
    let swap = |line: usize, from: &str, to: &str| {
        assert!(lines[line].contains(from), "{from} in {}", lines[line]);
        let changed = lines[line].replacen(from, to, 1);
        let mut lines = lines.clone();
        lines[line] = &changed;
        join(&lines)
    };
    let last = lines.len() - 1;
    let mut doubled = lines.clone();
    doubled.insert(3, lines[3]);
    let mut gap = lines.clone();
    gap.remove(7);
    let mut audit_first = lines.clone();
    audit_first
        .insert(1, "{\"audit\":{\"at_us\":1,\"actor\":\"a\",\"act\":\"x\",\"because\":\"b\"}}");
    for (content, line, said) in [
        (String::new(), 1, "it is empty"),
        ("hello\n".to_owned(), 1, "no export of a ledger"),
        ("{}\n".to_owned(), 1, "no export of a ledger"),
        (join(&lines[1..]), 1, "no export of a ledger"),
        (swap(0, "\"bidlock_ledger\":1", "\"bidlock_ledger\":2"), 1, "format 2"),
        (swap(0, "\"bidlock_ledger\":1", "\"bidlock_ledger\":\"x\""), 1, "no export"),
        (join(&lines[..1]), 2, "its end is missing"),
        (join(&lines[..20]), 21, "its end is missing: it was cut off, after 19 postings"),
        (good[..good.len() / 2].to_owned(), 0, "EOF while parsing"),
        (join(&gap), last as u64, "29 postings"),
        (join(&doubled), 5, "not in order, or one is there twice"),
        (join(&audit_first), 3, "a posting follows the audit"),
        (format!("{good}\n"), last as u64 + 2, "something follows the end"),
        (format!("{good}{}\n", lines[1]), last as u64 + 2, "something follows the end"),
        (swap(4, "\"state\":\"unknown\"", "\"state\":\"lost\""), 5, "state \"lost\""),
        (swap(4, "\"event\":\"doubted\"", "\"event\":\"dreamt\""), 5, "event \"dreamt\""),
        (swap(4, "\"holder\"", "\"owner\""), 5, "unknown field `owner`"),
        (swap(4, "\"token\":", "\"token\":\"x\",\"t\":"), 5, "invalid type"),
        (swap(4, "\"token\":1", "\"token\":9"), 5, "2^52"),
        (swap(4, "sha256:", "sha1:"), 5, "payload fingerprint"),
        (swap(4, "-4000-8000-", "-0000-8000-"), 5, "attempt id"),
        (swap(4, "\"upwork\"", "\"Up work\""), 5, "marketplace"),
        (swap(4, "\"posting\":\"job_0000003\"", "\"posting\":\" x\""), 5, "posting id"),
        (swap(4, "\"posting\":\"job_0000003\"", "\"posting\":\"e\u{301}\""), 5, "NFC"),
        (swap(4, "\"attempts\":[", "\"attempts\":[],\"attempts\":["), 5, "duplicate field"),
        (swap(12, "\"state\":\"abandoned\"", "\"state\":\"placed\""), 13, "L1"),
        (good.replace("{\"end\"", "{\"fin\""), last as u64 + 1, "unknown variant `fin`"),
    ] {
        let message = refused(&user, content.as_bytes());
        assert!(message.contains(said), "{said}: {message}");
        let place = format!("bad.jsonl, line {line}:");
        assert!(line == 0 || message.starts_with(&place), "{place} {message}");
    }
    let mut bytes = good.into_bytes();
    bytes[2_000] = 0xff;
    assert!(refused(&user, &bytes).contains("line 3: "));
    assert!(refused(&user, &[0x1f, 0x8b, 8, 0, 0]).contains("no export of a ledger"));
}

#[test]
fn a_file_that_cannot_be_read_twice_is_refused_and_standard_input_is_taken_as_far_as_it_goes() {
    let user = User::new();
    made::export(&user, "good.jsonl", 300);
    for file in [".", "/dev/null", "no-such-file"] {
        let ran = import(&user, file, "sqlite:b.db");
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.stderr.contains(file) && !user.path("b.db").exists(), "{ran:?}");
    }
    let cut = "head -n 201 good.jsonl | \"$BIDLOCK\" ledger import --ledger-url sqlite:b.db --json";
    let mut shell = user.program("sh");
    let ran =
        shell.args(["-c", cut]).env("BIDLOCK", env!("CARGO_BIN_EXE_bidlock")).output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("standard input, line 202: its end is missing"), "{said}");
    assert!(said.contains("run the same again"), "{said}");
    let whole = import(&user, "good.jsonl", "sqlite:b.db");
    assert_eq!(whole.code, 0, "{whole:?}");
    let taken = &objects(&whole.stdout)[0];
    assert_eq!(
        (taken["postings"].as_u64(), taken["postings_known"].as_u64()),
        (Some(100), Some(200))
    );
}

#[test]
fn a_dry_run_checks_all_of_it_and_changes_nothing() {
    let user = User::new();
    made::export(&user, "good.jsonl", 300);
    let words = ["ledger", "import", "good.jsonl", "--dry-run", "--ledger-url", "sqlite:b.db"];
    let ran = user.run(&words);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("sound: 300 postings and 3 lines"), "{ran:?}");
    assert!(!user.path("b.db").exists());
    let good = fs::read_to_string(user.path("good.jsonl")).unwrap();
    fs::write(user.path("good.jsonl"), &good[..good.len() - 10]).unwrap();
    assert_eq!(user.run(&words).code, 2);
}

#[test]
fn bad_words_about_the_ledger_are_refused() {
    let user = User::new();
    for (words, code, said) in [
        (&["ledger"][..], 2, "Usage"),
        (&["ledger", "drop"], 2, "unrecognized"),
        (&["ledger", "export", "--overwrite"], 2, "FILE"),
        (&["ledger", "prune", "--yes", "--dry-run"], 2, "cannot be used with"),
        (&["ledger", "prune", "--older-than", "90"], 2, "unit is missing"),
        (&["ledger", "prune", "--older-than=-90d"], 2, "not negative"),
        (&["ledger", "prune", "--older-than", "0"], 2, "between 1s"),
        (&["ledger", "prune", "--older-than", "6d", "--yes"], 2, "needs a reason"),
        (&["ledger", "accept", "--because="], 2, "--because"),
        (&["ledger", "status", "--ledger-url", "redis://h"], 78, "not the ledger"),
        (&["ledger", "status", "--ledger-url", "memory:"], 78, "outlive"),
    ] {
        let ran = user.run(words);
        assert_eq!(ran.code, code, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(said), "{words:?}: {ran:?}");
    }
    assert!(!user.database().exists(), "nothing is made for a bad word");
    assert!(user.run(&["help", "ledger"]).stdout.contains("export"));
    assert!(user.run(&["help", "ledger", "prune"]).stdout.contains("--older-than"));
    assert_eq!(user.run(&["help", "ledger", "nonsense"]).code, 2);
}
