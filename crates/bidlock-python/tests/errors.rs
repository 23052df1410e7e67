//! What every failure is in Python, without an interpreter.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

#[path = "../src/errors.rs"]
mod errors;

use std::collections::BTreeSet;
use std::time::Duration;

use bidlock::ledger::{LedgerError, Obstacle, Op as LedgerOp, State, Subject};
use bidlock::{
    BackendError, ConfigError, Endpoint, Error, FencingToken, Holder, InvalidValue, Key,
    LossReason, Op, Refusal, WallTime,
};

use errors::{Failure, Field, describe};

const CLASSES: &str = include_str!("../python/bidlock/errors.py");
const BIDDING: &str = include_str!("../python/bidlock/_bidding.py");
const BIDS: &str = include_str!("../python/bidlock/_async_bids.py");
/// Where the Rust errors are declared.
const OF_CALLS: &str = include_str!("../../bidlock/src/error.rs");
const OF_CONFIG: &str = include_str!("../../bidlock/src/open.rs");
const OF_STORES: &str = include_str!("../../bidlock-core/src/error.rs");
const OF_LEASES: &str = include_str!("../../bidlock-core/src/belief.rs");
const OF_LEDGERS: &str = include_str!("../../bidlock-ledger/src/error.rs");
const OF_VERDICTS: &str = include_str!("../../bidlock-ledger/src/types.rs");
/// Classes that others are kinds of.
const BASES: &[&str] = &["BidlockError", "StoreError", "LedgerError", "NotBidError"];

fn key() -> Key {
    Key::new("upwork", "job_1").unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint::new("redis://h:6379/0")
}

fn refusals() -> Vec<Refusal> {
    let why = String::new;
    vec![
        Refusal::Permission(why()),
        Refusal::ReadOnly(why()),
        Refusal::Full(why()),
        Refusal::Corrupt(why()),
        Refusal::WrongType(why()),
        Refusal::NotReady(why()),
        Refusal::Newer(why()),
        Refusal::Restored(why()),
        Refusal::Limit(why()),
        Refusal::Other(why()),
    ]
}

fn of_stores() -> Vec<(&'static str, Error)> {
    let (op, key, endpoint) = (Op::Acquire, Some(key()), endpoint());
    let source = || "cut".into();
    let unreachable = BackendError::Unreachable {
        op,
        key: key.clone(),
        endpoint: endpoint.clone(),
        source: source(),
    };
    let unknown = BackendError::Unknown {
        op,
        key: key.clone(),
        endpoint: endpoint.clone(),
        source: source(),
    };
    let late = BackendError::TooLate { op, key: key.clone(), endpoint: endpoint.clone() };
    let busy = BackendError::Busy { op, key: None, endpoint: endpoint.clone(), source: source() };
    let mut all = vec![
        ("UnavailableError", unreachable.into()),
        ("UnknownOutcomeError", unknown.into()),
        ("TooLateError", late.into()),
        ("StoreBusyError", busy.into()),
    ];
    for reason in refusals() {
        let denied = matches!(reason, Refusal::Permission(_));
        let class = if denied { "PermissionDeniedError" } else { "RefusedError" };
        let (key, endpoint) = (key.clone(), endpoint.clone());
        all.push((class, BackendError::Refused { op, key, endpoint, reason }.into()));
    }
    all
}

fn of_ledgers() -> Vec<(&'static str, Error)> {
    let (op, subject, endpoint) = (LedgerOp::Start, Subject::Posting(key()), endpoint());
    let same = || (subject.clone(), endpoint.clone());
    let source = || "cut".into();
    let (of, at) = same();
    let unreachable = LedgerError::Unreachable { op, subject: of, endpoint: at, source: source() };
    let (of, at) = same();
    let unknown = LedgerError::Unknown { op, subject: of, endpoint: at, source: source() };
    let (of, at) = same();
    let missing = LedgerError::NotFound { op, subject: of, endpoint: at };
    let (of, at) = same();
    let differs = LedgerError::Differs { op, subject: of, endpoint: at, why: "x".to_owned() };
    let not_allowed = LedgerError::NotAllowed {
        op,
        subject: subject.clone(),
        state: State::Started,
        why: Obstacle::TooEarly,
        until: Some(WallTime::from_micros(1_500_000)),
    };
    let invalid = LedgerError::Invalid(InvalidValue::new("posting id", "", "empty"));
    let mut all = vec![
        ("LedgerUnavailableError", unreachable.into()),
        ("LedgerUnknownOutcomeError", unknown.into()),
        ("NotInLedgerError", missing.into()),
        ("LedgerDiffersError", differs.into()),
        ("NotAllowedError", not_allowed.into()),
        ("InvalidValueError", invalid.into()),
    ];
    for reason in refusals() {
        let denied = matches!(reason, Refusal::Permission(_));
        let class = if denied { "LedgerPermissionError" } else { "LedgerRefusedError" };
        let (subject, endpoint) = same();
        all.push((class, LedgerError::Refused { op, subject, endpoint, reason }.into()));
    }
    all
}

