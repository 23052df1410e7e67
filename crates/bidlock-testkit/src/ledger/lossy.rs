use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bidlock_core::{Endpoint, Health, Key, WallTime};
use bidlock_ledger::{
    Admitted, Archive, AttemptId, AttemptInfo, AuditAct, AuditEntry, AuditQuery, BidQuery, Dossier,
    HistoryEntry, LedgerError, Op, OperatorNote, Outcome, Pruned, Recorded, ResendRequest,
    Reservation, ReserveRequest, ResolveRequest, Result, SeenSender, Standing, Start, StartRequest,
    State, Store, Subject,
};

/// What becomes of one call that starts an attempt, sends it again or reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is carried out, and its answer lost.
    AnswerLost,
    /// It never arrives, and nobody can tell.
    RequestLost,
    /// It is carried out only when [`LossyLedger::deliver`] is called, and its answer lost.
    Late,
    /// It never arrives, and that is known.
    Unreachable,
}

#[derive(Debug)]
enum Held {
    Start(AttemptId, StartRequest, WallTime),
    Resend(AttemptId, ResendRequest, WallTime),
}

/// A ledger's store whose link a test spoils, call by call.
#[derive(Debug)]
pub struct LossyLedger {
    inner: Arc<dyn Store>,
    starts: Mutex<VecDeque<Fate>>,
    reads: Mutex<VecDeque<Fate>>,
    held: Mutex<Vec<Held>>,
}

impl LossyLedger {
    /// Puts a link before a store, sound until a test says otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, starts: Mutex::default(), reads: Mutex::default(), held: Mutex::default() }
    }

    /// Spoils the next calls that start an attempt or send it again, in this order.
    pub fn spoil_starts(&self, fates: &[Fate]) {
        locked(&self.starts).extend(fates);
    }

    /// Spoils the next calls that read one attempt, in this order.
    pub fn spoil_reads(&self, fates: &[Fate]) {
        locked(&self.reads).extend(fates);
    }

    /// How many calls that read one attempt are still to be spoiled.
    #[must_use]
    pub fn spoiled_reads(&self) -> usize {
        locked(&self.reads).len()
    }

    /// Carries out what was held up, and tells of each call whether it was answered yes.
    ///
    /// # Errors
    /// Those of the store.
    ///
    /// # Cancel safety
    /// What was not carried out by then is lost.
    pub async fn deliver(&self) -> Result<Vec<bool>> {
        let held = std::mem::take(&mut *locked(&self.held));
        let mut answers = Vec::new();
        for call in held {
            let answer = match call {
                Held::Start(id, request, now) => self.inner.start(&id, &request, now).await?,
                Held::Resend(id, request, now) => self.inner.resend(&id, &request, now).await?,
            };
            answers.push(matches!(answer, Start::Yes(_)));
        }
        Ok(answers)
    }

    fn lost(&self, op: Op, id: &AttemptId, fate: Fate) -> LedgerError {
        let (subject, endpoint) = (Subject::Attempt(*id), self.endpoint().clone());
        let source = format!("{fate:?}").into();
        match fate {
            Fate::Unreachable => LedgerError::Unreachable { op, subject, endpoint, source },
            _ => LedgerError::Unknown { op, subject, endpoint, source },
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for LossyLedger {
    async fn open_attempt(&self, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>> {
        self.inner.open_attempt(key, now).await
    }

    async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation> {
        self.inner.reserve(key, request, now).await
    }

    async fn start(&self, id: &AttemptId, request: &StartRequest, now: WallTime) -> Result<Start> {
        let Some(fate) = locked(&self.starts).pop_front() else {
            return self.inner.start(id, request, now).await;
        };
        match fate {
            Fate::AnswerLost => drop(self.inner.start(id, request, now).await?),
            Fate::Late => locked(&self.held).push(Held::Start(*id, *request, now)),
            Fate::RequestLost | Fate::Unreachable => {}
        }
        Err(self.lost(Op::Start, id, fate))
    }

    async fn resend(
        &self,
        id: &AttemptId,
        request: &ResendRequest,
        now: WallTime,
    ) -> Result<Start> {
        let Some(fate) = locked(&self.starts).pop_front() else {
            return self.inner.resend(id, request, now).await;
        };
        match fate {
            Fate::AnswerLost => drop(self.inner.resend(id, request, now).await?),
            Fate::Late => locked(&self.held).push(Held::Resend(*id, request.clone(), now)),
            Fate::RequestLost | Fate::Unreachable => {}
        }
        Err(self.lost(Op::Resend, id, fate))
    }

    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded> {
        self.inner.record(id, outcome, now).await
    }

    async fn resolve(
        &self,
        key: &Key,
        request: &ResolveRequest,
        seen: Option<SeenSender>,
        now: WallTime,
    ) -> Result<AttemptInfo> {
        self.inner.resolve(key, request, seen, now).await
    }

    async fn withdraw(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        self.inner.withdraw(key, note, now).await
    }

    async fn reopen(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        self.inner.reopen(key, note, now).await
    }

    async fn attempt(&self, id: &AttemptId, now: WallTime) -> Result<Option<AttemptInfo>> {
        let fate = locked(&self.reads).pop_front();
        match fate {
            Some(fate) => Err(self.lost(Op::Read, id, fate)),
            None => self.inner.attempt(id, now).await,
        }
    }

    async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>> {
        self.inner.history(key).await
    }

    async fn bids(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>> {
        self.inner.bids(query, now).await
    }

    async fn audit_append(&self, act: &AuditAct, now: WallTime) -> Result<()> {
        self.inner.audit_append(act, now).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        self.inner.audit(query).await
    }

    async fn ping(&self) -> Result<Health> {
        self.inner.ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Archive for LossyLedger {
    async fn standing(&self) -> Result<Standing> {
        self.inner.standing().await
    }

    async fn counts(&self, now: WallTime) -> Result<Vec<(State, u64)>> {
        self.inner.counts(now).await
    }

    async fn dossiers(&self, after: Option<&(String, String)>, limit: u32) -> Result<Vec<Dossier>> {
        self.inner.dossiers(after, limit).await
    }

    async fn admit(&self, dossier: &Dossier) -> Result<Admitted> {
        self.inner.admit(dossier).await
    }

    async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>> {
        self.inner.audit_forward(after, limit).await
    }

    async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted> {
        self.inner.admit_audit(entry).await
    }

    async fn prune(&self, before: WallTime, limit: u32, now: WallTime) -> Result<Pruned> {
        self.inner.prune(before, limit, now).await
    }

    async fn accept(&self, note: &OperatorNote, now: WallTime) -> Result<()> {
        self.inner.accept(note, now).await
    }
}
