//! The one thread that owns the connection: it takes what has been asked for meanwhile, does it
//! in one transaction, and answers after the commit.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, FencingToken, Key, LeaseId, LockInfo, LockQuery, Moment, Ownership,
    RenewRequest, Renewal, Revocation,
};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::Durability;
use crate::failure::{Failure, Stage, is_busy};
use crate::open::{self, Opened};
use crate::pace::Pace;
use crate::store::{Store, World};
use crate::watch::Watch;
use crate::{busy, list};

/// The most requests in one transaction, so that nobody waits long for a commit.
const BATCH_MAX: usize = 256;
/// How long the thread waits for a busy file before it looks who else has come, and whose time
/// is over.
const BUSY_SLICE: Duration = Duration::from_millis(50);
/// How long a look at the changes of others may wait for the file.
const LOOK_WITHIN: Duration = Duration::from_millis(50);

/// What is asked for.
#[derive(Debug)]
pub(crate) enum Call {
    Acquire(AcquireRequest),
    Renew(RenewRequest),
    Release(Key, LeaseId),
    Revoke(Key, FencingToken, bool),
    List(LockQuery),
    Inspect(Key),
    Ping,
}

/// What is answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Attempt(Attempt),
    Renewal(Renewal),
    Ownership(Ownership),
    Revocation(Revocation),
    Locks(Vec<LockInfo>),
    Lock(Box<Option<LockInfo>>),
    Pong,
}

/// One request on its way to the thread.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) call: Call,
    /// After this it must not change anything (I9).
    pub(crate) deadline: Moment,
    pub(crate) answer: oneshot::Sender<Result<Reply, Failure>>,
}

/// What callers and the thread know of each other.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// How many requests were made and not yet answered.
    pub(crate) depth: AtomicUsize,
    pub(crate) pace: Pace,
}

/// The thread's own state.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) path: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) world: World,
    pub(crate) opened: Opened,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) watch: Watch,
}

type Done = (Job, Result<Reply, Failure>);

impl Worker {
    /// Works until nobody can ask any more.
    pub(crate) fn run(mut self) {
        let mut looked = self.now();
        let mut ended = looked;
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let idle = match self.next() {
                Ok(job) => {
                    batch.push(job);
                    batch.extend(self.jobs.try_iter().take(BATCH_MAX - 1));
                    let begun = self.now();
                    let size = self.serve(&mut batch);
                    self.traffic.depth.fetch_sub(size, Ordering::Relaxed);
                    let gap = begun.since(ended);
                    ended = self.now();
                    self.traffic.pace.note(size, ended.since(begun), gap);
                    false
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if idle || self.watch.is_due(looked, ended) {
                looked = self.now();
                busy::wait_until(&self.world.platform, looked + LOOK_WITHIN);
                if let Err(error) = self.watch.look(&self.opened.connection, &self.world) {
                    tracing::debug!(%error, "look at the changes of other processes failed");
                }
            }
        }
    }

    /// Waits for a request, or until it is time to look.
    fn next(&self) -> Result<Job, RecvTimeoutError> {
        let mut soon = None;
        self.traffic.pace.await_request(self.world.platform.clock.as_ref(), || {
            soon = self.jobs.try_recv().ok();
            soon.is_some()
        });
        match (soon, self.watch.interval()) {
            (Some(job), _) => Ok(job),
            (None, None) => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (None, Some(interval)) => self.jobs.recv_timeout(interval),
        }
    }

    fn now(&self) -> Moment {
        self.world.platform.clock.now()
    }

    /// Answers every request of the batch, and those that come while the file is busy; leaves
    /// the batch empty, and returns how many they were.
    fn serve(&mut self, batch: &mut Vec<Job>) -> usize {
        let mut size = batch.len();
        if let Err(failure) = self.same_file() {
            fail(batch.drain(..), &failure);
            return size;
        }
        let begun = self.now();
        let mut waited = Duration::ZERO;
        loop {
            self.drop_late(batch);
            let Some(first) = batch.iter().map(|job| job.deadline).min() else { return size };
            let now = self.now().max(begun + waited);
            let slice = first.since(now).min(BUSY_SLICE);
            busy::wait_until(&self.world.platform, self.now() + slice);
            match self.begin(batch) {
                Ok(()) => {
                    self.transact(batch);
                    return size;
                }
                Err(error) => {
                    let failure = Failure::read(&error, &self.path, Stage::Before);
                    if !is_busy(&error) {
                        fail(batch.drain(..), &failure);
                        return size;
                    }
                    // A clock that stands still must not hold anybody for ever.
                    waited += slice;
                    let now = self.now().max(begun + waited);
                    fail(batch.extract_if(.., |job| job.deadline <= now), &failure);
                    let left = batch.len();
                    batch.extend(self.jobs.try_iter().take(BATCH_MAX - left));
                    size += batch.len() - left;
                }
            }
        }
    }

    /// A file that was deleted or replaced under us would keep serving this process alone, while
    /// the next one to start takes its locks in another: the same key, held twice.
    fn same_file(&mut self) -> Result<(), Failure> {
        let identity = open::identity(&self.path);
        if identity.as_ref().is_ok_and(|identity| *identity == self.opened.identity) {
            return Ok(());
        }
        self.opened = open::open(&self.path, &self.world.platform, self.durability)?;
        tracing::warn!(path = %self.path.display(), "lock file was replaced; opened the new one");
        Err(Failure::Unreachable(format!(
            "{} was deleted or replaced while it was in use: the locks in it are lost, stop its \
             other users; the file that lies there now is used from here on",
            self.path.display()
        )))
    }

    /// I9: a request whose time is over changes nothing.
    fn drop_late(&self, batch: &mut Vec<Job>) {
        let now = self.now();
        fail(batch.extract_if(.., |job| now > job.deadline), &Failure::TooLate);
    }

    fn begin(&self, batch: &[Job]) -> rusqlite::Result<()> {
        if batch.iter().any(|job| job.call.writes()) {
            let sql = "BEGIN IMMEDIATE";
            self.opened.connection.prepare_cached(sql)?.execute([])?;
        }
        Ok(())
    }

    /// Does the batch in the transaction that has begun, commits, answers, and tells the news.
    fn transact(&mut self, batch: &mut Vec<Job>) {
        let connection = &self.opened.connection;
        let mut store = Store::new(connection, &self.world);
        let mut done: Vec<Done> = Vec::with_capacity(batch.len());
        let mut broken = None;
        for job in batch.drain(..) {
            let now = self.world.platform.clock.now();
            if broken.is_some() {
                done.push((job, Err(Failure::TooLate)));
                continue;
            }
            let result = if now > job.deadline || job.is_abandoned() {
                Ok(Err(Failure::TooLate))
            } else {
                store.at(now);
                job.call.run(connection, &self.world, &mut store, now)
            };
            match result {
                Ok(reply) => done.push((job, reply)),
                Err(error) => {
                    broken = Some(Failure::read(&error, &self.path, Stage::Before));
                    done.push((job, Err(Failure::TooLate)));
                }
            }
        }
        let news = store.take_news();
        if let Some(failure) = broken.or_else(|| commit(connection, &self.path)) {
            roll_back(connection);
            tracing::warn!(path = %self.path.display(), ?failure, "lock transaction failed");
            return fail(done.into_iter().map(|(job, _)| job), &failure);
        }
        let now = self.now();
        for (job, result) in done {
            if let Ok(reply) = &result {
                self.watch.note(&job.call, reply, now);
            }
            // A caller that is gone has been told how to clean up.
            drop(job.answer.send(result));
        }
        for (key, lease) in news {
            self.watch.announce(&key, &lease, now);
        }
    }
}

impl Call {
    /// Whether it may change something.
    const fn writes(&self) -> bool {
        matches!(self, Self::Acquire(_) | Self::Renew(_) | Self::Release(..) | Self::Revoke(..))
    }

