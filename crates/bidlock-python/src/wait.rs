//! Waiting in the caller's own thread.

use std::future::Future;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use pyo3::prelude::*;

use crate::errors::Failure;
use crate::op::{Answer, Work, text_of};
use crate::process::Process;

/// How long a signal may wait to be heard: half of what is promised.
const SIGNALS: Duration = Duration::from_millis(25);

/// Wakes a thread.
struct Bell {
    thread: Thread,
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Bell {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), rung: AtomicBool::new(false) })
    }
}

/// Runs a call to its end, or to a signal whose handler raises: the call is dropped then.
pub(crate) fn wait(py: Python<'_>, process: &Process, mut work: Work) -> PyResult<Answer> {
    let bell = Bell::new();
    let waker = Waker::from(Arc::clone(&bell));
    let waiting = Waiting::begin(process);
    loop {
        let polled = py.detach(|| {
            let mut context = Context::from_waker(&waker);
            let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(&mut context)));
            if let Ok(Poll::Pending) = polled
                && !bell.rung.swap(false, Ordering::SeqCst)
            {
                thread::park_timeout(SIGNALS);
                bell.rung.store(false, Ordering::SeqCst);
            }
            if waiting.is_over() {
                // A daemon thread, at the end of the interpreter, which nothing may enter again:
                // what was asked for is given up, and the end of the process ends the thread.
                drop(mem::replace(&mut work, Box::pin(std::future::pending())));
                waiting.end();
                loop {
                    thread::park();
                }
            }
            polled
        });
        match polled {
            Ok(Poll::Ready(answer)) => return Ok(answer),
            Ok(Poll::Pending) => py.check_signals()?,
            Err(panic) => return Ok(Err(Failure::Panicked(text_of(&*panic)))),
        }
    }
}

/// One wait of a thread, as the end of the process sees it.
struct Waiting<'a> {
    process: &'a Process,
    /// Whether the end had begun before: what is called then is done as ever.
    in_the_end: bool,
}

impl<'a> Waiting<'a> {
    fn begin(process: &'a Process) -> Self {
        process.waiting.fetch_add(1, Ordering::SeqCst);
        Self { process, in_the_end: process.ending.load(Ordering::SeqCst) }
    }

    fn is_over(&self) -> bool {
        !self.in_the_end && self.process.ending.load(Ordering::SeqCst)
    }

    fn end(&self) {
        self.process.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs what cannot fail to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let bell = Bell::new();
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done;
        }
        while !bell.rung.swap(false, Ordering::SeqCst) {
            thread::park();
        }
    }
}
