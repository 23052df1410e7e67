//! The ledger as a whole, over the same way.

use async_trait::async_trait;
use bidlock_core::WallTime;
use bidlock_ledger::{
    Admitted, Archive, AuditEntry, Dossier, Op, OperatorNote, Pruned, Result, Standing, State,
    Subject,
};

use super::Way;

#[async_trait]
impl Archive for Way {
    async fn standing(&self) -> Result<Standing> {
        self.call(Op::Standing, Subject::Ledger, |way| {
            Box::pin(async move { way.store().standing().await })
        })
        .await
    }

    async fn counts(&self, now: WallTime) -> Result<Vec<(State, u64)>> {
        self.call(Op::Read, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().counts(now).await })
        })
        .await
    }

    async fn dossiers(&self, after: Option<&(String, String)>, limit: u32) -> Result<Vec<Dossier>> {
        let after = after.cloned();
        self.call(Op::Export, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().dossiers(after.as_ref(), limit).await })
        })
        .await
    }

    async fn admit(&self, dossier: &Dossier) -> Result<Admitted> {
        let dossier = dossier.clone();
        self.call(Op::Import, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().admit(&dossier).await })
        })
        .await
    }

    async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>> {
        self.call(Op::Export, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().audit_forward(after, limit).await })
        })
        .await
    }

    async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted> {
        let entry = entry.clone();
        self.call(Op::Import, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().admit_audit(&entry).await })
        })
        .await
    }

    async fn prune(&self, before: WallTime, limit: u32, now: WallTime) -> Result<Pruned> {
        self.call(Op::Prune, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().prune(before, limit, now).await })
        })
        .await
    }

    async fn accept(&self, note: &OperatorNote, now: WallTime) -> Result<()> {
        let note = note.clone();
        self.call(Op::Standing, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().accept(&note, now).await })
        })
        .await
    }
}
