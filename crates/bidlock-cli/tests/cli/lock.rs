use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::{Ran, User};

#[test]
fn the_commands_exit_code_is_passed_through() {
    let user = User::new();
    for (script, code) in [("exit 0", 0), ("exit 9", 9), ("kill -KILL $$", 137)] {
        assert_eq!(user.run(&["lock", "--key", "n", "--", "sh", "-c", script]).code, code);
    }
    assert_eq!(user.run(&["lock", "upwork", "j", "sh", "-c", "exit 4"]).code, 4);
}

#[test]
fn the_command_knows_its_lock_and_gets_standard_input() {
    let user = User::new();
    let script = "cat; echo $BIDLOCK_KEY; test $BIDLOCK_TOKEN -gt 0";
    let mut child = user
        .command(&["lock", "--key", "n", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "hello\nbid_lock::n\n"), "{ran:?}");
}

#[test]
fn a_lock_that_somebody_holds_is_busy() {
    let user = User::new();
    let holder = user.until_ready(&["lock", "--key", "n", "sh", "-c", "echo ready; sleep 60"]);
    let busy = user.run(&["lock", "-n", "--key", "n", "touch", "ran"]);
    assert_eq!(busy.code, 75, "{busy:?}");
    assert!(busy.stderr.contains("bid_lock::n") && busy.stderr.contains("hint:"), "{busy:?}");
    assert_eq!(user.run(&["lock", "--wait", "100ms", "--key", "n", "touch", "ran"]).code, 75);
    assert_eq!(user.run(&["lock", "-n", "-E", "3", "--key", "n", "touch", "ran"]).code, 3);
    assert!(!user.path("ran").exists());
    let locks = user.run(&["locks", "--json"]).stdout;
    assert!(locks.contains("\"key\":\"bid_lock::n\""), "{locks}");
    holder.signal(Signal::SIGTERM);
    assert_eq!(holder.end().code, 143);
    assert_eq!(user.run(&["lock", "-n", "--key", "n", "true"]).code, 0, "it is free again");
}

#[test]
fn a_lease_lives_between_calls() {
    let user = User::new();
    let taken = user.run(&["acquire", "--key", "n", "--ttl", "1m"]);
    let lease = taken.stdout.trim();
    assert_eq!(taken.code, 0, "{taken:?}");
    assert_eq!(user.run(&["acquire", "-n", "--key", "n"]).code, 75);
    assert_eq!(user.run(&["renew", "--key", "n", "--lease", lease]).code, 0);
    // I5: it keeps the minutes that it has.
    let renewed = user.run(&["renew", "--key", "n", "--lease", lease, "--ttl", "1s"]);
    assert!(renewed.stderr.contains("at least 1s"), "{renewed:?}");
    assert_eq!(user.run(&["renew", "--key", "n", "--lease", "h:1:0123456789abcdef"]).code, 76);
    assert_eq!(user.run(&["release", "--key", "n", "--lease", "h:1:0123456789abcdef"]).code, 76);
    assert_eq!(user.run(&["release", "--key", "n", "--lease", lease]).code, 0);
    assert_eq!(user.run(&["release", "--key", "n", "--lease", lease]).code, 76);
    assert_eq!(user.run(&["renew", "--key", "n", "--lease", lease]).code, 76);
    assert_eq!(user.run(&["release", "--key", "n", "--lease", "nonsense"]).code, 2);
}

#[test]
fn a_revoked_lock_stops_its_command() {
    let user = User::new();
    let script = "trap 'echo x > asked; exit 0' TERM; echo $$ > pid; echo ready; sleep 60 & wait";
    // Renewals tell of the revocation: a short TTL makes them frequent.
    let words = ["lock", "--key", "n", "--ttl", "3s", "sh", "-c", script];
    let holder = user.until_ready(&words);
    let locks = user.run(&["locks", "--json"]).stdout;
    let lock: serde_json::Value = serde_json::from_str(&locks).unwrap();
    let token = lock["token"].to_string();

    let other = ["revoke", "bid_lock::n", "--token", "1", "--because", "old"];
    let refused = user.run(&other);
    assert_eq!(refused.code, 76, "another token changes nothing: {refused:?}");
    assert!(refused.stderr.contains(&token), "{refused:?}");
    let words = ["revoke", "bid_lock::n", "--token", &token, "--because"];
    // What is said of it is refused before anything is done.
    for bad in ["a\nb", &"x".repeat(2_000)] {
        let refused = user.run(&[&words[..], &[bad]].concat());
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.contains("reason"), "{refused:?}");
        assert!(user.run(&["locks", "--json"]).stdout.contains("\"revoked\":false"));
    }
    let revoked = user.run(&[&words[..], &["stuck", "--json"]].concat());
    assert_eq!(revoked.code, 0, "{revoked:?}");
    let object: serde_json::Value = serde_json::from_str(&revoked.stdout).unwrap();
    assert!((1..=3_000).contains(&object["remaining_ms"].as_u64().unwrap()), "{object}");
    let ended = holder.end();
    assert_eq!(ended.code, 76, "{ended:?}");
    assert!(ended.stderr.contains("operator"), "{ended:?}");
    assert!(user.path("asked").exists() && !crate::runs(&user.path("pid")));
    let audit = user.run(&["audit"]).stdout;
    let acts: Vec<&str> =
        audit.lines().map(|line| line.split('\t').nth(2).unwrap()).rev().collect();
    // The act is kept before it is done, and its result after.
    assert_eq!(acts, ["revoke", "revoke_not_held", "revoke", "revoked_marked"], "{audit}");
    assert_eq!(audit.matches("stuck").count(), 2, "{audit}");
}

