//! What SQLite's errors mean to a caller.

use std::io;
use std::path::Path;

use bidlock_core::{BackendError, Endpoint, Key, Op, Refusal};
use nix::unistd::{AccessFlags, eaccess};
use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why a request got no answer, before it is known to whom it is told: one failed commit is told
/// to every request in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nothing changed.
    Unreachable(String),
    /// It may have taken effect.
    Unknown(String),
    /// The request's own time was over; nothing changed (I9).
    TooLate,
    /// Others wrote for all of that time; nothing changed.
    Busy(String),
    /// The store will not.
    Refused(Refusal),
}

/// Where in a transaction an error came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the commit was asked for: nothing changed.
    Before,
    /// In the commit.
    Commit,
}

impl Failure {
    /// Reads an error of SQLite.
    pub(crate) fn read(error: &rusqlite::Error, path: &Path, stage: Stage) -> Self {
        let shown = path.display();
        let Some(code) = error.sqlite_error_code() else {
            return Self::Refused(Refusal::Other(format!("{shown}: {error}")));
        };
        match code {
            _ if is_busy(error) => Self::Busy(format!(
                "{shown} was busy for all of the time that the request had; another process may \
                 be stopped in the middle of a change (see fuser {shown})"
            )),
            ErrorCode::ReadOnly => Self::Refused(not_writable(path)),
            ErrorCode::PermissionDenied | ErrorCode::CannotOpen => {
                Self::Refused(not_opened(path, error))
            }
            ErrorCode::DiskFull => Self::Refused(full(path)),
            ErrorCode::NotADatabase => Self::Refused(Refusal::Corrupt(format!(
                "{shown} is not an SQLite database; name another file, or move this one away"
            ))),
            ErrorCode::DatabaseCorrupt => Self::Refused(Refusal::Corrupt(format!(
                "{shown} is damaged; stop every process that uses it and restore it, or move it \
                 and its -wal and -shm files away"
            ))),
            ErrorCode::SystemIoFailure => Self::io(error, path, stage),
            _ => Self::Refused(Refusal::Other(format!("{shown}: {error}"))),
        }
    }

    fn io(error: &rusqlite::Error, path: &Path, stage: Stage) -> Self {
        let extended = error.sqlite_error().map(|error| error.extended_code);
        // The file that processes share beside the database could not grow.
        if extended == Some(ffi::SQLITE_IOERR_SHMSIZE) {
            return Self::Refused(full(path));
        }
        let text = format!("{}: {error}; check the disk", path.display());
        match stage {
            Stage::Before => Self::Unreachable(text),
            Stage::Commit => Self::Unknown(text),
        }
    }

    /// Tells one caller.
    pub(crate) fn tell(self, op: Op, key: Option<&Key>, endpoint: &Endpoint) -> BackendError {
        let (key, endpoint) = (key.cloned(), endpoint.clone());
        match self {
            Self::Unreachable(text) => {
                BackendError::Unreachable { op, key, endpoint, source: text.into() }
            }
            Self::Unknown(text) => BackendError::Unknown { op, key, endpoint, source: text.into() },
            Self::TooLate => BackendError::TooLate { op, key, endpoint },
            Self::Busy(text) => BackendError::Busy { op, key, endpoint, source: text.into() },
            Self::Refused(reason) => BackendError::Refused { op, key, endpoint, reason },
        }
    }
}

/// Whether another process was in the way, so that asking again helps.
pub(crate) fn is_busy(error: &rusqlite::Error) -> bool {
    // "Locking protocol" is what SQLite says after many lost races for its shared memory.
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

/// Reads an error of the operating system on `path`, while doing `what`.
pub(crate) fn refusal_of_io(error: &io::Error, path: &Path, what: &str) -> Refusal {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Refusal::Permission(format!(
            "cannot {what} {shown}; give this user read and write rights to the file and its \
             folder, or name another file"
        )),
        io::ErrorKind::ReadOnlyFilesystem => Refusal::ReadOnly(format!(
            "cannot {what} {shown}: its file system is read-only; name a file elsewhere"
        )),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => full(path),
        io::ErrorKind::IsADirectory => a_folder(path),
        io::ErrorKind::NotADirectory => {
            let above = path.ancestors().skip(1);
            let file = above.filter(|it| it.exists() && !it.is_dir()).last().unwrap_or(path);
            Refusal::WrongType(format!(
                "{} is a file, not a folder; name a file in a folder",
                file.display()
            ))
        }
        _ => Refusal::Other(format!("cannot {what} {shown}: {error}")),
    }
}

/// A folder, where a file was to be.
pub(crate) fn a_folder(path: &Path) -> Refusal {
    Refusal::WrongType(format!("{} is a folder; name a file in it", path.display()))
}

fn full(path: &Path) -> Refusal {
    Refusal::Full(format!(
        "no room left to write {}; free some, nothing was changed",
        path.display()
    ))
}

/// SQLite says "read-only" for a file without rights, a folder without rights and a mount alike.
fn not_writable(path: &Path) -> Refusal {
    match may_use(path) {
        Err(error) => refusal_of_io(&error, path, "write"),
        Ok(()) => Refusal::Permission(format!(
            "cannot write beside {}; give this user rights to its folder and its -wal and -shm \
             files, or name another file",
            path.display()
        )),
    }
}

fn not_opened(path: &Path, error: &rusqlite::Error) -> Refusal {
    let shown = path.display();
    if path.is_dir() {
        return a_folder(path);
    }
    match may_use(path) {
        Err(error) => refusal_of_io(&error, path, "open"),
        Ok(()) => Refusal::Permission(format!(
            "{shown}: {error}; give this user rights to its folder and its -wal and -shm files"
        )),
    }
}

/// Whether this process may read and write the file. It is not opened for that: closing it again
/// would drop the locks that other connections of this process have on it.
/// Source: SQLite, «How To Corrupt», §2.2.
fn may_use(path: &Path) -> io::Result<()> {
    Ok(eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK)?)
}
