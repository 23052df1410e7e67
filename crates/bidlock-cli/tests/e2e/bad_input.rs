//! What people and programs get wrong: each is said with the way out, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use bidlock_testkit::Process;

use crate::{Ran, User, end};

/// A refusal: its code, nothing on stdout, and a message that is worth reading.
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{ran:?}");
    assert!(ran.stderr.starts_with("error: "), "{ran:?}");
    assert!(ran.stderr.len() < 1_000, "too long to read: {ran:?}");
    assert!(!ran.stderr.contains("panicked"), "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is not in {}", ran.stderr);
    }
    for c in ran.stderr.chars().filter(|c| *c != '\n') {
        assert!(!c.is_control() && !"\u{200b}\u{202e}\u{feff}".contains(c), "{ran:?}");
    }
}

/// Nothing was made in the user's home, and no command was run.
fn untouched(user: &User, but: &[&str]) {
    let entries = fs::read_dir(user.path("")).unwrap().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    let more: Vec<_> = names.iter().filter(|name| !but.contains(&name.as_str())).collect();
    assert!(more.is_empty(), "{more:?}");
}

#[test]
fn postings_that_would_have_two_keys_or_break_lines_are_refused() {
    let user = User::new();
    let long = "x".repeat(10_000);
    let encoded = "ü".repeat(100);
    for (posting, why) in [
        ("", "empty"),
        (long.as_str(), "512 bytes"),
        (encoded.as_str(), "512 bytes"),
        ("a\nb", "control"),
        ("a\tb", "control"),
        ("a\u{7f}b", "control"),
        ("\u{1b}[31mred", "control"),
        ("a\u{200b}b", "U+200B"),
        ("a\u{2060}b", "U+2060"),
        ("\u{feff}a", "U+FEFF"),
        ("a\u{202e}b", "bidi"),
        ("a\u{2066}b", "bidi"),
        ("a\u{200f}b", "bidi"),
        ("a\u{2028}b", "U+2028"),
        ("a\u{a0}b", "U+00A0"),
        (" a", "white space"),
        ("a ", "white space"),
        ("\u{3000}a", "white space"),
    ] {
        for words in [
            &["bid", "upwork", posting, "touch", "ran"][..],
            &["lock", "upwork", posting, "touch", "ran"],
            &["acquire", "upwork", posting],
            &["resolve", "upwork", posting, "--refused", "--because", "x"],
            &["withdraw", "upwork", posting],
        ] {
            let ran = user.run(words);
            refused(&ran, 2, &["posting id", why]);
            // The way out, beside what is wrong.
            assert!(ran.stderr.contains("hint:"), "{ran:?}");
        }
        refused(&user.run(&["lock", "--key", posting, "touch", "ran"]), 2, &["name", why]);
    }
    untouched(&user, &[]);
}

#[test]
fn a_long_value_is_cut_in_the_message() {
    let user = User::new();
    let long = "secretive".repeat(1_200);
    for words in [
        &["bid", "upwork", &long, "true"][..],
        &["bid", &long, "j", "true"],
        &["bid", "upwork", "j", "--label", &long, "true"],
        &["bid", "upwork", "j", "--prefix", &long, "true"],
        &["bid", "upwork", "j", "--url", &long, "true"],
        &["release", "upwork", "j", "--lease", &long],
        &["revoke", &long, "--token", "1", "--because", "x"],
    ] {
        let ran = user.run(words);
        assert!(matches!(ran.code, 2 | 78), "{:?}: {}", words[0], ran.code);
        let about: Vec<&str> = words.iter().copied().filter(|word| word.len() < 100).collect();
        assert!(ran.stderr.len() < 1_000, "{} bytes about {about:?}", ran.stderr.len());
    }
    untouched(&user, &[]);
}

#[test]
fn marketplaces_have_one_spelling() {
    let user = User::new();
    for (marketplace, words) in [
        ("Upwork", &["\"Upwork\"", "\"upwork\""][..]),
        ("UPWORK", &["\"upwork\""]),
        ("", &["marketplace", "empty"]),
        ("up work", &["marketplace", "a-z, 0-9, dot, underscore and hyphen"]),
        ("up:work", &["marketplace"]),
        ("up{work}", &["marketplace"]),
        ("späť", &["marketplace"]),
        ("upwork\n", &["marketplace"]),
    ] {
        for command in ["bid", "lock"] {
            let ran = user.run(&[command, marketplace, "j", "touch", "ran"]);
            refused(&ran, 2, words);
        }
    }
    untouched(&user, &[]);
}

