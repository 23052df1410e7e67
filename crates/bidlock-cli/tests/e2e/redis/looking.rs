//! Health, cleanup and bench, and what is said of a server that cannot be used.

use bidlock_testkit::servers::{Proxy, Server, ServerKind, ServerOptions};
use bidlock_testkit::{Process, wait_until};
use serde_json::Value;

use super::{Fleet, SECRET};
use crate::{SOON, text};

/// What a doctor found: its exit code, and the findings.
pub(super) fn doctor(fleet: &Fleet, more: &[&str]) -> (i32, Vec<Value>) {
    let ran = fleet.run(&[&["doctor", "--json"], more].concat());
    let findings = crate::objects(&ran.stdout);
    for finding in &findings {
        let good = finding["severity"] == "good";
        assert_eq!(finding["why"].is_null(), good, "{finding}");
        assert_eq!(finding["mend"].is_null(), good, "{finding}");
    }
    // Programs that read lines find the same, and so does one who reads the log.
    for words in [&["doctor"][..], &["doctor", "-vv"]] {
        let lines = fleet.run(&[words, more].concat());
        assert_eq!(lines.code, ran.code, "{lines:?}");
        assert_eq!(lines.stdout.lines().count(), findings.len(), "{lines:?}");
    }
    (ran.code, findings)
}

/// The findings that are not good and name something.
pub(super) fn about<'a>(findings: &'a [Value], word: &str) -> Vec<&'a Value> {
    let bad = findings.iter().filter(|finding| finding["severity"] != "good");
    bad.filter(|finding| finding.to_string().contains(word)).collect()
}

pub(super) fn failures(findings: &[Value]) -> usize {
    findings.iter().filter(|finding| finding["severity"] == "failure").count()
}

pub(super) fn health(fleet: &Fleet) -> (i32, Value) {
    let ran = fleet.run(&["health", "--json"]);
    let lock = crate::objects(&ran.stdout).remove(0);
    assert_eq!(text(&lock, "store"), "lock");
    assert!(text(&lock, "endpoint").starts_with("redis://:***@127.0.0.1:"), "{lock}");
    (ran.code, lock)
}

#[test]
fn nobody_listening_is_69() {
    let fleet = Fleet::new(ServerKind::Valkey9);
    // It keeps the port, so that no other server comes to stand there.
    let proxy = Proxy::to(fleet.server.address());
    proxy.refuse(true);
    let url =
        fleet.server.url().replace(&fleet.server.port().to_string(), &proxy.port().to_string());
    for words in [&["health"][..], &["doctor"], &["locks"], &["bench"], &["cleanup"]] {
        for more in [&[][..], &["-vv"], &["--json"]] {
            let ran = fleet.run_at(&url, &[more, words].concat());
            assert_eq!(ran.code, 69, "{words:?}: {ran:?}");
            let said = format!("{}{}", ran.stdout, ran.stderr);
            assert!(said.contains("cannot reach"), "{words:?}: {ran:?}");
        }
    }
    let found = fleet.run_at(&url, &["doctor", "--json"]);
    assert_eq!(failures(&crate::objects(&found.stdout)), 1, "what is not reached is not judged");
    proxy.refuse(false);
    assert_eq!(fleet.run_at(&url, &["health"]).code, 0);
}

#[test]
fn a_server_that_stands_still_is_69_before_anybody_loses_patience() {
    let fleet = Fleet::new(ServerKind::Redis70);
    fleet.server.stop();
    let many =
        [&["health"][..], &["doctor"], &["locks"], &["lock", "-n", "--key", "n", "touch", "ran"]];
    let started: Vec<_> = many.iter().map(|words| fleet.start(words)).collect();
    for (words, process) in many.iter().zip(started) {
        let ran = super::unsaid(crate::end(process));
        assert_eq!(ran.code, 69, "{words:?}: {ran:?}");
    }
    fleet.server.go_on();
    assert_eq!(health(&fleet).0, 0);
    assert!(!fleet.user.path("ran").exists());
}