    fn run(
        &self,
        connection: &Connection,
        world: &World,
        store: &mut Store<'_>,
        now: Moment,
    ) -> rusqlite::Result<Result<Reply, Failure>> {
        Ok(Ok(match self {
            Self::Acquire(request) => match store.acquire(request)? {
                Ok(attempt) => Reply::Attempt(attempt),
                Err(refusal) => return Ok(Err(Failure::Refused(refusal))),
            },
            Self::Renew(request) => Reply::Renewal(store.renew(request)?),
            Self::Release(key, lease) => Reply::Ownership(store.release(key, lease)?),
            Self::Revoke(key, token, at_once) => {
                Reply::Revocation(store.revoke(key, *token, *at_once)?)
            }
            Self::List(query) => Reply::Locks(list::list(connection, world, query, now)?),
            Self::Inspect(key) => {
                Reply::Lock(Box::new(list::inspect(connection, world, key, now)?))
            }
            Self::Ping => {
                let sql = "SELECT version FROM lock_version";
                connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?;
                Reply::Pong
            }
        }))
    }
}

impl Job {
    /// Whether it would take a key for a caller that no longer listens (R9).
    fn is_abandoned(&self) -> bool {
        matches!(self.call, Call::Acquire(_)) && self.answer.is_closed()
    }
}

/// Commits, where a transaction had begun.
fn commit(connection: &Connection, path: &std::path::Path) -> Option<Failure> {
    if connection.is_autocommit() {
        return None;
    }
    let committed = connection.prepare_cached("COMMIT").and_then(|mut sql| sql.execute([]));
    committed.err().map(|error| Failure::read(&error, path, Stage::Commit))
}

fn roll_back(connection: &Connection) {
    if !connection.is_autocommit()
        && let Err(error) = connection.execute_batch("ROLLBACK")
    {
        tracing::warn!(%error, "lock transaction could not be rolled back");
    }
}

/// Tells all of them the same failure.
fn fail(jobs: impl IntoIterator<Item = Job>, failure: &Failure) {
    for job in jobs {
        drop(job.answer.send(Err(failure.clone())));
    }
}
