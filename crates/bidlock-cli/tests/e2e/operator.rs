//! What operators look at, and what they decide.

use std::fs;

use bidlock_testkit::wait_until;

use crate::{SOON, User, end, pid_in, text};

/// Bids with a command that ends like this; returns the exit code of bidlock.
fn bid(user: &User, posting: &str, script: &str) -> i32 {
    user.run(&["bid", "upwork", posting, "--submit-timeout", "1s", "--", "sh", "-c", script]).code
}

#[test]
fn doubt_is_ended_after_the_send_by_and_not_before() {
    for (outcome, state, code) in [
        (&["--placed", "R-1"][..], "placed", 10),
        (&["--refused"], "refused", 10),
        (&["--not-sent"], "abandoned", 0),
    ] {
        let user = User::new();
        let words = ["bid", "upwork", "j", "--submit-timeout", "24h", "--", "sh", "-c", "exit 3"];
        assert_eq!(user.run(&words).code, 11);
        let words = [&["resolve", "upwork", "j", "--because", "looked"], outcome].concat();
        // L6: the sender itself has said that it does not know, but it may be seen only later.
        let lag = user.run(&[&words[..], &["--visibility-lag", "1h"]].concat());
        if state == "placed" {
            // A bid that was found waits for nothing.
            assert_eq!(lag.code, 0, "{lag:?}");
            assert_eq!(user.states("j"), ["placed"]);
        } else {
            assert_eq!(lag.code, 11, "{lag:?}");
            assert!(lag.stderr.contains("allowed from 20"), "it says when: {lag:?}");
            assert_eq!(user.states("j"), ["unknown"], "{outcome:?}");
            assert!(user.json(&["audit"]).is_empty(), "what was refused is not in the audit");
        }

        let user = User::new();
        assert_eq!(bid(&user, "j", "exit 3"), 11);
        let done = user.resolve("j", outcome);
        assert_eq!(done.code, 0, "{outcome:?}: {done:?}");
        assert_eq!(user.states("j"), [state]);
        let audit = user.json(&["audit"]);
        assert_eq!(audit.len(), 1, "{audit:?}");
        assert_eq!(text(&audit[0], "because"), "looked");
        assert_eq!(audit[0]["attempt"], user.bids("j")[0]["attempt"]);
        // A second word changes nothing.
        let again = user.run(&words);
        assert!(matches!(again.code, 2 | 10), "{again:?}");
        assert_eq!(user.json(&["audit"]).len(), 1);
        let next = user.run(&["bid", "upwork", "j", "true"]);
        assert_eq!(next.code, code, "{outcome:?}: {next:?}");
    }
}

#[test]
fn the_same_words_twice_end_the_doubt_about_one_attempt() {
    let user = User::new();
    assert_eq!(bid(&user, "j", "exit 3"), 11);
    let first = text(&user.bids("j")[0], "attempt");
    // Two operators look at the first attempt; one is faster, and another bid follows.
    assert_eq!(user.resolve("j", &["--not-sent", "--attempt", &first]).code, 0);
    assert_eq!(bid(&user, "j", "exit 3"), 11);
    let second = text(&user.bids("j")[0], "attempt");
    let late = user.resolve("j", &["--not-sent", "--attempt", &first]);
    assert_eq!(late.code, 11, "{late:?}");
    assert!(late.stderr.contains(&format!("open now: {second}")), "{late:?}");
    let unnamed = user.resolve("j", &["--not-sent"]);
    assert_eq!(unnamed.code, 2, "{unnamed:?}");
    let said = format!("say which: --attempt ID (the open one is {second})");
    assert!(unnamed.stderr.contains(&said), "{unnamed:?}");
    assert_eq!(user.states("j"), ["unknown", "abandoned"]);
    let done = user.resolve("j", &["--not-sent", "--attempt", &second, "--visibility-lag", "0"]);
    assert_eq!(done.code, 0, "{done:?}");
    // What could not be seen, and how long was waited, is said.
    for said in ["visibility lag 0ms", "BIDLOCK_ATTEMPT_ID", "using "] {
        assert!(done.stderr.contains(said), "{said}: {done:?}");
    }
    let none = user.resolve("j", &["--not-sent", "--attempt", &second]);
    assert_eq!(none.code, 2, "{none:?}");
    assert!(none.stderr.contains("no attempt is open; the last one"), "{none:?}");
    for words in [&["withdraw", "upwork", "j"][..], &["reopen", "upwork", "j", "--because", "x"]] {
        let none = user.run(words);
        assert_eq!(none.code, 2, "{none:?}");
        assert!(none.stderr.contains(&second) && none.stderr.contains("using "), "{none:?}");
    }
    for bad in [&["--sender-is-gone"][..], &["--refused", "--sender-is-gone"]] {
        let usage = user.run(&[&["resolve", "upwork", "j", "--because", "x"], bad].concat());
        assert_eq!(usage.code, 2, "{usage:?}");
    }
}

