//! What goes out and what comes in, behind the one mutex of a connection.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use bidlock_core::{Clock, Moment};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::desk::Desk;
use super::{Cause, Failed, KEPT, Link, PING, Reply, SILENCE, Stream, Wire};
use crate::resp::{self, Malformed, Value};

#[derive(Debug)]
pub(super) struct State {
    pub(super) link: Option<Link>,
    pub(super) pending: VecDeque<Pending>,
    /// What is to be sent; the first `sent` bytes of it are.
    pub(super) out: Vec<u8>,
    pub(super) sent: usize,
    /// How many bytes came before `out`, to know which calls were never sent.
    pub(super) gone: u64,
    pub(super) driver: Waker,
    /// Whether the driver has been told that there is something to send.
    pub(super) told: bool,
    /// When the driver wakes by itself.
    pub(super) armed: Option<Moment>,
    /// Whether that is too late for something that came since.
    pub(super) rearm: bool,
    /// Somebody waits for news: silence is tested.
    pub(super) listens: bool,
    pub(super) heard: Moment,
    /// The desks of the runtimes that call, and whether each knows that there is something to send.
    pub(super) desks: Vec<(Arc<Desk>, bool)>,
}

#[derive(Debug)]
pub(super) struct Pending {
    /// Empty once the call was given up; its answer is thrown away.
    pub(super) answer: Option<oneshot::Sender<Result<Reply, Failed>>>,
    pub(super) deadline: Moment,
    pub(super) sent: Moment,
    /// The number of its first byte.
    pub(super) starts: u64,
    /// Through which its answer comes when it comes with others.
    pub(super) desk: Option<Arc<Desk>>,
}

pub(super) type Answer = oneshot::Sender<Result<Reply, Failed>>;

/// An answer, whose it is, and through which desk it goes.
pub(super) struct Answered {
    pub(super) answer: Answer,
    pub(super) reply: Reply,
    pub(super) desk: Option<Arc<Desk>>,
}

impl State {
    /// When something was last said here, by either side: a test of silence counts as well.
    pub(super) fn quiet_since(&self) -> Moment {
        self.pending.back().map_or(self.heard, |last| last.sent.max(self.heard))
    }

    /// The desk of a runtime, and whether it has to be told of what is to be sent. A runtime that
    /// has none gets one with its first call that is not `alone`.
    pub(super) fn desk(
        &mut self,
        runtime: &Handle,
        alone: bool,
        wire: &Weak<Wire>,
    ) -> (Option<Arc<Desk>>, bool) {
        let known = self.desks.iter().position(|(desk, _)| desk.is_of(runtime) && desk.is_open());
        let at = match known {
            Some(at) => at,
            None if alone => return (None, false),
            None => {
                self.desks.retain(|(desk, _)| desk.is_open());
                self.desks.push((Desk::open(runtime, Weak::clone(wire)), false));
                self.desks.len() - 1
            }
        };
        let (desk, told) = &mut self.desks[at];
        let rings = !alone && !*told;
        *told |= rings;
        (Some(Arc::clone(desk)), rings)
    }

