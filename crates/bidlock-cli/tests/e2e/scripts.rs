//! `bidlock` as a part of scripts: leases between calls, output for programs, completions.

use std::fs;
use std::process::Stdio;

use bidlock_testkit::Process;

use crate::{Ran, User, end, objects, text};

#[test]
fn a_lease_is_acquired_renewed_and_released_by_its_id() {
    let user = User::new();
    let taken = user.json(&["acquire", "upwork", "j", "--ttl", "30s"]).remove(0);
    let lease = text(&taken, "lease");
    assert_eq!(text(&taken, "key"), "bid_lock:upwork:j");
    assert_eq!(taken["ttl_ms"], 30_000);
    assert_eq!(taken["token"], user.json(&["locks"])[0]["token"]);
    assert_eq!(user.run(&["acquire", "-n", "upwork", "j"]).code, 75);

    let words = ["renew", "upwork", "j", "--lease", &lease, "--ttl", "1h"];
    assert_eq!(user.json(&words)[0]["renewed"], true);
    let lock = user.json(&["locks"]).remove(0);
    assert!(lock["remaining_ms"].as_u64().unwrap() > 3_000_000, "{lock}");
    assert_eq!(lock["token"], taken["token"], "the same grant");

    let (host, _) = lease.rsplit_once(':').unwrap();
    let other = format!("{host}:0123456789abcdef");
    for act in ["renew", "release"] {
        // I2: another's, and the right one on another key.
        for words in
            [[act, "upwork", "j", "--lease", &other], [act, "upwork", "k", "--lease", &lease]]
        {
            let refused = user.run(&words);
            assert_eq!((refused.code, refused.stdout.as_str()), (76, ""), "{words:?}: {refused:?}");
            assert!(!refused.stderr.contains(&lease), "{refused:?}");
        }
        let nonsense = user.run(&[act, "upwork", "j", "--lease", "nonsense"]);
        assert_eq!((nonsense.code, nonsense.stdout.as_str()), (2, ""), "{nonsense:?}");
        assert!(nonsense.stderr.contains("lease"), "{nonsense:?}");
    }
    assert_eq!(user.json(&["locks"])[0]["token"], taken["token"], "nothing has changed");

    let words = ["release", "upwork", "j", "--lease", &lease];
    assert_eq!(user.json(&words)[0]["released"], true);
    assert!(user.json(&["locks"]).is_empty());
    // I4
    assert_eq!(user.run(&words).code, 76);
    assert_eq!(user.run(&["renew", "upwork", "j", "--lease", &lease]).code, 76);
    assert!(user.json(&["locks"]).is_empty());
}

#[test]
fn a_lease_that_has_ended_is_not_renewed() {
    let user = User::new();
    let lease = user.run(&["acquire", "--key", "n", "--ttl", "100ms"]).stdout;
    let next = user.run(&["acquire", "--key", "n", "--wait", "20s"]);
    assert_eq!(next.code, 0, "{next:?}");
    assert_ne!(next.stdout, lease);
    // I5
    let refused = user.run(&["renew", "--key", "n", "--lease", lease.trim()]);
    assert_eq!(refused.code, 76, "{refused:?}");
    let late = user.run(&["release", "--key", "n", "--lease", lease.trim()]);
    assert_eq!(late.code, 76, "{late:?}");
    assert_eq!(user.run(&["release", "--key", "n", "--lease", next.stdout.trim()]).code, 0);
}

#[test]
fn the_line_of_the_help_works_in_a_shell() {
    let user = User::new();
    let script = format!(
        "b={}; lease=$($b -q acquire --key deploy --ttl 10m) || exit 9
         $b -q acquire -n --key deploy > second; echo busy $?
         $b -q release --key deploy --lease \"$lease\"; echo released $?",
        env!("CARGO_BIN_EXE_bidlock")
    );
    let ran = end(Process::spawn(user.program("sh").args(["-c", &script])).unwrap());
    assert_eq!(ran.stdout, "busy 75\nreleased 0\n", "{ran:?}");
    assert_eq!(fs::read_to_string(user.path("second")).unwrap(), "");
}

