//! Where answers wait for an event loop, and the bell that tells it so.

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::eventfd::{EfdFlags, EventFd};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use crate::errors::Failure;
use crate::owned::Owned;
use crate::process::lock;

/// What one event loop waits for. The loop owns it by listening to its bell; when the loop is
/// closed, so is the bridge, and all that waited ends.
#[pyclass(frozen, weakref, module = "bidlock._native")]
pub(crate) struct Bridge {
    mailbox: Owned<Arc<Mailbox>>,
}

/// The part of a bridge that calls under way share.
#[derive(Debug)]
pub(crate) struct Mailbox {
    /// Futures of the loop, by the number of their call. Only attached threads touch it.
    waiting: Mutex<HashMap<u64, Py<PyAny>>>,
    /// Calls with an answer that the loop has not been told of.
    answered: Mutex<Vec<u64>>,
    rung: AtomicBool,
    bell: EventFd,
}

impl Mailbox {
    /// Tells the loop that a call is answered; once for all that are answered until it looks.
    pub(crate) fn deliver(&self, number: u64) {
        lock(&self.answered).push(number);
        if !self.rung.swap(true, Ordering::SeqCst) {
            // It fails when its counter is full only, and then the loop is going to look.
            let _full = self.bell.write(1);
        }
    }

    pub(crate) fn expect(&self, number: u64, future: &Bound<'_, PyAny>) {
        lock(&self.waiting).insert(number, future.clone().unbind());
    }

    pub(crate) fn forget(&self, number: u64) {
        let gone = lock(&self.waiting).remove(&number);
        drop(gone);
    }
}

impl Bridge {
    pub(crate) fn mailbox(&self) -> Result<&Arc<Mailbox>, Failure> {
        self.mailbox.get()
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new() -> PyResult<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = EventFd::from_value_and_flags(0, flags).map_err(std::io::Error::from)?;
        let (waiting, answered) = (Mutex::default(), Mutex::default());
        let mailbox = Mailbox { waiting, answered, rung: AtomicBool::new(false), bell };
        Ok(Self { mailbox: Owned::new(Arc::new(mailbox)) })
    }

    /// What the event loop has to listen to.
    fn fileno(&self) -> PyResult<i32> {
        Ok(self.mailbox()?.bell.as_raw_fd())
    }

    /// Ends the wait of every call that has an answer.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let mailbox = self.mailbox()?;
        // First the bell, then its mark: one that rings in between leaves its answer for the look
        // below, and one that rings later is heard again. Somebody else may have emptied it.
        let _empty = mailbox.bell.read();
        mailbox.rung.store(false, Ordering::SeqCst);
        let answered = std::mem::take(&mut *lock(&mailbox.answered));
        for number in answered {
            let Some(future) = lock(&mailbox.waiting).remove(&number) else { continue };
            let future = future.bind(py);
            if !future.call_method0(pyo3::intern!(py, "done"))?.is_truthy()? {
                future.call_method1(pyo3::intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(mailbox) = self.mailbox() else { return Ok(()) };
        let Ok(waiting) = mailbox.waiting.try_lock() else { return Ok(()) };
        waiting.values().try_for_each(|future| visit.call(future))
    }

    fn __clear__(&self) {
        if let Ok(mailbox) = self.mailbox() {
            let gone = std::mem::take(&mut *lock(&mailbox.waiting));
            drop(gone);
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Calls under way keep the mailbox, but nobody is left whom an answer could reach.
        self.__clear__();
    }
}
