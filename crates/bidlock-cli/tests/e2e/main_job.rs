//! The main job: a bid is placed once, and everybody is told how it went.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use bidlock_testkit::{Process, SubmissionLog};
use serde_json::Value;

use crate::{User, end, objects, pid_in, runs, text};

#[test]
fn the_first_call_bids_and_the_second_is_told_so() {
    let user = User::new();
    let words = ["bid", "upwork", "job_123", "--", "sh", "-c", "echo bid sent; echo x >> sent"];
    let first = user.run(&words);
    assert_eq!((first.code, first.stdout.as_str()), (0, "bid sent\n"), "{first:?}");
    let lines: Vec<&str> = first.stderr.lines().collect();
    assert!((2..=3).contains(&lines.len()), "{first:?}");
    assert_eq!(lines[0], "placed: upwork job_123");
    let file = user.database().display().to_string();
    assert!(first.stderr.contains(&file), "it says where it is kept: {first:?}");

    let bid = user.bids("job_123").remove(0);
    let (attempt, holder) = (text(&bid, "attempt"), text(&bid, "holder"));
    let second = user.run(&words);
    assert_eq!((second.code, second.stdout.as_str()), (10, ""), "{second:?}");
    assert!(second.stderr.starts_with("already bid: upwork job_123, "), "{second:?}");
    // When, by whom, and which attempt.
    let when = text(&bid, "decided_at");
    for part in [&when[..16], &holder, &attempt] {
        assert!(second.stderr.contains(part), "{part} is not in {}", second.stderr);
    }
    assert!((2..=3).contains(&second.stderr.lines().count()), "{second:?}");
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap(), "x\n");
    assert_eq!(user.bids("job_123"), [bid], "nothing has changed");
    assert!(user.json(&["locks"]).is_empty());
    // Another posting is another matter.
    assert_eq!(user.run(&["bid", "upwork", "job_124", "true"]).code, 0);
    assert_eq!(user.run(&["bid", "fiverr", "job_123", "true"]).code, 0);
}

#[test]
fn the_command_sees_what_it_needs() {
    let user = User::new();
    let script = "env | grep ^BIDLOCK_ | sort > seen";
    let words = ["bid", "upwork", "a b", "--submit-timeout", "30s", "--", "sh", "-c", script];
    assert_eq!(user.run(&words).code, 0);
    let seen = fs::read_to_string(user.path("seen")).unwrap();
    let pairs: Vec<(&str, &str)> = seen.lines().map(|line| line.split_once('=').unwrap()).collect();
    let names: Vec<&str> = pairs.iter().map(|(name, _)| *name).collect();
    let all = ["ATTEMPT_ID", "KEY", "MARKETPLACE", "POSTING", "SEND_BY", "TOKEN"];
    assert_eq!(names, all.map(|name| format!("BIDLOCK_{name}")));
    let bid = user.bids("a b").remove(0);
    assert_eq!(pairs[0].1, text(&bid, "attempt"));
    assert_eq!((pairs[1].1, pairs[2].1, pairs[3].1), ("bid_lock:upwork:a%20b", "upwork", "a b"));
    assert_eq!(pairs[4].1, text(&bid, "send_by"));
    assert_eq!(pairs[5].1, bid["token"].to_string());
    // An idempotency key as marketplaces take it: a random UUID.
    let id = pairs[0].1;
    let dashes: Vec<usize> = id.match_indices('-').map(|(at, _)| at).collect();
    assert_eq!((id.len(), dashes), (36, vec![8, 13, 18, 23]), "{id}");
    assert_eq!(&id[14..15], "4", "{id}");
    assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
}

