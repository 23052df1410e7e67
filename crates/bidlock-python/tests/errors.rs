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