#[test]
fn a_bid_under_way_cannot_be_resolved() {
    let user = User::new();
    let script = "echo $$ > pid; until [ -e go ]; do sleep 0.02; done";
    let words = ["bid", "upwork", "j", "--", "sh", "-c", script];
    let running = user.start_until("pid", &words);
    for outcome in [&["--placed", "R"][..], &["--refused"], &["--not-sent"]] {
        let words = [&["resolve", "upwork", "j", "--because", "x"], outcome].concat();
        let refused = user.run(&words);
        assert_eq!(refused.code, 11, "{refused:?}");
        let pid = pid_in(&user.path("pid")).to_string();
        assert!(refused.stderr.contains(&pid) && refused.stderr.contains("hint:"), "{refused:?}");
    }
    assert_eq!(user.states("j"), ["started"]);
    fs::write(user.path("go"), "").unwrap();
    assert_eq!(end(running).code, 0);
    assert_eq!(user.states("j"), ["placed"]);
}

#[test]
fn a_reason_and_one_outcome_are_required() {
    let user = User::new();
    assert_eq!(bid(&user, "j", "exit 3"), 11);
    for (words, missing) in [
        (&["resolve", "upwork", "j", "--not-sent"][..], "--because"),
        (&["resolve", "upwork", "j", "--because", "x"], "--placed"),
        (&["resolve", "upwork", "j", "--placed", "R", "--refused", "--because", "x"], "--refused"),
        (&["resolve", "upwork", "j", "--placed", "", "--because", "x"], "--placed"),
        (&["resolve", "upwork", "j", "--not-sent", "--because", ""], "--because"),
        (&["reopen", "upwork", "j"], "--because"),
        (&["revoke", "bid_lock::n", "--token", "1"], "--because"),
        (&["revoke", "bid_lock::n", "--because", "x"], "--token"),
    ] {
        let ran = user.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(missing), "{words:?}: {ran:?}");
    }
    assert_eq!(user.states("j"), ["unknown"]);
    assert!(user.json(&["audit"]).is_empty());
}

#[test]
fn what_is_not_there_is_not_changed() {
    let user = User::new();
    for words in [
        &["resolve", "upwork", "never", "--not-sent", "--because", "x"][..],
        &["withdraw", "upwork", "never"],
        &["reopen", "upwork", "never", "--because", "x"],
    ] {
        let ran = user.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("upwork never"), "{words:?}: {ran:?}");
    }
    assert!(user.json(&["bids"]).is_empty() && user.json(&["audit"]).is_empty());
}

#[test]
fn a_bid_is_withdrawn_reopened_and_placed_again() {
    let user = User::new();
    let reopen = ["reopen", "upwork", "j", "--because", "the client asked again"];
    assert_eq!(bid(&user, "j", "echo x >> sent"), 0);
    assert_eq!(user.run(&reopen).code, 10, "a placed bid is withdrawn first");
    assert_eq!(user.run(&["withdraw", "upwork", "j", "--because", "too cheap"]).code, 0);
    assert_eq!(user.states("j"), ["withdrawn"]);
    let told = user.run(&["bid", "upwork", "j", "touch", "ran"]);
    assert_eq!(told.code, 10, "{told:?}");
    assert!(told.stderr.starts_with("already withdrawn: upwork j, "), "{told:?}");
    assert_eq!(user.run(&reopen).code, 0);
    assert_eq!(bid(&user, "j", "echo x >> sent"), 0);
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap(), "x\nx\n");
    assert!(!user.path("ran").exists());
    // L7: nothing of it is forgotten.
    let events: Vec<String> = user
        .json(&["bids", "upwork", "j", "--history"])
        .iter()
        .map(|entry| text(entry, "event"))
        .collect();
    let whole = ["reserved", "started", "placed", "withdrawn", "reopened"];
    assert_eq!(events, [&whole[..], &whole[..3]].concat());
    let acts: Vec<String> = user.json(&["audit"]).iter().map(|act| text(act, "act")).collect();
    assert_eq!(acts.len(), 2, "{acts:?}");
    assert!(acts.contains(&"withdraw".to_owned()) && acts.contains(&"reopen".to_owned()));
    // A refused one needs no withdrawal.
    assert_eq!(bid(&user, "k", "exit 65"), 12);
    assert_eq!(user.run(&["withdraw", "upwork", "k"]).code, 10);
    assert_eq!(user.run(&["reopen", "upwork", "k", "--because", "x"]).code, 0);
    assert_eq!(bid(&user, "k", "exit 0"), 0);
}