fn of_calls() -> Vec<(&'static str, Error)> {
    let holder = || Box::new(Holder::foreign("old-bot"));
    let remaining = Duration::from_millis(1_500);
    let waited = Duration::from_secs(10);
    let (token, seen) = (FencingToken::new(1), FencingToken::new(2));
    vec![
        ("HeldError", Error::Held { key: key(), holder: holder(), remaining }),
        ("TimedOutError", Error::TimedOut { key: key(), holder: holder(), remaining, waited }),
        ("LeaseLostError", Error::Lost { key: key(), reason: LossReason::DataLost }),
        ("FencedError", Error::Fenced { key: key(), token, seen }),
        ("InvalidValueError", InvalidValue::new("ttl", "0", "too short").into()),
        ("ConfigError", ConfigError::Url { url: "x".into(), why: "not a URL".into() }.into()),
        ("ConfigError", ConfigError::NotBuilt { url: "x".into(), store: "Redis" }.into()),
        ("BidlockError", ConfigError::Platform(std::io::Error::other("no thread")).into()),
    ]
}

fn all() -> Vec<(&'static str, Failure)> {
    let errors = of_calls().into_iter().chain(of_stores()).chain(of_ledgers());
    let mut all: Vec<_> = errors.map(|(class, error)| (class, Failure::Bidlock(error))).collect();
    all.extend([
        ("ForkedError", Failure::Forked { process: 7 }),
        ("ForkedError", Failure::ForkedSqlite { process: 7 }),
        ("ReleasedError", Failure::Released { key: key() }),
        ("BidlockError", Failure::Used),
        ("ConfigError", Failure::Unsupported { what: "revoke", endpoint: endpoint() }),
        ("BidlockError", Failure::Panicked("oops".to_owned())),
    ]);
    all
}

#[test]
fn every_failure_has_its_class_and_python_knows_it() {
    for (class, failure) in all() {
        let described = describe(&failure);
        assert_eq!(described.class, class, "{failure:?}");
        assert!(CLASSES.contains(&format!("class {class}(")), "{class} is not in errors.py");
        assert!(!described.message.is_empty() && !described.message.contains('\n'));
    }
}

#[test]
fn every_field_is_declared_and_none_comes_twice() {
    for (class, failure) in all() {
        let fields = describe(&failure).fields;
        let names: BTreeSet<_> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), fields.len(), "{class}: {fields:?}");
        for name in names.into_iter().filter(|name| *name != "attempt") {
            assert!(CLASSES.contains(&format!("    {name}: ")), "{class}.{name}");
        }
    }
}

#[test]
fn fields_have_what_the_error_has() {
    let failure = Failure::Bidlock(of_calls().remove(1).1);
    let described = describe(&failure);
    let field = |name: &str| {
        let found = described.fields.iter().find(|(known, _)| *known == name);
        found.map(|(_, field)| field.clone())
    };
    assert_eq!(field("key"), Some(Field::Text("bid_lock:upwork:job_1".to_owned())));
    assert_eq!(field("remaining"), Some(Field::Seconds(1.5)));
    assert_eq!(field("waited"), Some(Field::Seconds(10.0)));
    assert_eq!(field("retryable"), Some(Field::Flag(true)));
}

#[test]
fn a_message_names_what_lies_under_it() {
    let failure = Failure::Bidlock(of_stores().remove(0).1);
    let message = describe(&failure).message;
    let whole = "acquire bid_lock:upwork:job_1: cannot reach redis://h:6379/0: cut";
    assert_eq!(message, whole);
}

/// The variants of an enum, as its source has them.
fn variants(source: &str, name: &str) -> BTreeSet<String> {
    let head = format!("pub enum {name} {{\n");
    let (_, rest) = source.split_once(&head).expect("the enum is there");
    let (body, _) = rest.split_once("\n}").expect("it ends");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    names.map(|line| first_word(line).to_owned()).collect()
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default()
}

fn snake(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
    }
    text
}

