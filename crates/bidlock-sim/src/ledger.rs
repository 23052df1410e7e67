//! The ledger as a client sees it: the real store, behind a way that delays, loses and breaks.
//!
//! Each call is carried out at one moment, as one transaction, by SQLite on a file in memory. A
//! request that is on its way is carried out even when its process has ended. The process that
//! carries it out may end after each statement that changes something, at the commit and after
//! it: another one goes on with the files as they were then.

mod archive;
mod carried;
mod file;

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bidlock_core::{BoxFuture, Endpoint, Health, Key, WallTime};
use bidlock_ledger::{
    AttemptId, AttemptInfo, AuditAct, AuditEntry, AuditQuery, BidQuery, HistoryEntry, LedgerError,
    Op, OperatorNote, Outcome, Recorded, ResendRequest, Reservation, ReserveRequest,
    ResolveRequest, Result, SeenSender, SqliteStore, Start, StartRequest, Store, Subject,
};
use tokio::sync::oneshot;

use crate::exec::{ProcessId, Queue};
use crate::facts::Watch;
use crate::rand::Rand;
use crate::time::{Micros, Time};
use file::block_on;
pub(crate) use file::{File, Site};

/// The process number of the world itself, which never ends.
pub(crate) const WORLD: u64 = 0;

/// What is wrong with the way to the ledger.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// Until when it cannot be reached.
    pub(crate) down: Micros,
    /// Until when requests and answers get lost.
    pub(crate) loses: Micros,
    /// How long it cannot be reached once its process has ended, and whether the caller's ends
    /// with it, as it does where both are one.
    pub(crate) end: (u64, bool),
    /// A caller's process that has ended.
    pub(crate) ended: Option<ProcessId>,
}

/// The way to the ledger.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) site: Site,
    /// Whose way it is.
    pub(crate) process: ProcessId,
    pub(crate) time: Time,
    pub(crate) queue: Queue,
    pub(crate) rand: Arc<Mutex<Rand>>,
    pub(crate) trouble: Arc<Mutex<Trouble>>,
    pub(crate) watch: Watch,
    pub(crate) faults: Faults,
    pub(crate) endpoint: Endpoint,
}

/// What a store does that is not sound, when a test asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// An attempt in doubt is closed by a bidder that comes along.
    pub(crate) doubt_ages: bool,
    /// A start without an answer counts as one.
    pub(crate) starts_by_hope: bool,
    /// An outcome is taken from who holds the lock, and from nobody else.
    pub(crate) records_by_lease: bool,
}

/// How one call goes.
struct Journey {
    there: u64,
    back: u64,
    /// Whether the request, or its answer, gets lost.
    lost: (bool, bool),
}

impl Way {
    pub(crate) fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> Arc<SqliteStore> {
        self.site.store()
    }

    fn is_down(&self) -> bool {
        self.trouble().down > self.time.now()
    }

    fn journey(&self) -> Option<Journey> {
        let mut rand = self.rand.lock().unwrap_or_else(PoisonError::into_inner);
        let (trouble, now) = (self.trouble(), self.time.now());
        if trouble.down > now {
            return None;
        }
        let loses = trouble.loses > now;
        let mut lost = || loses && rand.chance(300);
        let lost = (lost(), lost());
        let mut length =
            || if rand.chance(30) { rand.range(5_000, 80_000) } else { rand.range(100, 1_500) };
        Some(Journey { there: length(), back: length(), lost })
    }

    /// Sends a request, which is carried out whatever becomes of the caller.
    async fn call<T, F>(&self, op: Op, subject: Subject, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a Self) -> BoxFuture<'a, Result<T>> + Send + 'static,
    {
        let endpoint = self.endpoint.clone();
        let Some(journey) = self.journey() else {
            self.time.after(1_000).await;
            let source = "connection refused".into();
            return Err(LedgerError::Unreachable { op, subject, endpoint, source });
        };
        let (answer, answered) = oneshot::channel();
        let way = self.clone();
        self.queue.spawn(
            WORLD,
            Box::pin(async move {
                way.time.after(journey.there).await;
                if journey.lost.0 || way.is_down() {
                    return;
                }
                way.site.begin();
                let done = block_on(work(&way));
                way.site.done();
                if way.ended() {
                    return;
                }
                way.time.after(journey.back).await;
                if !journey.lost.1 {
                    // Its caller may have gone.
                    drop(answer.send(done));
                }
            }),
        );
        if let Ok(answer) = answered.await {
            return answer;
        }
        self.time.after(20_000).await;
        let source = "connection reset".into();
        Err(LedgerError::Unknown { op, subject, endpoint, source })
    }
}

