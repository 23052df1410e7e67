//! A lock store of bidlock in one SQLite file, for the processes of one machine.
//!
//! The file is in WAL mode; every change is one `BEGIN IMMEDIATE`. One thread per [`Sqlite`] value
//! does all that may wait: for other processes, for the disk, for checkpoints. A request that
//! comes alone and finds the file free is served on the caller's thread, in some tens of
//! microseconds; as soon as anything had to be waited for it is left to the thread, so that no
//! caller's runtime is ever blocked. Requests that come while the
//! thread is busy share its next transaction. Expiry runs on the clock that goes on while the
//! machine sleeps, under the boot id: after a restart of the machine every lock has ended. There
//! is no background cleanup: who looks at a key that has ended passes it on.
//!
//! After [`Revoke::revoke`] marked a grant, its lease is not granted again: its renewals answer
//! [`Renewal::Revoked`], and a repeated acquire answers that it is held, by itself, until the
//! lease was released or what it was promised has passed.

mod busy;
mod desk;
mod failure;
mod folders;
pub mod legacy;
mod list;
mod open;
mod store;
mod watch;
mod worker;

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use std::{io, thread};

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Clock, Endpoint, FencingToken,
    Health, Key, LeaseId, Listener, LockInfo, LockQuery, Op, Ownership, Platform, Refusal,
    RenewRequest, Renewal, Result, Revocation, Revoke,
};
use tokio::sync::oneshot;

use crate::desk::Desk;
use crate::failure::Failure;
use crate::store::World;
use crate::watch::{Listeners, Watch};
use crate::worker::{Call, Job, Office, Reply, Shared};

/// How long a request that names no time of its own may wait for the file.
const WITHIN_DEFAULT: Duration = Duration::from_secs(10);

/// What a lock outlives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Its process, and every other: a commit waits for no disk. A power cut ends all holders
    /// with their locks, and the clock keeps tokens rising.
    #[default]
    Processes,
    /// A power cut as well: each commit waits for the disk.
    PowerCut,
}

/// Locks in one SQLite file.
///
/// Dropping it ends its thread, after the requests that were already made.
#[derive(Debug)]
pub struct Sqlite {
    office: Office,
    listeners: Listeners,
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
}

impl Sqlite {
    /// Opens the file; makes it (mode 0600), and its folders (mode 0700), where they are missing.
    ///
    /// Blocks for as long as the disk needs, and up to 10 s while other processes open the same
    /// new file; [`Sqlite::connect`] does the same without blocking.
    ///
    /// # Errors
    /// [`BackendError::Refused`] when the file cannot be read and written, is damaged, is not a
    /// database, or was written by a newer bidlock; [`BackendError::Busy`] when others
    /// kept it busy for 10 s.
    pub fn open(path: &Path, platform: &Platform) -> Result<Self> {
        Self::open_with(path, platform, Durability::default())
    }

    /// Opens the file as [`Sqlite::open`] does, with locks that outlive more or less.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    pub fn open_with(path: &Path, platform: &Platform, durability: Durability) -> Result<Self> {
        let (ready, opened) = mpsc::channel();
        let ready = move |result| drop(ready.send(result));
        let sqlite = Self::start(path, platform, durability, ready)?;
        let opened = opened.recv().unwrap_or_else(|_| Err(thread_ended()));
        opened.map_err(|failure| failure.tell(Op::Open, None, &sqlite.endpoint))?;
        Ok(sqlite)
    }

    /// Opens the file as [`Sqlite::open`] does.
    ///
    /// # Errors
    /// As [`Sqlite::open`].
    ///
    /// # Cancel safety
    /// The file may be made after the future was dropped, which harms nobody.
    pub async fn connect(path: &Path, platform: &Platform) -> Result<Self> {
        let (ready, opened) = oneshot::channel();
        let ready = move |result| drop(ready.send(result));
        let sqlite = Self::start(path, platform, Durability::default(), ready)?;
        let opened = opened.await.unwrap_or_else(|_| Err(thread_ended()));
        opened.map_err(|failure| failure.tell(Op::Open, None, &sqlite.endpoint))?;
        Ok(sqlite)
    }

    /// Starts the thread, which opens the file and says how that went.
    fn start(
        path: &Path,
        platform: &Platform,
        durability: Durability,
        ready: impl FnOnce(std::result::Result<(), Failure>) + Send + 'static,
    ) -> Result<Self> {
        // A later change of the working directory must not mean another file.
        let path = std::path::absolute(path).map_err(|error| refused(path, &error))?;
        let endpoint = Endpoint::new(format!("sqlite://{}", path.display()));
        let (sender, messages) = mpsc::channel();
        let desk = Shared::default();
        let office = Office::new(Arc::clone(&desk), sender);
        let listeners = Listeners::default();
        let watch = Watch::new(listeners.clone());
        let (platform, clock) = (platform.clone(), Arc::clone(&platform.clock));
        let shown = path.clone();
        let work = move || match open::open(&path, &platform, durability) {
            Err(failure) => ready(Err(failure)),
            Ok(opened) => {
                tracing::debug!(path = %path.display(), "lock file opened");
                let set_up = Desk::new(path, durability, World::new(&platform), opened, watch);
                worker::run(&desk, set_up, &messages, || ready(Ok(())));
            }
        };
        thread::Builder::new()
            .name("bidlock-sqlite".to_owned())
            .spawn(work)
            .map_err(|error| refused(&shown, &error))?;
        Ok(Self { office, listeners, clock, endpoint })
    }

    /// Hands a request to the thread and waits for its answer.
    async fn ask(&self, op: Op, key: Option<&Key>, within: Duration, call: Call) -> Result<Reply> {
        let (answer, answered) = oneshot::channel();
        let deadline = self.clock.now() + within;
        let Some(counted) = self.office.count() else {
            let most = Office::DEPTH_MAX;
            let why = format!("{most} requests of this process already wait for the file");
            let refusal = Refusal::NotReady(why);
            return Err(Failure::Refused(refusal).tell(op, key, &self.endpoint));
        };
        let mut job = Some(Job { call, deadline, answer, counted });
        if self.office.is_quiet() {
            // Whoever else is about to ask may do so first: together they share one commit.
            yield_once().await;
            if self.office.is_quiet() {
                job = job.and_then(|job| self.office.serve_now(job));
            }
        }
        if let Some(job) = job
            && self.office.send(job).is_err()
        {
            return Err(thread_ended().tell(op, key, &self.endpoint));
        }
        let result = answered.await.unwrap_or_else(|_| Err(thread_ended()));
        result.map_err(|failure| failure.tell(op, key, &self.endpoint))
    }

    /// The thread answers every call in kind; this is for the compiler.
    fn mixed_up(&self, op: Op, key: Option<&Key>) -> BackendError {
        let text = "the answer of another request came back".to_owned();
        Failure::Unknown(text).tell(op, key, &self.endpoint)
    }
}

