use bidlock_core::LossReason;
use bidlock_ledger::{Outcome, Recorded};

use super::attempt::{Attempt, Phase};
use super::{Placement, Submission};
use crate::Error;
use crate::observe::BidOutcome;

/// A bid whose submission may be under way. Dropping it records its outcome as unknown.
#[derive(Debug)]
pub struct OpenBid {
    pub(super) attempt: Attempt,
    pub(super) outcome: Option<Outcome>,
}

impl OpenBid {
    /// What the submission has to know.
    #[must_use]
    pub const fn submission(&self) -> &Submission {
        &self.attempt.submission
    }

    /// Resolves when the lock is lost. The submission goes on all the same: the ledger protects
    /// the posting now.
    ///
    /// # Cancel safety
    /// Dropping the future forgets nothing.
    pub async fn lock_lost(&self) -> LossReason {
        match &self.attempt.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps how the submission went, then releases the lock. A ledger that gives no answer is
    /// asked again for 30 s.
    ///
    /// # Errors
    /// [`Error::Ledger`] when the outcome could not be kept: the attempt reads as unknown, and
    /// is never repeated by itself.
    ///
    /// # Cancel safety
    /// A dropped call goes on in the background.
    pub async fn finish(mut self, outcome: Outcome) -> Result<Placement, Error> {
        self.outcome = Some(outcome.clone());
        let recorded = self.attempt.guard.record(self.attempt.submission.attempt, &outcome).await;
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(failed) => {
                self.attempt.observe(BidOutcome::Failed);
                return Err(failed);
            }
        };
        self.attempt.observe(BidOutcome::of(&recorded));
        let placement = match recorded {
            Recorded::Written(info) | Recorded::Already(info) => Placement::Recorded(info),
            Recorded::Late(info) => Placement::Late(info),
        };
        self.attempt.settle().await;
        Ok(placement)
    }
}

impl Drop for OpenBid {
    fn drop(&mut self) {
        if self.attempt.phase != Phase::Over {
            // Not the submitter's own word: it may still be sending (L6).
            let left = Outcome::GivenUp { reason: Some("dropped after its start".into()) };
            self.attempt.record_in_background(self.outcome.take().unwrap_or(left));
        }
    }
}