fn posting(key: &Key) -> Subject {
    Subject::Posting(key.clone())
}

#[async_trait]
impl Store for Way {
    async fn open_attempt(&self, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>> {
        let key = key.clone();
        self.call(Op::ShouldBid, posting(&key), move |way| {
            Box::pin(async move { way.store().open_attempt(&key, now).await })
        })
        .await
    }

    async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation> {
        let (key, request) = (key.clone(), request.clone());
        self.call(Op::Reserve, posting(&key), move |way| {
            Box::pin(async move { way.reserved(&key, request, now).await })
        })
        .await
    }

    async fn start(&self, id: &AttemptId, request: &StartRequest, now: WallTime) -> Result<Start> {
        let (id, request) = (*id, *request);
        let done = self.call(Op::Start, Subject::Attempt(id), move |way| {
            Box::pin(async move { way.started(&id, &request, now).await })
        });
        let done = done.await;
        if self.faults.starts_by_hope
            && done.is_err()
            && let Ok(Some(info)) = self.store().attempt(&id, now).await
        {
            return Ok(Start::Yes(info));
        }
        done
    }

    async fn resend(
        &self,
        id: &AttemptId,
        request: &ResendRequest,
        now: WallTime,
    ) -> Result<Start> {
        let (id, request) = (*id, request.clone());
        self.call(Op::Resend, Subject::Attempt(id), move |way| {
            Box::pin(async move { way.resent(&id, &request, now).await })
        })
        .await
    }

    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded> {
        let (id, outcome) = (*id, outcome.clone());
        self.call(Op::Record, Subject::Attempt(id), move |way| {
            Box::pin(async move { way.recorded(&id, &outcome, now).await })
        })
        .await
    }

    async fn resolve(
        &self,
        key: &Key,
        request: &ResolveRequest,
        seen: Option<SeenSender>,
        now: WallTime,
    ) -> Result<AttemptInfo> {
        let (key, request) = (key.clone(), request.clone());
        self.call(Op::Resolve, posting(&key), move |way| {
            Box::pin(async move {
                let done = way.lived(way.store().resolve(&key, &request, seen, now).await);
                way.by_hand(done)
            })
        })
        .await
    }

    async fn withdraw(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let (key, note) = (key.clone(), note.clone());
        self.call(Op::Withdraw, posting(&key), move |way| {
            Box::pin(async move {
                let done = way.lived(way.store().withdraw(&key, &note, now).await);
                way.by_hand(done)
            })
        })
        .await
    }

    async fn reopen(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let (key, note) = (key.clone(), note.clone());
        self.call(Op::Reopen, posting(&key), move |way| {
            Box::pin(async move {
                let done = way.lived(way.store().reopen(&key, &note, now).await);
                way.by_hand(done)
            })
        })
        .await
    }

    async fn attempt(&self, id: &AttemptId, now: WallTime) -> Result<Option<AttemptInfo>> {
        let id = *id;
        self.call(Op::Read, Subject::Attempt(id), move |way| {
            Box::pin(async move { way.store().attempt(&id, now).await })
        })
        .await
    }

    async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>> {
        let key = key.clone();
        self.call(Op::Read, posting(&key), move |way| {
            Box::pin(async move { way.store().history(&key).await })
        })
        .await
    }

    async fn bids(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>> {
        let query = query.clone();
        self.call(Op::Read, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().bids(&query, now).await })
        })
        .await
    }

    async fn audit_append(&self, act: &AuditAct, now: WallTime) -> Result<()> {
        let act = act.clone();
        self.call(Op::Audit, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().audit_append(&act, now).await })
        })
        .await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let query = query.clone();
        self.call(Op::Audit, Subject::Ledger, move |way| {
            Box::pin(async move { way.store().audit(&query).await })
        })
        .await
    }

    async fn ping(&self) -> Result<Health> {
        self.store().ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl fmt::Debug for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journey").field("lost", &self.lost).finish_non_exhaustive()
    }
}