    /// Writes as much as the stream takes; it wakes the context's task when it takes more.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) -> Result<(), Cause> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let mut stream = Pin::new(&mut link.stream);
        while self.sent < self.out.len() {
            match stream.as_mut().poll_write(context, &self.out[self.sent..]) {
                Poll::Ready(Ok(0)) => return Err("the connection takes nothing more".into()),
                Poll::Ready(Ok(written)) => self.sent += written,
                Poll::Ready(Err(error)) => return Err(error.to_string().into()),
                Poll::Pending => return Ok(()),
            }
        }
        self.gone += self.out.len() as u64;
        self.sent = 0;
        self.out.clear();
        for (_, told) in &mut self.desks {
            *told = false;
        }
        self.out.shrink_to(KEPT);
        // A stream that encrypts may hold back what was written.
        match stream.poll_flush(context) {
            Poll::Ready(Err(error)) => Err(error.to_string().into()),
            _ => Ok(()),
        }
    }

    /// Reads until nothing more is there. What came before an end is read in any case.
    pub(super) fn read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        clock: &dyn Clock,
        done: &mut Vec<Answered>,
        pushes: &mut Vec<Vec<Value>>,
    ) -> Result<(), Cause> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let known = link.unread.len();
        let ended = take_in(&mut link.stream, &mut link.unread, context, scratch);
        // After it was read: before that, a server's time would seem to be an earlier one (I9).
        let received = clock.now();
        if link.unread.len() > known {
            self.heard = received;
        }
        for value in values(&mut link.unread)? {
            match value {
                Value::Push(push) => pushes.push(push),
                value => {
                    let Some(pending) = self.pending.pop_front() else {
                        return Err("the server answers what was not asked".into());
                    };
                    if let Some(answer) = pending.answer {
                        let reply = Reply { value, sent: pending.sent, received };
                        done.push(Answered { answer, reply, desk: pending.desk });
                    }
                }
            }
        }
        if let Some(ears) = &mut link.ears {
            let known = ears.unread.len();
            let deaf = take_in(&mut ears.stream, &mut ears.unread, context, scratch);
            if ears.unread.len() > known {
                (ears.heard, ears.asked) = (received, None);
            }
            for value in values(&mut ears.unread)? {
                // Without RESP3 a message is an array like any other.
                if let Value::List(push) | Value::Push(push) = value {
                    pushes.push(push);
                }
            }
            deaf?;
        }
        ended
    }

    /// When the connection for messages has to be looked after, where there is one.
    pub(super) fn ears_due(&self) -> Option<Moment> {
        let ears = self.link.as_ref()?.ears.as_ref()?;
        Some(ears.asked.map_or(ears.heard + SILENCE, |asked| asked + PING))
    }

    /// Tests the connection for messages, when it has been silent for long.
    pub(super) fn test_ears(&mut self, now: Moment) -> Result<(), Cause> {
        let due = self.ears_due().is_some_and(|due| due <= now);
        let Some(ears) = self.link.as_mut().and_then(|link| link.ears.as_mut()).filter(|_| due)
        else {
            return Ok(());
        };
        if ears.asked.is_some() {
            return Err("nothing comes through the connection for messages any more".into());
        }
        ears.asked = Some(now);
        // Nothing else is ever written there, so there is room for it, or the connection is dead.
        let mut context = Context::from_waker(&self.driver);
        match Pin::new(&mut ears.stream).poll_write(&mut context, b"*1\r\n$4\r\nPING\r\n") {
            Poll::Ready(Err(error)) => Err(error.to_string().into()),
            _ => Ok(()),
        }
    }

    /// Drops the connection; returns who waits for answers, and whether their calls were sent.
    pub(super) fn cut(&mut self) -> Vec<(Answer, bool)> {
        self.link = None;
        let sent_up_to = self.gone + self.sent as u64;
        let pending = std::mem::take(&mut self.pending);
        self.gone += self.out.len() as u64;
        self.sent = 0;
        self.out = Vec::new();
        let waiting = pending.into_iter().filter_map(|pending| {
            pending.answer.map(|answer| (answer, pending.starts < sent_up_to))
        });
        waiting.collect()
    }
}

/// Reads all there is.
fn take_in(
    stream: &mut Box<dyn Stream>,
    unread: &mut Vec<u8>,
    context: &mut Context<'_>,
    scratch: &mut [u8],
) -> Result<(), Cause> {
    loop {
        let mut buffer = ReadBuf::new(scratch);
        match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Err(error)) => return Err(error.to_string().into()),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Err("the server closed the connection".into());
            }
            Poll::Ready(Ok(())) => unread.extend_from_slice(buffer.filled()),
        }
    }
}

/// Takes whole values from the front.
fn values(unread: &mut Vec<u8>) -> Result<Vec<Value>, Cause> {
    let mut values = Vec::new();
    let mut at = 0;
    while let Some((value, length)) =
        resp::decode(&unread[at..]).map_err(|malformed: Malformed| malformed.to_string())?
    {
        values.push(value);
        at += length;
    }
    unread.drain(..at);
    unread.shrink_to(KEPT);
    Ok(values)
}
