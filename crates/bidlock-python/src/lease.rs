//! A key that is held.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use bidlock::{LeaseView, LossReason};
use pyo3::prelude::*;
use tokio::sync::Notify;

use crate::convert::Key;
use crate::errors::Failure;
use crate::op::Op;
use crate::owned::Owned;
use crate::process::{Process, lock};

/// A lease, which whoever is first gives back: its owner, the garbage collector, or the end of
/// the process.
#[derive(Debug)]
pub(crate) struct Held {
    lease: Mutex<Option<bidlock::Lease>>,
    view: LeaseView,
    number: u64,
    /// Told when the lease is given up.
    over: Notify,
    /// Keeps the locker until its leases are over.
    _locker: Arc<bidlock::Locker>,
}

impl Held {
    pub(crate) fn new(
        lease: bidlock::Lease,
        locker: Arc<bidlock::Locker>,
    ) -> Result<Arc<Self>, Failure> {
        let process = Process::current()?;
        let (view, number) = (lease.view(), process.number());
        let held = Arc::new(Self {
            lease: Mutex::new(Some(lease)),
            view,
            number,
            over: Notify::new(),
            _locker: locker,
        });
        process.keep_lease(number, &held);
        Ok(held)
    }

    /// The lease itself, once.
    pub(crate) fn take(&self) -> Option<bidlock::Lease> {
        let lease = lock(&self.lease).take()?;
        if let Ok(process) = Process::current() {
            process.forget_lease(self.number);
        }
        self.over.notify_waiters();
        Some(lease)
    }

    /// Resolves when the lease is lost, or given up.
    async fn until_over(&self) -> Option<LossReason> {
        let mut over = pin!(self.over.notified());
        over.as_mut().enable();
        tokio::select! {
            biased;
            reason = self.view.lost() => Some(reason),
            () = std::future::ready(()), if self.is_released() => None,
            () = over => None,
        }
    }

    fn is_released(&self) -> bool {
        lock(&self.lease).is_none()
    }

    fn released(&self) -> Failure {
        Failure::Released { key: self.view.key().clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A key that is held for a limited time, which is renewed in the background.
#[pyclass(frozen, weakref, module = "bidlock._native")]
pub(crate) struct Lease {
    held: Owned<Arc<Held>>,
}

impl Lease {
    pub(crate) fn new(held: Arc<Held>) -> Self {
        Self { held: Owned::new(held) }
    }
}

#[pymethods]
impl Lease {
    #[getter]
    fn key(&self) -> Result<Key, Failure> {
        Ok(Key(self.held.get()?.view.key().clone()))
    }

    #[getter]
    fn token(&self) -> Result<u64, Failure> {
        Ok(self.held.get()?.view.token().get())
    }

    #[getter]
    fn released(&self) -> Result<bool, Failure> {
        Ok(self.held.get()?.is_released())
    }

    /// The lease's identity. Whoever knows it can release the lease.
    fn expose_id(&self) -> Result<String, Failure> {
        let held = self.held.get()?;
        let lease = lock(&held.lease);
        lease.as_ref().map(|lease| lease.id().expose()).ok_or_else(|| held.released())
    }

    /// Seconds left.
    fn check(&self) -> Result<f64, Failure> {
        let held = self.held.get()?;
        let left = held.view.check()?;
        if held.is_released() { Err(held.released()) } else { Ok(left.as_secs_f64()) }
    }

    fn renew(&self) -> Result<Op, Failure> {
        let held = Arc::clone(self.held.get()?);
        let work = async move {
            if held.is_released() {
                return Err(held.released());
            }
            Ok(held.view.renew().await?)
        };
        Op::new(work, |py, left| Ok(left.as_secs_f64().into_pyobject(py)?.into_any().unbind()))
    }

    fn confirm(&self) -> Result<Op, Failure> {
        let held = Arc::clone(self.held.get()?);
        let work = async move {
            if held.is_released() {
                return Err(held.released());
            }
            Ok(held.view.confirm().await?)
        };
        Op::new(work, |py, left| Ok(left.as_secs_f64().into_pyobject(py)?.into_any().unbind()))
    }

    /// The reason of the loss; None when the lease is given up before.
    fn lost(&self) -> Result<Op, Failure> {
        let held = Arc::clone(self.held.get()?);
        let work = async move { Ok::<_, Failure>(held.until_over().await) };
        Op::new(work, |py, reason| {
            Ok(reason.map(LossReason::as_str).into_pyobject(py)?.into_any().unbind())
        })
    }

    fn release(&self) -> Result<Op, Failure> {
        let held = Arc::clone(self.held.get()?);
        let work = async move {
            let lease = held.take().ok_or_else(|| held.released())?;
            Ok::<_, Failure>(lease.release().await?)
        };
        Op::new(work, |py, ()| Ok(py.None()))
    }

    /// Gives the lease up; the store is told in the background.
    fn abandon(&self) -> Result<(), Failure> {
        let held = self.held.get()?;
        drop(held.take());
        Ok(())
    }
}
