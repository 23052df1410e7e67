//! The same attempt, sent again to a marketplace that honours its id (L11).

use std::fs;

use bidlock_testkit::{SubmissionLog, wait_until};
use serde_json::Value;

use crate::{Ran, SOON, User, objects, text};

/// Bids with `--honours-keys`, by a script that sees `BIDLOCK_ATTEMPT_ID`.
fn bid(user: &User, options: &[&str], script: &str) -> Ran {
    let words = ["bid", "upwork", "j", "--json", "--submit-timeout", "200ms"];
    user.run(&[&words[..], options, &["--", "sh", "-c", script]].concat())
}

const KEYS: &[&str] = &["--payload", "bid.txt", "--honours-keys", "24h"];

fn told(ran: &Ran) -> Value {
    objects(&ran.stderr).pop().unwrap()
}

#[test]
fn an_attempt_in_doubt_is_sent_again_under_its_own_id() {
    let user = User::new();
    fs::write(user.path("bid.txt"), "our bid").unwrap();
    let log = SubmissionLog::new(&user.path("sent"));
    let lost = format!("{}; exit 3", log.shell_line());
    let first = bid(&user, KEYS, &lost);
    assert_eq!(first.code, 11, "{first:?}");
    let attempt = text(&told(&first), "attempt");
    let script = format!("{}; echo $BIDLOCK_SENT_AGAIN > again", log.shell_line());
    let mut second = bid(&user, KEYS, &script);
    wait_until("the send-by", SOON, || {
        let early = second.code == 11;
        if early {
            assert!(text(&told(&second), "note").contains("may still be sent until"), "{second:?}");
            assert_eq!(log.count("j").unwrap(), 1, "nothing is sent before then");
            second = bid(&user, KEYS, &script);
        }
        !early
    });
    assert_eq!(second.code, 0, "{second:?}");
    let report = told(&second);
    assert_eq!(
        (text(&report, "attempt"), report["resent"].as_bool()),
        (attempt.clone(), Some(true))
    );
    assert_eq!(fs::read_to_string(user.path("again")).unwrap(), "1\n");
    assert_eq!(log.count("j").unwrap(), 2, "twice, with one key");
    let sent = fs::read_to_string(user.path("sent")).unwrap();
    assert_eq!(sent.matches(&attempt).count(), 2, "{sent}");
    let events: Vec<String> = user
        .json(&["bids", "upwork", "j", "--history"])
        .iter()
        .map(|entry| text(entry, "event"))
        .collect();
    assert_eq!(events, ["reserved", "started", "unknown", "resent", "placed"]);
    assert_eq!(bid(&user, KEYS, "touch thrice").code, 10);
    assert!(!user.path("thrice").exists());
}

#[test]
fn nothing_else_is_ever_sent_again() {
    let user = User::new();
    fs::write(user.path("bid.txt"), "our bid").unwrap();
    fs::write(user.path("other.txt"), "another bid").unwrap();
    assert_eq!(bid(&user, KEYS, "exit 3").code, 11);
    let before = user.bids("j");
    // Longer than its send-by, so that time alone stands against nothing.
    crate::pause(300_000);
    for (options, note) in [
        (&[][..], None),
        (&["--payload", "bid.txt"], None),
        (&["--payload", "other.txt", "--honours-keys", "24h"], Some("not what that attempt")),
    ] {
        let refused = bid(&user, options, "touch sent");
        assert_eq!(refused.code, 11, "{options:?}: {refused:?}");
        let told = told(&refused);
        match note {
            Some(note) => assert!(text(&told, "note").contains(note), "{told}"),
            None => assert!(told["note"].is_null(), "{told}"),
        }
    }
    assert!(!user.path("sent").exists());
    assert_eq!(user.bids("j"), before);
}

#[test]
fn a_declaration_that_cannot_hold_is_refused() {
    let user = User::new();
    fs::write(user.path("bid.txt"), "our bid").unwrap();
    for (options, said) in [
        (&["--honours-keys", "24h"][..], "--payload"),
        (&["--payload", "bid.txt", "--honours-keys", "24"], "unit is missing"),
        (&["--payload", "bid.txt", "--honours-keys", "59s"], "between 1m"),
        (&["--payload", "bid.txt", "--honours-keys", "366d"], "365d"),
        (
            &["--payload", "bid.txt", "--honours-keys", "1h", "--submit-timeout", "1h"],
            "not longer than --submit-timeout",
        ),
    ] {
        let words = [&["bid", "upwork", "j"][..], options, &["--", "touch", "sent"]].concat();
        let refused = user.run(&words);
        assert_eq!(refused.code, 2, "{options:?}: {refused:?}");
        assert!(refused.stderr.contains(said), "{options:?}: {refused:?}");
    }
    assert!(!user.path("sent").exists() && !user.database().exists());
}
