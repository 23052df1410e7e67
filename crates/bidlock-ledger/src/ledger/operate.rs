use bidlock_core::Key;

use super::Ledger;
use crate::Result;
use crate::error::Op;
use crate::requests::{AuditAct, AuditQuery, OperatorNote, ResolveRequest, SeenSender};
use crate::types::{AttemptInfo, AuditEntry};
#[cfg(doc)]
use crate::{LedgerError, Outcome};

/// What operators do by hand.
impl Ledger {
    /// Ends the doubt about a posting's attempt, on an operator's word (L6).
    ///
    /// A bid that was found is proof, and waits for nothing. «Refused» and «not sent» wait for
    /// the send-by and the visibility lag, and for the end of the sender's process, unless the
    /// submitter itself has recorded [`Outcome::Unknown`]. «Not sent» also needs a word about a
    /// sender that cannot be seen from here, and the attempt's id at a posting that has had
    /// several.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`] when the posting has no attempt, or not the one that is named;
    /// [`LedgerError::NotAllowed`] when the open one is another, is not in doubt, its time has
    /// not come, or its sender may still send: the [`Obstacle`](crate::Obstacle) says which.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; the audit tells.
    pub async fn resolve(&self, key: &Key, request: &ResolveRequest) -> Result<AttemptInfo> {
        request.check()?;
        let open = self.open_attempt(Op::Resolve, key, self.wall()).await?;
        // The process of an attempt never changes, and an ended one never comes back: what is
        // seen here holds until the store looks again, at this attempt and no other.
        let seen = open.map(|open| SeenSender {
            attempt: open.id,
            liveness: self.platform.processes.liveness(&open.process),
        });
        let done = self.noted(self.store.resolve(key, request, seen, self.wall()).await)?;
        let actor = &request.note.actor;
        tracing::warn!(attempt = %done.id, state = %done.state, actor, "resolved");
        Ok(done)
    }

    /// Notes that a placed bid was taken back at the marketplace.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`] when the posting has no attempt, [`LedgerError::NotAllowed`]
    /// when it is not placed, or none is open.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; the audit tells.
    pub async fn withdraw(&self, key: &Key, note: &OperatorNote) -> Result<AttemptInfo> {
        note.check()?;
        let done = self.noted(self.store.withdraw(key, note, self.wall()).await)?;
        tracing::warn!(attempt = %done.id, actor = note.actor, "withdrawn");
        Ok(done)
    }

    /// Lets a posting be tried again whose bid was refused or withdrawn.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`] when the posting has no attempt, [`LedgerError::NotAllowed`]
    /// when it is neither refused nor withdrawn, or none is open.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; the audit tells.
    pub async fn reopen(&self, key: &Key, note: &OperatorNote) -> Result<AttemptInfo> {
        note.check()?;
        let done = self.noted(self.store.reopen(key, note, self.wall()).await)?;
        tracing::warn!(attempt = %done.id, actor = note.actor, "reopened");
        Ok(done)
    }

    /// Appends an act that happened outside the ledger, such as a revocation, to the audit.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for texts that do not fit; else the store gave no answer.
    ///
    /// # Cancel safety
    /// The entry may be written after the future was dropped.
    pub async fn audit_append(&self, act: &AuditAct) -> Result<()> {
        act.check()?;
        self.noted(self.store.audit_append(act, self.wall()).await)
    }

    /// Reads one page of the audit, newest first; the last one's number is the next `after`.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a bad filter; else the store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        query.check()?;
        self.noted(self.store.audit(query).await)
    }
}
