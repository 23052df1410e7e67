//! Looking at a lock store: health, doctor, cleanup and bench.

use std::process::Stdio;

use bidlock_testkit::wait_until;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{Ran, Running, User};

/// Nobody may listen there but the system, and no system does.
const CLOSED: &str = "redis://:s3cret@127.0.0.1:1";

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_doctor_says_of_a_file_that_it_answers() {
    let user = User::new();
    let ran = user.run(&["doctor", "--strict", "--ttl", "1s"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lines: Vec<Vec<&str>> = ran.stdout.lines().map(|l| l.split('\t').collect()).collect();
    assert!(!lines.is_empty());
    for line in &lines {
        assert_eq!((line.len(), line[0], line[3], line[4]), (5, "good", "", ""), "{ran:?}");
    }
    assert!(ran.stdout.contains("bidlock.db answers: sqlite 3."), "{ran:?}");
    assert!(ran.stderr.trim_end().ends_with("0 warnings, 0 failures"), "{ran:?}");
    assert_eq!(user.run(&["doctor", "-q"]).stderr, "");

    let ran = user.run(&["doctor", "--json"]);
    for finding in objects(&ran.stdout) {
        let object = finding.as_object().unwrap();
        let fields: Vec<&String> = object.keys().collect();
        assert_eq!(fields, ["check", "found", "mend", "severity", "store", "why"]);
    }
    assert_eq!(objects(&ran.stderr)[0]["failures"], 0, "{ran:?}");
}

#[test]
fn a_warning_fails_where_that_is_asked_for() {
    let user = User::new();
    let doctor = |more: &[&str]| user.run(&[&["doctor", "--url", "memory:"], more].concat());
    let ran = doctor(&[]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("warning\tsharing\t"), "{ran:?}");
    let strict = doctor(&["--strict", "-q"]);
    assert_eq!((strict.code, strict.stdout.as_str()), (78, ran.stdout.as_str()));
    assert!(strict.stderr.contains("1 warning,"), "it did not go well: {strict:?}");
    assert_eq!(objects(&doctor(&["--strict", "--json"]).stderr)[0]["code"], 78);
}

#[test]
fn a_doctor_fails_as_any_command_would_on_the_same_store() {
    let user = User::new();
    std::fs::create_dir(user.path("folder")).unwrap();
    let folder = format!("sqlite://{}", user.path("folder").display());
    for (url, code) in [(folder.as_str(), 78), (CLOSED, 69)] {
        for json in [&[][..], &["--json"], &["-vv"]] {
            let ran = user.run(&[&["doctor", "--url", url], json].concat());
            assert_eq!(ran.code, code, "{url}: {ran:?}");
            assert!(ran.stdout.contains("failure"), "{ran:?}");
            assert!(ran.stderr.contains("failure"), "{ran:?}");
            assert!(!format!("{ran:?}").contains("s3cret"), "{ran:?}");
        }
        let health = user.run(&["health", "--url", url, "--ledger-url", "sqlite:ok.db"]);
        assert_eq!(health.code, code, "{health:?}");
        assert!(!format!("{health:?}").contains("s3cret"), "{health:?}");
    }
}

#[test]
fn rights_are_for_stores_that_have_users_and_nothing_is_contacted() {
    let user = User::new();
    let ran = user.run(&["doctor", "--acl"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (78, ""), "{ran:?}");
    assert!(ran.stderr.contains("has no users") && ran.stderr.contains("hint:"), "{ran:?}");
    assert!(!user.path(".local").exists(), "no store was opened");
    for words in [&["--acl", "--strict"][..], &["--acl", "--ttl", "5s"], &["--ttl", "0"]] {
        assert_eq!(user.run(&[&["doctor"], words].concat()).code, 2, "{words:?}");
    }
}

#[test]
fn where_everything_ends_by_itself_there_is_nothing_to_clean_up() {
    let user = User::new();
    assert_eq!(user.run(&["acquire", "upwork", "j"]).code, 0);
    let yes = ["cleanup", "--yes", "--because", "tidy"];
    for words in [&["cleanup"][..], &yes, &["cleanup", "--url", "memory:"], &["cleanup", "--json"]]
    {
        let ran = user.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{words:?}: {ran:?}");
        let said = ran.stderr.contains("everything in ") && ran.stderr.contains("ends by itself");
        assert_eq!(said, !words.contains(&"--json"), "{ran:?}");
    }
    assert!(user.run(&["locks"]).stdout.contains("bid_lock:upwork:j"), "a live lease stays");
    assert_eq!(user.run(&["audit", "--json"]).stdout, "", "nothing was done");
    for bad in [&["--yes"][..], &["--because", "x"], &["--yes", "--because", ""]] {
        let ran = user.run(&[&["cleanup"], bad].concat());
        assert_eq!(ran.code, 2, "{bad:?}: {ran:?}");
    }
}

#[test]
fn a_bench_measures_and_leaves_nothing() {
    let user = User::new();
    assert_eq!(user.run(&["acquire", "upwork", "j"]).code, 0);
    for store in ["sqlite:x.db", "memory:"] {
        let words = ["bench", "--seconds", "1", "--tasks", "3", "--json", "--url", store];
        let ran = user.run(&words);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
        let [bench] = &objects(&ran.stdout)[..] else { panic!("{ran:?}") };
        for (part, tasks) in [("one_task", 1), ("many_tasks", 3)] {
            let part = &bench[part];
            assert_eq!(part["tasks"], tasks, "{bench}");
            for field in ["cycles", "cycles_per_s", "cycle_p50_us", "cycle_p99_us"] {
                assert!(part[field].as_u64().unwrap() > 0, "{field}: {bench}");
            }
            assert!(part["cycle_p50_us"].as_u64() <= part["cycle_p99_us"].as_u64(), "{bench}");
        }
        let hand_overs = bench["hand_over"]["hand_overs"].as_u64().unwrap();
        assert!(hand_overs >= 8 && hand_overs % 8 == 0, "{bench}");
        assert!(bench["idle"]["asks"].as_u64().unwrap() >= 1, "{bench}");
        assert_eq!(bench["idle"]["wait_ms"], 1_000, "{bench}");
    }
    assert_eq!(user.run(&["locks", "--json", "--url", "sqlite:x.db"]).stdout, "");
    let own = user.run(&["locks", "--json"]).stdout;
    assert_eq!(objects(&own).len(), 1, "what others hold is not touched: {own}");
}

#[test]
fn a_bench_that_is_interrupted_leaves_at_most_what_ends_soon() {
    let user = User::new();
    let mut command = user.command(&["bench", "--seconds", "60"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running = Running { child };
    let soon = std::time::Duration::from_mins(1);
    wait_until("it takes locks", soon, || {
        let locks = user.run(&["locks", "--json"]);
        locks.stdout.contains("bid_lock::bench-")
    });
    running.signal(Signal::SIGINT);
    let ended: Ran = running.end();
    assert_eq!((ended.code, ended.stdout.as_str()), (1002, ""), "{ended:?}");
    for lock in objects(&user.run(&["locks", "--json"]).stdout) {
        assert!(lock["remaining_ms"].as_u64().unwrap() <= 10_000, "{lock}");
    }
}

#[test]
fn a_bench_of_a_store_that_is_not_there_is_69() {
    let user = User::new();
    let ran = user.run(&["bench", "--url", CLOSED]);
    assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{ran:?}");
    assert!(ran.stderr.contains("cannot reach") && !ran.stderr.contains("s3cret"), "{ran:?}");
    for bad in [&["--seconds", "0"][..], &["--seconds", "61"], &["--tasks", "0"]] {
        assert_eq!(user.run(&[&["bench"], bad].concat()).code, 2, "{bad:?}");
    }
}
