use std::io;
use std::sync::Arc;

use bidlock_core::{Endpoint, Refusal};
use rusqlite::ErrorCode;

use crate::error::{LedgerError, Op, Subject};

/// What went wrong below one call or under a whole batch of them.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// Nothing was changed.
    Unreachable(Arc<dyn std::error::Error + Send + Sync>),
    /// The commit gave no answer.
    Unknown(Arc<dyn std::error::Error + Send + Sync>),
    /// Other processes wrote for as long as a call waits; nothing was changed.
    Busy,
    /// The file answers, and will not.
    Refused(Refusal),
}

impl Fault {
    /// What an error of SQLite means that came before the commit.
    pub(super) fn before_commit(error: rusqlite::Error) -> Self {
        if is_busy(&error) {
            return Self::Busy;
        }
        match refusal(&error) {
            Some(reason) => Self::Refused(reason),
            None => Self::Unreachable(Arc::new(error)),
        }
    }

    /// What an error of SQLite means that the commit itself gave.
    pub(super) fn at_commit(error: rusqlite::Error) -> Self {
        Self::Unknown(Arc::new(error))
    }

    /// What an error of the operating system means that came while opening.
    pub(super) fn io(error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => {
                Self::Refused(Refusal::Permission(error.to_string()))
            }
            Kind::StorageFull | Kind::QuotaExceeded => {
                Self::Refused(Refusal::Full(error.to_string()))
            }
            Kind::IsADirectory | Kind::NotADirectory => {
                Self::Refused(Refusal::WrongType(error.to_string()))
            }
            _ => Self::Unreachable(Arc::new(error)),
        }
    }

    /// The thread that owns the file has ended.
    pub(super) fn gone() -> Self {
        Self::Unknown(Arc::new(io::Error::other("the ledger's thread has ended")))
    }

    /// The fault as callers see it.
    pub(super) fn about(self, op: Op, subject: Subject, endpoint: &Endpoint) -> LedgerError {
        let endpoint = endpoint.clone();
        match self {
            Self::Unreachable(source) => {
                LedgerError::Unreachable { op, subject, endpoint, source: source.into() }
            }
            Self::Unknown(source) => {
                LedgerError::Unknown { op, subject, endpoint, source: source.into() }
            }
            Self::Busy => {
                let why = "other processes kept writing to the file; try again".to_owned();
                LedgerError::Refused { op, subject, endpoint, reason: Refusal::NotReady(why) }
            }
            Self::Refused(reason) => LedgerError::Refused { op, subject, endpoint, reason },
        }
    }
}

/// Whether another process is in the way, which passes.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

/// Why SQLite refuses, where it is a refusal.
fn refusal(error: &rusqlite::Error) -> Option<Refusal> {
    use rusqlite::Error as Failed;
    let said = error.to_string();
    let Some(code) = error.sqlite_error_code() else {
        return Some(match error {
            Failed::FromSqlConversionFailure(..)
            | Failed::IntegralValueOutOfRange(..)
            | Failed::InvalidColumnType(..) => Refusal::Corrupt(said),
            _ => Refusal::Other(said),
        });
    };
    Some(match code {
        ErrorCode::PermissionDenied
        | ErrorCode::AuthorizationForStatementDenied
        | ErrorCode::ReadOnly
        | ErrorCode::CannotOpen => Refusal::Permission(said),
        ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt => Refusal::Corrupt(said),
        ErrorCode::DiskFull | ErrorCode::OutOfMemory => Refusal::Full(said),
        ErrorCode::SystemIoFailure => return None,
        _ => Refusal::Other(said),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqlite(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None)
    }

    #[test]
    fn each_kind_of_failure_has_its_own_answer() {
        use rusqlite::ffi;
        for (code, expected) in [
            (ffi::SQLITE_READONLY, "permission denied"),
            (ffi::SQLITE_CANTOPEN, "permission denied"),
            (ffi::SQLITE_NOTADB, "damaged or foreign"),
            (ffi::SQLITE_CORRUPT, "damaged or foreign"),
            (ffi::SQLITE_FULL, "full"),
        ] {
            let Fault::Refused(reason) = Fault::before_commit(sqlite(code)) else {
                panic!("{code} is a refusal");
            };
            assert!(reason.to_string().starts_with(expected), "{reason}");
        }
        let garbled = rusqlite::Error::IntegralValueOutOfRange(3, -1);
        let fault = Fault::before_commit(garbled);
        assert!(matches!(fault, Fault::Refused(Refusal::Corrupt(_))), "{fault:?}");
        let failed = Fault::before_commit(sqlite(ffi::SQLITE_IOERR));
        assert!(matches!(failed, Fault::Unreachable(_)));
    }

    #[test]
    fn a_commit_without_an_answer_may_have_applied() {
        let fault = Fault::at_commit(sqlite(rusqlite::ffi::SQLITE_IOERR));
        let error = fault.about(Op::Start, Subject::Ledger, &Endpoint::new("sqlite:///x"));
        assert!(error.may_have_applied(), "{error}");
    }

    #[test]
    fn what_passes_is_told_from_what_stays() {
        use rusqlite::ffi;
        assert!(is_busy(&sqlite(ffi::SQLITE_BUSY)));
        assert!(is_busy(&sqlite(ffi::SQLITE_PROTOCOL)));
        assert!(!is_busy(&sqlite(ffi::SQLITE_FULL)));
        assert!(!is_busy(&sqlite(ffi::SQLITE_CORRUPT)));
    }

    #[test]
    fn the_operating_systems_refusals_keep_their_kind() {
        for (kind, expected) in [
            (io::ErrorKind::PermissionDenied, "permission denied"),
            (io::ErrorKind::ReadOnlyFilesystem, "permission denied"),
            (io::ErrorKind::StorageFull, "full"),
            (io::ErrorKind::IsADirectory, "wrong type"),
        ] {
            let Fault::Refused(reason) = Fault::io(kind.into()) else {
                panic!("{kind} is a refusal");
            };
            assert!(reason.to_string().starts_with(expected), "{reason}");
        }
    }
}
