//! Bids and locks.

use std::fs;

use bidlock_testkit::servers::{ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use super::{ESCAPED, Fleet};
use crate::{SOON, end, text};

/// What each bot of a fleet says: the ledger of these tests is on this machine only.
const BID: [&str; 7] = ["bid", "upwork", "j", "--local-ledger", "--", "sh", "-c"];

#[test]
fn a_posting_is_bid_on_once_over_every_server() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        let bid = [&BID[..], &["echo \"$BIDLOCK_TOKEN\" >> sent"]].concat();
        let many: Vec<_> = (0..10).map(|_| fleet.start(&bid)).collect();
        let mut codes: Vec<i32> =
            many.into_iter().map(|bot| super::unsaid(end(bot)).code).collect();
        codes.sort_unstable();
        assert_eq!(codes[0], 0, "{kind}: {codes:?}");
        assert!(codes[1..].iter().all(|code| *code == 10), "{kind}: {codes:?}");
        let sent = fs::read_to_string(fleet.user.path("sent")).unwrap();
        assert_eq!(sent.lines().count(), 1, "{kind}: {sent}");
        assert!(sent.trim().parse::<u64>().unwrap() > 0, "{kind}: {sent}");
        let again = fleet.run(&bid);
        assert_eq!(again.code, 10, "{kind}: {again:?}");
        assert!(fleet.json(&["locks"]).is_empty(), "{kind}");
    }
}

#[test]
fn a_ledger_of_this_machine_must_be_meant_before_anything_is_contacted() {
    let fleet = Fleet::new(ServerKind::Valkey9);
    let before = fleet.connections();
    for more in [&[][..], &["-vv"], &["--json"]] {
        let words = [more, &["bid", "upwork", "j", "touch", "ran"]].concat();
        let ran = fleet.run(&words);
        assert_eq!((ran.code, ran.stdout.as_str()), (78, ""), "{ran:?}");
        assert!(ran.stderr.contains("--local-ledger"), "{ran:?}");
    }
    assert_eq!(fleet.connections(), before + 1, "only the look itself");
    assert!(!fleet.user.path("ran").exists() && !fleet.user.path("state").exists());
    let mut meant = fleet.command(&["bid", "upwork", "j", "touch", "ran"]);
    let meant = bidlock_testkit::Process::spawn(meant.env("BIDLOCK_LOCAL_LEDGER", "1")).unwrap();
    assert_eq!(super::unsaid(end(meant)).code, 0);
    assert!(fleet.user.path("ran").exists());
}

#[test]
fn every_way_to_a_server_leads_to_the_same_locks() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::with(kind, ServerOptions::new().tls(true));
        let (server, files) = (&fleet.server, fleet.server.tls_files());
        let (port, ca) = (server.port(), files.ca.display());
        let tls = format!("127.0.0.1:{}/0?ca={ca}", server.tls_port());
        let ways = [
            format!("redis://:{ESCAPED}@127.0.0.1:{port}"),
            format!("valkey://default:{ESCAPED}@localhost:{port}/0"),
            format!("rediss://:{ESCAPED}@{tls}"),
            format!("valkeys://default:{ESCAPED}@{tls}"),
            format!("unix://{}?password={ESCAPED}", server.unix_socket().display()),
        ];
        assert_eq!(fleet.run(&["acquire", "upwork", "j"]).code, 0, "{kind}");
        for url in &ways {
            let ran = fleet.run_at(url, &["-vv", "locks"]);
            assert_eq!(ran.code, 0, "{kind} {url}: {ran:?}");
            assert!(ran.stdout.starts_with("bid_lock:upwork:j\t"), "{kind} {url}: {ran:?}");
        }
        // Another database holds other locks.
        let other = fleet.run_at(&format!("{}/1", ways[0]), &["locks"]);
        assert_eq!((other.code, other.stdout.as_str()), (0, ""), "{kind}: {other:?}");
        // A certificate that nobody vouches for is no server's.
        let unknown = format!("rediss://:{ESCAPED}@127.0.0.1:{}", server.tls_port());
        let ran = fleet.run_at(&unknown, &["locks"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{kind}: {ran:?}");
    }
}

#[test]
fn leases_are_taken_renewed_shown_and_given_back_by_hand() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        let lease = fleet.run(&["acquire", "upwork", "j", "--ttl", "1m", "--label", "deploy 7"]);
        assert_eq!(lease.code, 0, "{kind}: {lease:?}");
        let id = lease.stdout.trim();
        let busy = fleet.run(&["acquire", "upwork", "j", "-n"]);
        assert_eq!((busy.code, busy.stdout.as_str()), (75, ""), "{kind}: {busy:?}");
        let lock = fleet.json(&["locks"]).remove(0);
        assert_eq!(text(&lock, "key"), "bid_lock:upwork:j");
        assert_eq!(text(&lock, "label"), "deploy 7");
        assert!((1..=60_000).contains(&lock["remaining_ms"].as_u64().unwrap()), "{lock}");
        assert!(!lock.to_string().contains(id), "who knows the id can release");

        let renewed = fleet.run(&["renew", "upwork", "j", "--lease", id, "--ttl", "10m"]);
        assert_eq!(renewed.code, 0, "{kind}: {renewed:?}");
        assert!(fleet.json(&["locks"])[0]["remaining_ms"].as_u64().unwrap() > 60_000);
        assert_eq!(fleet.run(&["release", "upwork", "j", "--lease", id]).code, 0);
        for words in [&["release"][..], &["renew", "--ttl", "1m"]] {
            let late = fleet.run(&[words, &["upwork", "j", "--lease", id]].concat());
            assert_eq!(late.code, 76, "{kind}: {late:?}");
        }
        assert!(fleet.json(&["locks"]).is_empty(), "{kind}");
    }
}

