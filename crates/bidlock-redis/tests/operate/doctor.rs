//! Whether a server is reached, lets in, and is the right one.

use std::time::Duration;

use bidlock_core::{Cleanup as _, Diagnose as _, Prefix, Severity};
use bidlock_redis::{Config, Doctor};
use bidlock_testkit::servers::{Proxy, Server, ServerKind, ServerOptions};
use bidlock_testkit::{block_on, wait_until};

use super::{
    CANARY, Talk, cli, expect, find, look, look_with, on_each, open, options, paste, platform,
};

/// Nothing that is waited for takes longer.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_good_server_is_good_in_every_respect() {
    on_each(options, |server| {
        let findings = look(&server.url());
        for finding in &findings {
            assert_eq!(finding.severity, Severity::Good, "{}: {finding:#?}", server.kind());
        }
        let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        let all = [
            "connection",
            "authentication",
            "protocol",
            "role",
            "scripts",
            "server",
            "rights",
            "writes",
            "eviction",
            "memory",
            "persistence",
            "replication",
            "timeout",
            "tcp-keepalive",
            "clock",
            "round trip",
            "names",
            "leftovers",
        ];
        assert_eq!(checks, all, "{}", server.kind());
        assert_eq!(server.text(&["DBSIZE"]), "0", "nothing of the look stays");
        let version = &find(&findings, "server").found;
        match server.kind() {
            ServerKind::Redis62 => assert!(version.starts_with("redis 6.2."), "{version}"),
            ServerKind::Redis70 => assert!(version.starts_with("redis 7."), "{version}"),
            ServerKind::Valkey9 => {
                assert!(version.starts_with("valkey 9."), "{version}");
                assert!(version.contains("redis_version 7.2.4"), "{version}");
            }
        }
        assert!(find(&findings, "protocol").found.contains("RESP3"));
    });
}

#[test]
fn a_server_without_hello_is_looked_at_too() {
    on_each(
        || options().args(["--rename-command", "HELLO", "", "--timeout", "30"]),
        |server| {
            let findings = look(&server.url());
            assert!(find(&findings, "protocol").found.contains("RESP2"), "{findings:#?}");
            let cut = find(&findings, "timeout");
            assert_eq!(cut.severity, Severity::Warning);
            assert_eq!(paste(&cut.mend), "OK", "{cut:?}");
            expect(server, &server.url(), "timeout", Severity::Good, &["no idle connection"]);
            let bad = findings.iter().filter(|f| f.severity == Severity::Failure).count();
            assert_eq!(bad, 0, "{}: {findings:#?}", server.kind());
            let other = server.url().replace(CANARY, "wrong");
            expect(server, &other, "authentication", Severity::Failure, &["password is wrong"]);
            let none = server.url().replace(&format!(":{CANARY}@"), "");
            expect(server, &none, "authentication", Severity::Failure, &["none is given"]);
        },
    );
}

#[test]
fn what_is_not_reached_is_one_failure_that_says_why() {
    let server = Server::start_with(ServerKind::Valkey9, options());
    // Nobody listens on port 1, and no server of another test is given it.
    for (url, words) in [
        (format!("redis://:{CANARY}@127.0.0.1:1"), ["refused", "redis-cli -h 127.0.0.1 -p 1"]),
        (
            format!("redis://:{CANARY}@no.such.host.invalid"),
            ["the name no.such.host.invalid", "getent hosts no.such"],
        ),
        (
            "unix:///no/such/socket".to_owned(),
            ["No such file", "redis-cli -s /no/such/socket PING"],
        ),
    ] {
        let finding = expect(&server, &url, "connection", Severity::Failure, &words);
        assert!(finding.found.starts_with("cannot reach "), "{finding:?}");
        assert_eq!(look(&url).len(), 1, "what is not reached is not judged");
    }
    server.stop();
    let words = ["no answer within 3s"];
    expect(&server, &server.url(), "connection", Severity::Failure, &words);
    server.go_on();
    server.command(&["CONFIG", "SET", "maxclients", "1"]);
    // It takes the only place, as soon as those before it have left.
    let mut talk = None;
    wait_until("the place is free", SOON, || {
        talk = None;
        talk.insert(Talk::to(&server)).ask(&format!("AUTH {CANARY}")) == "+OK"
    });
    let words = ["max number of clients", "CONFIG SET maxclients"];
    expect(&server, &server.url(), "connection", Severity::Failure, &words);
}

