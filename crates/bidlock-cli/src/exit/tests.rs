use bidlock::{Endpoint, Key, Op};

use super::*;

fn store(reason: Refusal, endpoint: &str) -> Failure {
    let key = Some(Key::new("upwork", "j").unwrap());
    BackendError::Refused { op: Op::Acquire, key, endpoint: Endpoint::new(endpoint), reason }.into()
}

#[test]
fn every_refusal_of_a_store_has_its_code() {
    let text = || "why".to_owned();
    for (reason, code) in [
        (Refusal::Permission(text()), 77),
        (Refusal::ReadOnly(text()), 69),
        (Refusal::Full(text()), 69),
        (Refusal::Corrupt(text()), 69),
        (Refusal::WrongType(text()), 78),
        (Refusal::NotReady(text()), 69),
        (Refusal::Newer(text()), 78),
        (Refusal::Restored(text()), 69),
        (Refusal::Limit(text()), 69),
        (Refusal::Other(text()), 69),
    ] {
        let failure = store(reason.clone(), "redis://h");
        assert_eq!(failure.code, code, "{reason}");
        assert!(failure.message.contains("redis://h") && failure.hint.is_some(), "{failure:?}");
    }
    assert_eq!(store(Refusal::ReadOnly(text()), "sqlite:///x").code, 77);
    // It is about the path, and not about a key.
    let folder = store(Refusal::WrongType(text()), "sqlite:///x");
    assert_eq!((folder.code, folder.kind), (78, "no_file"));
}

#[test]
fn a_database_that_is_not_there_is_a_setting() {
    for said in ["Datenbank »x« existiert nicht [3D000]", "database \"x\" does not exist [08P01]"]
    {
        let failure = store(Refusal::Other(said.to_owned()), "postgres://h/x");
        assert_eq!((failure.code, failure.kind), (78, "no_database"), "{said}");
    }
}

#[test]
fn a_role_of_the_ledger_is_not_told_of_locks() {
    let failure = store(Refusal::Permission("why".to_owned()), "postgres://h/x");
    assert!(failure.hint.is_some_and(|hint| hint.contains("a role of the ledger")));
}

#[test]
fn files_of_tls_are_settings_for_the_ledger_too() {
    let failure = Failure::from(LedgerError::Unreachable {
        op: bidlock::ledger::Op::Open,
        subject: bidlock::ledger::Subject::Ledger,
        endpoint: Endpoint::new("postgres://h"),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "/x.pem: gone").into(),
    });
    assert_eq!((failure.code, failure.kind, failure.retryable), (78, "config", false));
    assert_eq!(failure.causes, ["/x.pem: gone"]);
}

#[test]
fn a_store_that_does_not_answer_is_69_with_the_cause() {
    let (op, key, endpoint) = (Op::Ping, None, Endpoint::new("sqlite:///x"));
    let failure = Failure::from(BackendError::Unreachable {
        op,
        key: key.clone(),
        endpoint: endpoint.clone(),
        source: "disk on fire".into(),
    });
    assert_eq!((failure.code, failure.retryable), (69, true));
    assert_eq!(failure.causes, ["disk on fire"]);
    assert_eq!(failure.with_causes(), format!("{}: disk on fire", failure.message));
    // Files of TLS are settings: nobody needs to wait for a server.
    let failure = Failure::from(BackendError::Unreachable {
        op: Op::Open,
        key: None,
        endpoint: Endpoint::new("rediss://h"),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "/x.pem: gone").into(),
    });
    assert_eq!((failure.code, failure.kind, failure.retryable), (78, "config", false));
    assert_eq!(failure.causes, ["/x.pem: gone"]);
    let failure = Failure::from(BackendError::Unknown {
        op,
        key: key.clone(),
        endpoint: endpoint.clone(),
        source: "cut".into(),
    });
    assert_eq!((failure.code, failure.kind), (69, "unknown"));
    let failure = Failure::from(BackendError::TooLate { op, key, endpoint });
    assert_eq!((failure.code, failure.kind), (75, "store_busy"));
}

#[test]
fn values_settings_and_commands_have_their_codes() {
    let value = Key::new("Upwork", "j").unwrap_err();
    let failure = Failure::from(value);
    assert_eq!((failure.code, failure.kind), (2, "invalid"));
    assert!(failure.message.contains("\"upwork\""), "{failure:?}");

    let failure = Failure::from(ConfigError::NoHome);
    assert_eq!((failure.code, failure.kind), (78, "config"));
    let failure = Failure::from(CannotRun::NotFound { command: "x".into() });
    assert_eq!(failure.code, 127);
    let why = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    let failure = Failure::from(CannotRun::NotRunnable { path: "x".into(), why });
    assert_eq!(failure.code, 126);
}

fn ledger(error: LedgerError) -> (u8, &'static str, bool) {
    let failure = Failure::from(error);
    assert!(failure.hint.is_some(), "{failure:?}");
    (failure.code, failure.kind, failure.retryable)
}

