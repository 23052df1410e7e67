//! Doubts that a command settles which asks the marketplace.

use std::fs;

use bidlock_testkit::wait_until;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{Ran, SOON, User, end, objects, pid_in, runs, signal, text};

/// Leaves a doubt whose send-by has passed.
pub(crate) fn doubt(user: &User, posting: &str) -> String {
    let words = ["bid", "upwork", posting, "--submit-timeout", "100ms", "--payload", "bid.txt"];
    fs::write(user.path("bid.txt"), "our bid").unwrap();
    let bid = user.run(&[&words[..], &["--", "sh", "-c", "exit 3"]].concat());
    assert_eq!(bid.code, 11, "{bid:?}");
    let attempt = text(&user.bids(posting)[0], "attempt");
    // Each look is a process of its own, so this is no busy loop.
    wait_until("the send-by", SOON, || {
        user.run(&["reconcile", "--dry-run", "--visibility-delay", "0"]).stdout.contains(&attempt)
    });
    attempt
}

/// Asks about all doubts at once, by a shell's words.
fn ask(user: &User, script: &str) -> Ran {
    user.run(&["reconcile", "--visibility-delay", "0", "--json", "--", "sh", "-c", script])
}

/// What came of one attempt, by its last line.
fn result(ran: &Ran) -> Value {
    let mut told = objects(&ran.stdout);
    let report = told.pop().unwrap();
    assert!(report["report"].is_object(), "{ran:?}");
    told.pop().unwrap()
}

#[test]
fn a_bid_that_is_found_is_placed_and_the_command_is_told_everything() {
    let user = User::new();
    let attempt = doubt(&user, "job 1");
    let script = "env | grep '^BIDLOCK_' | sort > env.txt; cat > question.json; echo found R-1";
    let ran = ask(&user, script);
    assert_eq!(ran.code, 0, "{ran:?}");
    let told = result(&ran);
    for (field, value) in
        [("result", "placed"), ("answer", "found"), ("state", "placed"), ("reference", "R-1")]
    {
        assert_eq!(text(&told, field), value);
    }
    let question = fs::read_to_string(user.path("question.json")).unwrap();
    let question = &objects(&question)[0];
    assert_eq!(text(question, "attempt"), attempt);
    assert_eq!(text(question, "posting"), "job 1");
    assert!(text(question, "payload").starts_with("sha256:"));
    assert!(text(question, "send_by") > text(question, "started_at"));
    let events: Vec<String> =
        question["history"].as_array().unwrap().iter().map(|e| text(e, "event")).collect();
    assert_eq!(events, ["reserved", "started", "unknown"]);
    let environment = fs::read_to_string(user.path("env.txt")).unwrap();
    let payload = text(question, "payload");
    for line in [
        format!("BIDLOCK_ATTEMPT_ID={attempt}"),
        "BIDLOCK_MARKETPLACE=upwork".to_owned(),
        "BIDLOCK_POSTING=job 1".to_owned(),
        format!("BIDLOCK_PAYLOAD={payload}"),
    ] {
        assert!(environment.lines().any(|known| known == line), "{line}: {environment}");
    }
    let audit = &user.json(&["audit"])[0];
    assert_eq!(
        (text(audit, "actor"), text(audit, "act")),
        ("reconciler".into(), "resolve_placed".into())
    );
    assert!(user.json(&["locks"]).is_empty());
    let again = ask(&user, "touch asked; echo found R-2");
    assert_eq!((again.code, user.path("asked").exists()), (0, false), "nothing is left to ask");
}

#[test]
fn a_refusal_is_kept_and_what_is_not_found_stays_in_doubt() {
    let user = User::new();
    doubt(&user, "j");
    for (script, answer) in [
        ("echo not-found", "not_found"),
        ("echo cannot-tell HTTP 503", "cannot_tell"),
        ("echo '{\"answer\":\"not-found\"}'", "not_found"),
    ] {
        let ran = ask(&user, script);
        assert_eq!((ran.code, text(&result(&ran), "answer").as_str()), (11, answer), "{ran:?}");
        assert_eq!(user.states("j"), ["unknown"]);
        assert_eq!(user.run(&["bid", "upwork", "j", "touch", "ran"]).code, 11);
    }
    let line = "read question; echo refused the job is closed";
    let words = ["reconcile", "--visibility-delay", "0", "--reconcile-with", line];
    let ran = user.run(&words);
    assert_eq!(ran.code, 0, "{ran:?}");
    let fields: Vec<&str> = ran.stdout.trim_end().split('\t').collect();
    assert_eq!(fields[..3], ["upwork", "j", "refused"]);
    assert!(ran.stderr.contains("1 asked, 1 settled; 0 in doubt"), "{ran:?}");
    assert_eq!(user.states("j"), ["refused"]);
    assert!(user.run(&["audit"]).stdout.contains("the job is closed"));
    assert!(!user.path("ran").exists());
}

