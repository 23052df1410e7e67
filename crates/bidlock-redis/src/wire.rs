//! One connection that everything shares: commands go out in the order of their calls, answers
//! come back in the same order, and what piles up in between is sent and read together.

mod desk;
mod state;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bidlock_core::{Clock, Moment, Refusal};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::resp::{self, Value};
use state::{Pending, State};

/// A way to a server: bytes in, bytes out.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An outage shorter than this is waited out by calls that have the time; a longer one is told at
/// once.
const BRIDGED: Duration = Duration::from_secs(1);
/// While somebody waits for news, a connection on which nothing came for this long is tested.
const SILENCE: Duration = Duration::from_secs(2);
/// How long a test of a silent connection may take.
const PING: Duration = Duration::from_secs(2);
/// A connection is dead when a call had this much time at least, and nothing at all came.
const DEAD: Duration = Duration::from_millis(200);
/// A buffer that has grown beyond this is given back once it is empty.
pub(crate) const KEPT: usize = 64 * 1024;

/// Why a call has no answer.
#[derive(Debug, Clone)]
pub(crate) enum Failed {
    /// It was never sent.
    NotSent(Cause),
    /// It was sent, and may have taken effect.
    Lost(Cause),
    /// The server will not have this client at all.
    Refused(Refusal),
}

/// What the operating system, the server or this module said.
pub(crate) type Cause = Arc<str>;

/// An answer, and when.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) value: Value,
    /// Before the call was sent.
    pub(crate) sent: Moment,
    /// After the answer was read.
    pub(crate) received: Moment,
}

/// Whether there is a connection.
#[derive(Debug, Clone)]
pub(crate) enum Status {
    Up,
    Down { since: Moment, why: Failed },
    Closed,
}

#[derive(Debug)]
pub(crate) struct Wire {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    status: watch::Sender<Status>,
    myself: Weak<Self>,
}

/// The streams of one connection.
pub(crate) struct Link {
    pub(crate) stream: Box<dyn Stream>,
    /// What was read and not yet understood.
    pub(crate) unread: Vec<u8>,
    /// Where messages come in, when the server cannot send them on the first one.
    pub(crate) ears: Option<Ears>,
}

/// A connection for messages alone.
pub(crate) struct Ears {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) unread: Vec<u8>,
    pub(crate) heard: Moment,
    /// When it was asked for a sign of life that has not come.
    pub(crate) asked: Option<Moment>,
}

impl Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("ears", &self.ears.is_some()).finish_non_exhaustive()
    }
}

/// Why the driver is needed.
#[derive(Debug)]
pub(crate) enum Wakeup {
    /// Messages came in.
    Pushes(Vec<Vec<Value>>, Moment),
    /// A call has an earlier deadline than the driver's timer.
    Timer,
    /// The connection is of no use any more.
    Broken(Cause),
    Closed,
}