#[test]
fn a_lock_is_not_held_for_longer_than_allowed() {
    let user = User::new();
    let script = "echo $$ > pid; echo ready; sleep 60";
    let ran =
        user.until_ready(&["lock", "--key", "n", "--max-hold", "2s", "sh", "-c", script]).end();
    assert_eq!(ran.code, 76, "{ran:?}");
    assert!(!crate::runs(&user.path("pid")));
    assert_eq!(ran.stderr.matches("was lost").count(), 1, "once is enough: {ran:?}");
}

#[test]
fn a_holder_that_stood_still_past_its_lease_stops_its_command() {
    let user = User::new();
    let script = "echo ready; trap '' TERM; sleep 60; sleep 60";
    let holder = user.until_ready(&["lock", "--key", "n", "--ttl", "500ms", "sh", "-c", script]);
    holder.signal(Signal::SIGSTOP);
    let next = user.run(&["lock", "--key", "n", "--wait", "20s", "sh", "-c", "echo x > next"]);
    assert_eq!(next.code, 0, "{next:?}");
    holder.signal(Signal::SIGCONT);
    let ended = holder.end();
    assert_eq!(ended.code, 76, "{ended:?}");
    assert!(fs::exists(user.path("next")).unwrap());
}

#[test]
fn a_waiter_that_stood_still_past_its_turn_sends_nothing() {
    let user = User::new();
    let holder = user.until_ready(&["lock", "upwork", "j", "sh", "-c", "echo ready; sleep 60"]);
    let words = ["bid", "upwork", "j", "--wait", "1s", "--ttl", "500ms", "touch", "ran"];
    let waiting = user.command(&words).stderr(Stdio::piped()).spawn().unwrap();
    while !user.run(&["locks", "--json"]).stdout.contains("\"waiters\":1") {}
    let pid = nix::unistd::Pid::from_raw(waiting.id().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGSTOP).unwrap();
    holder.signal(Signal::SIGTERM);
    holder.end();
    // Its turn and its wait pass while it stands still.
    let next = user.run(&["lock", "upwork", "j", "--wait", "20s", "sleep", "1.2"]);
    assert_eq!(next.code, 0, "{next:?}");
    nix::sys::signal::kill(pid, Signal::SIGCONT).unwrap();
    let ended = Ran::from(waiting.wait_with_output().unwrap());
    assert!(ended.code == 75 || ended.code == 76, "{ended:?}");
    assert!(!user.path("ran").exists());
}

/// A command whose leader ends when it is asked to, and leaves a child that does not listen; the
/// child notes in `beats` that it still runs.
const LEAVES_A_STUBBORN_CHILD: &str = "sh -c 'trap \"\" TERM; echo $$ > child; \
     while :; do date +%s%N > beat; mv beat beats; sleep 0.02; done' & \
     trap 'exit 0' TERM; until test -s child; do sleep 0.01; done; echo ready; wait";

/// When the stubborn child last ran, in nanoseconds since 1970.
pub(crate) fn last_beat(user: &User) -> u128 {
    fs::read_to_string(user.path("beats")).unwrap().trim().parse().unwrap()
}

#[test]
fn what_the_command_leaves_behind_does_not_outlive_the_lease() {
    let user = User::new();
    let words = ["lock", "--key", "n", "--ttl", "1s", "--max-hold", "1s", "--", "sh", "-c"];
    let holder = user.until_ready(&[&words[..], &[LEAVES_A_STUBBORN_CHILD]].concat());
    let next = user.run(&["lock", "--key", "n", "--wait", "20s", "date", "+%s%N"]);
    assert_eq!(next.code, 0, "{next:?}");
    let ended = holder.end();
    assert_eq!(ended.code, 76, "{ended:?}");
    assert!(!crate::runs(&user.path("child")));
    let began: u128 = next.stdout.trim().parse().unwrap();
    // I2: of two under one lock, one has ended before the other begins.
    assert!(last_beat(&user) < began, "{} >= {began}", last_beat(&user));
}

#[test]
fn a_revocation_says_which_store_it_is_about() {
    let user = User::new();
    assert_eq!(user.run(&["acquire", "--key", "n"]).code, 0);
    let locks = user.run(&["locks", "--json"]).stdout;
    let lock: serde_json::Value = serde_json::from_str(&locks).unwrap();
    let token = lock["token"].to_string();
    let words = ["revoke", "bid_lock::n", "--token", &token, "--because", "x", "--now"];
    let freed = user.run(&words);
    assert_eq!(freed.code, 0, "{freed:?}");
    let file = user.path(".local/state/bidlock/bidlock.db");
    assert!(freed.stderr.contains(file.to_str().unwrap()), "{freed:?}");
    assert_eq!(user.run(&["acquire", "-n", "--key", "n"]).code, 0);
}
