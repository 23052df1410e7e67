//! [`Archive`] by the statements of `archive` and `admit`.

use std::sync::Arc;

use async_trait::async_trait;
use bidlock_core::WallTime;

use super::desk::Wanted;
use super::pool::{Manner, Session};
use super::{PostgresStore, admit, archive};
use crate::Result;
use crate::archive::{Admitted, Archive, Dossier, Pruned, Standing};
use crate::error::{Op, Subject};
use crate::requests::OperatorNote;
use crate::state::State;
use crate::types::AuditEntry;

#[async_trait]
impl Archive for PostgresStore {
    async fn standing(&self) -> Result<Standing> {
        let (sqls, trusts) = (Arc::clone(&self.sqls), self.trusts_failover);
        let work =
            async move |session: &mut Session| archive::standing(session, &sqls, trusts).await;
        self.read(work).await.map_err(self.explain(Op::Standing, Subject::Ledger))
    }

    async fn counts(&self, now: WallTime) -> Result<Vec<(State, u64)>> {
        let sqls = Arc::clone(&self.sqls);
        let work = async move |session: &mut Session| archive::counts(session, &sqls, now).await;
        let counted = self.desk.call(Wanted::WhileAwaited, Manner::WHOLE, work).await;
        counted.map_err(self.explain(Op::Read, Subject::Ledger))
    }

    async fn dossiers(&self, after: Option<&(String, String)>, limit: u32) -> Result<Vec<Dossier>> {
        let (sqls, after) = (Arc::clone(&self.sqls), after.cloned());
        let work = async move |session: &mut Session| {
            archive::dossiers(session, &sqls, after.as_ref(), limit).await
        };
        let found = self.desk.call(Wanted::WhileAwaited, Manner::WHOLE, work).await;
        found.map_err(self.explain(Op::Export, Subject::Ledger))
    }

    async fn admit(&self, dossier: &Dossier) -> Result<Admitted> {
        let subject = archive::subject_of(dossier);
        let (sqls, given) = (Arc::clone(&self.sqls), dossier.clone());
        let work = async move |session: &mut Session| admit::admit(session, &sqls, &given).await;
        self.write(work).await.map_err(self.explain(Op::Import, subject))
    }

    async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>> {
        let sqls = Arc::clone(&self.sqls);
        let work = async move |session: &mut Session| {
            archive::audit_forward(session, &sqls, after, limit).await
        };
        self.read(work).await.map_err(self.explain(Op::Export, Subject::Ledger))
    }

    async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted> {
        let (sqls, entry) = (Arc::clone(&self.sqls), entry.clone());
        let work =
            async move |session: &mut Session| admit::admit_audit(session, &sqls, &entry).await;
        self.write(work).await.map_err(self.explain(Op::Import, Subject::Ledger))
    }

    async fn prune(&self, before: WallTime, limit: u32, now: WallTime) -> Result<Pruned> {
        // Looked for without any lock, and looked at again under each posting's own.
        let sqls = Arc::clone(&self.sqls);
        let look = async move |session: &mut Session| {
            archive::over_before(session, &sqls, before, limit).await
        };
        let found = self.desk.call(Wanted::Always, Manner::WHOLE, look).await;
        let found = found.map_err(self.explain(Op::Prune, Subject::Ledger))?;
        let more = found.len() >= limit as usize;
        let sqls = Arc::clone(&self.sqls);
        let work = async move |session: &mut Session| {
            archive::prune(session, &sqls, &found, before, now).await
        };
        let manner = Manner { writes: true, ..Manner::WHOLE };
        let attempts = self.desk.call(Wanted::Always, manner, work).await;
        let attempts = attempts.map_err(self.explain(Op::Prune, Subject::Ledger))?;
        Ok(Pruned { attempts, more })
    }

    async fn accept(&self, note: &OperatorNote, now: WallTime) -> Result<()> {
        let (sqls, note) = (Arc::clone(&self.sqls), note.clone());
        let work =
            async move |session: &mut Session| archive::accept(session, &sqls, &note, now).await;
        self.write(work).await.map_err(self.explain(Op::Standing, Subject::Ledger))
    }
}
