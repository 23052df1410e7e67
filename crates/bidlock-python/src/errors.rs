//! What every failure is in Python: its class, its words and its fields. No interpreter is
//! needed to tell.

use bidlock::ledger::{LedgerError, Subject};
use bidlock::{BackendError, ConfigError, Endpoint, Error, InvalidValue, Key, Refusal};

/// Why a call did not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The Rust library says so.
    Bidlock(Error),
    /// The object belongs to the process that this one was forked from.
    Forked {
        /// That process.
        process: u32,
    },
    /// An SQLite file cannot be opened here, because a parent of this process had one open.
    ForkedSqlite {
        /// That parent.
        process: u32,
    },
    /// The lease was released before.
    Released {
        /// What was held.
        key: Key,
    },
    /// A call was begun or taken twice.
    Used,
    /// The store cannot do that.
    Unsupported {
        /// What it cannot.
        what: &'static str,
        /// Which store.
        endpoint: Endpoint,
    },
    /// A bug in bidlock.
    Panicked(String),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Bidlock(error.into())
    }
}

/// One field of an exception.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Nothing,
    Text(String),
    Number(u64),
    Seconds(f64),
    Flag(bool),
}

/// An exception, in words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Described {
    /// Its class in `bidlock.errors`.
    pub(crate) class: &'static str,
    pub(crate) message: String,
    pub(crate) fields: Vec<(&'static str, Field)>,
}

/// Tells what a failure is in Python; the one place where that is decided.
pub(crate) fn describe(failure: &Failure) -> Described {
    let plain = |class, message: String| Described { class, message, fields: Vec::new() };
    let error = match failure {
        Failure::Bidlock(error) => error,
        Failure::Forked { process } => {
            return plain(
                "ForkedError",
                format!(
                    "this belongs to process {process}, which this one was forked from; connect \
                     anew"
                ),
            );
        }
        Failure::ForkedSqlite { process } => {
            return plain(
                "ForkedError",
                format!(
                    "this process was forked from {process}, which has used SQLite: no file can \
                     be opened here safely; open it in the children only, or start them by spawn"
                ),
            );
        }
        Failure::Released { key } => {
            let fields = vec![("key", Field::Text(key.to_string()))];
            let message = format!("the lease of {key} was released before");
            return Described { class: "ReleasedError", message, fields };
        }
        Failure::Used => return plain("BidlockError", "this call was made before".to_owned()),
        Failure::Unsupported { what, endpoint } => {
            return plain("ConfigError", format!("{endpoint} cannot {what}"));
        }
        Failure::Panicked(what) => {
            return plain("BidlockError", format!("a bug in bidlock: {what}"));
        }
    };
    let (class, mut fields) = sorted(error);
    fields.push(("retryable", Field::Flag(error.is_retryable())));
    Described { class, message: with_causes(error), fields }
}

/// The message and what lies under it, in one line.
fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

type Sorted = (&'static str, Vec<(&'static str, Field)>);

fn text(value: &(impl ToString + ?Sized)) -> Field {
    Field::Text(value.to_string())
}

fn sorted(error: &Error) -> Sorted {
    match error {
        Error::Held { key, holder, remaining } => (
            "HeldError",
            vec![
                ("key", text(key)),
                ("holder", text(holder)),
                ("remaining", Field::Seconds(remaining.as_secs_f64())),
            ],
        ),
        Error::TimedOut { key, holder, remaining, waited } => (
            "TimedOutError",
            vec![
                ("key", text(key)),
                ("holder", text(holder)),
                ("remaining", Field::Seconds(remaining.as_secs_f64())),
                ("waited", Field::Seconds(waited.as_secs_f64())),
            ],
        ),
        Error::Lost { key, reason } => {
            ("LeaseLostError", vec![("key", text(key)), ("reason", text(reason.as_str()))])
        }
        Error::Fenced { key, token, seen } => (
            "FencedError",
            vec![
                ("key", text(key)),
                ("token", Field::Number(token.get())),
                ("seen", Field::Number(seen.get())),
            ],
        ),
        Error::Store(error) => store(error),
        Error::Ledger(error) => ledger(error),
        Error::Invalid(error) => invalid(error),
        Error::Config(error) => (config(error), vec![]),
        _ => ("BidlockError", vec![]),
    }
}