#[test]
fn the_commands_exit_says_how_it_went() {
    let user = User::new();
    for (n, (script, code, state, head)) in [
        ("exit 0", 0, "placed", "placed: upwork "),
        ("exit 65", 12, "refused", "refused: upwork "),
        ("exit 75", 13, "abandoned", "not sent: upwork "),
        ("exit 1", 11, "unknown", "in doubt: upwork "),
        ("exit 2", 11, "unknown", "in doubt: upwork "),
        ("exit 127", 11, "unknown", "in doubt: upwork "),
        ("exit 255", 11, "unknown", "in doubt: upwork "),
        ("kill -TERM $$", 11, "unknown", "in doubt: upwork "),
        ("kill -KILL $$", 11, "unknown", "in doubt: upwork "),
    ]
    .into_iter()
    .enumerate()
    {
        let posting = format!("j{n}");
        let ran = user.run(&["bid", "upwork", &posting, "--", "sh", "-c", script]);
        assert_eq!(ran.code, code, "{script}: {ran:?}");
        assert!(ran.stderr.starts_with(head), "{script}: {ran:?}");
        assert_eq!(ran.stderr.contains("bidlock resolve"), code == 11, "{script}: {ran:?}");
        assert_eq!(user.states(&posting), [state], "{script}");
        // What a later call makes of it.
        let again = user.run(&["bid", "upwork", &posting, "--", "sh", "-c", "echo x >> again"]);
        let (expected, runs) = match code {
            0 | 12 => (10, false),
            13 => (0, true),
            _ => (11, false),
        };
        assert_eq!(again.code, expected, "{script}: {again:?}");
        assert_eq!(fs::remove_file(user.path("again")).is_ok(), runs, "{script}");
    }
    assert!(user.json(&["locks"]).is_empty(), "every lock was released");
}

#[test]
fn what_was_not_sent_is_tried_until_it_is_sent() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let script =
        format!("echo x >> tries; [ $(wc -l < tries) -lt 3 ] && exit 75; {}", log.shell_line());
    let codes: Vec<i32> =
        (0..4).map(|_| user.run(&["bid", "upwork", "j", "--", "sh", "-c", &script]).code).collect();
    assert_eq!(codes, [13, 13, 0, 10]);
    assert_eq!(log.all().unwrap().len(), 1);
    assert_eq!(user.states("j"), ["placed", "abandoned", "abandoned"]);
    let tokens: Vec<u64> =
        user.bids("j").iter().map(|bid| bid["token"].as_u64().unwrap()).collect();
    assert!(tokens.is_sorted_by(|newer, older| newer > older), "{tokens:?}");
}

#[test]
fn the_last_line_of_output_is_kept_as_the_reference() {
    let user = User::new();
    let reference = |posting: &str, script: &str| {
        let words = ["bid", "upwork", posting, "--reference-from-stdout", "--", "sh", "-c", script];
        let ran = user.run(&words);
        assert_eq!(ran.code, 0, "{ran:?}");
        (ran, user.bids(posting)[0]["reference"].clone())
    };
    let (ran, kept) = reference("a", "echo sending; echo ' ref-9 '; echo");
    assert_eq!((ran.stdout.as_str(), kept), ("sending\n ref-9 \n\n", Value::from("ref-9")));
    assert!(ran.stderr.contains("reference ref-9"), "{ran:?}");
    let (ran, kept) = reference("b", "printf no-newline");
    assert_eq!((ran.stdout.as_str(), kept), ("no-newline", Value::from("no-newline")));
    assert_eq!(reference("c", "echo on stderr >&2").1, Value::Null);
    let (ran, kept) = reference("d", "seq 1 200000");
    assert_eq!((ran.stdout.lines().count(), kept), (200_000, Value::from("200000")));
    // Without the option the output is the command's own affair.
    assert_eq!(user.run(&["bid", "upwork", "e", "echo", "secret"]).code, 0);
    assert_eq!(user.bids("e")[0]["reference"], Value::Null);
    let again = user.run(&["bid", "upwork", "a", "true"]);
    assert!(again.stderr.contains("ref-9"), "{again:?}");
}

#[test]
fn the_payload_is_fingerprinted() {
    let user = User::new();
    fs::write(user.path("bid.json"), "abc").unwrap();
    let words =
        ["bid", "upwork", "j", "--payload", "bid.json", "--", "sh", "-c", "echo >> bid.json"];
    assert_eq!(user.run(&words).code, 0);
    // SHA-256 of "abc": what was there at the start counts.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(text(&user.bids("j")[0], "payload"), format!("sha256:{digest}"));
    assert_eq!(user.run(&["bid", "upwork", "k", "true"]).code, 0);
    assert_eq!(user.bids("k")[0]["payload"], Value::Null);
}

