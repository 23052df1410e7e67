use std::time::Duration;

use bidlock_core::{Refusal, WallTime};

use super::{Ledger, relabel};
use crate::Result;
use crate::archive::Standing;
use crate::error::{LedgerError, Op, Subject};
use crate::requests::Freshness;

/// Whether this is the ledger that it was, and what it has forgotten.
impl Ledger {
    /// The age of a sighting that is too old for the caller, or lies before the horizon (L10).
    pub(super) async fn stale_at(
        &self,
        freshness: &Freshness,
        now: WallTime,
    ) -> Result<Option<Duration>> {
        let stale = freshness.stale_at(now);
        let (None, Some(seen_at)) = (stale, freshness.seen_at) else { return Ok(stale) };
        let standing = relabel(Op::ShouldBid, self.noted(self.store.standing().await))?;
        let forgotten = standing.pruned_before.is_some_and(|horizon| seen_at < horizon);
        Ok(forgotten.then(|| now.since(seen_at)))
    }

    /// Tells why the ledger gives nothing out: it does not know what this machine saw started in
    /// it, or says by itself that it is another copy (L12). `None` when nothing speaks against it.
    ///
    /// # Errors
    /// The store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn forgotten(&self) -> Result<Option<String>> {
        let standing = self.standing().await?;
        self.missed(Op::Standing, &standing, self.wall()).await
    }

    /// Tells why what earlier processes of this machine remember of this ledger cannot be read: a
    /// restored copy may go unnoticed then (L12). `None` when it can, or nothing was left.
    ///
    /// # Errors
    /// The store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn marks_unreadable(&self) -> Result<Option<String>> {
        Ok(self.marks.unreadable(self.standing().await?.id))
    }

    /// Tells why a mark of earlier processes could not be read when the ledger was held against it,
    /// before its first bid. Asks nothing of the store or the disk, unlike
    /// [`Ledger::marks_unreadable`].
    #[must_use]
    pub fn mark_unread(&self) -> Option<String> {
        self.marks.unread()
    }

    async fn missed(&self, op: Op, standing: &Standing, now: WallTime) -> Result<Option<String>> {
        if let Some(why) = &standing.changed {
            return Ok(Some(why.clone()));
        }
        for mark in self.marks.of(standing.id) {
            let found = relabel(op, self.store.attempt(&mark.attempt, now).await)?;
            if let Some(why) = mark.missed(found.as_ref(), standing, now) {
                return Ok(Some(why));
            }
        }
        Ok(None)
    }

    /// Refuses to go on with a ledger that has forgotten what was started in it (L12). It is
    /// looked at before the first bid, and again after the store has failed.
    pub(super) async fn known_ledger(
        &self,
        op: Op,
        subject: &Subject,
        now: WallTime,
    ) -> Result<()> {
        let Some(faults) = self.marks.unseen() else { return Ok(()) };
        let standing = relabel(op, self.store.standing().await)?;
        if let Some(why) = self.missed(op, &standing, now).await? {
            let (subject, endpoint) = (subject.clone(), self.endpoint().clone());
            let reason = Refusal::Restored(why);
            return Err(LedgerError::Refused { op, subject, endpoint, reason });
        }
        self.marks.found_sound(faults, standing.id);
        Ok(())
    }

    /// What the store answers; when it fails, the ledger is looked at again before a bid (L12).
    pub(super) fn noted<T>(&self, answer: Result<T>) -> Result<T> {
        if answer.as_ref().is_err_and(LedgerError::is_of_the_store) {
            self.marks.doubt();
        }
        answer
    }
}
