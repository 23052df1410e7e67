//! The thread that reads and writes the old file, so that no caller's runtime ever waits for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use bidlock_core::{
    Clock, Endpoint, FencingToken, Key, Moment, Op, Platform, Refusal, Result, Ttl,
};
use tokio::sync::oneshot;

use super::open::{self, Opened};
use super::rows::Rows;
use super::{Place, Seen};
use crate::failure::{Failure, Stage, refusal_of_io};
use crate::{WITHIN_DEFAULT, busy, thread_ended};

/// The most changes in one transaction: others shall not wait long for it.
const BATCH_MAX: usize = 64;
/// The most requests that may wait for the file.
const DEPTH_MAX: usize = 65_536;

/// The lock table of the older system, held open.
///
/// Dropping it ends its thread, after the requests that were already made.
#[derive(Debug)]
pub struct OldLocks {
    jobs: Sender<Job>,
    depth: Arc<AtomicUsize>,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    table: String,
}

/// What is asked of the table.
#[derive(Debug)]
pub(super) enum Call {
    /// Whether an old worker has this key.
    Look(String),
    /// All locks.
    All,
    Take(Place, FencingToken, Ttl),
    Extend(Place, Ttl),
    Leave(Place),
    Free(String, FencingToken),
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Reply {
    /// Who is in the way.
    Seen(Option<Seen>),
    All(Vec<(Seen, Option<u64>)>),
    /// Whether the row was the caller's.
    Ours(bool),
}

#[derive(Debug)]
struct Job {
    call: Call,
    /// After this it must not change anything (I9).
    deadline: Moment,
    answer: oneshot::Sender<std::result::Result<Reply, Failure>>,
    #[expect(dead_code, reason = "it counts by being there")]
    counted: Counted,
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl OldLocks {
    /// Opens the file of the older system, which has to be there, with its table. Nothing in it
    /// is changed.
    ///
    /// # Errors
    /// [`BackendError::Refused`](bidlock_core::BackendError::Refused) when the file is missing or
    /// not a database, when the table is missing or is another than expected, or when a right is
    /// missing; [`BackendError::Busy`](bidlock_core::BackendError::Busy) when others kept it busy
    /// for 10 s.
    ///
    /// # Cancel safety
    /// Nothing is left of it.
    pub async fn connect(path: &Path, table: &str, platform: &Platform) -> Result<Self> {
        // A later change of the working directory must not mean another file.
        let absolute =
            std::path::absolute(path).map_err(|error| refusal_of_io(&error, path, "open"));
        let path = absolute.as_deref().unwrap_or(path).to_owned();
        let endpoint = Endpoint::new(format!("sqlite://{}?table={table}", path.display()));
        let told = |failure: Failure| failure.tell(Op::Open, None, &endpoint);
        absolute.map_err(|refusal| told(Failure::Refused(refusal)))?;
        let (ready, opened) = oneshot::channel();
        let (jobs, asked) = mpsc::channel();
        Self::start(&path, table, platform, asked, ready)
            .map_err(|error| told(Failure::Refused(refusal_of_io(&error, &path, "open"))))?;
        opened.await.unwrap_or_else(|_| Err(thread_ended())).map_err(told)?;
        let (clock, depth) = (Arc::clone(&platform.clock), Arc::default());
        Ok(Self { jobs, depth, clock, endpoint, table: table.to_owned() })
    }

    fn start(
        path: &Path,
        table: &str,
        platform: &Platform,
        jobs: Receiver<Job>,
        ready: oneshot::Sender<std::result::Result<(), Failure>>,
    ) -> std::io::Result<()> {
        let (path, table, platform) = (path.to_owned(), table.to_owned(), platform.clone());
        let work = move || match open::open(&path, &table, &platform) {
            // Nobody waits for it any more.
            Err(failure) => drop(ready.send(Err(failure))),
            Ok(opened) => {
                tracing::debug!(path = %path.display(), table, "old lock table opened");
                drop(ready.send(Ok(())));
                Desk { opened, platform }.run(&jobs);
            }
        };
        thread::Builder::new().name("bidlock-old".to_owned()).spawn(work).map(drop)
    }

    /// Where the table is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn table(&self) -> &str {
        &self.table
    }