#[test]
fn who_is_not_let_in_is_told_why() {
    on_each(options, |server| {
        let url = server.url();
        let none = url.replace(&format!(":{CANARY}@"), "");
        expect(server, &none, "authentication", Severity::Failure, &["none is given", "PASSWORD@"]);
        let wrong = url.replace(CANARY, "wrong");
        let words = ["user default is not let in", "ACL GETUSER default"];
        expect(server, &wrong, "authentication", Severity::Failure, &words);
        server.command(&["ACL", "SETUSER", "bots", "off", &format!(">{CANARY}"), "+@all", "~*"]);
        let off = url.replace("//:", "//bots:");
        let set = format!("{}ACL SETUSER bots on '>PASSWORD'", cli(server));
        let words = ["user bots is not let in", "off", &set];
        expect(server, &off, "authentication", Severity::Failure, &words);
    });
}

#[test]
fn a_wrong_database_is_told_from_one_that_is_not_allowed() {
    on_each(options, |server| {
        let url = format!("{}/99", server.url().trim_end_matches("/0"));
        let words = ["there is no database 99", "/0'"];
        expect(server, &url, "database", Severity::Failure, &words);
        let user = ["ACL", "SETUSER", "bots", "on", ">pw", "+@all", "-select", "~*", "&*"];
        server.command(&user);
        let url = format!("redis://bots:pw@{}/3", server.address());
        let grant = format!("{}ACL SETUSER bots +select", cli(server));
        let words = ["lacks +select", &grant];
        expect(server, &url, "database", Severity::Failure, &words);
    });
    let valkey = Server::start_with(ServerKind::Valkey9, options());
    valkey.command(&["ACL", "SETUSER", "bots", "on", ">pw", "+@all", "~*", "&*", "db=1"]);
    let url = format!("redis://bots:pw@{}/3", valkey.address());
    expect(&valkey, &url, "database", Severity::Failure, &["may not use database 3", "alldbs"]);
}

#[test]
fn locks_in_another_database_are_noticed() {
    on_each(options, |server| {
        let elsewhere = format!("{}/5", server.url().trim_end_matches("/0"));
        // As a grant in the other database would.
        let grant = "redis.call('SELECT', 5) redis.call('SET', 'bid_lock:#tokens', 1)";
        server.command(&["EVAL", grant, "0"]);
        let words = ["some were in 5", "/5'"];
        expect(server, &server.url(), "database", Severity::Warning, &words);
        let there = look(&elsewhere);
        assert_eq!(find(&there, "database").severity, Severity::Good, "{there:#?}");
    });
}

#[test]
fn a_replica_names_its_primary() {
    on_each(options, |primary| {
        let port = primary.port().to_string();
        let replica = Server::start_with(
            primary.kind(),
            options().args(["--replicaof", "127.0.0.1", &port, "--masterauth", CANARY]),
        );
        let address = format!("127.0.0.1:{port}");
        let finding =
            expect(&replica, &replica.url(), "role", Severity::Failure, &["replica", &address]);
        assert!(finding.mend.contains(&format!("redis://:***@{address}/0")), "{finding:?}");
        wait_until("the replica follows", SOON, || {
            primary.info("replication", "connected_slaves") == "1"
        });
        let cli = cli(primary);
        let both = format!(
            "{cli}CONFIG SET min-replicas-to-write 1 && {cli}CONFIG SET min-replicas-max-lag 2 #"
        );
        let words = ["1 replica", &both, "fencing tokens"];
        let few = expect(primary, &primary.url(), "replication", Severity::Warning, &words);
        assert_eq!(paste(&few.mend), "OK\nOK");
        wait_until("the primary has counted", SOON, || {
            primary.info("replication", "min_slaves_good_slaves") == "1"
        });
        let unbound = primary.kind() == ServerKind::Redis62;
        let severity = if unbound { Severity::Warning } else { Severity::Good };
        expect(primary, &primary.url(), "replication", severity, &["1 of them close"]);
        primary.command(&["CONFIG", "SET", "min-replicas-to-write", "2"]);
        let (severity, words): (_, &[&str]) = if unbound {
            // Scripts are not bound by it, so that is how it is.
            (Severity::Good, &["a script wrote"])
        } else {
            (Severity::Failure, &["NOREPLICAS", "INFO replication"])
        };
        expect(primary, &primary.url(), "writes", severity, words);
    });
}

