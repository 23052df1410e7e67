use std::time::Duration;

use bidlock_core::{BackendError, FencingToken, Holder, InvalidValue, Key, LossReason};
use bidlock_ledger::LedgerError;

use crate::open::ConfigError;

/// Why something could not be done, one variant for each thing that a caller may do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else has the key, and the caller would not wait.
    #[error("{key} is held by {holder} for {} more", short(*remaining))]
    Held {
        /// What was asked for.
        key: Key,
        /// Who has it.
        holder: Box<Holder>,
        /// When it ends unless it is renewed.
        remaining: Duration,
    },
    /// Somebody else had the key for the whole wait.
    #[error("{key} is still held by {holder} after a wait of {}", short(*waited))]
    TimedOut {
        /// What was asked for.
        key: Key,
        /// Who had it last.
        holder: Box<Holder>,
        /// When it ends unless it is renewed, as of the last look.
        remaining: Duration,
        /// How long the caller waited.
        waited: Duration,
    },
    /// The lease ended before the caller was done.
    #[error("the lease of {key} was lost: {reason}")]
    Lost {
        /// What was held.
        key: Key,
        /// Why it is no longer.
        reason: LossReason,
    },
    /// The ledger has seen a higher token for the posting: the caller's lease is not the newest.
    #[error("{key}: the ledger has seen token {seen}, above {token} of this lease")]
    Fenced {
        /// What was held.
        key: Key,
        /// The caller's token.
        token: FencingToken,
        /// The highest token that the ledger knows.
        seen: FencingToken,
    },
    /// The lock store gave no answer, or refused.
    #[error(transparent)]
    Store(#[from] BackendError),
    /// The ledger gave no answer, or refused.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A value was refused before anything was done.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    /// A store cannot be set up as it was asked for.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Error {
    pub(crate) fn lost(key: &Key, reason: LossReason) -> Self {
        Self::Lost { key: key.clone(), reason }
    }

    /// Whether the same call, made again later, can succeed without anybody mending anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Held { .. } | Self::TimedOut { .. } | Self::Lost { .. } | Self::Fenced { .. } => {
                true
            }
            Self::Store(source) => source.is_retryable(),
            Self::Ledger(source) => source.is_retryable(),
            Self::Invalid(_) | Self::Config(_) => false,
        }
    }
}

/// A length as people say it, to a tenth of a second.
fn short(length: Duration) -> String {
    let millis = length.as_millis();
    if millis < 1_000 {
        format!("{millis}ms")
    } else {
        format!("{}.{}s", millis / 1_000, millis % 1_000 / 100)
    }
}
