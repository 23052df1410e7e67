//! The desk: the connection, and how requests are served at it, in one transaction for all that
//! came meanwhile.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use bidlock_core::Moment;
use rusqlite::Connection;

use crate::Durability;
use crate::failure::{Failure, Stage, is_busy};
use crate::open::{self, Opened};
use crate::store::{Store, World};
use crate::watch::Watch;
use crate::worker::{Call, Job, Message, Reply, more};
use crate::{busy, list};

/// How long the thread waits for a busy file before it looks who else has come, and whose time
/// is over.
const BUSY_SLICE: Duration = Duration::from_millis(50);
/// How long a look at the changes of others may wait for the file.
const LOOK_WITHIN: Duration = Duration::from_millis(50);
/// From so many pages on the thread brings the log into the file, which waits for the disk: where
/// SQLite would do so within a commit.
const LOG_PAGES_MAX: u32 = 1_000;

/// The connection and what belongs to it: whoever has it may serve requests.
#[derive(Debug)]
pub(crate) struct Desk {
    path: PathBuf,
    durability: Durability,
    world: World,
    opened: Opened,
    watch: Watch,
    /// Whether the thread was asked to bring the log into the file.
    log_is_long: bool,
    /// When the thread wakes by itself, if it does.
    thread_wakes: Option<Moment>,
}

type Done = (Job, Result<Reply, Failure>);

impl Desk {
    pub(crate) fn new(
        path: PathBuf,
        durability: Durability,
        world: World,
        opened: Opened,
        watch: Watch,
    ) -> Self {
        let (log_is_long, thread_wakes) = (false, None);
        Self { path, durability, world, opened, watch, log_is_long, thread_wakes }
    }

    pub(crate) const fn durability(&self) -> Durability {
        self.durability
    }

    fn now(&self) -> Moment {
        self.world.platform.clock.now()
    }

    /// How long the thread may sleep.
    pub(crate) fn plan(&mut self) -> Option<Duration> {
        let interval = self.watch.interval();
        self.thread_wakes = interval.map(|interval| self.now() + interval);
        interval
    }

    /// Whether the thread has to wake sooner than it will; asked once for each such change.
    pub(crate) fn needs_thread(&mut self) -> bool {
        let wanted = self.watch.interval().map(|interval| self.now() + interval);
        let sooner = match (wanted, self.thread_wakes) {
            (Some(wanted), Some(wakes)) => wanted < wakes,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if sooner {
            self.thread_wakes = wanted;
        }
        let long = self.opened.log_pages.load(Ordering::Relaxed) >= LOG_PAGES_MAX;
        let newly_long = long && !self.log_is_long;
        self.log_is_long |= long;
        sooner || newly_long
    }

    /// Brings the log into the file when it has become long. Only the thread does, since it waits
    /// for the disk; another process that is reading makes it do less, and the rest comes next
    /// time.
    pub(crate) fn tidy_up(&mut self) {
        if self.opened.log_pages.swap(0, Ordering::Relaxed) < LOG_PAGES_MAX {
            return;
        }
        self.log_is_long = false;
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        if let Err(error) = self.opened.connection.query_row(sql, [], |_| Ok(())) {
            tracing::debug!(%error, "checkpoint of the lock file failed");
        }
    }

    /// Looks at what other processes did, if it is time.
    pub(crate) fn look(&mut self, idle: bool) {
        let now = self.now();
        if idle || self.watch.is_due(now) {
            busy::wait_until(&self.world.platform, now + LOOK_WITHIN);
            if let Err(error) = self.watch.look(&self.opened.connection, &self.world) {
                tracing::debug!(%error, "look at the changes of other processes failed");
            }
        }
    }

    /// Serves a batch without waiting for anybody; says whether it could not, and why does not
    /// matter: the thread finds out.
    pub(crate) fn serve_at_once(&mut self, batch: &mut Vec<Job>) -> bool {
        busy::wait_for_nobody();
        if !self.is_same_file() {
            return true;
        }
        self.drop_late(batch);
        if self.begin(batch).is_err() {
            return true;
        }
        self.transact(batch);
        false
    }

    /// Answers every request of the batch, and those that come while the file is busy; leaves
    /// the batch empty.
    pub(crate) fn serve(&mut self, batch: &mut Vec<Job>, messages: &Receiver<Message>) {
        more(batch, messages);
        if let Err(failure) = self.same_file() {
            return fail(batch.drain(..), &failure);
        }
        let begun = self.now();
        let mut waited = Duration::ZERO;
        loop {
            self.drop_late(batch);
            let Some(first) = batch.iter().map(|job| job.deadline).min() else { return };
            let now = self.now().max(begun + waited);
            let slice = first.since(now).min(BUSY_SLICE);
            busy::wait_until(&self.world.platform, self.now() + slice);
            match self.begin(batch) {
                Ok(()) => return self.transact(batch),
                Err(error) => {
                    let failure = Failure::read(&error, &self.path, Stage::Before);
                    if !is_busy(&error) {
                        return fail(batch.drain(..), &failure);
                    }
                    // A clock that stands still must not hold anybody for ever.
                    waited += slice;
                    let now = self.now().max(begun + waited);
                    fail(batch.extract_if(.., |job| job.deadline <= now), &failure);
                    more(batch, messages);
                }
            }
        }
    }

    fn is_same_file(&self) -> bool {
        open::identity(&self.path).is_ok_and(|identity| identity == self.opened.identity)
    }

    /// A file that was deleted or replaced under us would keep serving this process alone, while
    /// the next one to start takes its locks in another: the same key, held twice.
    fn same_file(&mut self) -> Result<(), Failure> {
        if self.is_same_file() {
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

/// Commits, where a transaction had begun.
fn commit(connection: &Connection, path: &Path) -> Option<Failure> {
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