#[test]
fn a_busy_script_is_named_and_how_to_end_it() {
    let lazy = || options().args(["--lua-time-limit", "100"]);
    on_each(lazy, |server| {
        let (mut first, mut second) = (Talk::to(server), Talk::to(server));
        for talk in [&mut first, &mut second] {
            assert_eq!(talk.ask(&format!("AUTH {CANARY}")), "+OK");
        }
        first.say("EVAL \"while true do end\" 0");
        wait_until("the script is too long", SOON, || second.ask("PING").starts_with("-BUSY"));
        let busy = expect(server, &server.url(), "scripts", Severity::Failure, &["BUSY"]);
        assert_eq!(busy.mend, format!("{}SCRIPT KILL", cli(server)));
        assert_eq!(paste(&busy.mend), "OK");
        assert!(first.hear().starts_with('-'), "it was ended");
        expect(server, &server.url(), "scripts", Severity::Good, &[]);
    });
}

#[test]
fn clocks_that_differ_are_measured() {
    on_each(
        || options().clock(true),
        |server| {
            expect(server, &server.url(), "clock", Severity::Good, &["±"]);
            server.step_clock(5_000_000);
            let words = ["ahead of", "chronyc tracking"];
            let finding = expect(server, &server.url(), "clock", Severity::Warning, &words);
            let near = finding.found.contains("clock is 5.0 s") || finding.found.contains("4.9 s");
            assert!(near, "{finding:?}");
            server.step_clock(-3_605_000_000);
            expect(server, &server.url(), "clock", Severity::Failure, &["behind", "at once"]);
        },
    );
}

#[test]
fn slow_answers_are_judged_against_the_ttl() {
    let server = Server::start_with(ServerKind::Redis70, options());
    let proxy = Proxy::to(server.address());
    proxy.delay(Duration::from_millis(45), Duration::from_millis(45));
    let url = server.url().replace(&server.port().to_string(), &proxy.port().to_string());
    let findings = look_with(&url, Duration::from_millis(500));
    let slow = find(&findings, "round trip");
    // A machine that is busy makes it worse.
    assert_ne!(slow.severity, Severity::Good, "{slow:?}");
    assert!(slow.mend.contains("--ttl 9s"), "{slow:?}");
    assert_eq!(find(&findings, "clock").severity, Severity::Good, "half of it is no difference");
}

#[test]
fn a_cluster_is_not_supported() {
    on_each(
        || ServerOptions::new().password(CANARY).args(["--cluster-enabled", "yes"]),
        |server| {
            let words = ["part of a cluster", "slots"];
            expect(server, &server.url(), "cluster", Severity::Failure, &words);
        },
    );
}

#[test]
fn other_data_under_our_names_and_leftovers_are_named() {
    on_each(options, |server| {
        server.command(&["RPUSH", "bid_lock:upwork:theirs", "x"]);
        server.command(&["SET", "{bid_lock:upwork:theirs}:waiters", "x"]);
        server.command(&["SET", "bid_lock2:upwork:other", "x"]);
        server.command(&["RPUSH", "bid_lock:no-name-of-a-lock", "x"]);
        let words = [
            "bid_lock:upwork:theirs is a list, not a string",
            "{bid_lock:upwork:theirs}:waiters is a string, not a zset",
            "3 names under bid_lock among 4 keys",
            "--prefix",
        ];
        let finding = expect(server, &server.url(), "names", Severity::Failure, &words);
        assert!(!finding.found.contains("bid_lock2") && !finding.found.contains("more"));
        // The key's name has nothing that a shell would read more into.
        let rename = format!("{}RENAME bid_lock:upwork:theirs OTHER", cli(server));
        assert!(finding.mend.starts_with(&rename), "{finding:?}");
        expect(server, &server.url(), "leftovers", Severity::Good, &["none"]);
    });
}

