//! `bidlock` as the parent of a command: signals, process groups, exit codes, revocation.

use std::fs;

use bidlock_testkit::{SubmissionLog, wait_until};
use nix::sys::signal::Signal;

use crate::{Ran, SOON, User, end, pid_in, runs, signal, text};

/// A command with a child and a grandchild, one of which hears no TERM.
const FAMILY: &str = "sh -c 'trap \"\" TERM HUP INT QUIT; echo $$ > deaf; \
     while :; do sleep 1000; done' & \
     sh -c 'sh -c \"echo \\$\\$ > grandchild; exec sleep 1000\"; :' & \
     echo $$ > parent; \
     until [ -s deaf ] && [ -s grandchild ]; do sleep 0.02; done; touch ready; \
     while :; do wait; done";

fn family(user: &User) -> Vec<i32> {
    ["parent", "deaf", "grandchild"].iter().map(|name| pid_in(&user.path(name))).collect()
}

/// Nothing that this user started still runs.
fn nothing_is_left(user: &User) {
    assert_eq!(user.processes(), [] as [i32; 0], "processes are left behind");
}

#[test]
fn term_while_the_command_runs_stops_all_of_it_and_leaves_a_doubt() {
    let user = User::new();
    let words = ["bid", "upwork", "j", "--ttl", "2s", "--", "sh", "-c", FAMILY];
    let bid = user.start_until("ready", &words);
    let family = family(&user);
    assert!(family.iter().all(|pid| runs(*pid)));
    bid.terminate().unwrap();
    let ended = end(bid);
    // L4: whoever was signalled cannot vouch for nothing having been sent.
    assert_eq!(ended.code, 11, "{ended:?}");
    assert!(ended.stderr.contains("SIGTERM"), "{ended:?}");
    assert!(ended.stderr.contains("bidlock resolve upwork j"), "{ended:?}");
    assert!(!family.iter().any(|pid| runs(*pid)), "{family:?}");
    nothing_is_left(&user);
    let bids = user.bids("j");
    assert_eq!(text(&bids[0], "state"), "unknown");
    assert!(!bids[0]["decided_at"].is_null(), "the outcome is recorded, not left to its send-by");
    assert!(user.json(&["locks"]).is_empty(), "the lock is released");
    let again = user.run(&["bid", "upwork", "j", "touch", "ran"]);
    assert_eq!((again.code, user.path("ran").exists()), (11, false), "{again:?}");
}

#[test]
fn the_lock_is_renewed_while_a_deaf_command_is_being_stopped() {
    let user = User::new();
    // The command needs longer to stop than the lock lives.
    let script = "trap 'sleep 1.5; touch stopped; exit 0' TERM; touch ready; \
                  while :; do sleep 0.05; done";
    let words = ["lock", "--key", "n", "--ttl", "600ms", "--", "sh", "-c", script];
    let holder = user.start_until("ready", &words);
    let next = user.start(&["lock", "--key", "n", "--wait", "50s", "sh", "-c", "ls > seen"]);
    wait_until("the next one waits", SOON, || user.json(&["locks"])[0]["waiters"] == 1);
    holder.terminate().unwrap();
    assert_eq!(end(holder).code, 0, "the command's own exit code");
    let next = end(next);
    assert_eq!(next.code, 0, "{next:?}");
    let seen = fs::read_to_string(user.path("seen")).unwrap();
    assert!(seen.contains("stopped"), "the next one began before the first had ended: {seen}");
}

#[test]
fn every_signal_that_asks_to_stop_reaches_the_command() {
    for asks in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        let user = User::new();
        let script = "for s in TERM INT HUP QUIT; do trap \"echo $s >> heard; exit 42\" $s; done; \
                      touch ready; while :; do sleep 0.02; done";
        let holder = user.start_until("ready", &["lock", "--key", "n", "--", "sh", "-c", script]);
        signal(&holder, asks);
        let ended = end(holder);
        assert_eq!(ended.code, 42, "{asks}: {ended:?}");
        let heard = fs::read_to_string(user.path("heard")).unwrap();
        assert_eq!(format!("SIG{}", heard.trim()), asks.as_str());
        assert!(user.json(&["locks"]).is_empty(), "{asks}: the lock is released");
        nothing_is_left(&user);
    }
}

