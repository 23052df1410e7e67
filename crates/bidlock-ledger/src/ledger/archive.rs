use bidlock_core::{InvalidValue, WallTime};

use super::Ledger;
#[cfg(doc)]
use crate::LedgerError;
use crate::Result;
use crate::archive::{Admitted, Dossier, Pruned, Standing};
use crate::requests::{BidQuery, OperatorNote, check_limit};
use crate::state::State;
use crate::types::AuditEntry;
use crate::values::limits;

/// The ledger as a whole.
impl Ledger {
    /// Tells who the ledger is, and what it has forgotten.
    ///
    /// # Errors
    /// The store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn standing(&self) -> Result<Standing> {
        self.store.standing().await
    }

    /// Tells how many attempts are in each state: every state once, in the order of
    /// [`State::ALL`].
    ///
    /// # Errors
    /// The store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn counts(&self) -> Result<Vec<(State, u64)>> {
        let mut counts = self.store.counts(self.wall()).await?;
        let started = BidQuery {
            state: Some(State::Started),
            limit: limits::PAGE_MAX,
            ..BidQuery::default()
        };
        // Those that the store takes for started are few, and some may be in doubt (L5).
        let orphans = self.store.bids(&started, self.wall()).await?;
        let orphans = orphans.iter().filter(|info| self.is_orphan(info)).count() as u64;
        for (state, count) in &mut counts {
            match state {
                State::Started => *count = count.saturating_sub(orphans),
                State::Unknown => *count += orphans,
                _ => {}
            }
        }
        Ok(counts)
    }

    /// Reads one page of postings with all that is known of them, by marketplace and encoded
    /// posting; those of the last one are the next page's `after`. States are as stored.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a limit that is not 1 to 1,000; else the store gave no
    /// answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn dossiers(
        &self,
        after: Option<&(String, String)>,
        limit: u32,
    ) -> Result<Vec<Dossier>> {
        check_limit(limit)?;
        self.store.dossiers(after, limit).await
    }

    /// Takes in what another ledger knows of a posting. Repeating it is harmless.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a dossier that no ledger has written,
    /// [`LedgerError::Differs`] when this ledger knows something else of the posting than the
    /// beginning of it: nothing was changed. Else the store gave no answer: repeat the call.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; repeating it is harmless.
    pub async fn admit(&self, dossier: &Dossier) -> Result<Admitted> {
        dossier.check()?;
        let admitted = self.store.admit(dossier).await?;
        let (marketplace, posting) = (&dossier.marketplace, &dossier.posting_encoded);
        tracing::debug!(%marketplace, %posting, ?admitted, "admitted");
        Ok(admitted)
    }

    /// Reads one page of the audit, oldest first; the last one's number is the next `after`.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a limit that is not 1 to 1,000; else the store gave no
    /// answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>> {
        check_limit(limit)?;
        self.store.audit_forward(after, limit).await
    }

    /// Takes in an entry of another ledger's audit, where it is not known already.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for texts that do not fit; else the store gave no answer: repeat
    /// the call.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; repeating it is harmless.
    pub async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted> {
        entry.check()?;
        self.store.admit_audit(entry).await
    }

    /// Removes postings that are over, `limit` of them at most, whose last step lies before
    /// `before`. From then on a posting that was seen before it is stale (L10).
    ///
    /// A posting that is removed can be bid on again by whoever sees it after `before`, or does
    /// not say when it was seen: choose it so far back that no marketplace still shows them.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a limit that is not 1 to 1,000, or a horizon that lies in the
    /// future; else the store gave no answer: repeat the call.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; the audit tells.
    pub async fn prune(&self, before: WallTime, limit: u32) -> Result<Pruned> {
        check_limit(limit)?;
        let now = self.wall();
        if before > now {
            let shown = format!("{:?} ahead", before.since(now));
            let why = "what is to come cannot be forgotten";
            return Err(InvalidValue::new("horizon", shown, why).into());
        }
        let pruned = self.store.prune(before, limit, now).await?;
        tracing::info!(attempts = pruned.attempts, before_us = before.as_micros(), "pruned");
        Ok(pruned)
    }

    /// Accepts, on a person's word, that this ledger has forgotten attempts, or is another copy
    /// than before: bids are let begin again (L12).
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for texts that do not fit; else the store gave no answer.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; the audit tells.
    pub async fn accept(&self, note: &OperatorNote) -> Result<()> {
        note.check()?;
        self.store.accept(note, self.wall()).await?;
        tracing::warn!(actor = note.actor, "accepted as it is");
        Ok(())
    }
}
