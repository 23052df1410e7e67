//! What a doctor finds in a server that answers.

use bidlock_testkit::servers::{ServerKind, ServerOptions};

use super::looking::{about, doctor, failures, health};
use super::{ESCAPED, Fleet, SECRET};
use crate::text;

#[test]
fn a_good_server_is_well() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        let (code, findings) = doctor(&fleet, &["--ttl", "5s"]);
        assert_eq!((code, failures(&findings)), (0, 0), "{kind}: {findings:?}");
        assert!(findings.len() > 3, "{kind}: {findings:?}");
    }
}

#[test]
fn something_else_under_a_key_is_78() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        let key = "bid_lock:upwork:j";
        fleet.server.command(&["RPUSH", key, "theirs"]);
        let ran = fleet.run(&["lock", "upwork", "j", "-n", "touch", "ran"]);
        assert_eq!(ran.code, 78, "{kind}: {ran:?}");
        assert!(ran.stderr.contains(key) && ran.stderr.contains("--prefix"), "{ran:?}");
        assert!(!fleet.user.path("ran").exists());
        assert_eq!(health(&fleet).0, 0, "{kind}: the server is well");
        let (code, findings) = doctor(&fleet, &[]);
        assert_eq!(code, 78, "{kind}: {findings:?}");
        assert!(!about(&findings, key).is_empty(), "{kind}: {findings:?}");
        // It is another program's.
        let ran = fleet.run(&["cleanup", "--yes", "--because", "x"]);
        assert_eq!(ran.code, 0, "{kind}: {ran:?}");
        assert_eq!(fleet.server.text(&["LRANGE", key, "0", "-1"]), "theirs");
        assert!(fleet.json(&["audit"]).is_empty(), "{kind}: nothing was done");
    }
}

#[test]
fn a_server_that_may_evict_locks_is_told_how_not_to() {
    for kind in ServerKind::ALL {
        let evicts = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
        let fleet = Fleet::with(kind, ServerOptions::new().append_only(true).args(evicts));
        assert_eq!(health(&fleet).0, 0, "{kind}");
        let (code, findings) = doctor(&fleet, &["--strict"]);
        assert_eq!(code, 78, "{kind}: {findings:?}");
        let found = about(&findings, "allkeys-lru");
        assert_eq!(found.len(), 1, "{kind}: {findings:?}");
        let mend = text(found[0], "mend");
        assert!(mend.contains("maxmemory-policy noeviction"), "{kind}: {mend}");
        fleet.server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        let (_, findings) = doctor(&fleet, &[]);
        assert!(about(&findings, "maxmemory-policy").is_empty(), "{kind}: {findings:?}");
    }
}

#[test]
fn a_server_that_forgets_in_a_restart_is_a_warning() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::with(kind, ServerOptions::new());
        let (code, findings) = doctor(&fleet, &[]);
        assert_eq!((code, failures(&findings)), (0, 0), "{kind}: {findings:?}");
        let found = about(&findings, "appendonly");
        assert_eq!(found.len(), 1, "{kind}: {findings:?}");
        assert_eq!(doctor(&fleet, &["--strict"]).0, 78, "{kind}");
    }
}

#[test]
fn the_least_rights_are_printed_without_a_server_and_suffice() {
    let fleet = Fleet::new(ServerKind::Redis62);
    fleet.server.kill();
    let ran = fleet.run(&["doctor", "--acl"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
    let object = fleet.json(&["doctor", "--acl"]).remove(0);
    assert_eq!(text(&object, "rights"), ran.stdout.trim_end());
    // As a shell reads it.
    let line = ran.stdout.replace("PASSWORD", SECRET).replace('\'', "");
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(&words[..3], ["ACL", "SETUSER", "bidlock"], "{ran:?}");
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        fleet.server.command(&words);
        let port = fleet.server.port();
        let url = format!("redis://bidlock:{ESCAPED}@127.0.0.1:{port}");
        for words in [
            &["acquire", "upwork", "j", "--ttl", "10m"][..],
            &["lock", "--key", "n", "true"],
            &["locks"],
            &["health"],
            &["doctor", "--strict"],
            &["cleanup", "--yes", "--because", "x"],
            &["bench", "--seconds", "1"],
        ] {
            let ran = fleet.run_at(&url, words);
            assert_eq!(ran.code, 0, "{kind} {words:?}: {ran:?}");
        }
        // With one right less, that one is named before anything is locked (R23).
        fleet.server.command(&["ACL", "SETUSER", "bidlock", "-zadd"]);
        let ran = fleet.run_at(&url, &["lock", "--key", "n", "touch", "ran"]);
        assert_eq!(ran.code, 77, "{kind}: {ran:?}");
        assert!(ran.stderr.contains("+zadd") && ran.stderr.contains("--acl"), "{kind}: {ran:?}");
        assert!(!fleet.user.path("ran").exists(), "{kind}");
        let ran = fleet.run_at(&url, &["doctor"]);
        assert_eq!(ran.code, 77, "{kind}: {ran:?}");
        assert!(ran.stdout.contains("+zadd"), "{kind}: {ran:?}");
    }
}
