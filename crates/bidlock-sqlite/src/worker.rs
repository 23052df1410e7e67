//! What callers ask for, and how it reaches the desk: on the spot when a request comes alone and
//! nothing has to be waited for, otherwise through the thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bidlock_core::{
    AcquireRequest, Attempt, FencingToken, Key, LeaseId, LockInfo, LockQuery, Moment, Ownership,
    RenewRequest, Renewal, Revocation,
};
use tokio::sync::oneshot;

use crate::Durability;
use crate::desk::Desk;
use crate::failure::Failure;

/// The most requests in one transaction, so that nobody waits long for a commit.
pub(crate) const BATCH_MAX: usize = 256;
/// The most requests that may wait for their answers.
const DEPTH_MAX: usize = 65_536;

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

/// One request on its way to the desk.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) call: Call,
    /// After this it must not change anything (I9).
    pub(crate) deadline: Moment,
    pub(crate) answer: oneshot::Sender<Result<Reply, Failure>>,
    #[expect(dead_code, reason = "it counts by being there")]
    pub(crate) counted: Counted,
}

/// What wakes the thread.
#[derive(Debug)]
pub(crate) enum Message {
    Job(Box<Job>),
    /// Something was served without it that changes what it has to do.
    Nudge,
}

/// A request that was made and is not yet answered.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The desk, for one at a time; none until the file is open.
pub(crate) type Shared = Arc<Mutex<Option<Desk>>>;

/// What callers have: the desk when it is free, and the way to the thread.
#[derive(Debug)]
pub(crate) struct Office {
    desk: Shared,
    depth: Arc<AtomicUsize>,
    messages: Sender<Message>,
}

impl Office {
    pub(crate) fn new(desk: Shared, messages: Sender<Message>) -> Self {
        Self { desk, depth: Arc::default(), messages }
    }

    /// Counts a request in; `None` when too many wait already.
    pub(crate) fn count(&self) -> Option<Counted> {
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let counted = Counted(Arc::clone(&self.depth));
        (depth < DEPTH_MAX).then_some(counted)
    }

    pub(crate) const DEPTH_MAX: usize = DEPTH_MAX;

    /// Whether one request alone is being made.
    pub(crate) fn is_quiet(&self) -> bool {
        self.depth.load(Ordering::Relaxed) == 1
    }

    /// Serves a request on the caller's thread, if nothing has to be waited for; gives it back
    /// otherwise.
    pub(crate) fn serve_now(&self, job: Job) -> Option<Job> {
        // What only reads may take long, and waits for nobody's commit: it is the thread's.
        if !job.call.writes() {
            return Some(job);
        }
        let Ok(mut guard) = self.desk.try_lock() else { return Some(job) };
        let Some(desk) = guard.as_mut().filter(|desk| desk.durability() == Durability::Processes)
        else {
            return Some(job);
        };
        let mut batch = vec![job];
        let left = desk.serve_at_once(&mut batch).then(|| batch.pop()).flatten();
        let nudges = desk.needs_thread();
        drop(guard);
        if nudges {
            // A thread that has ended needs none.
            drop(self.messages.send(Message::Nudge));
        }
        left
    }

    /// Hands a request to the thread; gives up when there is none any more.
    pub(crate) fn send(&self, job: Job) -> Result<(), ()> {
        self.messages.send(Message::Job(Box::new(job))).map_err(drop)
    }
}

fn lock(desk: &Shared) -> MutexGuard<'_, Option<Desk>> {
    // A panic in a listener leaves the desk whole: its transaction was over.
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts the desk up, and serves what callers leave to the thread until nobody can ask any more;
/// what was asked before that is done first.
pub(crate) fn run(shared: &Shared, desk: Desk, messages: &Receiver<Message>, ready: impl FnOnce()) {
    *lock(shared) = Some(desk);
    ready();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        let interval = match lock(shared).as_mut() {
            Some(desk) => {
                desk.tidy_up();
                desk.plan()
            }
            None => return,
        };
        let first = match interval {
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(interval) => messages.recv_timeout(interval),
        };
        let idle = matches!(first, Err(RecvTimeoutError::Timeout));
        match first {
            Ok(Message::Job(job)) => batch.push(*job),
            Ok(Message::Nudge) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let mut guard = lock(shared);
        let Some(desk) = guard.as_mut() else { return };
        if !batch.is_empty() {
            desk.serve(&mut batch, messages);
        }
        desk.look(idle);
    }
    // The last one out closes the file, which may wait for the disk.
    *lock(shared) = None;
}

/// Adds the requests that are waiting to a batch.
pub(crate) fn more(batch: &mut Vec<Job>, messages: &Receiver<Message>) {
    let left = BATCH_MAX.saturating_sub(batch.len());
    let jobs = messages.try_iter().filter_map(|message| match message {
        Message::Job(job) => Some(*job),
        Message::Nudge => None,
    });
    batch.extend(jobs.take(left));
}

impl Call {
    /// Whether it may change something.
    pub(crate) const fn writes(&self) -> bool {
        matches!(self, Self::Acquire(_) | Self::Renew(_) | Self::Release(..) | Self::Revoke(..))
    }
}

impl Job {
    /// Whether it would take a key for a caller that no longer listens (R9).
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.call, Call::Acquire(_)) && self.answer.is_closed()
    }
}
