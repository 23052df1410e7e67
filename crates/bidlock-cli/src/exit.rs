//! Exit codes, and the one place where every failure gets its own.

use bidlock::ledger::{LedgerError, State};
use bidlock::{BackendError, Endpoint, Holder, InvalidValue, Refusal};
use serde_json::json;

use crate::child::CannotRun;
use crate::config::ConfigError;
use crate::output::{Output, time, visible};

/// The exit codes of bidlock's own. Source of the numbers: `sysexits.h`, and shells for 126, 127.
pub(crate) mod code {
    /// The command line is wrong.
    pub(crate) const USAGE: u8 = 2;
    /// Placed, refused or withdrawn before.
    pub(crate) const DECIDED: u8 = 10;
    /// An outcome is unknown.
    pub(crate) const IN_DOUBT: u8 = 11;
    /// The marketplace refused.
    pub(crate) const REFUSED: u8 = 12;
    /// Nothing was sent.
    pub(crate) const NOT_SENT: u8 = 13;
    /// The posting was seen too long ago.
    pub(crate) const STALE: u8 = 14;
    /// A store cannot be reached.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// Somebody else held the key for the whole wait.
    pub(crate) const BUSY: u8 = 75;
    /// The lease was lost.
    pub(crate) const LOST: u8 = 76;
    /// A store denies permission.
    pub(crate) const PERMISSION: u8 = 77;
    /// The configuration is wrong.
    pub(crate) const CONFIG: u8 = 78;
}

/// Why bidlock did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What it is, for programs.
    pub(crate) kind: &'static str,
    /// What it is, for people.
    pub(crate) message: String,
    /// What lies under it, outermost first.
    pub(crate) causes: Vec<String>,
    /// The way out.
    pub(crate) hint: Option<String>,
    /// Whether the same call can succeed later without anybody mending anything.
    pub(crate) retryable: bool,
}

const MISSING_STORE: &str = "missing_store";

impl Failure {
    /// A failure without causes.
    pub(crate) fn new(code: u8, kind: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, kind, message, causes: vec![], hint: None, retryable: false }
    }

    /// With the way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// One that can succeed later by itself.
    pub(crate) fn retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// With what lies under it.
    fn because_of(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = error.source();
        while let Some(cause) = next {
            self.causes.push(cause.to_string());
            next = cause.source();
        }
        self
    }

    /// Of a store that was named and is not made yet; a look makes none.
    pub(crate) fn missing_store(message: String) -> Self {
        Self::new(code::CONFIG, MISSING_STORE, message)
    }

    /// Whether it is of such a store.
    pub(crate) fn is_missing_store(&self) -> bool {
        self.kind == MISSING_STORE
    }

    /// The message and what lies under it, in one line.
    pub(crate) fn with_causes(&self) -> String {
        [std::slice::from_ref(&self.message), &self.causes].concat().join(": ")
    }

    /// Writes it to stderr: for people, or as one JSON object.
    pub(crate) fn report(&self, output: &Output) {
        if self.code == 0 {
            return;
        }
        if output.json {
            let object = json!({
                "code": self.code,
                "kind": self.kind,
                "message": self.with_causes(),
                "hint": self.hint,
                "retryable": self.retryable,
            });
            output.stderr(&format!("{object}\n"));
            return;
        }
        let mut text = format!("{} {}\n", output.paint("1;31", "error:"), visible(&self.message));
        for cause in &self.causes {
            text = format!("{text}  caused by: {}\n", visible(cause));
        }
        for (at, line) in self.hint.iter().flat_map(|hint| hint.lines()).enumerate() {
            let word = if at == 0 { output.paint("1;36", "hint:") + " " } else { String::new() };
            text = format!("{text}{word}{}\n", visible(line));
        }
        output.stderr(&text);
    }
}

impl From<CannotRun> for Failure {
    fn from(error: CannotRun) -> Self {
        let (kind, hint) = match &error {
            CannotRun::Empty | CannotRun::NotFound { .. } => {
                ("command_not_found", "check the spelling and PATH, or give the path of the file")
            }
            CannotRun::NotRunnable { .. } => {
                ("command_not_runnable", "check `chmod +x` and the first line of the file")
            }
        };
        Self::new(error.code(), kind, error.to_string()).hint(hint)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let kind = match &error {
            ConfigError::NotBuilt { .. } => "backend_not_built",
            ConfigError::LocalLedger { .. } => "local_ledger",
            ConfigError::Alone { .. } => "keeps_nobody_out",
            _ => "config",
        };
        Self::new(code::CONFIG, kind, error.to_string()).hint(error.hint())
    }
}