fn store(error: &BackendError) -> Sorted {
    let mut fields = vec![("op", text(&error.op())), ("endpoint", text(error.endpoint()))];
    let class = match error {
        BackendError::Unreachable { .. } => "UnavailableError",
        BackendError::Unknown { .. } => "UnknownOutcomeError",
        BackendError::TooLate { .. } => "TooLateError",
        BackendError::Busy { .. } => "StoreBusyError",
        BackendError::Refused { reason, .. } => {
            fields.push(("refusal", text(refusal(reason))));
            refused(reason)
        }
        _ => "StoreError",
    };
    let key = match error {
        BackendError::Unreachable { key, .. }
        | BackendError::Unknown { key, .. }
        | BackendError::TooLate { key, .. }
        | BackendError::Busy { key, .. }
        | BackendError::Refused { key, .. } => key.as_ref(),
        _ => None,
    };
    fields.push(("key", key.map_or(Field::Nothing, text)));
    (class, fields)
}

fn ledger(error: &LedgerError) -> Sorted {
    let (class, op, subject, endpoint) = match error {
        LedgerError::Unreachable { op, subject, endpoint, .. } => {
            ("LedgerUnavailableError", op, subject, Some(endpoint))
        }
        LedgerError::Unknown { op, subject, endpoint, .. } => {
            ("LedgerUnknownOutcomeError", op, subject, Some(endpoint))
        }
        LedgerError::Refused { op, subject, endpoint, reason } => {
            let class = match reason {
                Refusal::Permission(_) => "LedgerPermissionError",
                _ => "LedgerRefusedError",
            };
            (class, op, subject, Some(endpoint))
        }
        LedgerError::NotFound { op, subject, endpoint } => {
            ("NotInLedgerError", op, subject, Some(endpoint))
        }
        LedgerError::Differs { op, subject, endpoint, .. } => {
            ("LedgerDiffersError", op, subject, Some(endpoint))
        }
        LedgerError::NotAllowed { op, subject, .. } => ("NotAllowedError", op, subject, None),
        LedgerError::Invalid(error) => return invalid(error),
        _ => return ("LedgerError", vec![]),
    };
    let mut fields = vec![
        ("op", text(op)),
        ("subject", text(subject)),
        ("endpoint", endpoint.map_or(Field::Nothing, text)),
    ];
    if let Subject::Attempt(id) = subject {
        fields.push(("attempt", text(id)));
    }
    match error {
        LedgerError::Refused { reason, .. } => fields.push(("refusal", text(refusal(reason)))),
        LedgerError::NotAllowed { state, why, until, .. } => fields.extend([
            ("state", text(state)),
            ("why", text(why)),
            ("until", until.map_or(Field::Nothing, |at| seconds(at.as_micros()))),
        ]),
        _ => {}
    }
    (class, fields)
}

/// A wall time as Python counts it.
#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 are exact until 2255")]
fn seconds(micros: u64) -> Field {
    Field::Seconds(micros as f64 / 1e6)
}

fn invalid(error: &InvalidValue) -> Sorted {
    let fields =
        vec![("what", text(error.what)), ("value", text(&error.value)), ("why", text(&error.why))];
    ("InvalidValueError", fields)
}

fn config(error: &ConfigError) -> &'static str {
    match error {
        ConfigError::Platform(_) => "BidlockError",
        _ => "ConfigError",
    }
}

fn refused(reason: &Refusal) -> &'static str {
    match reason {
        Refusal::Permission(_) => "PermissionDeniedError",
        _ => "RefusedError",
    }
}

/// The refusal's name.
fn refusal(reason: &Refusal) -> &'static str {
    match reason {
        Refusal::Permission(_) => "permission",
        Refusal::ReadOnly(_) => "read_only",
        Refusal::Full(_) => "full",
        Refusal::Corrupt(_) => "corrupt",
        Refusal::WrongType(_) => "wrong_type",
        Refusal::NotReady(_) => "not_ready",
        Refusal::Newer(_) => "newer",
        Refusal::Restored(_) => "restored",
        Refusal::Limit(_) => "limit",
        _ => "other",
    }
}