#[test]
fn bids_are_filtered_by_marketplace_posting_and_state() {
    let user = User::new();
    assert_eq!(bid(&user, "a", "exit 0"), 0);
    assert_eq!(bid(&user, "b", "exit 65"), 12);
    assert_eq!(bid(&user, "c", "exit 75"), 13);
    assert_eq!(bid(&user, "d", "exit 1"), 11);
    assert_eq!(user.run(&["bid", "fiverr", "a", "true"]).code, 0);
    let postings = |words: &[&str]| {
        let bids = user.json(&[&["bids"], words].concat());
        let name = |bid| format!("{}/{}", text(bid, "marketplace"), text(bid, "posting"));
        let mut names: Vec<String> = bids.iter().map(name).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(postings(&[]), ["fiverr/a", "upwork/a", "upwork/b", "upwork/c", "upwork/d"]);
    assert_eq!(postings(&["fiverr"]), ["fiverr/a"]);
    assert_eq!(postings(&["upwork", "b"]), ["upwork/b"]);
    assert_eq!(postings(&["freelancer"]), [] as [&str; 0]);
    assert_eq!(postings(&["--state", "placed"]), ["fiverr/a", "upwork/a"]);
    assert_eq!(postings(&["upwork", "--state", "placed"]), ["upwork/a"]);
    assert_eq!(postings(&["--state", "refused"]), ["upwork/b"]);
    assert_eq!(postings(&["--state", "abandoned"]), ["upwork/c"]);
    assert_eq!(postings(&["--state", "unknown"]), ["upwork/d"]);
    assert_eq!(postings(&["--state", "reserved"]), [] as [&str; 0]);
    assert_eq!(postings(&["--limit", "2"]).len(), 2);
    assert_eq!(user.run(&["bids", "--state", "sent"]).code, 2);
    assert_eq!(user.run(&["bids", "--limit", "0"]).code, 2);
    for field in ["marketplace", "posting", "attempt", "state", "reserved_at", "started_at"] {
        text(&user.bids("a")[0], field);
    }
    assert!(user.bids("a")[0]["token"].as_u64().unwrap() > 0);
}

#[test]
fn locks_are_listed_with_who_waits_and_never_with_what_releases_them() {
    let user = User::new();
    assert!(user.json(&["locks"]).is_empty());
    let lease = user.run(&["acquire", "upwork", "j", "--ttl", "1m", "--label", "deploy 7"]);
    assert_eq!(lease.code, 0, "{lease:?}");
    let waiter = user.start(&["lock", "upwork", "j", "--wait", "forever", "true"]);
    wait_until("it waits", SOON, || user.json(&["locks"])[0]["waiters"] == 1);
    let lock = user.json(&["locks"]).remove(0);
    assert_eq!(text(&lock, "key"), "bid_lock:upwork:j");
    assert_eq!(text(&lock, "label"), "deploy 7");
    assert!(lock["token"].as_u64().unwrap() > 0 && lock["age_ms"].as_u64().is_some());
    assert!((1..=60_000).contains(&lock["remaining_ms"].as_u64().unwrap()), "{lock}");
    // Whoever knows the whole id can release it.
    let secret = lease.stdout.trim();
    for words in [&["locks"][..], &["locks", "--json"], &["bids"]] {
        let shown = user.run(words);
        assert!(!shown.stdout.contains(secret) && !shown.stderr.contains(secret), "{shown:?}");
    }
    assert!(user.json(&["locks", "--marketplace", "fiverr"]).is_empty());
    assert_eq!(user.json(&["locks", "--marketplace", "upwork"]).len(), 1);
    assert_eq!(user.run(&["release", "upwork", "j", "--lease", secret]).code, 0);
    assert_eq!(end(waiter).code, 0, "the waiter's turn");
    assert!(user.json(&["locks"]).is_empty());
}

#[test]
fn locks_are_watched_until_a_signal() {
    let user = User::new();
    assert_eq!(user.run(&["acquire", "--key", "first"]).code, 0);
    let mut watch = user.start(&["locks", "--watch", "--every", "100ms", "--json"]);
    wait_until("the first look", SOON, || watch.stdout().contains("bid_lock::first"));
    assert_eq!(user.run(&["acquire", "--key", "second"]).code, 0);
    wait_until("a later look", SOON, || watch.stdout().contains("bid_lock::second"));
    assert!(watch.ended().unwrap().is_none());
    watch.interrupt().unwrap();
    let ended = end(watch);
    // By the signal itself or as a shell would say it: not as a success, and without a fuss.
    assert!(matches!(ended.code, 130 | 1002), "{ended:?}");
    assert!(!ended.stderr.contains("error"), "{ended:?}");
    crate::objects(&ended.stdout);
}
