//! R23: what is missing is named, right by right. That all of them suffice, tests/conformance.rs
//! shows.

use std::time::Duration;

use bidlock_core::{Prefix, Severity};
use bidlock_redis::acl;
use bidlock_testkit::servers::Server;
use bidlock_testkit::wait_until;

use super::{CANARY, Talk, cli, find, look, on_each, open, options, paste};

const SOON: Duration = Duration::from_secs(20);
/// What only operators need.
const OPERATORS: [&str; 4] = ["+scan", "+type", "+info", "+role"];

fn words() -> Vec<String> {
    // Its name shall mislead nobody who reads what the server says.
    acl("key-channel", CANARY, &[&Prefix::default()], 0)
}

fn grant(server: &Server, words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    server.command(&words);
}

fn url(server: &Server) -> String {
    format!("redis://key-channel:{CANARY}@{}", server.address())
}

fn is_right(word: &str) -> bool {
    word.starts_with(['+', '~', '&'])
}

#[test]
fn with_all_rights_nothing_is_missing() {
    on_each(options, |server| {
        grant(server, &words());
        for finding in look(&url(server)) {
            assert_eq!(finding.severity, Severity::Good, "{}: {finding:#?}", server.kind());
        }
        assert!(open(&url(server)).is_ok());
    });
}

#[test]
fn each_right_that_is_missing_is_named_and_no_other() {
    on_each(options, |server| {
        let all = words();
        for right in all.iter().filter(|word| is_right(word)) {
            let rest: Vec<String> = all.iter().filter(|word| *word != right).cloned().collect();
            grant(server, &rest);
            let opened = open(&url(server)).map(drop);
            let findings = look(&url(server));
            let found = find(&findings, "rights");
            let kind = server.kind();
            assert_eq!(found.found, format!("user key-channel lacks {right}"), "{kind}");
            if OPERATORS.contains(&right.as_str()) {
                assert_eq!((opened, found.severity), (Ok(()), Severity::Warning), "{kind} {right}");
            } else {
                let error = opened.unwrap_err();
                assert!(error.contains(&format!("this user lacks {right};")), "{kind}: {error}");
                assert_eq!(found.severity, Severity::Failure, "{kind} {right}");
            }
            // What mends it does mend it.
            assert!(found.mend.starts_with(&cli(server)), "{found:?}");
            assert_eq!(paste(&found.mend), "OK", "{found:?}");
            assert!(open(&url(server)).is_ok(), "{kind} {right}");
        }
        // Where it may not be deleted, it ends.
        wait_until("what was tried is gone", SOON, || server.text(&["DBSIZE"]) == "0");
    });
}

#[test]
fn without_its_word_nobody_is_let_in() {
    on_each(options, |server| {
        for word in words().iter().filter(|word| *word == "on" || word.starts_with('>')) {
            let rest: Vec<String> = words().into_iter().filter(|other| other != word).collect();
            grant(server, &rest);
            let error = open(&url(server)).map(drop).unwrap_err();
            assert!(error.contains("WRONGPASS"), "{}: {error}", server.kind());
            assert_eq!(find(&look(&url(server)), "authentication").severity, Severity::Failure);
        }
    });
}

#[test]
fn several_that_are_missing_are_named_together() {
    on_each(options, |server| {
        let gone = ["+hdel", "+publish", "+ping", "+role"];
        let rest: Vec<String> =
            words().into_iter().filter(|word| !gone.contains(&word.as_str())).collect();
        grant(server, &rest);
        let findings = look(&url(server));
        let found = &find(&findings, "rights").found;
        assert_eq!(found, "user key-channel lacks +hdel +publish +ping +role");
        // What cannot be taken back ends by itself.
        let gone = ["+set", "+del", "+zrem"];
        let rest: Vec<String> =
            words().into_iter().filter(|word| !gone.contains(&word.as_str())).collect();
        grant(server, &rest);
        assert!(open(&url(server)).is_err());
        wait_until("what was tried is gone", SOON, || server.text(&["DBSIZE"]) == "0");
    });
}

#[test]
fn another_database_takes_one_right_more() {
    on_each(options, |server| {
        let with = acl("key-channel", CANARY, &[&Prefix::default()], 3);
        grant(server, &with);
        let url = format!("{}/3", url(server));
        assert!(open(&url).is_ok(), "{}", server.kind());
        grant(server, &words());
        let error = open(&url).map(drop).unwrap_err();
        assert!(error.contains("this user lacks +select;"), "{}: {error}", server.kind());
    });
}

#[test]
fn what_is_not_granted_is_not_to_be_had() {
    on_each(options, |server| {
        grant(server, &words());
        for denied in [
            "GET bid_lock2:x:y",
            "GET session:1",
            "EVAL \"return redis.call('FLUSHALL')\" 0",
            "EVAL \"return redis.call('GET', 'hidden')\" 0",
            "KEYS *",
            "CONFIG GET *",
            "MONITOR",
            "CLIENT LIST",
            "SUBSCRIBE other",
            "PSUBSCRIBE *",
            "FLUSHALL",
            "ACL WHOAMI",
        ] {
            let mut talk = Talk::to(server);
            assert_eq!(talk.ask(&format!("AUTH key-channel {CANARY}")), "+OK");
            let answer = talk.ask(denied);
            assert!(answer.starts_with('-'), "{} {denied}: {answer}", server.kind());
        }
    });
}
