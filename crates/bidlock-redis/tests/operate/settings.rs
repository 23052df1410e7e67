//! Settings of a server that harm locks, each set for real.

use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use bidlock_core::{Backend as _, Finding, Severity};
use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};
use bidlock_testkit::{Process, block_on, temp_dir, wait_until};

use super::{CANARY, Talk, cli, expect, find, look, on_each, open, options, paste};

const SOON: Duration = Duration::from_secs(20);

fn set(server: &Server, name: &str, value: &str) {
    server.command(&["CONFIG", "SET", name, value]);
}

/// Does what the finding says, as it says it.
fn mended(server: &Server, check: &str) {
    let finding = find(&look(&server.url()), check).clone();
    assert_ne!(finding.severity, Severity::Good, "{finding:?}");
    let Finding { mend, .. } = &finding;
    assert!(mend.starts_with(&cli(server)), "{finding:?}");
    // The server was started without a file, so that people have to keep it.
    assert!(mend.ends_with(" # and put it into the server's settings"), "{finding:?}");
    assert!(!mend.contains("REWRITE"), "{finding:?}");
    assert!(paste(mend).lines().all(|line| line == "OK"), "{finding:?}");
}

#[test]
fn a_server_that_has_a_file_of_settings_keeps_the_mend_in_it() {
    for kind in ServerKind::ALL {
        let folder = temp_dir();
        let (file, socket) = (folder.path().join("server.conf"), folder.path().join("socket"));
        let (dir, place) = (folder.path().display(), socket.display());
        let settings =
            format!("port 0\nunixsocket {place}\ndir {dir}\nsave \"\"\nrequirepass {CANARY}\n");
        std::fs::write(&file, settings).unwrap();
        let _server = Process::spawn(Command::new(kind.program()).arg(&file)).unwrap();
        wait_until("the server answers", SOON, || UnixStream::connect(&socket).is_ok());
        let url = format!("unix://{place}?password={CANARY}");
        let finding = find(&look(&url), "persistence").clone();
        let cli = format!("redis-cli -s {place}");
        let mend = format!("{cli} CONFIG SET appendonly yes && {cli} CONFIG REWRITE");
        assert_eq!(finding.mend, mend, "{kind}");
        assert_eq!(paste(&mend).split_whitespace().collect::<Vec<_>>(), ["OK", "OK"]);
        let kept = std::fs::read_to_string(&file).unwrap();
        assert!(kept.contains("appendonly yes"), "{kind}: {kept}");
        assert!(find(&look(&url), "persistence").found.starts_with("AOF"), "{kind}");
    }
}

#[test]
fn eviction_is_judged_by_policy_and_limit() {
    on_each(options, |server| {
        let url = server.url();
        for policy in ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"] {
            set(server, "maxmemory-policy", policy);
            set(server, "maxmemory", "100mb");
            let words = [policy, "100.0 MB", "CONFIG SET maxmemory-policy noeviction"];
            let finding = expect(server, &url, "eviction", Severity::Failure, &words);
            let first = finding.why.contains("locks go first");
            assert_eq!(first, policy.starts_with("volatile"), "{finding:?}");
            set(server, "maxmemory", "0");
            expect(server, &url, "eviction", Severity::Warning, &[policy, "without a limit"]);
        }
        set(server, "maxmemory", "100mb");
        mended(server, "eviction");
        expect(server, &url, "eviction", Severity::Good, &["noeviction"]);
    });
}

#[test]
fn keys_that_were_evicted_are_counted() {
    on_each(options, |server| {
        set(server, "maxmemory-policy", "allkeys-lru");
        set(server, "maxmemory", &(server.used_memory() + 200_000).to_string());
        let fill = "for i = 1, 2000 do redis.call('SET', 'x' .. i, string.rep('y', 1000)) end";
        wait_until("something was evicted", SOON, || {
            server.command(&["EVAL", fill, "0"]);
            server.info("stats", "evicted_keys") != "0"
        });
        expect(server, &server.url(), "eviction", Severity::Failure, &["keys evicted so far"]);
    });
}

#[test]
fn memory_that_is_short_is_told_before_it_is_out() {
    on_each(options, |server| {
        let url = server.url();
        // The memory of the looks themselves comes and goes: a large key makes that small.
        server.command(&["SET", "large", &"x".repeat(40_000_000)]);
        let used = server.used_memory();
        set(server, "maxmemory", &(used + used / 20).to_string());
        expect(server, &url, "memory", Severity::Warning, &["95 %", "CONFIG SET maxmemory"]);
        expect(server, &url, "writes", Severity::Good, &[]);
        set(server, "maxmemory", &(used / 2).to_string());
        expect(server, &url, "memory", Severity::Failure, &["releasing still work"]);
        let set = format!("{}CONFIG SET maxmemory BYTES", cli(server));
        expect(server, &url, "writes", Severity::Failure, &["OOM", &set]);
        mended(server, "memory");
        expect(server, &url, "writes", Severity::Good, &[]);
    });
}