#[test]
fn a_wrong_password_is_77() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::with(kind, ServerOptions::new());
        let port = fleet.server.port();
        for url in
            [format!("redis://:c4n4ry@127.0.0.1:{port}"), format!("redis://127.0.0.1:{port}")]
        {
            for words in [&["health"][..], &["doctor"], &["-vv", "locks"], &["--json", "locks"]] {
                let ran = fleet.run_at(&url, words);
                assert_eq!(ran.code, 77, "{kind} {words:?}: {ran:?}");
            }
            let ran = fleet.run_at(&url, &["lock", "upwork", "j", "touch", "ran"]);
            assert_eq!(ran.code, 77, "{kind}: {ran:?}");
        }
        assert!(!fleet.user.path("ran").exists());
    }
}

#[test]
fn a_replica_is_no_store() {
    for kind in ServerKind::ALL {
        let primary = Server::start_with(kind, ServerOptions::new().password(SECRET));
        let port = primary.port().to_string();
        let replica = ["--replicaof", "127.0.0.1", &port, "--masterauth", SECRET];
        let fleet = Fleet::with(kind, ServerOptions::new().args(replica));
        assert_eq!(health(&fleet).0, 69, "{kind}");
        let (code, findings) = doctor(&fleet, &[]);
        assert_eq!(code, 69, "{kind}: {findings:?}");
        assert!(!about(&findings, "replica").is_empty(), "{kind}: {findings:?}");
        let ran = fleet.run(&["lock", "upwork", "j", "-n", "touch", "ran"]);
        assert_eq!(ran.code, 69, "{kind}: {ran:?}");
        assert!(ran.stderr.contains("primary") && !fleet.user.path("ran").exists(), "{ran:?}");
    }
}

#[test]
fn tls_files_that_do_not_fit_are_78_and_nothing_is_contacted() {
    let fleet = Fleet::new(ServerKind::Redis70);
    std::fs::write(fleet.user.path("empty.pem"), "").unwrap();
    let before = fleet.connections();
    for file in ["empty.pem", "missing.pem"] {
        let file = fleet.user.path(file);
        let url = format!("rediss://127.0.0.1:{}?ca={}", fleet.server.port(), file.display());
        for words in [&["health"][..], &["locks"], &["doctor"], &["lock", "--key", "n", "true"]] {
            for more in [&[][..], &["--json"]] {
                let ran = fleet.run_at(&url, &[more, words].concat());
                assert_eq!(ran.code, 78, "{words:?}: {ran:?}");
                let said = format!("{}{}", ran.stdout, ran.stderr);
                assert!(said.contains(&file.display().to_string()), "{words:?}: {ran:?}");
            }
        }
    }
    assert_eq!(fleet.connections(), before + 1, "only this look");
}

#[test]
fn a_watch_goes_on_after_a_failed_look() {
    let fleet = Fleet::new(ServerKind::Redis70);
    let proxy = Proxy::to(fleet.server.address());
    let url =
        fleet.server.url().replace(&fleet.server.port().to_string(), &proxy.port().to_string());
    let mut command = fleet.user.command(&["locks", "--watch", "--every", "100ms"]);
    let watch = Process::spawn(command.env("BIDLOCK_URL", &url)).unwrap();
    wait_until("the first look", SOON, || watch.stderr().contains("no locks"));
    proxy.refuse(true);
    proxy.cut();
    wait_until("a failed look", SOON, || watch.stderr().contains("error: "));
    assert_eq!(fleet.run(&["acquire", "upwork", "j", "--ttl", "10m"]).code, 0);
    proxy.refuse(false);
    wait_until("a later look", SOON, || watch.stdout().contains("bid_lock:upwork:j"));
    watch.interrupt().unwrap();
    let ended = super::unsaid(crate::end(watch));
    assert!(ended.stderr.matches("error: ").count() <= 2, "told once: {ended:?}");
}

