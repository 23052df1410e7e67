//! One call that may take time.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::bridge::{Bridge, Mailbox};
use crate::errors::Failure;
use crate::owned::Owned;
use crate::process::{Process, lock};
use crate::wait::wait;

/// Makes a Python object of an answer; dropped unused, it gives back what the answer brought.
pub(crate) type Make = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;
/// What a call came to.
pub(crate) type Answer = Result<Make, Failure>;
pub(crate) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A call that does nothing until it is begun for an event loop, or waited for by a thread.
/// Dropping it gives back in the background what it may have taken.
#[pyclass(frozen, module = "bidlock._native")]
pub(crate) struct Op {
    call: Owned<Call>,
}

struct Call {
    stage: Mutex<Stage>,
    process: Arc<Process>,
    number: u64,
}

enum Stage {
    /// Nothing was done yet.
    New(Work),
    /// It runs for an event loop.
    Running(Arc<Task>),
    /// Begun, and answered at once.
    Answered(Answer),
    /// Nothing is left.
    Over,
}

impl Op {
    /// Prepares a call whose result `make` turns into a Python object.
    ///
    /// # Errors
    /// [`Failure`] when the background thread cannot be started.
    pub(crate) fn new<T, E>(
        work: impl Future<Output = Result<T, E>> + Send + 'static,
        make: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Result<Self, Failure>
    where
        T: Send + 'static,
        E: Into<Failure>,
    {
        let process = Process::current()?;
        let work: Work = Box::pin(async move {
            match work.await {
                Ok(done) => Ok(Box::new(move |py: Python<'_>| make(py, done)) as Make),
                Err(failed) => Err(failed.into()),
            }
        });
        let stage = Mutex::new(Stage::New(work));
        let number = process.number();
        let call = Call { stage, process, number };
        Ok(Self { call: Owned::new(call) })
    }
}

#[pymethods]
impl Op {
    /// Begins the call for an event loop. Returns None when it is answered already, else a future
    /// of the loop, which is done as soon as there is an answer to take.
    fn begin<'py>(
        &self,
        py: Python<'py>,
        bridge: &Bridge,
        event_loop: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let call = self.call.get()?;
        let mailbox = bridge.mailbox()?;
        let Stage::New(work) = std::mem::replace(&mut *lock(&call.stage), Stage::Over) else {
            return Err(Failure::Used.into());
        };
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        let task = Task::new(work, call, mailbox);
        mailbox.expect(call.number, &future);
        py.detach(|| {
            // What is done at once is done here, without a way through two threads.
            let _inside = call.process.handle.enter();
            task.first_poll();
        });
        if let Some(answer) = task.take() {
            mailbox.forget(call.number);
            *lock(&call.stage) = Stage::Answered(answer);
            return Ok(None);
        }
        *lock(&call.stage) = Stage::Running(task);
        Ok(Some(future))
    }

    /// Takes the answer of a call that was begun.
    fn take(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let stage = std::mem::replace(&mut *lock(&self.call.get()?.stage), Stage::Over);
        match stage {
            Stage::Answered(answer) => answer?(py),
            Stage::Running(task) => task.take().ok_or(Failure::Used)??(py),
            Stage::New(_) | Stage::Over => Err(Failure::Used.into()),
        }
    }

    /// Gives the call up: nothing of it goes on but what gives back what it has taken.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        let call = self.call.get()?;
        let stage = std::mem::replace(&mut *lock(&call.stage), Stage::Over);
        call.end(py, stage);
        Ok(())
    }

    /// Waits for the answer in this thread, which lets others run and hears of signals meanwhile.
    fn wait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let call = self.call.get()?;
        let Stage::New(work) = std::mem::replace(&mut *lock(&call.stage), Stage::Over) else {
            return Err(Failure::Used.into());
        };
        let _inside = call.process.handle.enter();
        wait(py, &call.process, work)??(py)
    }
}

impl Call {
    fn end(&self, py: Python<'_>, stage: Stage) {
        if let Stage::Running(task) = &stage {
            task.mailbox.forget(self.number);
            py.detach(|| task.cancel());
        }
        drop(stage);
    }
}

impl Drop for Op {
    fn drop(&mut self) {
        // In a forked child nothing of it may be touched.
        let Ok(call) = self.call.get() else { return };
        let stage = std::mem::replace(&mut *lock(&call.stage), Stage::Over);
        if matches!(stage, Stage::Running(_)) {
            Python::attach(|py| call.end(py, stage));
        }
    }
}

/// A call that runs for an event loop: polled where it is begun, and from then on by the
/// background thread.
struct Task {
    work: Mutex<Option<Work>>,
    answer: Mutex<Option<Answer>>,
    /// Whether the background thread will poll it without being asked again.
    scheduled: AtomicBool,
    handle: Handle,
    number: u64,
    mailbox: Arc<Mailbox>,
}

impl Task {
    fn new(work: Work, call: &Call, mailbox: &Arc<Mailbox>) -> Arc<Self> {
        Arc::new(Self {
            work: Mutex::new(Some(work)),
            answer: Mutex::default(),
            scheduled: AtomicBool::new(false),
            handle: call.process.handle.clone(),
            number: call.number,
            mailbox: Arc::clone(mailbox),
        })
    }

    /// Polls; tells whether there is an answer now.
    fn poll(self: &Arc<Self>) -> bool {
        self.scheduled.store(false, Ordering::SeqCst);
        let mut work = lock(&self.work);
        let Some(running) = work.as_mut() else { return false };
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(&mut context)));
        let answer = match polled {
            Ok(Poll::Pending) => return false,
            Ok(Poll::Ready(answer)) => answer,
            Err(panic) => Err(Failure::Panicked(text_of(&*panic))),
        };
        *lock(&self.answer) = Some(answer);
        *work = None;
        true
    }

    fn first_poll(self: &Arc<Self>) {
        self.poll();
    }

    fn take(&self) -> Option<Answer> {
        lock(&self.answer).take()
    }

    fn cancel(&self) {
        drop(lock(&self.work).take());
        drop(self.take());
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        if !self.scheduled.swap(true, Ordering::SeqCst) {
            let handle = self.handle.clone();
            drop(handle.spawn(async move {
                if self.poll() {
                    self.mailbox.deliver(self.number);
                }
            }));
        }
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.scheduled.load(Ordering::SeqCst) {
            Arc::clone(self).wake();
        }
    }
}

pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}