impl From<InvalidValue> for Failure {
    fn from(error: InvalidValue) -> Self {
        Self::new(code::USAGE, "invalid", error.to_string())
            .hint("correct the value; nothing was changed")
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        let (code, kind) = match error.kind() {
            // Who stopped reading knows why.
            std::io::ErrorKind::BrokenPipe => (0, "broken_pipe"),
            std::io::ErrorKind::PermissionDenied => (code::PERMISSION, "permission"),
            _ => (code::UNAVAILABLE, "system"),
        };
        Self::new(code, kind, error.to_string()).because_of(&error)
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        if let BackendError::Unreachable { endpoint, source, .. } = &error
            && is_of_settings(&**source)
        {
            return of_settings(endpoint, &error);
        }
        let (code, kind, hint) = match &error {
            BackendError::Unreachable { .. } => {
                (code::UNAVAILABLE, "unreachable", "see `bidlock doctor`; nothing was done")
            }
            BackendError::Unknown { .. } => (
                code::UNAVAILABLE,
                "unknown",
                "it may have taken effect; look with `bidlock locks` before asking again",
            ),
            BackendError::TooLate { .. } | BackendError::Busy { .. } => {
                (code::BUSY, "store_busy", "nothing was done; ask again, or raise --wait")
            }
            BackendError::Refused { reason, endpoint, .. } => refused(reason, endpoint.as_str()),
            _ => (code::UNAVAILABLE, "store", "see the message of the store"),
        };
        Self::new(code, kind, error.to_string())
            .hint(hint)
            .retryable(error.is_retryable())
            .because_of(&error)
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        if let LedgerError::Unreachable { endpoint, source, .. } = &error
            && is_of_settings(&**source)
        {
            return of_settings(endpoint, &error);
        }
        let (code, kind, hint) = match &error {
            LedgerError::Unreachable { .. } => {
                (code::UNAVAILABLE, "unreachable", "see `bidlock doctor`; nothing was done")
            }
            LedgerError::Unknown { .. } => (
                code::UNAVAILABLE,
                "unknown",
                "it may have taken effect; look with `bidlock bids` before asking again",
            ),
            LedgerError::Refused { reason, endpoint, .. } => refused(reason, endpoint.as_str()),
            LedgerError::NotFound { .. } => {
                (code::USAGE, "not_found", "`bidlock bids` lists what is there")
            }
            LedgerError::Differs { .. } => (
                code::CONFIG,
                "differs",
                "nothing was changed; look at both ledgers with `bidlock bids`",
            ),
            LedgerError::NotAllowed { state, .. } if state.is_decided() => {
                (code::DECIDED, "not_allowed", "nothing was changed; see `bidlock bids`")
            }
            LedgerError::NotAllowed { state: State::Abandoned, .. } => {
                (code::USAGE, "not_allowed", "nothing was changed; see `bidlock bids`")
            }
            LedgerError::NotAllowed { .. } => {
                (code::IN_DOUBT, "not_allowed", "nothing was changed; see `bidlock bids`")
            }
            LedgerError::Invalid(value) => return value.clone().into(),
            _ => (code::UNAVAILABLE, "ledger", "see the message of the ledger"),
        };
        let mut message = error.to_string();
        if let LedgerError::NotAllowed { until: Some(until), .. } = &error {
            message = format!("{message}; allowed from {}", time::rfc3339(*until));
        }
        Self::new(code, kind, message).hint(hint).retryable(error.is_retryable()).because_of(&error)
    }
}

impl From<bidlock::Error> for Failure {
    fn from(error: bidlock::Error) -> Self {
        use bidlock::Error;
        let retryable = error.is_retryable();
        if let Error::Held { holder, remaining, .. } | Error::TimedOut { holder, remaining, .. } =
            &error
            && remaining.is_zero()
        {
            return endless(&error, holder);
        }
        let (code, kind, hint) = match error {
            Error::Held { .. } | Error::TimedOut { .. } => {
                (code::BUSY, "busy", "wait longer with --wait, or see `bidlock locks`")
            }
            Error::Lost { .. } => {
                (code::LOST, "lost", "nothing was done; run the same command again")
            }
            Error::Fenced { .. } => (
                code::LOST,
                "fenced",
                "nothing was done; the lock store is behind the ledger: set this machine's clock \
                 right, and name the lock store that the other bidders use, then run it again",
            ),
            Error::Store(error) => return error.into(),
            Error::Ledger(error) => return error.into(),
            Error::Invalid(error) => return error.into(),
            Error::Config(error) => return error.into(),
            _ => (code::UNAVAILABLE, "other", "see the message"),
        };
        Self::new(code, kind, error.to_string()).hint(hint).retryable(retryable)
    }
}

impl From<bidlock::ConfigError> for Failure {
    fn from(error: bidlock::ConfigError) -> Self {
        let (code, hint) = match &error {
            bidlock::ConfigError::Platform(_) => {
                (code::UNAVAILABLE, "the machine has no thread or no /proc to give")
            }
            _ => (code::CONFIG, "see `bidlock help` for the URLs that are understood"),
        };
        Self::new(code, "config", error.to_string()).hint(hint).because_of(&error)
    }
}