#[test]
fn standard_input_is_the_commands() {
    let user = User::new();
    let mut command = user.command(&["-q", "bid", "upwork", "j", "--", "sh", "-c", "wc -c; cat"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all("x".repeat(100_000).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "100000");
    assert!(output.stderr.is_empty());
}

#[test]
fn options_may_stand_before_and_after_the_posting() {
    let user = User::new();
    for (n, words) in [
        &["bid", "--ttl", "30s", "--wait=0", "upwork", "J", "echo", "--ttl", "-x"][..],
        &["bid", "upwork", "J", "--ttl", "30s", "--wait", "0", "echo", "--ttl", "-x"],
        &["bid", "--ttl", "30s", "upwork", "--wait", "0", "J", "echo", "--ttl", "-x"],
        &["bid", "upwork", "J", "--ttl", "30s", "--wait", "0", "--", "echo", "--ttl", "-x"],
        &["--quiet", "bid", "upwork", "--no-wait", "J", "--", "echo", "--ttl", "-x"],
        &["bid", "-q", "-n", "--", "upwork", "J", "echo", "--ttl", "-x"],
    ]
    .iter()
    .enumerate()
    {
        let posting = format!("j{n}");
        let words: Vec<&str> =
            words.iter().map(|word| if *word == "J" { posting.as_str() } else { word }).collect();
        let ran = user.run(&words);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, "--ttl -x\n"), "{words:?}: {ran:?}");
        assert_eq!(
            ran.stderr.is_empty(),
            words.iter().any(|w| w.ends_with("-q") || w.ends_with("quiet"))
        );
    }
    // A command's own options, help and separators are passed on untouched.
    let ran =
        user.run(&["bid", "upwork", "k", "echo", "--help", "--", "-q", "--json", "--url", "x"]);
    assert_eq!(ran.stdout, "--help -- -q --json --url x\n", "{ran:?}");
    let ran = user.run(&["lock", "--key", "n", "--ttl", "30s", "echo", "--key", "m", "-n"]);
    assert_eq!(ran.stdout, "--key m -n\n", "{ran:?}");
    let ran = user.run(&["lock", "upwork", "j", "-n", "--", "echo", "x", "-E", "--", "5"]);
    assert_eq!(ran.stdout, "x -E -- 5\n", "{ran:?}");
}

#[test]
fn a_command_that_takes_too_long_is_stopped_and_in_doubt() {
    let user = User::new();
    let script = "echo $$ > pid; trap '' TERM; while :; do sleep 0.05; done";
    let words = ["bid", "upwork", "j", "--submit-timeout", "500ms", "--", "sh", "-c", script];
    let ran = user.run(&words);
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stderr.contains("send-by") && ran.stderr.contains("bidlock resolve upwork j"));
    assert!(!runs(pid_in(&user.path("pid"))));
    assert_eq!(user.states("j"), ["unknown"]);
    let bid = user.bids("j").remove(0);
    assert!(text(&bid, "send_by") > text(&bid, "started_at"), "{bid}");
    // One that stops when it is asked to has said nothing either.
    let script = "trap 'exit 0' TERM; while :; do sleep 0.02; done";
    let words = ["bid", "upwork", "k", "--submit-timeout", "500ms", "--", "sh", "-c", script];
    assert_eq!(user.run(&words).code, 11);
    assert_eq!(user.states("k"), ["unknown"]);
    // Only «refused» is believed of one that was asked to stop.
    let script = "trap 'exit 65' TERM; while :; do sleep 0.02; done";
    let words = ["bid", "upwork", "l", "--submit-timeout", "500ms", "--", "sh", "-c", script];
    assert_eq!(user.run(&words).code, 12);
}

/// A moment so long ago, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
pub(crate) fn ago(hours: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    (now.as_secs() - hours * 3_600).to_string()
}

#[test]
fn a_posting_seen_too_long_ago_is_left_alone() {
    let user = User::new();
    let bid = |posting: &str, hours: u64, more: &[&str]| {
        let seen_at = ago(hours);
        let words = ["bid", "upwork", posting, "--seen-at", &seen_at];
        user.run(&[&words[..], more, &["touch", "ran"]].concat())
    };
    for (hours, more) in [(25, &[][..]), (2, &["--max-age", "1h"]), (2, &["--max-age", "1ms"])] {
        let stale = bid("j", hours, more);
        assert_eq!((stale.code, stale.stdout.as_str()), (14, ""), "{stale:?}");
        assert!(stale.stderr.starts_with("stale: "), "{stale:?}");
        assert!(stale.stderr.contains(&format!("{hours}h")) || hours > 24, "{stale:?}");
        assert!(stale.stderr.contains("--max-age"), "{stale:?}");
    }
    let words = ["bid", "upwork", "j", "--seen-at", "2026-01-01T00:00:00Z", "touch", "ran"];
    assert_eq!(user.run(&words).code, 14);
    assert!(!user.path("ran").exists() && user.json(&["bids"]).is_empty());
    assert_eq!(bid("j", 23, &[]).code, 0);
    assert_eq!(bid("k", 25, &["--max-age", "26h"]).code, 0);
    // What was decided comes before staleness.
    assert_eq!(bid("k", 25, &[]).code, 10);
}