#[test]
fn whatever_is_no_answer_settles_nothing_and_is_told() {
    let user = User::new();
    doubt(&user, "j");
    for (script, told) in [
        ("echo found R-1; exit 1", "exited with 1; it said \\\"found R-1\\\""),
        ("echo found R-1; kill -9 $$", "ended by SIGKILL"),
        ("echo found", "no answer that is understood"),
        ("echo found R-1; echo found R-2", "more than one line"),
        ("true", "it said nothing"),
        ("echo '{\"answer\":\"found\"'", "no answer that is understood"),
        ("head -c 1000000 /dev/zero | tr '\\0' x", "longer than an answer"),
        ("printf 'found \\377\\376'", "no UTF-8"),
    ] {
        let ran = ask(&user, script);
        assert_eq!(ran.code, 11, "{script}: {ran:?}");
        assert!(ran.stdout.contains(told), "{script}: {ran:?}");
        assert_eq!(user.states("j"), ["unknown"], "{script}");
    }
    assert_eq!(user.json(&["bids", "upwork", "j", "--history"]).len(), 3);
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_its_group() {
    let user = User::new();
    doubt(&user, "a");
    doubt(&user, "b");
    let script = "if [ $BIDLOCK_POSTING = b ]; then echo found R-b; exit; fi; trap '' TERM
                  sleep 1000 & echo $! > sleeps; echo $$ > shell; echo thinking; wait; sleep 1000";
    let words = ["reconcile", "--visibility-delay", "0", "--ask-timeout", "1s", "--json", "--"];
    let ran = user.run(&[&words[..], &["sh", "-c", script]].concat());
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stdout.contains("no answer within 1s; it said \\\"thinking\\\""), "{ran:?}");
    for file in ["sleeps", "shell"] {
        let pid = pid_in(&user.path(file));
        wait_until("it is gone", SOON, || !runs(pid));
    }
    assert_eq!(
        (user.states("a"), user.states("b")),
        (vec!["unknown".into()], vec!["placed".into()])
    );
}

#[test]
fn a_dry_run_lists_and_asks_nothing() {
    let user = User::new();
    let attempt = doubt(&user, "j");
    let young = user.run(&["reconcile", "--dry-run"]);
    assert_eq!((young.code, young.stdout.as_str()), (11, ""), "{young:?}");
    assert!(young.stderr.contains("0 would be asked about, 1 are too young"), "{young:?}");
    let words = ["reconcile", "--dry-run", "--visibility-delay", "0", "--json"];
    let due = user.run(&words);
    assert_eq!((due.code, text(&objects(&due.stdout)[0], "attempt")), (11, attempt));
    let other = user.run(&[&words[..], &["--marketplace", "fiverr"]].concat());
    assert_eq!((other.code, other.stdout.as_str()), (0, ""), "{other:?}");
    assert_eq!(user.states("j"), ["unknown"]);
}

#[test]
fn it_asks_again_and_again_until_it_is_told_to_stop() {
    let user = User::new();
    doubt(&user, "a");
    let script = "[ -e answer-$BIDLOCK_POSTING ] || { echo not-found; exit; }
                  echo found R-$BIDLOCK_POSTING";
    let words =
        ["reconcile", "--visibility-delay", "0", "--every", "100ms", "--", "sh", "-c", script];
    let mut daemon = user.start(&words);
    wait_until("a look", SOON, || daemon.stdout().contains("not_found"));
    fs::write(user.path("answer-a"), "").unwrap();
    wait_until("an answer", SOON, || user.states("a") == ["placed"]);
    fs::write(user.path("answer-b"), "").unwrap();
    let bid = ["bid", "upwork", "b", "--submit-timeout", "100ms", "--", "sh", "-c", "exit 3"];
    assert_eq!(user.run(&bid).code, 11);
    wait_until("a later doubt", SOON, || user.states("b") == ["placed"]);
    assert!(daemon.ended().unwrap().is_none());
    signal(&daemon, Signal::SIGTERM);
    let ended = end(daemon);
    assert_eq!(ended.code, 0, "{ended:?}");
}

#[test]
fn a_signal_ends_it_in_the_middle_of_a_question() {
    for (more, code) in [(&[][..], 143), (&["--every", "1h"], 0)] {
        let user = User::new();
        doubt(&user, "a");
        doubt(&user, "b");
        let words = ["reconcile", "--visibility-delay", "0"];
        let script = "echo x >> asked; echo $$ > shell; sleep 1000; echo found R-1";
        let words = [&words[..], more, &["--", "sh", "-c", script]].concat();
        let round = user.start_until("shell", &words);
        let shell = pid_in(&user.path("shell"));
        signal(&round, Signal::SIGTERM);
        let ended = end(round);
        assert_eq!(ended.code, code, "{ended:?}");
        wait_until("the command is gone", SOON, || !runs(shell));
        assert_eq!(fs::read_to_string(user.path("asked")).unwrap(), "x\n", "no other is asked");
        assert!(user.json(&["bids", "--state", "unknown"]).len() == 2);
        assert!(user.json(&["locks"]).is_empty(), "the lock is given back");
    }
}