/// Whether what lies under an error is a file that the URL names: TLS's are read before anything
/// is contacted, and say so by this kind.
fn is_of_settings(source: &(dyn std::error::Error + 'static)) -> bool {
    let system = source.downcast_ref::<std::io::Error>();
    system.is_some_and(|error| error.kind() == std::io::ErrorKind::InvalidInput)
}

fn of_settings(endpoint: &Endpoint, error: &(dyn std::error::Error + 'static)) -> Failure {
    let message = format!("{endpoint} cannot be used as it is set up");
    Failure::new(code::CONFIG, "config", message)
        .hint("correct the file, or what the URL says of it; nothing was contacted")
        .because_of(error)
}

/// A key that is held by what has no end: no wait is long enough, until somebody ends it.
fn endless(error: &bidlock::Error, holder: &Holder) -> Failure {
    let message = match error {
        bidlock::Error::Held { key, .. } => {
            format!("{key} is held by {holder} without an end")
        }
        other => format!("{other}, and without an end"),
    };
    let hint = if holder.is_foreign() {
        "nothing ends it by itself: its owner must delete it; `bidlock cleanup` says which it is"
    } else {
        "nothing ends it by itself: `bidlock cleanup` shows it, and with --yes gives it an end"
    };
    Failure::new(code::BUSY, "busy", message).hint(hint).retryable(error.is_retryable())
}

/// Whether PostgreSQL has no such database, by itself or through `PgBouncer`.
fn says_no_database(said: &str) -> bool {
    said.contains("[3D000]") || (said.starts_with("database ") && said.contains(" does not exist"))
}

/// Sorts a store's own refusal.
fn refused(reason: &Refusal, endpoint: &str) -> (u8, &'static str, &'static str) {
    match reason {
        Refusal::Permission(_) if endpoint.starts_with("sqlite:") => {
            (code::PERMISSION, "permission", "check the rights of this user, or name another store")
        }
        Refusal::Permission(_) if endpoint.starts_with("postgres:") => (
            code::PERMISSION,
            "permission",
            "check user and password; `bidlock doctor --acl` prints what a role of the ledger \
             needs",
        ),
        Refusal::Permission(_) => (
            code::PERMISSION,
            "permission",
            "check user and password; `bidlock doctor --acl` prints the rights that locks need",
        ),
        // A file that may not be written lacks a right; a server that takes no writes does not.
        Refusal::ReadOnly(_) if endpoint.starts_with("sqlite:") => {
            (code::PERMISSION, "read_only", "make the file and its folder writable for this user")
        }
        Refusal::ReadOnly(_) if endpoint.starts_with("postgres:") => (
            code::UNAVAILABLE,
            "read_only",
            "name the primary, not a standby, and a role that may write: \
             default_transaction_read_only is off for it",
        ),
        Refusal::ReadOnly(_) => (code::UNAVAILABLE, "read_only", "name the primary, not a replica"),
        Refusal::Full(_) => (code::UNAVAILABLE, "full", "make room, then try again"),
        Refusal::Corrupt(_) => (
            code::UNAVAILABLE,
            "corrupt",
            "keep the file for a look at it, and name another one or restore a copy",
        ),
        Refusal::WrongType(_) if endpoint.contains("?table=") => (
            code::CONFIG,
            "old_table",
            "correct --also, or leave it out if the last old worker is gone; nothing was changed",
        ),
        // The path itself is wrong: a folder, or a file where a folder should be.
        Refusal::WrongType(_) if endpoint.starts_with("sqlite:") => {
            (code::CONFIG, "no_file", "name a file, such as sqlite:///var/lib/bidlock.db")
        }
        Refusal::WrongType(_) => {
            (code::CONFIG, "wrong_type", "something else uses the key: set another --prefix")
        }
        Refusal::NotReady(_) => (code::UNAVAILABLE, "not_ready", "try again in a moment"),
        Refusal::Newer(_) => (code::CONFIG, "newer", "use the newer bidlock on this store"),
        Refusal::Restored(_) => (
            code::UNAVAILABLE,
            "restored",
            "nothing was done; `bidlock ledger import` the newest export, or ask the marketplaces \
             what it has forgotten, then `bidlock ledger accept --because …`; see \
             docs/operations.md",
        ),
        Refusal::Other(said) if says_no_database(said) => {
            (code::CONFIG, "no_database", "make the database, or correct the URL; nothing was done")
        }
        Refusal::Limit(_) => (code::UNAVAILABLE, "limit", "see the message for the bound"),
        _ => (code::UNAVAILABLE, "refused", "see the message of the store"),
    }
}

#[cfg(test)]
mod tests;
