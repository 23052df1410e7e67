use std::time::Duration;

use super::*;

fn read(line: &str) -> Cli {
    try_read(line).unwrap_or_else(|e| panic!("{line}: {e}"))
}

fn try_read(line: &str) -> Result<Cli, clap::Error> {
    let words = std::iter::once("bidlock").chain(line.split(' ').filter(|w| !w.is_empty()));
    Cli::read(words.map(OsString::from).collect())
}

fn bid(line: &str) -> BidArgs {
    match read(line).command {
        Command::Bid(bid) => bid,
        other => panic!("{other:?}"),
    }
}

fn lock(line: &str) -> LockArgs {
    match read(line).command {
        Command::Lock(lock) => lock,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn options_stand_before_or_after_the_posting_and_the_rest_is_the_command() {
    for line in [
        "bid upwork j --wait 5s echo hi --wait",
        "bid --wait 5s upwork j echo hi --wait",
        "bid upwork --wait 5s j echo hi --wait",
        "bid --wait=5s upwork j -- echo hi --wait",
        "bid upwork j -w 5s -- echo hi --wait",
        "--json bid upwork j -w5s echo hi --wait",
    ] {
        let bid = bid(line);
        assert_eq!((bid.marketplace.as_str(), bid.posting.as_str()), ("upwork", "j"), "{line}");
        assert_eq!(bid.hold.wait(), Wait::For(Duration::from_secs(5)), "{line}");
        assert_eq!(bid.command, ["echo", "hi", "--wait"], "{line}");
    }
}

#[test]
fn options_of_the_command_are_the_commands_own() {
    let bid = bid("bid --wait 5s upwork j -- sh -c x --json -v --key");
    assert_eq!(bid.command, ["sh", "-c", "x", "--json", "-v", "--key"]);
    assert!(!read("bid upwork j sh -c x --json --quiet").global.json);
    assert_eq!(super::tests::bid("bid upwork j echo -- --help").command, ["echo", "--", "--help"]);
}

#[test]
fn a_bid_without_a_command_is_refused() {
    for line in ["bid", "bid upwork", "bid upwork j", "bid upwork j --", "bid upwork j --wait 5s"] {
        assert_eq!(try_read(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn durations_out_of_bounds_are_refused_by_flag_value_and_form() {
    for (flag, value) in [
        ("--wait", "-5s"),
        ("--wait", "5"),
        ("--wait", "400d"),
        ("--ttl", "0"),
        ("--ttl", "99ms"),
        ("--ttl", "25h"),
        ("--ttl", "-1m"),
        ("--submit-timeout", "0"),
        ("--submit-timeout", "60"),
        ("--max-age", "0"),
    ] {
        let refused = try_read(&format!("bid upwork j {flag} {value} true")).unwrap_err();
        let text = refused.to_string();
        assert_eq!(refused.exit_code(), 2);
        assert!(text.contains(flag) && text.contains(value) && text.contains("250ms"), "{text}");
    }
    assert!(try_read("bid upwork j --wait= true").unwrap_err().to_string().contains("--wait"));
}

#[test]
fn the_wait_has_its_special_words() {
    assert_eq!(bid("bid upwork j --wait forever true").hold.wait(), Wait::Forever);
    assert_eq!(bid("bid upwork j --wait 0 true").hold.wait(), Wait::For(Duration::ZERO));
    assert_eq!(bid("bid upwork j -n true").hold.wait(), Wait::For(Duration::ZERO));
    assert_eq!(bid("bid upwork j true").hold.wait(), Wait::For(Duration::from_secs(10)));
    assert!(try_read("bid upwork j -n --wait 5s true").is_err());
}

#[test]
fn a_lock_is_about_a_posting_or_a_name() {
    let posting = lock("lock upwork j --ttl 1s sh -c x");
    let target = posting.target.unwrap();
    assert_eq!(target.marketplace.as_deref(), Some("upwork"));
    assert_eq!(target.posting.as_deref(), Some("j"));
    assert_eq!(posting.command, ["sh", "-c", "x"]);

    for line in [
        "lock --key nightly sh -c x --key y",
        "lock --key nightly -- sh -c x --key y",
        "lock --key=nightly --wait 5s sh -c x --key y",
        "lock -E 3 --key nightly -n sh -c x --key y",
        "lock -nE3 --key nightly sh -c x --key y",
        "--prefix p lock --key nightly sh -c x --key y",
    ] {
        let named = lock(line);
        let target = named.target.unwrap();
        assert_eq!(target.key.as_deref(), Some("nightly"), "{line}");
        assert_eq!(target.marketplace, None, "{line}");
        assert_eq!(named.command, ["sh", "-c", "x", "--key", "y"], "{line}");
    }
    assert_eq!(lock("lock --key n a").command, ["a"]);
    assert_eq!(lock("lock --key n a b").command, ["a", "b"]);
}

#[test]
fn a_lock_with_both_or_neither_is_refused() {
    for line in [
        "lock",
        "lock upwork",
        "lock upwork j",
        "lock --key n",
        "lock --key n --",
        "lock upwork j --key n true",
        "acquire",
        "acquire upwork",
        "acquire upwork j --key n",
        "release --key n",
    ] {
        assert_eq!(try_read(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn leases_are_named_with_their_key() {
    let Command::Renew(renew) = read("renew upwork j --lease h:1:a --ttl 1m").command else {
        panic!("another command");
    };
    assert_eq!(renew.lease.lease, "h:1:a");
    assert_eq!(renew.ttl, Duration::from_mins(1));
    let Command::Release(release) = read("release --key n --lease h:1:a").command else {
        panic!("another command");
    };
    assert_eq!(release.target.key.as_deref(), Some("n"));
}

#[test]
fn an_operator_gives_one_outcome_and_a_reason() {
    for line in [
        "resolve upwork j --placed REF",
        "resolve upwork j --because x",
        "resolve upwork j --refused --not-sent --because x",
        "resolve upwork j --placed= --because x",
        "resolve upwork j --refused --because=",
        "reopen upwork j",
        "withdraw upwork",
        "revoke k --token 1",
        "revoke k --because x",
        "revoke k --token -1 --because x",
    ] {
        assert_eq!(try_read(line).unwrap_err().exit_code(), 2, "{line}");
    }
    let Command::Resolve(resolve) = read("resolve upwork j --placed R --because x").command else {
        panic!("another command");
    };
    assert_eq!((resolve.placed.as_deref(), resolve.because.as_str()), (Some("R"), "x"));
}

#[test]
fn a_password_on_the_command_line_is_in_no_debug_output() {
    let read = read("--url redis://u:s3cret@h --ledger-url postgres://u:s3cret@h/db health");
    let shown = format!("{read:?}");
    assert!(shown.contains("redis://u:***@h") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn what_is_cleaned_up_has_a_reason() {
    for line in ["cleanup --yes", "cleanup --because x", "cleanup --yes --because="] {
        assert_eq!(try_read(line).unwrap_err().exit_code(), 2, "{line}");
    }
    assert!(try_read("cleanup").is_ok() && try_read("cleanup --yes --because x").is_ok());
}

#[test]
fn a_doctor_judges_by_a_ttl_and_a_bench_is_bounded() {
    let Command::Doctor(doctor) = read("doctor --strict --ttl 30s").command else {
        panic!("another command");
    };
    assert_eq!((doctor.ttl, doctor.strict, doctor.acl), (Duration::from_secs(30), true, false));
    for line in ["doctor --ttl 0", "doctor --ttl 25h", "doctor --acl --strict", "bench --tasks 0"] {
        assert_eq!(try_read(line).unwrap_err().exit_code(), 2, "{line}");
    }
    let Command::Bench(bench) = read("bench --seconds 60 --tasks 1000").command else {
        panic!("another command");
    };
    assert_eq!((bench.seconds, bench.tasks), (60, 1_000));
    assert!(try_read("bench --seconds 61").is_err() && try_read("bench --tasks 1001").is_err());
}