#[test]
fn every_error_of_the_ledger_has_its_code() {
    use bidlock::ledger::{Obstacle, Op, Subject};
    let (op, subject) = (Op::Resolve, Subject::Posting(Key::new("upwork", "j").unwrap()));
    let endpoint = Endpoint::new("sqlite:///x");
    let at = || (op, subject.clone(), endpoint.clone());

    let (op, subject, endpoint) = at();
    let source = "gone".into();
    let error = LedgerError::Unreachable { op, subject, endpoint, source };
    assert_eq!(ledger(error), (69, "unreachable", true));
    let (op, subject, endpoint) = at();
    let source = "cut".into();
    let error = LedgerError::Unknown { op, subject, endpoint, source };
    assert_eq!(ledger(error), (69, "unknown", true));
    let (op, subject, endpoint) = at();
    let reason = Refusal::Permission("no".into());
    let error = LedgerError::Refused { op, subject, endpoint, reason };
    assert_eq!(ledger(error), (77, "permission", false));
    let (op, subject, endpoint) = at();
    let error = LedgerError::NotFound { op, subject, endpoint };
    assert_eq!(ledger(error), (2, "not_found", false));
    let ((op, subject, endpoint), why) = (at(), "another step".to_owned());
    let error = LedgerError::Differs { op, subject, endpoint, why };
    assert_eq!(ledger(error), (78, "differs", false));
    let value = Key::new("", "j").unwrap_err();
    assert_eq!(ledger(LedgerError::Invalid(value)), (2, "invalid", false));
    for (state, code) in [
        (State::Placed, 10),
        (State::Refused, 10),
        (State::Withdrawn, 10),
        (State::Reserved, 11),
        (State::Started, 11),
        (State::Unknown, 11),
        (State::Abandoned, 2),
    ] {
        let (op, subject, _) = at();
        let error =
            LedgerError::NotAllowed { op, subject, state, why: Obstacle::UnderWay, until: None };
        assert_eq!(ledger(error), (code, "not_allowed", false), "{state}");
    }
}

#[test]
fn when_something_will_be_allowed_is_said() {
    let failure = Failure::from(LedgerError::NotAllowed {
        op: bidlock::ledger::Op::Resolve,
        subject: bidlock::ledger::Subject::Ledger,
        state: State::Unknown,
        why: bidlock::ledger::Obstacle::TooEarly,
        until: Some(bidlock::WallTime::from_micros(1_795_420_800_000_000)),
    });
    assert!(failure.message.ends_with("allowed from 2026-11-23T08:00:00.000Z"), "{failure:?}");
    assert!(failure.retryable);
}

#[test]
fn every_error_of_the_library_has_its_code() {
    use bidlock::{Error, FencingToken, Holder, LossReason};
    use std::time::Duration;
    let key = || Key::new("upwork", "j").unwrap();
    let holder = || Box::new(Holder::foreign("x"));
    let remaining = Duration::from_secs(1);
    let value = Key::new("", "j").unwrap_err();
    let thread = std::io::Error::other("no thread");
    let scheme = bidlock::StoreUrl::lock("mysql://h").unwrap_err();
    let unreachable = || BackendError::Unreachable {
        op: Op::Ping,
        key: None,
        endpoint: Endpoint::new("sqlite:///x"),
        source: "gone".into(),
    };
    let in_ledger = LedgerError::NotFound {
        op: bidlock::ledger::Op::Resolve,
        subject: bidlock::ledger::Subject::Ledger,
        endpoint: Endpoint::new("sqlite:///x"),
    };
    let (token, seen) = (FencingToken::new(1), FencingToken::new(2));
    for (error, code, kind) in [
        (Error::Held { key: key(), holder: holder(), remaining }, 75, "busy"),
        (
            Error::TimedOut { key: key(), holder: holder(), remaining, waited: remaining },
            75,
            "busy",
        ),
        (Error::Lost { key: key(), reason: LossReason::Suspended }, 76, "lost"),
        (Error::Fenced { key: key(), token, seen }, 76, "fenced"),
        (Error::Store(unreachable()), 69, "unreachable"),
        (Error::Ledger(in_ledger), 2, "not_found"),
        (Error::Invalid(value), 2, "invalid"),
        (Error::Config(scheme), 78, "config"),
        (Error::Config(bidlock::ConfigError::Platform(thread)), 69, "config"),
    ] {
        let failure = Failure::from(error);
        assert_eq!((failure.code, failure.kind), (code, kind), "{failure:?}");
        let hint = failure.hint.as_deref().unwrap();
        // A clock that is wrong does not mend itself by trying again.
        assert_eq!(hint.contains("clock") && hint.contains("lock store"), kind == "fenced");
    }
}

#[test]
fn a_lock_without_an_end_is_said_to_have_none_and_who_can_end_it() {
    use bidlock::{Error, Holder, LeaseId};
    use std::time::Duration;
    let key = || Key::new("upwork", "j").unwrap();
    let (none, waited) = (Duration::ZERO, Duration::from_secs(2));
    let lease: LeaseId = "host:7:0000000000000001".parse().unwrap();
    for (holder, way_out) in
        [(Holder::foreign("x"), "its owner must delete it"), (lease.holder(None), "with --yes")]
    {
        let holder = Box::new(holder);
        let held = Error::Held { key: key(), holder: holder.clone(), remaining: none };
        let late = Error::TimedOut { key: key(), holder, remaining: none, waited };
        for error in [held, late] {
            let failure = Failure::from(error);
            assert_eq!((failure.code, failure.kind), (75, "busy"), "{failure:?}");
            assert!(failure.message.contains("without an end"), "{failure:?}");
            assert!(!failure.message.contains("0ms"), "{failure:?}");
            let hint = failure.hint.unwrap();
            assert!(hint.contains("bidlock cleanup") && hint.contains(way_out), "{hint}");
        }
    }
}