#[test]
fn a_lock_goes_to_the_process_that_waits() {
    let fleet = Fleet::new(ServerKind::Redis70);
    let script = "touch first; until [ -e go ]; do sleep 0.02; done";
    let first = fleet.start(&["lock", "--key", "n", "--", "sh", "-c", script]);
    wait_until("the first one works", SOON, || fleet.user.path("first").exists());
    let second = fleet.start(&["lock", "--key", "n", "-w", "forever", "touch", "second"]);
    wait_until("the second one waits", SOON, || fleet.json(&["locks"])[0]["waiters"] == 1);
    assert!(!fleet.user.path("second").exists());
    fs::write(fleet.user.path("go"), "").unwrap();
    for process in [first, second] {
        assert_eq!(super::unsaid(end(process)).code, 0);
    }
    assert!(fleet.user.path("second").exists());
}

#[test]
fn a_lock_is_revoked_from_the_holder_that_was_seen() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        let lease = fleet.run(&["acquire", "upwork", "j", "--ttl", "10m"]);
        let id = lease.stdout.trim();
        let token = fleet.json(&["locks"])[0]["token"].as_u64().unwrap();
        let revoke = |token: u64| {
            let words = ["revoke", "bid_lock:upwork:j", "--because", "host is gone", "--now"];
            fleet.run(&[&words[..], &["--token", &token.to_string()]].concat())
        };
        assert_eq!(revoke(token - 1).code, 76, "{kind}");
        assert_eq!(fleet.json(&["locks"]).len(), 1, "{kind}: another's token takes nothing");
        assert_eq!(revoke(token).code, 0, "{kind}");
        assert!(fleet.json(&["locks"]).is_empty(), "{kind}");
        let renewed = fleet.run(&["renew", "upwork", "j", "--lease", id, "--ttl", "1m"]);
        assert_eq!(renewed.code, 76, "{kind}: {renewed:?}");
        let acts: Vec<String> = fleet.json(&["audit"]).iter().map(|act| text(act, "act")).collect();
        assert_eq!(acts.iter().filter(|act| *act == "revoke_now").count(), 2, "{acts:?}");
        assert!(acts.contains(&"revoked_freed".to_owned()), "{acts:?}");
    }
}

#[test]
fn the_old_client_and_bidlock_keep_each_other_out() {
    let fleet = Fleet::new(ServerKind::Redis62);
    let key = "bid_lock:upwork:job_123";
    fleet.server.command(&["SET", key, "old-host:17", "NX", "EX", "300"]);
    let busy = fleet.run(&["acquire", "upwork", "job_123", "-n"]);
    assert_eq!(busy.code, 75, "{busy:?}");
    let lock = fleet.json(&["locks"]).remove(0);
    assert_eq!((text(&lock, "key"), lock["token"].is_null()), (key.to_owned(), true), "{lock}");
    let revoke = ["revoke", key, "--token", "1", "--because", "stuck", "--now"];
    let refused = fleet.run(&revoke);
    assert_eq!(refused.code, 76, "{refused:?}");
    assert!(refused.stderr.contains("no lease of bidlock holds it; a foreign"), "{refused:?}");
    assert!(
        refused.stderr.contains("old-host:17") && refused.stderr.contains("DEL"),
        "{refused:?}"
    );
    assert_eq!(fleet.server.text(&["GET", key]), "old-host:17", "it is never taken");
    // One that has no end is said to have none.
    fleet.server.command(&["PERSIST", key]);
    assert!(fleet.json(&["locks"])[0]["remaining_ms"].is_null());
    assert!(fleet.run(&["locks"]).stdout.contains("\tno end\t"));
    let busy = fleet.run(&["acquire", "upwork", "job_123", "-n"]);
    assert_eq!(busy.code, 75, "{busy:?}");
    assert!(busy.stderr.contains("without an end"), "{busy:?}");
    fleet.server.command(&["DEL", key]);
    let free = fleet.run(&revoke);
    assert!(free.stderr.contains("no lease of bidlock holds it\n"), "{free:?}");
    assert_eq!(fleet.run(&["acquire", "upwork", "job_123", "-n"]).code, 0);
    assert_eq!(fleet.server.text(&["SET", key, "old-host:17", "NX", "EX", "300"]), "");
}