impl Wire {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let now = clock.now();
        let state = State {
            link: None,
            pending: VecDeque::new(),
            out: Vec::new(),
            sent: 0,
            gone: 0,
            driver: Waker::noop().clone(),
            told: false,
            armed: None,
            rearm: false,
            listens: false,
            heard: now,
            desks: Vec::new(),
        };
        let why = Failed::NotSent("not connected yet".into());
        let status = watch::Sender::new(Status::Down { since: now, why });
        let state = Mutex::new(state);
        Arc::new_cyclic(|myself| Self { clock, state, status, myself: Weak::clone(myself) })
    }

    /// Sends a command and waits for its answer, up to a moment.
    pub(crate) async fn call(&self, deadline: Moment, args: &[&[u8]]) -> Result<Reply, Failed> {
        loop {
            if let Some(answer) = self.submit(deadline, args) {
                let closed = || Err(Failed::Lost("the connection was closed".into()));
                return answer.await.unwrap_or_else(|_| closed());
            }
            self.reconnected(deadline).await?;
        }
    }

    /// Waits for a connection, while that makes sense.
    async fn reconnected(&self, deadline: Moment) -> Result<(), Failed> {
        let mut news = self.status.subscribe();
        loop {
            let (since, why) = match &*news.borrow_and_update() {
                Status::Up => return Ok(()),
                Status::Closed => return Err(Failed::NotSent("the store was closed".into())),
                Status::Down { since, why } => (*since, why.clone()),
            };
            let until = deadline.min(since + BRIDGED);
            let passes = !matches!(&why, Failed::Refused(r) if !matches!(r, Refusal::NotReady(_)));
            if !passes || self.clock.now() >= until {
                return Err(why);
            }
            tokio::select! {
                biased;
                _ = news.changed() => {}
                () = self.clock.sleep_until(until) => {}
            }
        }
    }

    /// Hands a command over to be sent; nothing while there is no connection. A command that
    /// comes alone is sent on the spot, others together.
    fn submit(
        &self,
        deadline: Moment,
        args: &[&[u8]],
    ) -> Option<oneshot::Receiver<Result<Reply, Failed>>> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.link.as_ref()?;
        let (answer, answered) = oneshot::channel();
        let alone = state.pending.is_empty() && state.out.is_empty();
        let starts = state.gone + state.out.len() as u64;
        resp::encode(&mut state.out, args);
        let (desk, rings_desk) = match Handle::try_current() {
            Ok(runtime) => state.desk(&runtime, alone, &self.myself),
            Err(_) => (None, false),
        };
        let rearms = state.armed.is_none_or(|armed| deadline < armed);
        state.rearm |= rearms;
        let mut wakes_driver = rearms;
        let driver = state.driver.clone();
        if alone {
            wakes_driver |= state.flush(&mut Context::from_waker(&driver)).is_err();
        } else if desk.is_none() && !state.told {
            state.told = true;
            wakes_driver = true;
        }
        let bell = desk.clone().filter(|_| rings_desk);
        let answer = Some(answer);
        state.pending.push_back(Pending { answer, deadline, sent: now, starts, desk });
        drop(state);
        if let Some(desk) = bell {
            desk.ring();
        }
        if wakes_driver {
            driver.wake();
        }
        Some(answered)
    }

    /// Sends what is to be sent.
    fn flush(&self) {
        let mut state = self.lock();
        let driver = state.driver.clone();
        if state.flush(&mut Context::from_waker(&driver)).is_err() {
            // It will find out by itself.
            driver.wake();
        }
    }

    /// Whether somebody waits for news, so that a dead connection has to be found out.
    pub(crate) fn listen(&self, listens: bool) {
        let mut state = self.lock();
        if state.listens != listens {
            state.listens = listens;
            if listens {
                state.rearm = true;
                state.driver.wake_by_ref();
            }
        }
    }

    /// Ends the driver, and with it the connection.
    pub(crate) fn close(&self) {
        self.status.send_replace(Status::Closed);
        let state = self.lock();
        state.driver.wake_by_ref();
        state.desks.iter().for_each(|(desk, _)| desk.ring());
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.status.borrow(), Status::Closed)
    }

    /// Puts a connection to use that has said hello.
    pub(crate) fn up(&self, link: Link) {
        {
            let mut state = self.lock();
            state.heard = self.clock.now();
            state.link = Some(link);
        }
        self.status.send_if_modified(|status| {
            let open = !matches!(status, Status::Closed);
            if open {
                *status = Status::Up;
            }
            open
        });
    }

    /// Gives a connection up, and tells everybody who waits for an answer on it.
    pub(crate) fn down(&self, why: &Failed) {
        // First, so that nobody finds it up and without a connection.
        let now = self.clock.now();
        self.status.send_if_modified(|status| {
            let since = match status {
                Status::Closed => return false,
                Status::Up => now,
                Status::Down { since, .. } => *since,
            };
            *status = Status::Down { since, why: why.clone() };
            true
        });
        let lost = self.lock().cut();
        let cause = match why {
            Failed::NotSent(cause) | Failed::Lost(cause) => Arc::clone(cause),
            Failed::Refused(refusal) => refusal.to_string().into(),
        };
        for (answer, sent) in lost {
            let cause = Arc::clone(&cause);
            let failed = if sent { Failed::Lost(cause) } else { Failed::NotSent(cause) };
            // Whoever asked may have gone.
            drop(answer.send(Err(failed)));
        }
    }

    /// When the driver has to look even if nothing happens.
    pub(crate) fn next_timer(&self) -> Moment {
        /// A timer is left running when nothing is pending, so that the next call finds it armed,
        /// and no runtime that stands still keeps an answer for longer.
        const IDLE: Duration = Duration::from_secs(1);
        let mut state = self.lock();
        let now = self.clock.now();
        let silence = state.listens.then(|| (state.quiet_since() + SILENCE).max(now));
        let earliest =
            state.pending.iter().filter(|p| p.answer.is_some()).map(|p| p.deadline).min();
        let ears = state.ears_due().filter(|_| state.listens).map(|due| due.max(now));
        let due = silence.into_iter().chain(earliest).chain(ears);
        let at = due.fold(now + IDLE, Moment::min);
        state.armed = Some(at);
        state.rearm = false;
        at
    }

    /// Gives up on calls that have no time left; finds out whether the connection is dead.
    pub(crate) fn expire(&self) -> Result<(), Cause> {
        let now = self.clock.now();
        let (late, dead, silent, desks) = {
            let mut state = self.lock();
            if state.listens {
                state.test_ears(now)?;
            }
            let heard = state.heard;
            let (mut late, mut dead) = (Vec::new(), false);
            for pending in state.pending.iter_mut().filter(|pending| pending.deadline <= now) {
                // Not a byte since it was sent: nothing comes through any more.
                dead |= heard <= pending.sent && now.since(pending.sent) >= DEAD;
                late.extend(pending.answer.take());
            }
            let silent = state.listens && state.quiet_since() + SILENCE <= now;
            let desks: Vec<_> = state.desks.iter().map(|(desk, _)| Arc::clone(desk)).collect();
            (late, dead, silent, desks)
        };
        // What its own runtime did not hand out for want of a turn.
        for desk in desks {
            desk.hand_out();
        }
        for answer in late {
            drop(answer.send(Err(Failed::Lost("no answer in time".into()))));
        }
        if dead {
            return Err("nothing comes through the connection any more".into());
        }
        if silent {
            // Whatever it says will do; without a word it is dead.
            drop(self.submit(now + PING, &[b"PING"]));
        }
        Ok(())
    }

    /// Sends what is to be sent and reads what there is, until the driver is needed.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was read is kept with the connection.
    pub(crate) async fn drive(&self, scratch: &mut [u8]) -> Wakeup {
        std::future::poll_fn(|context| self.poll(context, scratch)).await
    }

    fn poll(&self, context: &mut Context<'_>, scratch: &mut [u8]) -> Poll<Wakeup> {
        if self.is_closed() {
            return Poll::Ready(Wakeup::Closed);
        }
        let mut done = Vec::new();
        let mut pushes = Vec::new();
        let (broken, timer, received) = {
            let mut state = self.lock();
            state.told = false;
            state.driver.clone_from(context.waker());
            let broken = state
                .flush(context)
                .and_then(|()| state.read(context, scratch, &*self.clock, &mut done, &mut pushes));
            (broken.err(), state.rearm, self.clock.now())
        };
        desk::deliver(done);
        if !pushes.is_empty() {
            return Poll::Ready(Wakeup::Pushes(pushes, received));
        }
        match broken {
            Some(cause) => Poll::Ready(Wakeup::Broken(cause)),
            None if timer => Poll::Ready(Wakeup::Timer),
            None => Poll::Pending,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
