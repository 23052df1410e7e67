use std::future::Future;

use async_trait::async_trait;
use bidlock_core::WallTime;
use bidlock_ledger::{AttemptId, AttemptInfo, Fingerprint, HistoryEntry};

/// What is known of an attempt whose outcome nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// The attempt's identity: the idempotency key that was sent along.
    pub attempt: AttemptId,
    /// The marketplace; empty for a named key.
    pub marketplace: String,
    /// The posting id or name.
    pub posting: String,
    /// What was to be sent, where the bidder kept its fingerprint.
    pub payload: Option<Fingerprint>,
    /// When its submission was let begin.
    pub started_at: Option<WallTime>,
    /// From when on nothing is sent.
    pub send_by: Option<WallTime>,
    /// The marketplace's name for the bid, where one is known.
    pub reference: Option<String>,
    /// Who was to send it, for people.
    pub holder: String,
    /// The history of the posting, oldest entry first, with that of earlier attempts.
    pub history: Vec<HistoryEntry>,
}

impl Question {
    pub(super) fn about(attempt: &AttemptInfo, history: Vec<HistoryEntry>) -> Self {
        Self {
            attempt: attempt.id,
            marketplace: attempt.marketplace.clone(),
            posting: attempt.posting.clone(),
            payload: attempt.payload,
            started_at: attempt.started_at,
            send_by: attempt.send_by,
            reference: attempt.reference.clone(),
            holder: attempt.holder.clone(),
            history,
        }
    }
}

/// What the marketplace says of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has the bid: the attempt becomes placed.
    Found {
        /// Its name for the bid; what does not fit into 512 bytes is cut.
        reference: Option<String>,
    },
    /// It has refused the bid: the attempt becomes refused, once its sender cannot send any more.
    Refused {
        /// Why; what does not fit into 1,024 bytes is cut.
        reason: Option<String>,
    },
    /// It shows no such bid. This proves nothing, and changes nothing.
    NotFound,
    /// Nobody could tell.
    CannotTell {
        /// Why.
        why: Option<String>,
    },
}

impl Answer {
    /// The answer's name, as JSON says it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Found { .. } => "found",
            Self::Refused { .. } => "refused",
            Self::NotFound => "not_found",
            Self::CannotTell { .. } => "cannot_tell",
        }
    }
}

/// Somebody who can ask a marketplace how an attempt went. Async closures that take a
/// [`Question`] are.
#[async_trait]
pub trait Reconcile: Send + Sync {
    /// Asks about one attempt. It is dropped when it takes longer than
    /// [`ReconcileOptions::ask_timeout`](crate::ReconcileOptions::ask_timeout) or when the
    /// posting's lock is lost; that, and a panic, count as [`Answer::CannotTell`].
    async fn ask(&self, question: &Question) -> Answer;
}

#[async_trait]
impl<F, Fut> Reconcile for F
where
    F: Fn(Question) -> Fut + Send + Sync,
    Fut: Future<Output = Answer> + Send,
{
    async fn ask(&self, question: &Question) -> Answer {
        self(question.clone()).await
    }
}