#[test]
fn a_signal_while_it_waits_ends_it_without_a_trace() {
    let user = User::new();
    let script = "touch held; sleep 1000";
    let holder = user.start_until("held", &["lock", "upwork", "j", "sh", "-c", script]);
    let waiters = || user.json(&["locks"])[0]["waiters"].as_u64().unwrap();
    for words in [
        &["bid", "upwork", "j", "--wait", "forever", "touch", "ran"][..],
        &["lock", "upwork", "j", "--wait", "forever", "touch", "ran"],
        &["acquire", "upwork", "j", "--wait", "forever"],
    ] {
        for (asks, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
            let waiting = user.start(words);
            wait_until("it waits", SOON, || waiters() == 1);
            signal(&waiting, asks);
            let ended = end(waiting);
            assert_eq!(ended.code, code, "{words:?} {asks}: {ended:?}");
            assert!(ended.stderr.contains(asks.as_str()), "{ended:?}");
            // I11
            assert_eq!((waiters(), ended.stdout.as_str()), (0, ""), "{words:?} {asks}");
        }
    }
    assert!(!user.path("ran").exists());
    assert!(user.json(&["bids"]).is_empty(), "nothing was reserved");
    holder.terminate().unwrap();
    assert_eq!(end(holder).code, 143);
    assert!(user.json(&["locks"]).is_empty());
}

#[test]
fn lock_passes_the_commands_end_through() {
    let user = User::new();
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 75", 75),
        ("exit 76", 76),
        ("exit 255", 255),
        ("kill -TERM $$", 143),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
    ] {
        let ran = user.run(&["-q", "lock", "--key", "n", "--", "sh", "-c", script]);
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (code, "", ""),
            "{script}"
        );
    }
    let script = "touch held; sleep 1000";
    let _holder = user.start_until("held", &["lock", "--key", "n", "sh", "-c", script]);
    let busy = |words: &[&str]| user.run(&[words, &["--key", "n", "touch", "ran"]].concat()).code;
    assert_eq!(busy(&["lock", "-n"]), 75);
    assert_eq!(busy(&["lock", "-n", "-E", "0"]), 0);
    assert_eq!(busy(&["lock", "--wait", "50ms", "-E", "42"]), 42);
    assert_eq!(busy(&["lock", "--wait=0", "--conflict-exit-code=1"]), 1);
    assert_eq!(busy(&["lock", "-n", "-E", "256"]), 2);
    assert!(!user.path("ran").exists());
}

#[test]
fn what_a_command_leaves_behind_is_ended_with_it() {
    let user = User::new();
    let script = "sh -c 'trap \"\" TERM HUP; echo $$ > left; while :; do sleep 1000; done' & \
                  until [ -s left ]; do sleep 0.02; done; exit 5";
    let ran = user.run(&["lock", "--key", "n", "--", "sh", "-c", script]);
    assert_eq!(ran.code, 5, "{ran:?}");
    assert!(!runs(pid_in(&user.path("left"))));
    nothing_is_left(&user);
    let bid =
        user.run(&["bid", "upwork", "j", "--", "sh", "-c", &script.replace("exit 5", "exit 0")]);
    assert_eq!(bid.code, 0, "{bid:?}");
    nothing_is_left(&user);
}

/// The token of the one lock that is held.
fn token(user: &User) -> String {
    user.json(&["locks"])[0]["token"].to_string()
}

fn revoke(user: &User, token: &str, more: &[&str]) -> Ran {
    let words = ["revoke", "bid_lock::n", "--token", token, "--because", "host is gone"];
    user.run(&[&words[..], more].concat())
}

