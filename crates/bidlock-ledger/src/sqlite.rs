//! The ledger in one SQLite file, which several processes write to and the lock store may share.
//!
//! A thread of its own has the connection that writes, another one the connection that reads;
//! the runtime of a caller is never blocked. A commit is on disk before its answer
//! (`synchronous=FULL`), and calls that wait at the same time share one.

mod admit;
mod archive;
mod doctor;
mod fault;
mod file;
mod folders;
mod operate;
mod patience;
mod read;
mod rows;
mod step;
mod watched;
mod worker;
mod write;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use async_trait::async_trait;
use bidlock_core::{Clock, Endpoint, Health, Key, Platform, WallTime};

use crate::error::{Op, Subject};
use crate::requests::{
    AuditAct, AuditQuery, BidQuery, OperatorNote, Outcome, ResendRequest, ReserveRequest,
    ResolveRequest, SeenSender, StartRequest,
};
use crate::store::Store;
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry, Recorded, Reservation, Start};
use crate::{AttemptId, LedgerError, Result};
pub use doctor::SqliteDoctor;
use fault::Fault;
use patience::Patience;
pub use watched::SqliteStep;
use watched::Watcher;
use worker::{Fail, Job, Wanted, Worker};
use writer::Writer;

/// The ledger in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    endpoint: Endpoint,
    writer: Worker,
    reader: Worker,
    clock: Arc<dyn Clock>,
    /// The version of the schema that was there; 0 where it was made.
    from: u32,
}

/// Where a file is, for people.
pub(crate) fn endpoint_of(path: &Path) -> Endpoint {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Endpoint::new(format!("sqlite://{}", whole.display()))
}

impl SqliteStore {
    /// Opens a file, made with access for its owner only where it is missing. Blocks for as long
    /// as another process changes the file's schema, up to 10 s.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when the file may not be read and written, is not a database, is
    /// damaged, or was written by a newer version; [`LedgerError::Unreachable`] for what else the
    /// operating system says.
    pub fn open(path: &Path, platform: &Platform) -> Result<Self> {
        let endpoint = endpoint_of(path);
        Self::start(path, platform, endpoint.clone(), None)
            .map_err(|fault| fault.about(Op::Open, Subject::Ledger, &endpoint))
    }

    /// Opens a file as [`SqliteStore::open`] does, where a ledger of this version is in it; makes
    /// and changes nothing.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn find(path: &Path, platform: &Platform) -> Result<Option<Self>> {
        let endpoint = endpoint_of(path);
        let is_there = file::is_there(path, &Patience::new(platform))
            .map_err(|fault| fault.about(Op::Open, Subject::Ledger, &endpoint))?;
        is_there.then(|| Self::open(path, platform)).transpose()
    }

    /// The version of the schema that was there when it was opened; none where this has made it.
    pub(crate) fn found(&self) -> Option<u32> {
        Some(self.from).filter(|from| *from > 0)
    }

    /// Opens a file as [`SqliteStore::open`] does, and calls `told` within each transaction, after
    /// every row that it has changed and before its commit. What the files are at that moment is
    /// what a process leaves that ends there.
    #[doc(hidden)]
    pub fn open_watched(
        path: &Path,
        platform: &Platform,
        told: impl Fn(SqliteStep) + Send + Sync + 'static,
    ) -> Result<Self> {
        let endpoint = endpoint_of(path);
        Self::start(path, platform, endpoint.clone(), Some(&Watcher::new(told)))
            .map_err(|fault| fault.about(Op::Open, Subject::Ledger, &endpoint))
    }

    fn start(
        path: &Path,
        platform: &Platform,
        endpoint: Endpoint,
        watcher: Option<&Watcher>,
    ) -> std::result::Result<Self, Fault> {
        let path = std::path::absolute(path).map_err(Fault::io)?;
        let patience = Patience::new(platform);
        let (mut connection, identity, from) = file::open_for_writing(&path, &patience)?;
        if let Some(watcher) = watcher {
            watcher.watch(&mut connection).map_err(Fault::before_commit)?;
        }
        let writer =
            Writer { connection, identity, path: path.clone(), patience: patience.clone() };
        let serve = move |jobs: &_| writer.serve(jobs);
        let writer = Worker::start("bidlock-ledger", patience.clone(), serve)?;
        let serve = {
            let patience = patience.clone();
            move |jobs: &_| serve_reads(jobs, &path, &patience)
        };
        let reader = Worker::start("bidlock-reader", patience, serve)?;
        Ok(Self { endpoint, writer, reader, clock: Arc::clone(&platform.clock), from })
    }

    fn explain(&self, op: Op, subject: Subject) -> impl FnOnce(Fail) -> LedgerError + '_ {
        move |fail| match fail {
            Fail::Call(error) => error,
            Fail::File(fault) => fault.about(op, subject, &self.endpoint),
        }
    }
}