/// Lets other tasks of the caller's runtime run once.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The thread ends only with the last handle, or by a defect in here.
fn thread_ended() -> Failure {
    Failure::Unknown("the thread that writes the lock file has ended; open it again".to_owned())
}

fn refused(path: &Path, error: &io::Error) -> BackendError {
    let endpoint = Endpoint::new(format!("sqlite://{}", PathBuf::from(path).display()));
    let refusal = failure::refusal_of_io(error, path, "open");
    Failure::Refused(refusal).tell(Op::Open, None, &endpoint)
}

#[async_trait]
impl Backend for Sqlite {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let (op, key) = (Op::Acquire, Some(&request.key));
        let reply = self.ask(op, key, request.within, Call::Acquire(request.clone())).await?;
        let Reply::Attempt(attempt) = reply else { return Err(self.mixed_up(op, key)) };
        Ok(attempt)
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let (op, key) = (Op::Renew, Some(&request.key));
        let reply = self.ask(op, key, request.within, Call::Renew(request.clone())).await?;
        let Reply::Renewal(renewal) = reply else { return Err(self.mixed_up(op, key)) };
        Ok(renewal)
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        let call = Call::Release(key.clone(), lease.clone());
        let reply = self.ask(Op::Release, Some(key), WITHIN_DEFAULT, call).await?;
        let Reply::Ownership(ownership) = reply else {
            return Err(self.mixed_up(Op::Release, Some(key)));
        };
        Ok(ownership)
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.listeners.add(listener);
    }

    async fn ping(&self) -> Result<Health> {
        let asked = self.clock.now();
        let reply = self.ask(Op::Ping, None, WITHIN_DEFAULT, Call::Ping).await?;
        let Reply::Pong = reply else { return Err(self.mixed_up(Op::Ping, None)) };
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

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        Some(self)
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        Some(self)
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        None // Everything ends by itself (I10).
    }
}

#[async_trait]
impl Browse for Sqlite {
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>> {
        let reply = self.ask(Op::List, None, WITHIN_DEFAULT, Call::List(query.clone())).await?;
        let Reply::Locks(locks) = reply else { return Err(self.mixed_up(Op::List, None)) };
        Ok(locks)
    }

    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>> {
        let call = Call::Inspect(key.clone());
        let reply = self.ask(Op::List, Some(key), WITHIN_DEFAULT, call).await?;
        let Reply::Lock(lock) = reply else { return Err(self.mixed_up(Op::List, Some(key))) };
        Ok(*lock)
    }
}

#[async_trait]
impl Revoke for Sqlite {
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation> {
        let call = Call::Revoke(key.clone(), token, now);
        let reply = self.ask(Op::Revoke, Some(key), WITHIN_DEFAULT, call).await?;
        let Reply::Revocation(revocation) = reply else {
            return Err(self.mixed_up(Op::Revoke, Some(key)));
        };
        Ok(revocation)
    }
}