#[test]
fn what_a_restart_forgets_is_told() {
    let plain = || ServerOptions::new().password(CANARY);
    on_each(plain, |server| {
        let url = server.url();
        let words = ["nothing is kept", "CONFIG SET appendonly yes"];
        expect(server, &url, "persistence", Severity::Warning, &words);
        set(server, "save", "3600 1000000");
        expect(server, &url, "persistence", Severity::Warning, &["snapshots (RDB) only"]);
        mended(server, "persistence");
        set(server, "appendfsync", "everysec");
        expect(server, &url, "persistence", Severity::Good, &["AOF (appendfsync everysec)"]);
        set(server, "appendfsync", "no");
        expect(
            server,
            &url,
            "persistence",
            Severity::Warning,
            &["CONFIG SET appendfsync everysec"],
        );
        mended(server, "persistence");
        expect(server, &url, "persistence", Severity::Good, &["AOF (appendfsync everysec)"]);
    });
}

#[test]
fn a_snapshot_that_fails_stops_writes_and_is_a_failure() {
    let plain = || ServerOptions::new().password(CANARY);
    on_each(plain, |server| {
        let url = server.url();
        set(server, "save", "3600 1000000");
        let folder = server.text(&["CONFIG", "GET", "dir"]);
        let folder = folder.lines().nth(1).unwrap();
        // No file can take the place of a folder with something in it.
        std::fs::create_dir_all(format!("{folder}/dump.rdb/full")).unwrap();
        server.command(&["SET", "key", "value"]);
        server.command(&["BGSAVE"]);
        wait_until("the snapshot has failed", SOON, || {
            server.info("persistence", "rdb_last_bgsave_status") == "err"
        });
        let save = format!("{}BGSAVE", cli(server));
        expect(server, &url, "persistence", Severity::Failure, &["MISCONF", &save]);
        expect(server, &url, "writes", Severity::Failure, &["MISCONF", "folder"]);
        std::fs::remove_dir_all(format!("{folder}/dump.rdb")).unwrap();
        server.command(&["BGSAVE"]);
        wait_until("a snapshot succeeds", SOON, || {
            server.info("persistence", "rdb_last_bgsave_status") == "ok"
        });
        expect(server, &url, "writes", Severity::Good, &[]);
    });
}

#[test]
fn idle_connections_are_cut_but_not_those_that_hear_messages() {
    on_each(
        || options().clock(true).args(["--timeout", "60", "--tcp-keepalive", "0"]),
        |server| {
            let url = server.url();
            let findings = look(&url);
            assert_eq!(find(&findings, "timeout").severity, Severity::Good, "{findings:#?}");
            let found = &find(&findings, "timeout").found;
            assert!(found.starts_with("60 s; no connection that has subscribed"), "{found}");
            let silent = find(&findings, "tcp-keepalive");
            assert_eq!(silent.severity, Severity::Warning);
            assert!(silent.mend.contains("CONFIG SET tcp-keepalive 60"), "{silent:?}");
            mended(server, "tcp-keepalive");
            expect(server, &url, "tcp-keepalive", Severity::Good, &["after 60 s"]);

            let store = open(&url).unwrap();
            let ours = |kind: &str| {
                server.text(&["CLIENT", "LIST", "TYPE", kind]).matches("name=bidlock:").count()
            };
            assert_eq!((ours("pubsub"), ours("normal")), (1, 0), "{}", server.kind());
            let mut idle = Talk::to(server);
            assert_eq!(idle.ask(&format!("AUTH {CANARY}")), "+OK");
            server.step_clock(120_000_000);
            assert_eq!(idle.hear(), "", "{}: it is cut", server.kind());
            assert_eq!(ours("pubsub"), 1, "{}: ours stays", server.kind());
            block_on(store.ping()).unwrap();
        },
    );
}

#[test]
fn settings_that_this_user_may_not_see_are_no_failure_and_no_praise() {
    on_each(options, |server| {
        let user = ["ACL", "SETUSER", "bots", "on", ">pw", "+@all", "-config", "~*", "&*"];
        server.command(&user);
        let findings = look(&format!("redis://bots:pw@{}", server.address()));
        for check in ["timeout", "tcp-keepalive", "persistence"] {
            let finding = find(&findings, check);
            assert_eq!(finding.severity, Severity::Good, "{}: {finding:?}", server.kind());
            let words = "not seen: this user may not look at settings (CONFIG GET); run it once \
                         as an administrator";
            assert!(finding.found.contains(words), "{finding:?}");
            let first = finding.found.starts_with("not seen: ");
            // Of the AOF the rest is seen.
            assert_eq!(first, check != "persistence", "{finding:?}");
        }
    });
}