#[test]
fn what_cleanup_leaves_alone_is_not_left_to_cleanup() {
    on_each(options, |server| {
        let url = format!("{}/3", server.url().trim_end_matches("/0"));
        let store = open(&url).unwrap();
        let on_three = |script: &str| {
            server.command(&["EVAL", &format!("redis.call('SELECT', 3) {script}"), "0"]);
        };
        on_three("redis.call('SET', 'bid_lock:upwork:it\\'s', 'theirs')");
        on_three("redis.call('SET', '{bid_lock:upwork:odd}:revoked', 'theirs')");
        let words = ["1 left: bid_lock:upwork:it's is a lock of a foreign client"];
        let finding = expect(server, &url, "leftovers", Severity::Warning, &words);
        let command = format!("{}-n 3 DEL 'bid_lock:upwork:it'\\''s'", cli(server));
        let way_out = format!("{command}, when its owner is gone");
        assert_eq!(finding.mend, way_out, "{}", server.kind());
        // The other is of the wrong type, and named as that.
        let words = [":revoked is a string"];
        let odd = expect(server, &url, "names", Severity::Failure, &words);
        assert!(!odd.found.contains("it's"), "{odd:?}");
        // The list of cleanup says it too.
        let listed = block_on(store.leftovers(&Prefix::default())).unwrap();
        let [left] = &listed[..] else { panic!("{}: {listed:?}", server.kind()) };
        assert!(left.why.ends_with(&way_out) && left.remedy.is_empty(), "{left:?}");

        on_three("redis.call('SET', 'bid_lock:upwork:ours', 'h:1:0#b1;7;h;;')");
        let words = ["2 left", "bidlock cleanup --yes", &way_out];
        expect(server, &url, "leftovers", Severity::Warning, &words);
        on_three("redis.call('DEL', 'bid_lock:upwork:it\\'s')");
        let finding = expect(server, &url, "leftovers", Severity::Warning, &["1 left"]);
        assert!(!finding.mend.contains("DEL"), "{finding:?}");
        on_three("redis.call('SET', 'bid_lock:upwork:it\\'s', 'theirs')");
        assert_eq!(paste(&command), "1");
        on_three("redis.call('DEL', 'bid_lock:upwork:ours')");
        expect(server, &url, "leftovers", Severity::Good, &["none"]);
    });
}

#[test]
fn a_large_database_is_looked_at_in_part() {
    let server = Server::start_with(ServerKind::Valkey9, options());
    let fill = "for i = 1, 150000 do redis.call('SET', 'other' .. i, 'x') end";
    server.command(&["EVAL", fill, "0"]);
    server.reset_stats();
    let words = ["among the first 100000 of 150000 keys"];
    expect(&server, &server.url(), "names", Severity::Good, &words);
    let scans = server.command_stats().get("scan").copied().unwrap_or_default();
    // One is the try whether it may.
    assert_eq!(scans, 101);
}

#[test]
fn the_least_rights_are_a_line_for_redis_cli() {
    let doctor = |url: &str| {
        let config = Config::from_url(url).unwrap();
        Doctor::new(&config, &Prefix::default(), &platform()).rights().unwrap()
    };
    let line = doctor(&format!("redis://:{CANARY}@h"));
    assert!(line.starts_with("ACL SETUSER bidlock reset resetchannels on '>PASSWORD' "), "{line}");
    assert!(line.contains(" '~bid_lock:*' '~{bid_lock:*' '&bid_lock:#client:*' -@all "), "{line}");
    assert!(!line.contains("+select") && !line.contains(CANARY), "{line}");
    assert!(doctor("redis://default:x@h").starts_with("ACL SETUSER bidlock "), "not everybody");
    let other = doctor("redis://bots:x@h/2");
    assert!(other.starts_with("ACL SETUSER bots ") && other.contains(" +select "), "{other}");
}
