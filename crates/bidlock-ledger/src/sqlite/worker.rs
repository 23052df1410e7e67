use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use bidlock_core::{Moment, Refusal};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::patience::Patience;
use crate::error::LedgerError;
use crate::values::limits;

/// Why one call's work failed: by itself, or because of the file below it.
#[derive(Debug)]
pub(super) enum Fail {
    Call(LedgerError),
    File(Fault),
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(Fault::before_commit(error))
    }
}

/// Whether work is worth doing when its caller has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Always,
    WhileAwaited,
}

/// The way to a thread that owns a connection.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    patience: Patience,
}

impl Worker {
    /// Starts a thread that serves jobs until the last worker of it is dropped.
    pub(super) fn start(
        name: &str,
        patience: Patience,
        serve: impl FnOnce(&Receiver<Job>) + Send + 'static,
    ) -> Result<Self, Fault> {
        let (jobs, received) = sync_channel(limits::QUEUE_MAX);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&received))
            .map_err(Fault::io)?;
        Ok(Self { jobs, patience })
    }

    /// Has something written: answers when it is on disk. Never blocks.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        wanted: Wanted,
        work: impl FnOnce(&Connection) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Fail> {
        let (sender, answer) = oneshot::channel();
        let act = move |turn: Turn<'_>| -> Option<Answer> {
            let connection = match turn {
                Turn::Run(_) if wanted == Wanted::WhileAwaited && sender.is_closed() => {
                    return None;
                }
                Turn::Run(connection) => connection,
                Turn::Failed(fault) => {
                    reply(sender, Err(Fail::File(fault)));
                    return None;
                }
            };
            let done = work(connection);
            let good = done.is_ok();
            let answer: Reply = Box::new(move |committed| {
                reply(sender, done.and_then(|it| committed.map(|()| it).map_err(Fail::File)));
            });
            Some(Answer { good, reply: answer })
        };
        self.send(Box::new(act), answer).await
    }

    /// Has something read, again while other processes are in the way. Never blocks.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&Connection) -> Result<T, Fail> + Send + 'static,
    ) -> Result<T, Fail> {
        let (sender, answer) = oneshot::channel();
        let (patience, deadline) = (self.patience.clone(), self.patience.deadline());
        let act = move |turn: Turn<'_>| -> Option<Answer> {
            match turn {
                Turn::Run(_) if sender.is_closed() => {}
                Turn::Failed(fault) => reply(sender, Err(Fail::File(fault))),
                Turn::Run(connection) => {
                    let mut tries = 0;
                    let mut done = work(connection);
                    while matches!(done, Err(Fail::File(Fault::Busy)))
                        && !patience.is_over(deadline)
                    {
                        patience.pause(tries);
                        tries += 1;
                        done = work(connection);
                    }
                    reply(sender, done);
                }
            }
            None
        };
        self.send(Box::new(act), answer).await
    }

    async fn send<T>(
        &self,
        act: Act,
        answer: oneshot::Receiver<Result<T, Fail>>,
    ) -> Result<T, Fail> {
        match self.jobs.try_send(Job { deadline: self.patience.deadline(), act }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let why = format!("{} calls wait in this process", limits::QUEUE_MAX);
                return Err(Fail::File(Fault::Refused(Refusal::Limit(why))));
            }
            Err(TrySendError::Disconnected(_)) => return Err(Fail::File(Fault::gone())),
        }
        answer.await.unwrap_or_else(|_| Err(Fail::File(Fault::gone())))
    }
}

/// A caller that has gone wants no answer.
fn reply<T>(sender: oneshot::Sender<Result<T, Fail>>, answer: Result<T, Fail>) {
    drop(sender.send(answer));
}

/// One call's work. Runs at most once; its caller is answered whatever happens.
pub(super) struct Job {
    pub(super) deadline: Moment,
    act: Act,
}

type Act = Box<dyn FnOnce(Turn<'_>) -> Option<Answer> + Send>;

/// What becomes of a job: its turn has come, or never will.
enum Turn<'a> {
    Run(&'a Connection),
    Failed(Fault),
}

/// What a job that wrote has to say once the commit has gone well, or has not.
pub(super) struct Answer {
    /// Whether what it wrote shall stay.
    pub(super) good: bool,
    reply: Reply,
}

type Reply = Box<dyn FnOnce(Result<(), Fault>)>;

impl Answer {
    pub(super) fn give(self, committed: Result<(), Fault>) {
        (self.reply)(committed);
    }
}

impl Job {
    pub(super) fn run(self, connection: &Connection) -> Option<Answer> {
        (self.act)(Turn::Run(connection))
    }

    pub(super) fn fail(self, fault: Fault) {
        let none = (self.act)(Turn::Failed(fault));
        debug_assert!(none.is_none(), "a job that failed has answered already");
    }
}
