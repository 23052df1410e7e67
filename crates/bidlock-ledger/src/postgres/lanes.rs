//! Calls that wait at the same time share one transaction, and with it one wait for the disk.
//!
//! Few transactions of bidders are under way at once; who comes meanwhile goes with the next one.
//! A call that finds nobody before it goes at once, alone. Beside another transaction, one begins
//! when as many calls wait as that one has: else one would take everybody, the next one nearly
//! nobody, and each costs a wait for the disk. What goes together is sent as a whole and answered
//! after the commit. When one of several fails, all of them are taken back and each goes alone, so
//! that no call suffers from another one's failure.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio_postgres::Row;

use super::fault::{Done, Fail, Fault, Remedy};
use super::hot::{Answer, Ask};
use super::pool::{Manner, Pool};

/// So many transactions of bidders are under way at once. With one, nothing would be done while
/// the disk is waited for; with many, there would be as many waits for it.
const LANES: usize = 2;
/// The most calls of one transaction.
const TOGETHER_MAX: usize = 32;
/// How long too few wait for more of them, or for the end of the other transaction. That ends
/// sooner as a rule; where commits wait for a distant standby, it is little beside them.
const FEW_MAX: Duration = Duration::from_millis(20);
/// How long one that goes alone keeps those behind it waiting, as long as a batch waits for a lock.
const AHEAD_MAX: Duration = Duration::from_millis(250);

/// Who waits, and how many transactions are under way.
#[derive(Default)]
pub(super) struct Lanes {
    waiting: RefCell<VecDeque<Waiting>>,
    busy: Cell<usize>,
    /// Calls that are under way.
    sent: Cell<usize>,
    /// Somebody waits, or a transaction has ended.
    changed: Notify,
}

/// Calls under way, until this is dropped.
struct Sent<'a>(&'a Lanes, usize);

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        self.0.sent.set(self.0.sent.get() - self.1);
        self.0.changed.notify_one();
    }
}

impl Lanes {
    fn send(&self, calls: usize) -> Sent<'_> {
        self.sent.set(self.sent.get() + calls);
        Sent(self, calls)
    }

    fn are_few(&self) -> bool {
        (1..self.sent.get()).contains(&self.waiting.borrow().len())
    }
}

struct Waiting {
    ask: Rc<Ask>,
    is_wanted: Box<dyn Fn() -> bool>,
    reply: oneshot::Sender<Outcome>,
}

/// What became of a call that waited.
enum Outcome {
    /// It went with others, and is on disk.
    Done(Row),
    /// Nothing has happened yet: it goes alone, and tells by dropping this that it has.
    Alone(Option<oneshot::Sender<()>>),
    /// Nobody can tell.
    Lost(String),
}

impl Pool {
    /// Makes a call, with others or alone.
    pub(super) async fn ask(
        self: &Rc<Self>,
        ask: Ask,
        is_wanted: impl Fn() -> bool + Clone + 'static,
    ) -> Result<Done<Answer>, Fault> {
        let ask = Rc::new(ask);
        let (reply, outcome) = oneshot::channel();
        let waiting =
            Waiting { ask: Rc::clone(&ask), is_wanted: Box::new(is_wanted.clone()), reply };
        self.lanes().waiting.borrow_mut().push_back(waiting);
        if self.lanes().busy.get() < LANES {
            self.lanes().busy.set(self.lanes().busy.get() + 1);
            drop(tokio::task::spawn_local(Rc::clone(self).serve_lane()));
        } else {
            self.lanes().changed.notify_one();
        }
        let went = match outcome.await {
            Ok(Outcome::Done(row)) => return Ok(Answer::read(&row)),
            Ok(Outcome::Lost(why)) => return Err(Fault::lost(why, true)),
            Ok(Outcome::Alone(went)) => went,
            Err(_) => return Err(Fault::lost("its caller has gone", false)),
        };
        // What the database says against it is for the caller's own code to read.
        let refused = RefCell::new(None);
        let alone = async |session: &mut super::pool::Session| match ask.alone(session).await {
            Err(fail @ Fail::Sql(_)) if fail.remedy() == Remedy::None => {
                *refused.borrow_mut() = Some(fail);
                Ok(None)
            }
            done => done.map(Some),
        };
        let done = self.run(Manner::WRITE, &alone, is_wanted).await;
        drop(went);
        match (done?, refused.into_inner()) {
            (Some(answer), _) => Ok(Ok(answer)),
            (None, Some(fail)) => Ok(Err(fail)),
            (None, None) => Err(Fault::lost("no answer was kept", true)),
        }
    }