#[test]
fn a_revoked_holder_stops_its_command() {
    let user = User::new();
    let words = ["lock", "--key", "n", "--ttl", "1s", "--", "sh", "-c", FAMILY];
    let holder = user.start_until("ready", &words);
    let family = family(&user);
    let token = token(&user);

    let stale: u64 = token.parse::<u64>().unwrap() - 1;
    let refused = revoke(&user, &stale.to_string(), &[]);
    assert_eq!(refused.code, 76, "{refused:?}");
    assert!(refused.stderr.contains(&token), "it says what is there: {refused:?}");
    assert!(refused.stderr.contains("nothing was changed"), "{refused:?}");
    // I12: exact. The holder goes on, and the audit says that nothing was done.
    assert!(family.iter().all(|pid| runs(*pid)));
    assert_eq!(user.json(&["locks"])[0]["revoked"], false);
    assert_eq!(text(&user.json(&["audit"])[0], "act"), "revoke_not_held");

    let revoked = revoke(&user, &token, &[]);
    assert_eq!(revoked.code, 0, "{revoked:?}");
    let ended = end(holder);
    assert_eq!(ended.code, 76, "{ended:?}");
    assert!(ended.stderr.contains("operator") && ended.stderr.contains("stopped"), "{ended:?}");
    assert!(!family.iter().any(|pid| runs(*pid)));
    nothing_is_left(&user);
    assert_eq!(user.run(&["lock", "-n", "--key", "n", "true"]).code, 0, "it is free");

    let audit = user.json(&["audit"]);
    assert_eq!(audit.len(), 4, "{audit:?}");
    assert_eq!(text(&audit[0], "act"), "revoked_marked");
    assert_eq!(text(&audit[1], "act"), "revoke");
    assert_eq!(text(&audit[0], "because"), "host is gone");
    assert_eq!(audit[0]["token"].to_string(), token);
    assert!(text(&audit[0], "actor").contains('@'), "{audit:?}");
}

#[test]
fn a_key_that_is_revoked_now_is_free_at_once() {
    let user = User::new();
    let script = "touch held; trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let words = ["lock", "--key", "n", "--ttl", "1s", "--", "sh", "-c", script];
    let holder = user.start_until("held", &words);
    holder.stop().unwrap();
    let old = token(&user);
    assert_eq!(revoke(&user, &old, &["--now"]).code, 0);
    let next = user.run(&["lock", "-n", "--key", "n", "sh", "-c", "echo $BIDLOCK_TOKEN"]);
    assert_eq!(next.code, 0, "{next:?}");
    assert!(next.stdout.trim().parse::<u64>().unwrap() > old.parse().unwrap());
    holder.go_on().unwrap();
    assert_eq!(end(holder).code, 76);
    assert_eq!(text(&user.json(&["audit"])[1], "act"), "revoke_now");
    assert_eq!(revoke(&user, &old, &["--now"]).code, 76, "nobody has that token any more");
    assert_eq!(text(&user.json(&["audit"])[0], "act"), "revoke_not_held");
}

#[test]
fn a_bid_whose_lock_is_revoked_after_its_start_is_sent_all_the_same() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let script = format!("touch ready; until [ -e go ]; do sleep 0.02; done; {}", log.shell_line());
    let words = ["bid", "upwork", "j", "--ttl", "600ms", "--", "sh", "-c", &script];
    let bid = user.start_until("ready", &words);
    let words = ["revoke", "bid_lock:upwork:j", "--token", &token(&user), "--because", "x"];
    assert_eq!(user.run(&words).code, 0);
    wait_until("the holder gives it up", SOON, || user.json(&["locks"]).is_empty());
    // The lock is anybody's now, the posting is not: the ledger protects it.
    let other = user.run(&["bid", "upwork", "j", "sh", "-c", &log.shell_line()]);
    assert_eq!(other.code, 11, "{other:?}");
    fs::write(user.path("go"), "").unwrap();
    let ended = end(bid);
    assert_eq!((ended.code, log.all().unwrap().len()), (0, 1), "{ended:?}");
    assert_eq!(user.states("j"), ["placed"]);
}

#[test]
fn the_command_of_a_killed_bidlock_stands_against_a_resolution() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let script = format!(
        "echo $$ > pid; touch ready; until [ -e go ]; do sleep 0.02; done; {}",
        log.shell_line()
    );
    let words = ["bid", "upwork", "j", "--submit-timeout", "300ms", "--", "sh", "-c", &script];
    let bid = user.start_until("ready", &words);
    bid.kill().unwrap();
    assert_eq!(end(bid).code, 1009);
    wait_until("the send-by", SOON, || user.states("j") == ["unknown"]);
    let refused = user.run(&["resolve", "upwork", "j", "--not-sent", "--because", "x"]);
    assert_eq!(refused.code, 11, "{refused:?}");
    let pid = pid_in(&user.path("pid"));
    assert!(refused.stderr.contains(&pid.to_string()), "it names the process: {refused:?}");
    assert!(user.json(&["audit"]).is_empty());
    fs::write(user.path("go"), "").unwrap();
    wait_until("it ends by itself", SOON, || !runs(pid));
    // L6
    assert_eq!(user.resolve("j", &["--placed", "R-1"]).code, 0);
    assert_eq!((user.states("j"), log.all().unwrap().len()), (vec!["placed".to_owned()], 1));
}