#[test]
fn programs_get_tabs_or_objects_and_never_colours() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "a b", "echo", "hello"]).code, 0);
    assert_eq!(user.run(&["bid", "upwork", "c", "false"]).code, 11);
    assert_eq!(user.run(&["acquire", "--key", "n"]).code, 0);
    let revoked = user.json(&["locks"])[0]["token"].to_string();
    let words = ["revoke", "bid_lock::n", "--token", &revoked, "--because", "x"];
    assert_eq!(user.run(&words).code, 0);
    for words in
        [&["bids"][..], &["bids", "upwork", "c", "--history"], &["locks"], &["audit"], &["health"]]
    {
        let ran = user.run(words);
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        assert!(!ran.stdout.contains('\x1b') && !ran.stderr.contains('\x1b'), "{ran:?}");
        let fields: Vec<usize> = ran.stdout.lines().map(|line| line.split('\t').count()).collect();
        assert!(!fields.is_empty(), "{words:?}: {ran:?}");
        assert!(fields.iter().all(|count| *count > 3 && *count == fields[0]), "{words:?}: {ran:?}");
        // JSON has as many lines, and nothing between them.
        let objects = user.json(words);
        assert_eq!(objects.len(), fields.len(), "{words:?}");
    }
    let bids = user.run(&["bids"]).stdout;
    assert!(bids.contains("upwork\ta b\tplaced\t"), "{bids}");
}

#[test]
fn errors_are_objects_too() {
    let user = User::new();
    assert_eq!(user.run(&["acquire", "--key", "n"]).code, 0);
    for (words, code, retryable) in [
        (&["--json", "acquire", "-n", "--key", "n"][..], 75, true),
        (&["bids", "--json", "--state", "sent"], 2, false),
        (&["nonsense", "--json"], 2, false),
        (&["--json", "locks", "--url", "mysql://h/db"], 78, false),
        (&["--json", "release", "--key", "n", "--lease", "h:1:0123456789abcdef"], 76, false),
        (&["--json", "bid", "upwork", "j", "no-such-command"], 127, false),
        (&["--json", "reopen", "upwork", "j", "--because", "x"], 2, false),
    ] {
        let ran = user.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{words:?}: {ran:?}");
        let errors = objects(&ran.stderr);
        assert_eq!(errors.len(), 1, "{words:?}: {ran:?}");
        assert_eq!(errors[0]["code"], code, "{words:?}");
        assert_eq!(errors[0]["retryable"], retryable, "{words:?}: {}", errors[0]);
        assert!(!text(&errors[0], "message").is_empty() && !text(&errors[0], "kind").is_empty());
        assert!(!text(&errors[0], "hint").is_empty(), "{words:?}");
    }
}

