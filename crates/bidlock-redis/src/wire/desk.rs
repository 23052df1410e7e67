//! Where the calls of one runtime are sent together, and their answers handed out together: a wake
//! of another thread for each of them would cost more than the calls.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

use super::state::{Answer, Answered};
use super::{Reply, Wire};

/// One runtime's desk; a task of that runtime serves it.
#[derive(Debug)]
pub(super) struct Desk {
    runtime: Id,
    bell: Notify,
    /// Answers to hand out; nothing once the runtime has ended.
    done: Mutex<Option<Vec<(Answer, Reply)>>>,
}

impl Desk {
    /// Opens a desk in the runtime that this is called from.
    pub(super) fn open(runtime: &Handle, wire: Weak<Wire>) -> Arc<Self> {
        let done = Mutex::new(Some(Vec::new()));
        let desk = Arc::new(Self { runtime: runtime.id(), bell: Notify::new(), done });
        let served = Served(Arc::clone(&desk));
        drop(runtime.spawn(served.serve(wire)));
        desk
    }

    pub(super) fn is_of(&self, runtime: &Handle) -> bool {
        self.runtime == runtime.id()
    }

    pub(super) fn is_open(&self) -> bool {
        self.done.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Has what is to be sent sent, and what was answered handed out.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Takes an answer to hand out; gives it back when the runtime has ended.
    pub(super) fn take(&self, answer: Answer, reply: Reply) -> Option<(Answer, Reply)> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *done {
            None => Some((answer, reply)),
            Some(done) => {
                done.push((answer, reply));
                None
            }
        }
    }

    /// Hands out what is there.
    pub(super) fn hand_out(&self) {
        let done = {
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.as_mut().map(std::mem::take).unwrap_or_default()
        };
        send_all(done);
    }
}

/// The task that serves a desk; the desk closes with it.
struct Served(Arc<Desk>);

impl Served {
    async fn serve(self, wire: Weak<Wire>) {
        loop {
            self.0.bell.notified().await;
            self.0.hand_out();
            // Whoever can go on now, or could before, calls first: its call goes out with others.
            tokio::task::yield_now().await;
            let Some(wire) = wire.upgrade() else { return };
            if wire.is_closed() {
                return;
            }
            wire.flush();
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let left = self.0.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        send_all(left.unwrap_or_default());
    }
}

fn send_all(done: Vec<(Answer, Reply)>) {
    for (answer, reply) in done {
        // Whoever asked may have gone.
        drop(answer.send(Ok(reply)));
    }
}

/// Brings answers to those who wait for them: one at once, several through the desks of their
/// runtimes.
pub(super) fn deliver(done: Vec<Answered>) {
    let several = done.len() > 1;
    let mut rung: Vec<Arc<Desk>> = Vec::new();
    for Answered { answer, reply, desk } in done {
        let left = match desk.filter(|_| several) {
            None => Some((answer, reply)),
            Some(desk) => {
                let left = desk.take(answer, reply);
                if left.is_none() && !rung.iter().any(|other| Arc::ptr_eq(other, &desk)) {
                    rung.push(desk);
                }
                left
            }
        };
        send_all(left.into_iter().collect());
    }
    for desk in rung {
        desk.ring();
    }
}