    /// The moment from which a request that begins now and has so long must not take effect.
    pub(super) fn deadline(&self, within: Duration) -> Moment {
        self.clock.now() + within
    }

    pub(super) async fn look(&self, key: &Key, deadline: Moment) -> Result<Option<Seen>> {
        let call = Call::Look(super::lock_key(key));
        match self.ask(Op::Acquire, Some(key), deadline, call).await? {
            Reply::Seen(seen) => Ok(seen),
            _ => Err(self.mixed_up(Op::Acquire, Some(key))),
        }
    }

    pub(super) async fn take(
        &self,
        key: &Key,
        place: Place,
        token: FencingToken,
        ttl: Ttl,
        deadline: Moment,
    ) -> Result<Option<Seen>> {
        let call = Call::Take(place, token, ttl);
        match self.ask(Op::Acquire, Some(key), deadline, call).await? {
            Reply::Seen(seen) => Ok(seen),
            _ => Err(self.mixed_up(Op::Acquire, Some(key))),
        }
    }

    /// Renews, leaves or frees a row; tells whether there was one.
    pub(super) async fn change(
        &self,
        op: Op,
        key: &Key,
        deadline: Moment,
        call: Call,
    ) -> Result<bool> {
        match self.ask(op, Some(key), deadline, call).await? {
            Reply::Ours(ours) => Ok(ours),
            _ => Err(self.mixed_up(op, Some(key))),
        }
    }

    pub(super) async fn all(&self, op: Op) -> Result<Vec<(Seen, Option<u64>)>> {
        match self.ask(op, None, self.deadline(WITHIN_DEFAULT), Call::All).await? {
            Reply::All(all) => Ok(all),
            _ => Err(self.mixed_up(op, None)),
        }
    }

    async fn ask(&self, op: Op, key: Option<&Key>, deadline: Moment, call: Call) -> Result<Reply> {
        let told = |failure: Failure| failure.tell(op, key, &self.endpoint);
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.depth));
        if depth >= DEPTH_MAX {
            let why = format!("{DEPTH_MAX} requests of this process already wait for the file");
            return Err(told(Failure::Refused(Refusal::NotReady(why))));
        }
        let (answer, answered) = oneshot::channel();
        let job = Job { call, deadline, answer, counted };
        self.jobs.send(job).map_err(|_| told(thread_ended()))?;
        answered.await.unwrap_or_else(|_| Err(thread_ended())).map_err(told)
    }

    /// The thread answers every call in kind; this is for the compiler.
    fn mixed_up(&self, op: Op, key: Option<&Key>) -> bidlock_core::BackendError {
        let text = "the answer of another request came back".to_owned();
        Failure::Unknown(text).tell(op, key, &self.endpoint)
    }
}

/// What the thread works with.
struct Desk {
    opened: Opened,
    platform: Platform,
}