/// Of which enum an error is, which variant, and which class it has in Python.
fn sampled() -> BTreeSet<(&'static str, String, &'static str)> {
    let errors = of_calls().into_iter().chain(of_stores()).chain(of_ledgers());
    let named = errors.map(|(class, error)| {
        let (of, debug) = match &error {
            Error::Store(inner) => ("BackendError", format!("{inner:?}")),
            Error::Ledger(inner) => ("LedgerError", format!("{inner:?}")),
            Error::Config(inner) => ("ConfigError", format!("{inner:?}")),
            other => ("Error", format!("{other:?}")),
        };
        (of, first_word(&debug).to_owned(), class)
    });
    named.collect()
}

#[test]
fn every_variant_of_every_rust_error_has_a_class_and_none_has_two() {
    let sampled = sampled();
    for (source, name) in [
        (OF_CALLS, "Error"),
        (OF_STORES, "BackendError"),
        (OF_LEDGERS, "LedgerError"),
        (OF_CONFIG, "ConfigError"),
    ] {
        let of = sampled.iter().filter(|(of, _, _)| *of == name);
        let mut known: BTreeSet<String> = of.map(|(_, variant, _)| variant.clone()).collect();
        if name == "Error" {
            // What wraps one of the others has no class of its own.
            known.extend(["Store", "Ledger", "Config"].map(str::to_owned));
        }
        assert_eq!(known, variants(source, name), "{name}");
    }
    let refusals: BTreeSet<String> =
        refusals().iter().map(|reason| first_word(&format!("{reason:?}")).to_owned()).collect();
    assert_eq!(refusals, variants(OF_STORES, "Refusal"));
    for (of, variant, _) in &sampled {
        let classes = sampled.iter().filter(|(o, v, _)| (o, v) == (of, variant)).count();
        // Of refusals, that a right is missing is a class of its own.
        assert_eq!(classes, if variant == "Refused" { 2 } else { 1 }, "{of}::{variant}");
    }
}

#[test]
fn no_class_stands_for_two_variants_that_callers_tell_apart() {
    let sampled = sampled();
    for name in ["Error", "BackendError", "LedgerError"] {
        let of: Vec<_> = sampled.iter().filter(|(of, _, _)| *of == name).collect();
        let classes: BTreeSet<_> = of.iter().map(|(_, _, class)| class).collect();
        assert_eq!(classes.len(), of.len(), "{of:?}");
    }
}

#[test]
fn python_has_the_classes_of_the_rust_errors_and_of_its_own_blocks_and_no_others() {
    let declared = CLASSES.lines().filter_map(|line| line.strip_prefix("class "));
    let declared: BTreeSet<&str> = declared.map(first_word).collect();
    let mut raised: BTreeSet<&str> = all().into_iter().map(|(class, _)| class).collect();
    raised.extend(BASES);
    let of_bids: BTreeSet<&str> = declared.difference(&raised).copied().collect();
    for class in &of_bids {
        let called = |text: &str| text.contains(&format!("{class}(")) || stands(text, class);
        assert!(called(BIDDING) || called(BIDS), "nobody raises {class}");
    }
    assert_eq!(of_bids.len(), 6, "{of_bids:?}");
    assert!(raised.is_subset(&declared));
    for class in declared {
        assert!(CLASSES.contains(&format!("    \"{class}\",\n")), "{class} is not in __all__");
    }
}

fn stands(text: &str, class: &str) -> bool {
    text.contains(&format!("\": {class},"))
}

#[test]
fn reasons_refusals_and_verdicts_have_the_same_names() {
    let (_, rest) = CLASSES.split_once("LossReason = Literal[").expect("it is there");
    let (body, _) = rest.split_once(']').expect("it ends");
    let of_python: BTreeSet<String> =
        body.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let names = |source, name| variants(source, name).iter().map(|v| snake(v)).collect();
    assert_eq!(of_python, names(OF_LEASES, "LossReason"));

    let refused = refusals().into_iter().map(|reason| {
        let (key, endpoint) = (Some(key()), endpoint());
        let error = BackendError::Refused { op: Op::Acquire, key, endpoint, reason };
        let fields = describe(&Failure::Bidlock(error.into())).fields;
        let found = fields.into_iter().find(|(name, _)| *name == "refusal");
        match found {
            Some((_, Field::Text(name))) => name,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(refused.collect::<BTreeSet<_>>(), names(OF_STORES, "Refusal"));

    let (_, rest) = BIDDING.split_once("_STANDS: ").expect("it is there");
    let (body, _) = rest.split_once("\n}").expect("it ends");
    let mut verdicts: BTreeSet<String> = body
        .lines()
        .filter_map(|l| Some(l.trim().strip_prefix('"')?.split_once('"')?.0.to_owned()))
        .collect();
    verdicts.insert("yes".to_owned());
    assert_eq!(verdicts, names(OF_VERDICTS, "Verdict"));
}
