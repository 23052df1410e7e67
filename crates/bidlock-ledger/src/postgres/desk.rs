//! The way from any executor to the thread that has the connections.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use bidlock_core::{Clock, Refusal};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};

use super::config::{PostgresConfig, SchemaName};
use super::fault::{Done, Fault};
use super::hot::{Answer, Ask};
use super::pool::{Manner, Pool, Session};
use super::schema::Known;
use super::statements::Statements;
use crate::values::{LedgerId, limits};

/// Whether work is worth doing when its caller has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Always,
    WhileAwaited,
}

type Job = Box<dyn FnOnce(Rc<Pool>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Where calls are left. What was accepted is done also when its caller, or the last desk, has
/// gone.
#[derive(Clone)]
pub(super) struct Desk {
    jobs: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

impl Desk {
    /// Starts the thread. Contacts nothing.
    pub(super) fn start(
        config: PostgresConfig,
        sqls: Arc<Statements>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (jobs, received) = mpsc::channel(limits::QUEUE_MAX);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (ready, started) = std::sync::mpsc::channel();
        thread::Builder::new().name("bidlock-postgres".to_owned()).spawn(move || {
            // Its connections cannot change threads, so it is made here.
            let pool = match Pool::new(config, sqls, clock) {
                Ok(pool) => Rc::new(pool),
                Err(error) => return drop(ready.send(Err(error))),
            };
            drop(ready.send(Ok(())));
            LocalSet::new().block_on(&runtime, serve(received, &pool));
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { jobs })
    }

    /// From now on, connections have to lead to this ledger.
    pub(super) async fn keep_to(&self, schema: &SchemaName, id: LedgerId) {
        let known = Known { schema: schema.clone(), id };
        let job: Job = Box::new(move |pool| {
            pool.keep_to(known);
            Box::pin(std::future::ready(()))
        });
        // Before every later call; that the thread has ended is found out by the next one.
        drop(self.jobs.send(job).await);
    }

    /// Has work done on a connection. Never blocks.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        wanted: Wanted,
        manner: Manner,
        work: impl AsyncFn(&mut Session) -> Done<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |pool: Rc<Pool>| {
            Box::pin(async move {
                let is_wanted = || wanted == Wanted::Always || !sender.is_closed();
                let done = pool.run(manner, &work, is_wanted).await;
                // A caller that has gone wants no answer.
                drop(sender.send(done));
            })
        });
        self.send(job)?;
        answer.await.unwrap_or_else(|_| Err(gone(manner.writes)))
    }

    /// Has one of our functions called, with others or alone. Never blocks.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        wanted: Wanted,
        ask: Ask,
        read: impl FnOnce(Done<Answer>) -> Done<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let (sender, answer) = oneshot::channel();
        let job: Job = Box::new(move |pool: Rc<Pool>| {
            Box::pin(async move {
                let sender = Rc::new(RefCell::new(Some(sender)));
                let caller = Rc::clone(&sender);
                let is_awaited = move || caller.borrow().as_ref().is_some_and(|it| !it.is_closed());
                let is_wanted = move || wanted == Wanted::Always || is_awaited();
                let answered = pool.ask(ask, is_wanted).await;
                let done = answered.and_then(|it| read(it).map_err(|fail| fail.sent(true)));
                if let Some(sender) = sender.take() {
                    // A caller that has gone wants no answer.
                    drop(sender.send(done));
                }
            })
        });
        self.send(job)?;
        answer.await.unwrap_or_else(|_| Err(gone(true)))
    }

    fn send(&self, job: Job) -> Result<(), Fault> {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                let why = format!("{} calls wait in this process", limits::QUEUE_MAX);
                return Err(Fault::Refused(Refusal::Limit(why)));
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(gone(false)),
        }
        Ok(())
    }
}

fn gone(sent: bool) -> Fault {
    Fault::lost("the ledger's thread has ended", sent)
}

/// Serves until nobody can ask any more, and all that was asked is done.
async fn serve(mut jobs: mpsc::Receiver<Job>, pool: &Rc<Pool>) {
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            job = jobs.recv() => match job {
                Some(job) => drop(running.spawn_local(job(Rc::clone(pool)))),
                None => break,
            },
            Some(ended) = running.join_next() => note(ended),
        }
    }
    while let Some(ended) = running.join_next().await {
        note(ended);
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a call to the ledger failed inside");
    }
}