/// Reads for as long as somebody can ask; opens the file when the first one does.
fn serve_reads(jobs: &Receiver<Job>, path: &Path, patience: &Patience) {
    let mut opened = None;
    while let Ok(job) = jobs.recv() {
        if opened.is_none() {
            match file::open_for_reading(path, patience) {
                Ok(connection) => opened = Some(connection),
                Err(fault) => {
                    job.fail(fault);
                    continue;
                }
            }
        }
        if let Some(connection) = &opened {
            let none = job.run(connection);
            debug_assert!(none.is_none(), "a read has nothing to commit");
        }
    }
}

fn about(key: &Key) -> Subject {
    Subject::Posting(key.clone())
}

#[async_trait]
impl Store for SqliteStore {
    async fn open_attempt(&self, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>> {
        let asked = key.clone();
        let work = move |db: &_| Ok(read::open_attempt(db, &asked)?.map(|it| it.read_at(now)));
        self.reader.read(work).await.map_err(self.explain(Op::Read, about(key)))
    }

    async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation> {
        let (asked, request) = (key.clone(), request.clone());
        let work = move |db: &_| write::reserve(db, &asked, &request, now);
        let done = self.writer.write(Wanted::WhileAwaited, work).await;
        done.map_err(self.explain(Op::Reserve, about(key)))
    }

    async fn start(&self, id: &AttemptId, request: &StartRequest, now: WallTime) -> Result<Start> {
        let (id, request, endpoint) = (*id, *request, self.endpoint.clone());
        let work = move |db: &_| write::start(db, &id, &request, now, &endpoint);
        let done = self.writer.write(Wanted::WhileAwaited, work).await;
        done.map_err(self.explain(Op::Start, Subject::Attempt(id)))
    }

    async fn resend(
        &self,
        id: &AttemptId,
        request: &ResendRequest,
        now: WallTime,
    ) -> Result<Start> {
        let (id, request, endpoint) = (*id, request.clone(), self.endpoint.clone());
        let work = move |db: &_| write::resend(db, &id, &request, now, &endpoint);
        let done = self.writer.write(Wanted::WhileAwaited, work).await;
        done.map_err(self.explain(Op::Resend, Subject::Attempt(id)))
    }

    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded> {
        let (id, outcome, endpoint) = (*id, outcome.clone(), self.endpoint.clone());
        let work = move |db: &_| write::record(db, &id, &outcome, now, &endpoint);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Record, Subject::Attempt(id)))
    }

    async fn resolve(
        &self,
        key: &Key,
        request: &ResolveRequest,
        seen: Option<SeenSender>,
        now: WallTime,
    ) -> Result<AttemptInfo> {
        let (asked, request, endpoint) = (key.clone(), request.clone(), self.endpoint.clone());
        let work = move |db: &_| operate::resolve(db, &asked, &request, seen, now, &endpoint);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Resolve, about(key)))
    }

    async fn withdraw(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let (asked, note, endpoint) = (key.clone(), note.clone(), self.endpoint.clone());
        let work = move |db: &_| operate::withdraw(db, &asked, &note, now, &endpoint);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Withdraw, about(key)))
    }

    async fn reopen(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let (asked, note, endpoint) = (key.clone(), note.clone(), self.endpoint.clone());
        let work = move |db: &_| operate::reopen(db, &asked, &note, now, &endpoint);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Reopen, about(key)))
    }

    async fn attempt(&self, id: &AttemptId, now: WallTime) -> Result<Option<AttemptInfo>> {
        let id = *id;
        let work = move |db: &_| Ok(read::by_id(db, &id)?.map(|it| it.read_at(now)));
        self.reader.read(work).await.map_err(self.explain(Op::Read, Subject::Attempt(id)))
    }

    async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>> {
        let asked = key.clone();
        let work = move |db: &_| read::history(db, &asked);
        self.reader.read(work).await.map_err(self.explain(Op::Read, about(key)))
    }

    async fn bids(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>> {
        let (query, endpoint) = (query.clone(), self.endpoint.clone());
        let work = move |db: &_| read::bids(db, &query, now, &endpoint);
        self.reader.read(work).await.map_err(self.explain(Op::Read, Subject::Ledger))
    }

    async fn audit_append(&self, act: &AuditAct, now: WallTime) -> Result<()> {
        let subject = act.key.as_ref().map_or(Subject::Ledger, about);
        let act = act.clone();
        let work = move |db: &_| operate::audit_append(db, &act, now);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Audit, subject))
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let query = query.clone();
        let work = move |db: &_| read::audit(db, &query);
        self.reader.read(work).await.map_err(self.explain(Op::Audit, Subject::Ledger))
    }

    async fn ping(&self) -> Result<Health> {
        let asked = self.clock.now();
        let work = |db: &rusqlite::Connection| {
            Ok(db.query_row("SELECT version FROM ledger_schema", [], |row| row.get::<_, i64>(0))?)
        };
        self.reader.read(work).await.map_err(self.explain(Op::Ping, Subject::Ledger))?;
        Ok(Health {
            server: "sqlite".to_owned(),
            version: rusqlite::version().to_owned(),
            role: "embedded".to_owned(),
            latency: self.clock.now().since(asked),
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}