/// Runs a line on a terminal of its own; returns what it shows.
fn on_a_terminal(user: &User, line: &str, variables: &[(&str, &str)]) -> String {
    let mut script = user.program("script");
    script.args(["-qec", line, "/dev/null"]).env("TERM", "xterm");
    script.envs(variables.iter().copied());
    let ran = end(Process::spawn(&mut script).unwrap());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran.stdout
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    let line = format!("{} bids", env!("CARGO_BIN_EXE_bidlock"));
    let never = format!("{line} --color never");
    let always = format!("{line} --color always");
    let colored = |line: &str, variables: &[_]| {
        let shown = on_a_terminal(&user, line, variables);
        // On a terminal there are headings, and columns without tabs.
        assert!(shown.contains("POSTING") && !shown.contains('\t'), "{shown:?}");
        shown.contains("\x1b[32mplaced")
    };
    assert!(colored(&line, &[]));
    assert!(!colored(&line, &[("NO_COLOR", "1")]));
    assert!(colored(&line, &[("NO_COLOR", "")]), "an empty NO_COLOR says nothing");
    assert!(!colored(&line, &[("TERM", "dumb")]));
    assert!(!colored(&never, &[]));
    assert!(colored(&always, &[("NO_COLOR", "1")]), "who asks for it gets it");
    assert_eq!(user.run(&["bids", "--color", "sometimes"]).code, 2);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let user = User::new();
    for n in 0..3 {
        assert_eq!(user.run(&["bid", "upwork", &format!("j{n}"), "true"]).code, 0);
    }
    for words in [&["bids"][..], &["bids", "--json"], &["help"], &["man"], &["completions", "zsh"]]
    {
        let mut bidlock = user.command(&[&["-q"], words].concat());
        bidlock.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = bidlock.spawn().unwrap();
        // Nobody reads from the first byte on: an event, where `head -1` would be a race.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.stderr.is_empty(), "{words:?}: {output:?}");
        assert!(matches!(output.status.code(), Some(0) | None), "{words:?}: {output:?}");
    }
    let line = format!("{} -q bids | head -1", env!("CARGO_BIN_EXE_bidlock"));
    let ran = end(Process::spawn(user.program("sh").args(["-c", &line])).unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{ran:?}");
}

#[test]
fn both_stores_are_asked_for_a_sign_of_life() {
    let user = User::new();
    let health = user.json(&["health"]);
    assert_eq!(health.len(), 2, "{health:?}");
    for store in &health {
        assert_eq!(store["ok"], true, "{store}");
        assert!(text(store, "endpoint").contains("bidlock.db"), "{store}");
    }
    fs::write(
        user.path("broken"),
        "no database at all, though it is long enough for a header".repeat(9),
    )
    .unwrap();
    let files = ["--ledger-url", "sqlite:broken"];
    let ran = user.run(&[&["health"][..], &files].concat());
    assert_eq!(ran.code, 69, "{ran:?}");
    assert!(
        ran.stdout.contains("lock\tok\t") && ran.stdout.contains("ledger\tfailed\t"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("broken") && ran.stderr.contains("hint:"), "{ran:?}");
    let ran = user.run(&[&["health", "--json"][..], &files].concat());
    assert_eq!(ran.code, 69, "{ran:?}");
    assert_eq!(
        objects(&ran.stdout).iter().map(|store| &store["ok"]).collect::<Vec<_>>(),
        [true, false]
    );
}

/// Lets another program read what bidlock printed.
fn read_by(user: &User, program: &str, words: &[&str], text: &str) -> Ran {
    fs::write(user.path("printed"), text).unwrap();
    end(Process::spawn(user.program(program).args(words).arg("printed")).unwrap())
}

#[test]
fn every_shell_gets_completions() {
    let user = User::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ran = user.run(&["completions", shell]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{shell}");
        for word in ["bidlock", "resolve", "submit-timeout"] {
            assert!(ran.stdout.contains(word), "{shell} lacks {word}");
        }
    }
    let bash = user.run(&["completions", "bash"]).stdout;
    let checked = read_by(&user, "bash", &["-n"], &bash);
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    assert_eq!(user.run(&["completions", "tcl"]).code, 2);
    assert!(!user.path("state").exists(), "no store was opened");
}

#[test]
fn the_manual_is_readable() {
    let user = User::new();
    let manual = user.run(&["man"]);
    assert_eq!((manual.code, manual.stderr.as_str()), (0, ""));
    assert!(manual.stdout.contains(".TH bidlock"), "{}", &manual.stdout[..300]);
    for word in ["already decided", "resolve", "127"] {
        assert!(manual.stdout.contains(word), "{word}");
    }
    assert_eq!(user.run(&["man", "--out", "pages"]).code, 0);
    for page in ["bidlock.1", "bidlock-bid.1", "bidlock-resolve.1"] {
        assert!(
            fs::read_to_string(user.path("pages").join(page)).unwrap().contains(".TH "),
            "{page}"
        );
    }
    // Where the readers of manuals are installed, they read it without a complaint.
    if std::process::Command::new("groff").arg("--version").output().is_ok() {
        let read = read_by(&user, "groff", &["-man", "-Tutf8", "-wall"], &manual.stdout);
        assert_eq!((read.code, read.stderr.as_str()), (0, ""));
        assert!(read.stdout.contains("EXIT") || read.stdout.contains("Exit codes"));
    }
    assert!(!user.path("state").exists(), "no store was opened");
}

#[test]
fn help_names_every_command_and_every_exit_code() {
    let user = User::new();
    let help = user.run(&["help"]).stdout;
    for name in [
        "bid",
        "lock",
        "acquire",
        "renew",
        "release",
        "locks",
        "bids",
        "resolve",
        "withdraw",
        "reopen",
        "revoke",
        "audit",
        "health",
        "completions",
        "man",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{name}: {help}");
        let one = user.run(&["help", name]);
        assert_eq!((one.code, one.stderr.as_str()), (0, ""), "{name}");
        let flag = user.run(&[name, "--help"]);
        assert_eq!((flag.code, flag.stderr.as_str()), (0, ""), "{name}");
    }
    let codes = user.run(&["help", "exit-codes"]).stdout;
    for code in [0, 2, 10, 11, 12, 13, 14, 69, 75, 76, 77, 78, 126, 127] {
        assert!(codes.contains(&format!(" {code}  ")), "{code}: {codes}");
    }
    assert!(user.run(&["--version"]).stdout.starts_with("bidlock 0."));
    for words in [&[][..], &["nonsense"], &["bids", "--nonsense"], &["help", "nonsense"]] {
        let ran = user.run(words);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words:?}: {ran:?}");
        assert!(!ran.stderr.is_empty());
    }
    let near = user.run(&["resolv", "upwork", "j"]);
    assert!(near.stderr.contains("'resolve'"), "it says what is near: {near:?}");
}