    /// Serves those who wait until nobody does.
    async fn serve_lane(self: Rc<Self>) {
        loop {
            self.gather().await;
            let mut batch = self.take();
            let _sent = self.lanes().send(batch.len());
            if batch.len() > 1 {
                self.together(batch).await;
            } else if let Some(only) = batch.pop() {
                let (went, gone) = oneshot::channel();
                let until = self.clock().now() + AHEAD_MAX;
                drop(only.reply.send(Outcome::Alone(Some(went))));
                // It has gone, or is not waited for any longer.
                let _either = self.before(until, gone).await;
            } else if self.lanes().waiting.borrow().is_empty() {
                break;
            }
        }
        self.lanes().busy.set(self.lanes().busy.get() - 1);
    }

    /// Waits while too few wait beside the transactions under way.
    async fn gather(&self) {
        let until = self.clock().now() + FEW_MAX;
        while self.lanes().are_few() {
            if self.before(until, self.lanes().changed.notified()).await.is_none() {
                break;
            }
        }
    }

    /// Those who go next; who does not want to any more is left out.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.lanes().waiting.borrow_mut();
        let count = waiting.len().min(TOGETHER_MAX);
        waiting.drain(..count).filter(|one| (one.is_wanted)()).collect()
    }

    /// Makes several calls in one transaction.
    async fn together(&self, batch: Vec<Waiting>) {
        let asks: Vec<_> = batch.iter().map(|waiting| Rc::clone(&waiting.ask)).collect();
        let mut rows = match self.transact(&asks).await {
            Together::Done(rows) => rows.into_iter(),
            Together::Alone => return tell(batch, || Outcome::Alone(None)),
            Together::Lost(why) => return tell(batch, || Outcome::Lost(why.clone())),
        };
        for waiting in batch {
            let outcome = rows.next().map_or(Outcome::Alone(None), Outcome::Done);
            // A caller that has gone wants no answer.
            drop(waiting.reply.send(outcome));
        }
    }

    async fn transact(&self, asks: &[Rc<Ask>]) -> Together {
        let Ok(_permit) = self.room().await else { return Together::Alone };
        let Ok(session) = self.session().await else { return Together::Alone };
        let cancel = session.client().cancel_token();
        let until = self.clock().now() + Manner::WRITE.within;
        let sent = Ask::all(asks, &session, self.statements());
        let Some(answered) = self.before(until, sent).await else {
            self.cancel(cancel);
            return Together::Lost("no answer in time; the calls were cancelled".to_owned());
        };
        let together = match answered {
            Ok(rows) => Together::Done(rows),
            // Everything was taken back, for whatever reason.
            Err(fail) if matches!(fail, Fail::Sql(_)) && fail.remedy() != Remedy::Redial => {
                Together::Alone
            }
            Err(fail) => return Together::Lost(format!("{:?}", fail.sent(true))),
        };
        self.keep(session);
        together
    }
}

fn tell(batch: Vec<Waiting>, outcome: impl Fn() -> Outcome) {
    for waiting in batch {
        drop(waiting.reply.send(outcome()));
    }
}

/// What became of a transaction of several calls.
enum Together {
    Done(Vec<Row>),
    /// Taken back for certain.
    Alone,
    Lost(String),
}