impl Desk {
    /// Serves until nobody can ask any more.
    fn run(self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let batch = [first].into_iter().chain(jobs.try_iter().take(BATCH_MAX - 1));
            // What only reads waits for nobody's commit, and nothing depends on its order.
            let only_reads = |job: &Job| matches!(job.call, Call::Look(_) | Call::All);
            let (reads, writes): (Vec<Job>, Vec<Job>) = batch.partition(only_reads);
            for job in reads {
                let reply = self.intact().and_then(|()| self.read(&job));
                answer(job, reply);
            }
            let writes = self.without_empty_leave(writes);
            self.write(writes);
        }
    }

    /// Answers one that gives up what it does not have: it need not wait for other writers.
    fn without_empty_leave(&self, mut jobs: Vec<Job>) -> Vec<Job> {
        if let [Job { call: Call::Leave(place), deadline, .. }] = &jobs[..] {
            busy::wait_until(&self.platform, *deadline);
            let has = self.intact().is_err() || self.rows().has(place).unwrap_or(true);
            if !has {
                jobs.drain(..).for_each(|job| answer(job, Ok(Reply::Ours(false))));
            }
        }
        jobs
    }

    /// Another file under the name would have locks of its own.
    fn intact(&self) -> std::result::Result<(), Failure> {
        let (path, known) = (&self.opened.path, self.opened.identity);
        if crate::open::identity(path).is_ok_and(|identity| identity == known) {
            return Ok(());
        }
        let why = "was deleted or replaced while it was in use; restart what uses it";
        Err(Failure::Refused(Refusal::Other(format!("{} {why}", path.display()))))
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.opened.connection, &self.opened.sql, self.platform.clock.wall())
    }

    fn failed(&self, error: &rusqlite::Error, stage: Stage) -> Failure {
        Failure::read(error, &self.opened.path, stage)
    }

    fn read(&self, job: &Job) -> std::result::Result<Reply, Failure> {
        busy::wait_until(&self.platform, job.deadline);
        let reply = match &job.call {
            Call::Look(lock_key) => self.rows().look(lock_key).map(Reply::Seen),
            _ => self.rows().all().map(Reply::All),
        };
        reply.map_err(|error| self.failed(&error, Stage::Before))
    }

    /// Carries changes out in one short transaction, in their order, and answers after it (I14).
    fn write(&self, jobs: Vec<Job>) {
        let jobs: Vec<Job> = jobs.into_iter().filter_map(|job| self.in_time(job)).collect();
        let Some(last) = jobs.iter().map(|job| job.deadline).max() else { return };
        busy::wait_until(&self.platform, last);
        let begun = self.intact().and_then(|()| {
            let begun = self.opened.connection.execute_batch("BEGIN IMMEDIATE");
            begun.map_err(|error| self.failed(&error, Stage::Before))
        });
        if let Err(failure) = begun {
            return jobs.into_iter().for_each(|job| answer(job, Err(failure.clone())));
        }
        // It may have taken long to begin.
        let jobs: Vec<Job> = jobs.into_iter().filter_map(|job| self.in_time(job)).collect();
        let ended = self.change(&jobs).and_then(|replies| self.commit(&jobs).map(|()| replies));
        if ended.is_err() && !self.opened.connection.is_autocommit() {
            // Without it the next transaction says so again, and nothing was changed.
            drop(self.opened.connection.execute_batch("ROLLBACK"));
        }
        match ended {
            Ok(replies) => {
                jobs.into_iter().zip(replies).for_each(|(job, reply)| answer(job, Ok(reply)));
            }
            Err(failure) => jobs.into_iter().for_each(|job| answer(job, Err(failure.clone()))),
        }
    }

    /// Gives back a change that may still be made; answers one that comes too late.
    fn in_time(&self, job: Job) -> Option<Job> {
        if matches!(job.call, Call::Take(..)) && job.answer.is_closed() {
            return None; // R9: nothing is taken for a caller that no longer listens.
        }
        if self.platform.clock.now() < job.deadline {
            return Some(job);
        }
        answer(job, Err(Failure::TooLate));
        None
    }

    fn change(&self, jobs: &[Job]) -> std::result::Result<Vec<Reply>, Failure> {
        let rows = self.rows();
        let replies = jobs.iter().map(|job| match &job.call {
            Call::Take(place, token, ttl) => rows.take(place, *token, *ttl).map(Reply::Seen),
            Call::Extend(place, ttl) => rows.extend(place, *ttl).map(Reply::Ours),
            Call::Leave(place) => rows.leave(place).map(Reply::Ours),
            Call::Free(lock_key, token) => rows.free(lock_key, *token).map(Reply::Ours),
            Call::Look(lock_key) => rows.look(lock_key).map(Reply::Seen),
            Call::All => rows.all().map(Reply::All),
        });
        let replies: rusqlite::Result<Vec<Reply>> = replies.collect();
        replies.map_err(|error| self.failed(&error, Stage::Before))
    }

    /// In a file with a rollback journal, readers keep a commit waiting: not past the deadline of
    /// any request in it (I9).
    fn commit(&self, jobs: &[Job]) -> std::result::Result<(), Failure> {
        if let Some(first) = jobs.iter().map(|job| job.deadline).min() {
            busy::wait_until(&self.platform, first);
        }
        let ended = self.opened.connection.execute_batch("COMMIT");
        ended.map_err(|error| self.failed(&error, Stage::Commit))
    }
}

fn answer(job: Job, reply: std::result::Result<Reply, Failure>) {
    // A caller that has gone needs none.
    drop(job.answer.send(reply));
}