#[test]
fn a_lock_that_is_lost_with_its_store_names_both() {
    let fleet = Fleet::new(ServerKind::Redis70);
    let proxy = Proxy::to(fleet.server.address());
    let url =
        fleet.server.url().replace(&fleet.server.port().to_string(), &proxy.port().to_string());
    let words = ["lock", "upwork", "j", "--ttl", "1s", "--", "sh", "-c", "touch on; sleep 60"];
    let mut command = fleet.user.command(&words);
    let lock = Process::spawn(command.env("BIDLOCK_URL", &url)).unwrap();
    wait_until("the command runs", SOON, || fleet.user.path("on").exists());
    proxy.refuse(true);
    proxy.cut();
    let ended = super::unsaid(crate::end(lock));
    assert_eq!(ended.code, 76, "{ended:?}");
    let store = format!("redis://:***@127.0.0.1:{}/0", proxy.port());
    for said in ["bid_lock:upwork:j", &store, "the command was stopped", "bidlock doctor"] {
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
    }
}

#[test]
fn what_has_no_end_is_listed_and_mended_with_an_audit() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        for posting in ["a", "b"] {
            assert_eq!(fleet.run(&["acquire", "upwork", posting, "--ttl", "10m"]).code, 0);
        }
        let ran = fleet.run(&["cleanup"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{kind}: {ran:?}");
        assert!(ran.stderr.contains("nothing is left behind"), "{kind}: {ran:?}");

        let key = "bid_lock:upwork:a";
        fleet.server.command(&["PERSIST", key]);
        let left = fleet.json(&["cleanup"]);
        let [left] = &left[..] else { panic!("{kind}: {left:?}") };
        assert_eq!((text(left, "name"), text(left, "result")), (key.into(), "listed".into()));
        assert_eq!(fleet.server.text(&["PTTL", key]), "-1", "{kind}: nothing was changed");
        assert!(fleet.json(&["audit"]).is_empty(), "{kind}");

        let done = fleet.json(&["cleanup", "--yes", "--because", "no end"]);
        assert_eq!(text(&done[0], "result"), "done", "{kind}: {done:?}");
        assert_ne!(fleet.server.text(&["PTTL", key]), "-1", "{kind}");
        let audit = fleet.json(&["audit"]);
        let mut acts: Vec<String> = audit.iter().map(|act| text(act, "act")).collect();
        acts.sort_unstable();
        assert_eq!(acts, ["cleanup", "cleanup_done"], "{kind}");
        assert!(audit.iter().all(|act| act["posting"] == "a"), "{kind}: {audit:?}");
        let locks = fleet.json(&["locks"]);
        assert!(locks.iter().any(|lock| lock["key"] == "bid_lock:upwork:b"), "a live lease stays");
    }
}

#[test]
fn a_bench_leaves_nothing_on_the_server_but_the_counter() {
    let fleet = Fleet::new(ServerKind::Valkey9);
    let bench = fleet.json(&["bench", "--seconds", "1", "--tasks", "8"]).remove(0);
    for part in ["one_task", "many_tasks"] {
        assert!(bench[part]["cycles_per_s"].as_u64().unwrap() > 0, "{bench}");
    }
    assert!(bench["hand_over"]["hand_overs"].as_u64().unwrap() >= 8, "{bench}");
    assert_eq!(bench["idle"]["asks"], 1, "a waiter asks once while nothing changes: {bench}");
    assert_eq!(text(&bench, "server"), "valkey");
    let names = fleet.server.text(&["KEYS", "*"]);
    assert!(!names.contains("bench-"), "{names}");
    assert!(names.lines().count() <= 1, "{names}");
}

#[test]
fn a_good_server_is_healthy() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        let (code, lock) = health(&fleet);
        assert_eq!((code, lock["ok"].as_bool()), (0, Some(true)), "{kind}: {lock}");
        let server = if kind == ServerKind::Valkey9 { "valkey" } else { "redis" };
        let numbers = match kind {
            ServerKind::Redis62 => "6.2",
            ServerKind::Redis70 => "7.",
            ServerKind::Valkey9 => "9.",
        };
        assert_eq!(text(&lock, "server"), server);
        assert!(text(&lock, "version").starts_with(numbers), "{lock}");
        assert_eq!(text(&lock, "role"), "primary");
        assert!(lock["latency_us"].as_u64().unwrap() > 0, "{lock}");
    }
}