#[test]
fn who_waits_bids_when_the_lock_is_free() {
    let user = User::new();
    let script = "touch held; until [ -e go ]; do sleep 0.02; done";
    let holder = user.start_until("held", &["lock", "upwork", "j", "sh", "-c", script]);
    for words in [
        &["bid", "upwork", "j", "--wait", "0", "touch", "ran"][..],
        &["bid", "upwork", "j", "-n", "touch", "ran"],
        &["bid", "upwork", "j", "--wait", "50ms", "touch", "ran"],
    ] {
        let busy = user.run(words);
        assert_eq!((busy.code, busy.stdout.as_str()), (75, ""), "{busy:?}");
        assert!(busy.stderr.contains("bid_lock:upwork:j") && busy.stderr.contains("hint:"));
    }
    let waiter = user.start(&["bid", "upwork", "j", "--wait", "forever", "touch", "ran"]);
    bidlock_testkit::wait_until("it waits", crate::SOON, || {
        user.json(&["locks"])[0]["waiters"] == 1
    });
    assert!(!user.path("ran").exists() && user.json(&["bids"]).is_empty());
    fs::write(user.path("go"), "").unwrap();
    assert_eq!(end(holder).code, 0);
    let ended = end(waiter);
    assert_eq!((ended.code, user.path("ran").exists()), (0, true), "{ended:?}");
}

#[test]
fn results_are_objects_for_programs() {
    let user = User::new();
    let one = |words: &[&str]| {
        let ran = user.run(&[&["--json", "bid", "upwork"], words].concat());
        let objects = objects(&ran.stderr);
        assert_eq!(objects.len(), 1, "{ran:?}");
        assert_eq!(objects[0]["code"], ran.code);
        (ran.code, text(&objects[0], "result"), ran.stdout, objects[0].clone())
    };
    let (code, result, stdout, object) = one(&["j", "echo", "sent"]);
    assert_eq!((code, result.as_str(), stdout.as_str()), (0, "placed", "sent\n"));
    assert_eq!(object["attempt"], user.bids("j")[0]["attempt"]);
    assert_eq!((one(&["j", "true"]).0, one(&["j", "true"]).1.as_str()), (10, "already_placed"));
    assert_eq!(one(&["r", "sh", "-c", "exit 65"]).1, "refused");
    assert_eq!(one(&["r", "true"]).1, "refused");
    assert_eq!(one(&["n", "sh", "-c", "exit 75"]).0, 13);
    assert_eq!(one(&["u", "false"]).1, "unknown");
    assert_eq!(one(&["u", "true"]).1, "in_doubt");
    assert_eq!(one(&["s", "--seen-at", &ago(25), "true"]).1, "stale");
}

#[test]
fn neither_a_lock_nor_a_ledger_in_memory_does() {
    let user = User::new();
    for words in [
        ["bid", "--url", "memory:", "upwork", "j", "touch", "ran"].as_slice(),
        &["bid", "--ledger-url", "memory:", "upwork", "k", "touch", "ran"],
        &["lock", "--url", "memory:", "--key", "k", "touch", "ran"],
        &["acquire", "--url", "memory:", "--key", "k"],
    ] {
        let ran = user.run(words);
        assert_eq!(ran.code, 78, "nobody else would be kept out: {ran:?}");
    }
    assert!(!user.path("ran").exists());
}

#[test]
fn a_command_finds_itself_by_the_name_it_was_called() {
    let user = User::new();
    let line = format!(
        "{} -q bid upwork j bash -c 'echo $0 $*; pwd' name a 'b  c'",
        env!("CARGO_BIN_EXE_bidlock")
    );
    let ran = end(Process::spawn(user.program("sh").args(["-c", &line])).unwrap());
    let here = fs::canonicalize(user.path("")).unwrap();
    assert_eq!(ran.stdout, format!("name a b c\n{}\n", here.display()), "{ran:?}");
}
