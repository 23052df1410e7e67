use std::io;

use bidlock_core::{Endpoint, Refusal};
use tokio_postgres::error::{DbError, Severity, SqlState};

use crate::error::{LedgerError, Op, Subject};
use crate::values::AttemptId;

/// What work on a connection comes to.
pub(super) type Done<T> = Result<T, Fail>;

/// Why one call's work failed, as its own code says it.
#[derive(Debug)]
pub(super) enum Fail {
    /// By itself; the connection is well.
    Call(LedgerError),
    /// The ledger has no such attempt, or the posting has none.
    Missing,
    /// The ledger has no such attempt, or it is of another posting.
    MissingAttempt(AttemptId),
    /// What was to be taken in is not what is here.
    Differs(String),
    /// The ledger answers, and will not.
    Refused(Refusal),
    /// The driver, or the server.
    Sql(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Fail {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

/// What a failure means for the caller.
#[derive(Debug)]
pub(super) enum Fault {
    Call(LedgerError),
    Missing,
    MissingAttempt(AttemptId),
    Differs(String),
    Refused(Refusal),
    /// Nothing was changed.
    Unreachable(io::Error),
    /// It may have taken effect.
    Unknown(io::Error),
}

/// What is to be done about a failure before anybody hears of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Nothing helps.
    None,
    /// It was rolled back for certain, because of others: do it again.
    Again,
    /// It was rolled back for certain: the session begins transactions at another isolation, so
    /// that it has to be said.
    Isolate,
    /// The connection is gone.
    Redial,
}

/// Errors that our own functions and triggers give.
const ISOLATION: &str = "BL001";

impl Fail {
    pub(super) fn remedy(&self) -> Remedy {
        let Self::Sql(error) = self else { return Remedy::None };
        let Some(db) = error.as_db_error() else { return Remedy::Redial };
        if is_last_word(db) {
            return Remedy::Redial;
        }
        match db.code() {
            &SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED => {
                Remedy::Again
            }
            code if code.code() == ISOLATION => Remedy::Isolate,
            _ => Remedy::None,
        }
    }

    /// The server's word about a violated constraint of that name.
    pub(super) fn violates(&self, constraint: &str) -> bool {
        let Self::Sql(error) = self else { return false };
        error.as_db_error().is_some_and(|db| db.constraint() == Some(constraint))
    }

    /// The server's word that the role may not do this.
    pub(super) fn lacks_right(&self) -> bool {
        let Self::Sql(error) = self else { return false };
        error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    /// What it means after a statement was sent; `writes` when that would have changed anything.
    pub(super) fn sent(self, writes: bool) -> Fault {
        match self {
            Self::Call(error) => Fault::Call(error),
            Self::Missing => Fault::Missing,
            Self::MissingAttempt(id) => Fault::MissingAttempt(id),
            Self::Differs(why) => Fault::Differs(why),
            Self::Refused(reason) => Fault::Refused(reason),
            Self::Sql(error) => match error.as_db_error() {
                Some(db) if !is_last_word(db) => refused(db),
                _ => Fault::lost(text(&error), writes),
            },
        }
    }
}

impl Fault {
    /// The connection ended with a statement under way.
    pub(super) fn lost(why: impl Into<String>, writes: bool) -> Self {
        let source = io::Error::other(why.into());
        if writes { Self::Unknown(source) } else { Self::Unreachable(source) }
    }

    /// What an error means that came before any statement was sent.
    pub(super) fn dialling(error: &tokio_postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            return refused(db);
        }
        let said = text(error);
        if said.contains("password missing") {
            let why = "the server asks for a password, and the URL has none".to_owned();
            return Self::Refused(Refusal::Permission(why));
        }
        Self::Unreachable(io::Error::other(said))
    }

    /// The fault as callers see it.
    pub(super) fn about(self, op: Op, subject: Subject, endpoint: &Endpoint) -> LedgerError {
        let endpoint = endpoint.clone();
        match self {
            Self::Call(error) => error,
            Self::Missing => LedgerError::NotFound { op, subject, endpoint },
            Self::MissingAttempt(id) => {
                LedgerError::NotFound { op, subject: Subject::Attempt(id), endpoint }
            }
            Self::Differs(why) => LedgerError::Differs { op, subject, endpoint, why },
            Self::Refused(reason) => LedgerError::Refused { op, subject, endpoint, reason },
            Self::Unreachable(source) => {
                LedgerError::Unreachable { op, subject, endpoint, source: source.into() }
            }
            Self::Unknown(source) => {
                LedgerError::Unknown { op, subject, endpoint, source: source.into() }
            }
        }
    }
}

/// Whether the server, or a pooler before it, ends the connection by this: then nobody can tell
/// how far a commit had come.
fn is_last_word(db: &DbError) -> bool {
    matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}

/// What an error of the server means that took the whole statement back.
fn refused(db: &DbError) -> Fault {
    meaning(db.code().code(), words(db))
}

/// What an SQLSTATE means.
fn meaning(code: &str, said: String) -> Fault {
    let reason = match code {
        "25006" => Refusal::ReadOnly(said),
        "42501" => Refusal::Permission(said),
        "53100" | "53200" => Refusal::Full(said),
        "53300" | "53400" | "55P03" | "57014" | "57P01" | "57P02" | "57P03" => {
            Refusal::NotReady(said)
        }
        "XX001" | "XX002" => Refusal::Corrupt(said),
        "3F000" | "42P01" | "42883" | "42703" => {
            Refusal::Corrupt(format!("the ledger's schema is not whole: {said}"))
        }
        "40001" | "40P01" => return Fault::Unreachable(io::Error::other(said)),
        // PgBouncer has this one code for all that it has to say.
        "08P01" if said.contains("authentication failed") || said.contains("no such user") => {
            Refusal::Permission(said)
        }
        "08P01" if said.contains("does not exist") || said.contains("no such database") => {
            Refusal::Other(said)
        }
        other => match &other[..2] {
            "28" => Refusal::Permission(said),
            "53" => Refusal::Full(said),
            "08" | "58" => return Fault::Unreachable(io::Error::other(said)),
            _ => Refusal::Other(said),
        },
    };
    Fault::Refused(reason)
}

/// The server's message, with its detail and its code.
fn words(db: &DbError) -> String {
    let detail = db.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
    format!("{}{detail} [{}]", db.message(), db.code().code())
}

/// The driver's message, with what lies below it.
fn text(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => words(db),
        (None, Some(below)) => format!("{error}: {below}"),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_own_answer() {
        for (code, expected) in [
            ("25006", "read-only"),
            ("28P01", "permission denied"),
            ("28000", "permission denied"),
            ("42501", "permission denied"),
            ("53100", "full"),
            ("53200", "full"),
            ("53300", "not ready"),
            ("57P03", "not ready"),
            ("55P03", "not ready"),
            ("57014", "not ready"),
            ("42P01", "damaged or foreign"),
            ("XX001", "damaged or foreign"),
            ("3D000", "x"),
            ("BL003", "x"),
        ] {
            let Fault::Refused(reason) = meaning(code, "x".to_owned()) else {
                panic!("{code} is a refusal");
            };
            assert!(reason.to_string().starts_with(expected), "{code}: {reason}");
        }
        for code in ["40001", "40P01", "08006", "58030"] {
            let fault = meaning(code, "x".to_owned());
            assert!(matches!(fault, Fault::Unreachable(_)), "{code}: {fault:?}");
        }
    }

    #[test]
    fn what_pgbouncer_says_is_told_apart_by_its_words() {
        for (said, expected) in [
            ("SASL authentication failed", "permission denied"),
            ("password authentication failed", "permission denied"),
            ("no such user: bots", "permission denied"),
            ("database \"bids\" does not exist", "database"),
            ("no such database: bids", "no such database"),
        ] {
            let Fault::Refused(reason) = meaning("08P01", said.to_owned()) else {
                panic!("{said} is a refusal");
            };
            assert!(reason.to_string().starts_with(expected), "{said}: {reason}");
        }
        let fault = meaning("08P01", "query_wait_timeout".to_owned());
        assert!(matches!(fault, Fault::Unreachable(_)), "{fault:?}");
    }

    #[test]
    fn only_a_write_that_was_sent_may_have_applied() {
        for (writes, applied) in [(true, true), (false, false)] {
            let endpoint = Endpoint::new("postgres://h");
            let error = Fault::lost("cut", writes).about(Op::Start, Subject::Ledger, &endpoint);
            assert_eq!(error.may_have_applied(), applied, "{error}");
        }
    }
}
