use std::fmt::{self, Display};

use crate::Key;

/// What lies under an error: the driver's own words, behind a type that is not the driver's.
pub type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What was being done when a store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Opening the store.
    Open,
    /// Taking a key.
    Acquire,
    /// Extending a lease.
    Renew,
    /// Giving a key back, or leaving its queue.
    Release,
    /// Taking a key from its holder.
    Revoke,
    /// Listing locks, or what was left behind.
    List,
    /// Removing what was left behind.
    Cleanup,
    /// Asking the store how it is.
    Ping,
}

impl Op {
    /// The operation's name, as logs and metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acquire => "acquire",
            Self::Renew => "renew",
            Self::Release => "release",
            Self::Revoke => "revoke",
            Self::List => "list",
            Self::Cleanup => "cleanup",
            Self::Ping => "ping",
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a store is, for people; never with a password in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint(String);

impl Endpoint {
    /// Wraps a text that holds no secret, such as `sqlite:///var/lib/bidlock.db`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a store that answers will not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The caller lacks a right: wrong password, missing permission, unreadable file.
    Permission(String),
    /// The store takes no writes: a replica, or a full disk.
    ReadOnly(String),
    /// The store has no room: memory or disk.
    Full(String),
    /// The store is damaged, or not a store of bidlock at all.
    Corrupt(String),
    /// Something that is not a lock lies under the key.
    WrongType(String),
    /// The store is up but not ready: loading, or running a long script.
    NotReady(String),
    /// The store was written by a newer bidlock.
    Newer(String),
    /// The ledger is an older copy, or another one, than the one that was bid with before (L12).
    Restored(String),
    /// A bound was reached: tokens, waiters, TTL.
    Limit(String),
    /// Any other refusal, in the store's own words.
    Other(String),
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Permission(why) => write!(f, "permission denied: {why}"),
            Self::ReadOnly(why) => write!(f, "read-only: {why}"),
            Self::Full(why) => write!(f, "full: {why}"),
            Self::Corrupt(why) => write!(f, "damaged or foreign: {why}"),
            Self::WrongType(why) => write!(f, "wrong type: {why}"),
            Self::NotReady(why) => write!(f, "not ready: {why}"),
            Self::Newer(why) => write!(f, "written by a newer bidlock: {why}"),
            Self::Restored(why) => write!(f, "restored copy: {why}"),
            Self::Limit(why) => write!(f, "limit reached: {why}"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

/// Shows the key of an error where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About<'a>(pub(crate) Op, pub(crate) Option<&'a Key>);

impl Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(key) => write!(f, "{} {key}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Why a store gave no usable answer. Contention is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Never sent; nothing changed.
    #[error("{}: cannot reach {endpoint}", About(*op, key.as_ref()))]
    Unreachable {
        /// What was being done.
        op: Op,
        /// On which key, where it was on one.
        key: Option<Key>,
        /// At which store.
        endpoint: Endpoint,
        /// What the driver said.
        source: Source,
    },
    /// Sent without a usable answer; it may have taken effect.
    #[error("{}: no answer from {endpoint}", About(*op, key.as_ref()))]
    Unknown {
        /// What was being done.
        op: Op,
        /// On which key, where it was on one.
        key: Option<Key>,
        /// At which store.
        endpoint: Endpoint,
        /// What the driver said.
        source: Source,
    },
    /// The request reached the store after its own deadline, and nothing was done.
    #[error("{}: came too late to {endpoint}", About(*op, key.as_ref()))]
    TooLate {
        /// What was being done.
        op: Op,
        /// On which key, where it was on one.
        key: Option<Key>,
        /// At which store.
        endpoint: Endpoint,
    },
    /// Others kept the store busy for all of the time that the request had; nothing changed.
    #[error("{}: others keep {endpoint} busy", About(*op, key.as_ref()))]
    Busy {
        /// What was being done.
        op: Op,
        /// On which key, where it was on one.
        key: Option<Key>,
        /// At which store.
        endpoint: Endpoint,
        /// What the driver said.
        source: Source,
    },
    /// The store answered, and will not: rights, memory, read-only, wrong type.
    #[error("{}: {endpoint} refuses: {reason}", About(*op, key.as_ref()))]
    Refused {
        /// What was being done.
        op: Op,
        /// On which key, where it was on one.
        key: Option<Key>,
        /// At which store.
        endpoint: Endpoint,
        /// Why.
        reason: Refusal,
    },
}

impl BackendError {
    /// Whether the request may have taken effect all the same.
    #[must_use]
    pub const fn may_have_applied(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Whether asking again, after a pause, can help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unknown { .. }
            | Self::TooLate { .. }
            | Self::Busy { .. } => true,
            Self::Refused { reason, .. } => {
                matches!(reason, Refusal::NotReady(_) | Refusal::ReadOnly(_) | Refusal::Full(_))
            }
        }
    }

    /// Whether only others were in the way: the store itself is well.
    #[must_use]
    pub const fn is_contention(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::TooLate { .. })
    }

    /// What was being done.
    #[must_use]
    pub const fn op(&self) -> Op {
        match self {
            Self::Unreachable { op, .. }
            | Self::Unknown { op, .. }
            | Self::TooLate { op, .. }
            | Self::Busy { op, .. }
            | Self::Refused { op, .. } => *op,
        }
    }

    /// At which store.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Unreachable { endpoint, .. }
            | Self::Unknown { endpoint, .. }
            | Self::TooLate { endpoint, .. }
            | Self::Busy { endpoint, .. }
            | Self::Refused { endpoint, .. } => endpoint,
        }
    }
}