#[test]
fn several_at_once_ask_each_question_once() {
    let user = User::new();
    let postings: Vec<String> = (0..5).map(|n| format!("job_{n}")).collect();
    for posting in &postings {
        doubt(&user, posting);
    }
    let script = "mkdir asks-$BIDLOCK_POSTING || echo $BIDLOCK_POSTING >> twice
                  echo $BIDLOCK_POSTING >> asked; sleep 0.1; rmdir asks-$BIDLOCK_POSTING
                  echo found R-$BIDLOCK_POSTING";
    let words = ["reconcile", "--visibility-delay", "0", "--", "sh", "-c", script];
    let rounds: Vec<_> = (0..3).map(|_| user.start(&words)).collect();
    for round in rounds {
        let ended = end(round);
        assert!(matches!(ended.code, 0 | 11), "{ended:?}");
    }
    let mut asked: Vec<String> =
        fs::read_to_string(user.path("asked")).unwrap().lines().map(str::to_owned).collect();
    asked.sort();
    assert_eq!(asked, postings);
    assert!(!user.path("twice").exists());
    assert!(user.json(&["bids", "--state", "unknown"]).is_empty());
}

#[test]
fn a_refusal_waits_for_a_command_that_may_still_send() {
    // L6: bidlock was killed, its command lives.
    let user = User::new();
    let words = ["bid", "upwork", "j", "--submit-timeout", "300ms", "--ttl", "300ms", "--"];
    let script = "echo $$ > sender; sleep 1000";
    let bid = user.start_until("sender", &[&words[..], &["sh", "-c", script]].concat());
    bid.kill().unwrap();
    end(bid);
    let sender = pid_in(&user.path("sender"));
    wait_until("the send-by", SOON, || {
        user.run(&["reconcile", "--dry-run", "--visibility-delay", "0"]).stdout.contains("upwork")
    });
    let mut ran = ask(&user, "echo refused closed");
    wait_until("the dead holder's lock ends", SOON, || {
        let busy = ran.stdout.contains("\"busy\":1");
        if busy {
            ran = ask(&user, "echo refused closed");
        }
        !busy
    });
    assert_eq!(ran.code, 11, "{ran:?}");
    assert!(ran.stdout.contains(&format!("process {sender} may still send")), "{ran:?}");
    assert_eq!(user.states("j"), ["unknown"]);
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(sender), Signal::SIGKILL).unwrap();
    wait_until("it is gone", SOON, || !runs(sender));
    assert_eq!(ask(&user, "echo refused closed").code, 0);
    assert_eq!(user.states("j"), ["refused"]);
}

#[test]
fn bad_words_are_refused_before_anything_is_asked() {
    let user = User::new();
    doubt(&user, "j");
    let before = user.bids("j");
    for (words, code, said) in [
        (&["reconcile"][..], 2, "COMMAND"),
        (&["reconcile", "--reconcile-with", "true", "--", "true"], 2, "cannot be used with"),
        (&["reconcile", "--reconcile-with="], 2, "--reconcile-with"),
        (&["reconcile", "--dry-run", "--", "true"], 2, "cannot be used with"),
        (&["reconcile", "--dry-run", "--every", "1s"], 2, "cannot be used with"),
        (&["reconcile", "--every", "0", "true"], 2, "between 100ms"),
        (&["reconcile", "--visibility-delay", "31d", "true"], 2, "30d"),
        (&["reconcile", "--limit", "0", "true"], 2, "--limit"),
        (&["reconcile", "--marketplace", "Up Work", "true"], 2, "marketplace"),
        (&["reconcile", "--", "no-such-command"], 127, "not found"),
        (&["reconcile", "--", "./bid.txt"], 126, "cannot be run"),
        (&["--url", "memory:", "reconcile", "true"], 78, "keeps nobody out"),
        (&["--url", "redis://h", "reconcile", "true"], 78, "--local-ledger"),
        (&["--ledger-url", "sqlite:/proc/x.db", "reconcile", "true"], 69, "x.db"),
    ] {
        let ran = user.run(words);
        let refused = ran.code == code || (code == 69 && matches!(ran.code, 77 | 78));
        assert!(refused && ran.stderr.contains(said), "{words:?}: {ran:?}");
        assert!(ran.stdout.is_empty(), "{words:?}: {ran:?}");
    }
    assert_eq!(user.bids("j"), before);
}