#[test]
fn odd_but_valid_postings_are_bid_on_once_each() {
    let user = User::new();
    let postings =
        [":{}%", "{j}", "a b", "a  b", "%20", "#", "späť", "🚀", "日本", "~job/1?x=2&y", "-"];
    for posting in postings {
        let script = "echo x >> sent";
        let words = ["bid", "--", "upwork", posting, "sh", "-c", script];
        let first = user.run(&words);
        assert_eq!(first.code, 0, "{posting}: {first:?}");
        assert!(first.stderr.contains(posting), "{posting}: {first:?}");
        assert_eq!(user.run(&words).code, 10, "{posting}");
        assert_eq!(user.bids(posting)[0]["posting"], posting);
    }
    assert_eq!(fs::read_to_string(user.path("sent")).unwrap().lines().count(), postings.len());
    // The same text as people see it is the same posting.
    assert_eq!(user.run(&["bid", "upwork", "cafe\u{301}", "true"]).code, 0);
    assert_eq!(user.run(&["bid", "upwork", "caf\u{e9}", "touch", "ran"]).code, 10);
    assert!(!user.path("ran").exists());
}

#[test]
fn durations_out_of_bounds_are_refused() {
    let user = User::new();
    for (option, bad) in [
        (
            "--ttl",
            &["0", "99ms", "-1s", "24h1ms", "25h", "366d", "30", "1.5s", "s", "", "forever"][..],
        ),
        ("--wait", &["-1s", "-0", "5", "1e9s", "99999999999999999999s", "367d", "never", "5 s"]),
        ("--submit-timeout", &["0", "99ms", "-5s", "25h", "60", "forever"]),
        ("--max-age", &["0", "-1h", "367d", "24"]),
    ] {
        for value in bad {
            let ran = user.run(&["bid", "upwork", "j", option, value, "--", "touch", "ran"]);
            refused(&ran, 2, &[option, value]);
            assert!(ran.stderr.contains("250ms, 30s, 5m"), "{option} {value}: {ran:?}");
        }
    }
    for value in ["0", "-1s", "10"] {
        let words = ["lock", "--key", "n", "--max-hold", value, "--", "touch", "ran"];
        refused(&user.run(&words), 2, &["--max-hold"]);
    }
    let ran = user.run(&["bid", "upwork", "j", "--seen-at", "yesterday", "touch", "ran"]);
    refused(&ran, 2, &["--seen-at", "yesterday", "2026-11-23T08:00:00Z"]);
    untouched(&user, &[]);
    // The bounds themselves are good.
    for (n, words) in [
        &["--ttl", "100ms"][..],
        &["--ttl", "24h"],
        &["--wait", "0"],
        &["--wait=0s"],
        &["--wait", "366d"],
        &["--submit-timeout", "24h"],
        &["--max-age", "366d"],
    ]
    .iter()
    .enumerate()
    {
        let posting = format!("j{n}");
        let ran = user.run(&[&["bid", "upwork", &posting], *words, &["--", "true"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
    }
}

#[test]
fn a_posting_from_the_future_is_refused() {
    let user = User::new();
    let ran =
        user.run(&["bid", "upwork", "j", "--seen-at", "2999-01-01T00:00:00Z", "touch", "ran"]);
    refused(&ran, 2, &["seen-at", "in the future", "clocks"]);
    assert!(!user.path("ran").exists() && user.json(&["bids"]).is_empty());
}

#[test]
fn a_command_that_cannot_run_is_found_out_before_anything_is_reserved() {
    let user = User::new();
    let place = |name: &str, text: &str, mode| {
        fs::write(user.path(name), text).unwrap();
        fs::set_permissions(user.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    place("plain", "text", 0o644);
    fs::create_dir(user.path("folder")).unwrap();
    for (command, code) in [
        ("no-such-command", 127),
        ("./missing", 127),
        ("/no/such/command", 127),
        ("", 127),
        ("./plain", 126),
        ("./folder", 126),
        ("./plain/under", 126),
    ] {
        for words in [
            &["bid", "upwork", "j", "--", command, "x"][..],
            &["lock", "upwork", "j", "--", command],
            &["lock", "--key", "n", "--", command],
        ] {
            let ran = user.run(words);
            assert!(ran.code == code || command.contains("under") && ran.code == 127, "{ran:?}");
            refused(&ran, ran.code, &["hint:"]);
            assert!(ran.stderr.contains(command), "{words:?}: {ran:?}");
        }
    }
    untouched(&user, &["plain", "folder"]);
    for words in
        [&["bid", "upwork", "j"][..], &["bid", "upwork", "j", "--"], &["lock", "upwork", "j"]]
    {
        assert_eq!(user.run(words).code, 2, "{words:?}");
    }
    untouched(&user, &["plain", "folder"]);
    // What only the attempt to run it shows was not sent: the posting stays open.
    place("bad", "#!/no/such/interpreter\n", 0o755);
    let bad = user.run(&["bid", "upwork", "j", "./bad"]);
    refused(&bad, 126, &["./bad"]);
    assert_eq!(user.states("j"), ["abandoned"]);
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
}

#[test]
fn settings_that_mean_nothing_name_variable_value_and_what_is_accepted() {
    let user = User::new();
    for (variable, value, words) in [
        ("BIDLOCK_URL", "mysql://h/db", &["unknown scheme", "sqlite:///"][..]),
        ("BIDLOCK_URL", "nonsense", &["sqlite:///"]),
        ("BIDLOCK_URL", "sqlite:", &["sqlite:///"]),
        ("BIDLOCK_URL", "sqlite://host/file.db", &["sqlite:///"]),
        ("BIDLOCK_URL", "postgres://h/db", &["ledger", "sqlite:///"]),
        ("BIDLOCK_LEDGER_URL", "memory:", &["sqlite:///"]),
        ("BIDLOCK_LEDGER_URL", "redis://h/0", &["sqlite:///"]),
        ("BIDLOCK_PREFIX", "{p}", &["1 to 64", "braces"]),
        ("BIDLOCK_PREFIX", "a b", &["1 to 64"]),
        ("BIDLOCK_LOCAL_LEDGER", "maybe", &["1 or 0"]),
        ("REDIS_PORT", "70000", &["1 to 65535"]),
        ("REDIS_DB", "first", &["0 to 65535"]),
        ("REDIS_HOST", "h:6379", &["REDIS_PORT"]),
        ("REDIS_URL", "redis://h:0", &["1 to 65535", "redis://[USER:PASSWORD@]HOST"]),
        ("BIDLOCK_URL", "unix://run/redis.sock", &["unix:///PATH"]),
    ] {
        let mut command = user.command(&["bid", "upwork", "j", "touch", "ran"]);
        let ran = end(Process::spawn(command.env(variable, value)).unwrap());
        refused(&ran, 78, &[variable, value, "the environment", "hint:"]);
        refused(&ran, 78, words);
    }
    for (option, value) in [("--url", "mysql://h/db"), ("--ledger-url", "x"), ("--prefix", "")] {
        let ran = user.run(&["bid", "upwork", "j", option, value, "touch", "ran"]);
        refused(&ran, 78, &[option, "the command line"]);
    }
    let mut homeless = user.command(&["bid", "upwork", "j", "touch", "ran"]);
    homeless.env_remove("HOME").env_remove("XDG_STATE_HOME");
    refused(&end(Process::spawn(&mut homeless).unwrap()), 78, &["HOME", "--url sqlite:///"]);
    untouched(&user, &[]);
}

/// Nobody may listen there but the system, and no system does.
const CLOSED: &str = "127.0.0.1:1";

#[test]
fn a_server_that_nobody_runs_is_69_and_its_password_is_nobodys_business() {
    let user = User::new();
    let url = |scheme: &str, account: &str| format!("{scheme}://{account}@{CLOSED}");
    let variables = [
        vec![("BIDLOCK_URL", url("redis", "user:s3cret"))],
        vec![("BIDLOCK_URL", url("rediss", ":s3cret"))],
        vec![("BIDLOCK_URL", url("valkey", "user:s3c:r%40et"))],
        vec![("BIDLOCK_URL", format!("unix://{}?password=s3cret", user.path("no.sock").display()))],
        vec![("REDIS_URL", url("redis", ":s3cret"))],
        [("REDIS_HOST", "127.0.0.1"), ("REDIS_PORT", "1"), ("REDIS_PASSWORD", "s3c:r@et")]
            .map(|(name, value)| (name, value.to_owned()))
            .to_vec(),
    ];
    for variables in variables {
        for words in [
            &["bid", "upwork", "j", "--local-ledger", "--wait", "0", "touch", "ran"][..],
            &["lock", "upwork", "j", "-n", "touch", "ran"],
            &["acquire", "upwork", "j", "-n"],
            &["-vv", "locks"],
            &["--json", "locks"],
        ] {
            let mut command = user.command(words);
            let ran = end(Process::spawn(command.envs(variables.iter().cloned())).unwrap());
            assert_eq!((ran.code, ran.stdout.as_str()), (69, ""), "{variables:?}: {ran:?}");
            assert!(ran.stderr.contains("cannot reach"), "{variables:?}: {ran:?}");
            unsaid(&ran);
        }
    }
    // A local ledger beside a shared lock must be meant: nothing is asked, and nothing made.
    let mut command = user.command(&["bid", "upwork", "j", "touch", "ran"]);
    let ran = end(Process::spawn(command.env("REDIS_URL", url("redis", ":s3cret"))).unwrap());
    refused(&ran, 78, &["--local-ledger", "***@127.0.0.1:1"]);
    unsaid(&ran);
    assert!(!user.path("ran").exists());
}

/// No part of the passwords above is shown.
fn unsaid(ran: &Ran) {
    for secret in ["s3c", "r@et", "r%40et"] {
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret), "{ran:?}");
    }
}

#[test]
fn urls_of_redis_that_mean_nothing_are_refused_before_anything_is_contacted() {
    let user = User::new();
    for (variable, value) in [
        ("BIDLOCK_URL", "valkey://user:s3c:r@et@host/0?password=s3cret"),
        ("BIDLOCK_URL", "redis://:s3c/r@et@host:port"),
        ("REDIS_URL", "redis://s3cret@host"),
        ("REDIS_URL", "redis://:s3c?r@et@host"),
        ("REDIS_URL", "redis:s3cret@host"),
        ("REDIS_HOST", "redis://:s3cret@host"),
    ] {
        for words in [
            &["bid", "upwork", "j", "--local-ledger", "touch", "ran"][..],
            &["-vv", "lock", "upwork", "j", "touch", "ran"],
            &["health"],
        ] {
            let mut command = user.command(words);
            let ran = end(Process::spawn(command.env(variable, value)).unwrap());
            refused(&ran, 78, &[variable, "the environment"]);
            unsaid(&ran);
        }
    }
    untouched(&user, &[]);
}

#[test]
fn a_file_of_settings_is_read_and_its_errors_name_the_line() {
    let user = User::new();
    let env = |text: &[u8]| fs::write(user.path(".env"), text).unwrap();
    let bid = ["bid", "upwork", "j", "touch", "ran"];
    env(b"# comment\nBIDLOCK_URL=sqlite:mine.db\nPASSWORD s3cret\n");
    refused(&user.run(&bid), 78, &[".env", "line 3", "NAME=value", "--no-env-file"]);
    assert!(!user.run(&bid).stderr.contains("s3cret"));
    env(b"A=1\n\xff\xfe=2\n");
    refused(&user.run(&bid), 78, &[".env", "line 2", "UTF-8"]);
    env(b"BIDLOCK_URL=mysql://user:s3cret@h/db\n");
    refused(&user.run(&bid), 78, &["BIDLOCK_URL", ".env", "unknown scheme"]);
    assert!(!user.run(&bid).stderr.contains("s3cret"));
    refused(&user.run(&[&["--env-file", "other.env"], &bid[..]].concat()), 78, &["other.env"]);
    untouched(&user, &[".env"]);

    env(b"export BIDLOCK_URL='sqlite:mine.db'\nBIDLOCK_PREFIX=p\n");
    assert_eq!(user.run(&["acquire", "upwork", "j"]).code, 0);
    assert!(user.path("mine.db").exists() && !user.path("state").exists());
    assert_eq!(user.json(&["locks"])[0]["key"], "p:upwork:j");
    // The environment comes before the file, a flag before both.
    let mut command = user.command(&["locks", "--json"]);
    let ran = end(Process::spawn(command.env("BIDLOCK_PREFIX", "q")).unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let mut command = user.command(&["locks", "--json", "--prefix", "p"]);
    let ran = end(Process::spawn(command.env("BIDLOCK_PREFIX", "q")).unwrap());
    assert!(ran.stdout.contains("p:upwork:j"), "{ran:?}");
    assert!(user.json(&["locks", "--no-env-file"]).is_empty(), "the default file");
    assert!(user.path("state").exists());
}
