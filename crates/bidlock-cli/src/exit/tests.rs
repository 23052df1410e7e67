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
        (Refusal::Limit(text()), 69),
        (Refusal::Other(text()), 69),
    ] {
        let failure = store(reason.clone(), "redis://h");
        assert_eq!(failure.code, code, "{reason}");
        assert!(failure.message.contains("redis://h") && failure.hint.is_some(), "{failure:?}");
    }
    assert_eq!(store(Refusal::ReadOnly(text()), "sqlite:///x").code, 77);
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
    let failure = Failure::from(BackendError::Unknown {
        op,
        key: key.clone(),
        endpoint: endpoint.clone(),
        source: "cut".into(),
    });
    assert_eq!((failure.code, failure.kind), (69, "unknown"));
    let failure = Failure::from(BackendError::TooLate { op, key, endpoint });
    assert_eq!((failure.code, failure.kind), (69, "too_late"));
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
