//! Takes locks of one store.

use std::sync::Arc;

use bidlock::ledger::{AuditAct, OperatorNote};
use bidlock::{LockInfo, LockQuery, OldTable, Prefix, Revocation, StoreUrl, limits};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{Key, duration, ttl, wait};
use crate::errors::Failure;
use crate::lease::{Held, Lease};
use crate::metrics::Metrics;
use crate::op::Op;
use crate::owned::Owned;
use crate::process::{Process, may_open_sqlite};

/// Takes locks of one store.
#[pyclass(frozen, weakref, module = "bidlock._native")]
pub(crate) struct Locker {
    locker: Owned<Arc<bidlock::Locker>>,
    shared: bool,
}

/// Opens a lock store.
#[pyfunction]
#[pyo3(signature = (url, prefix=None, also=None))]
pub(crate) fn connect(url: &str, prefix: Option<&str>, also: Option<&str>) -> Result<Op, Failure> {
    let url = StoreUrl::lock(url).map_err(bidlock::Error::from)?;
    let prefix = prefix.map_or_else(|| Ok(Prefix::default()), Prefix::new)?;
    let also = also.map(OldTable::parse).transpose().map_err(bidlock::Error::from)?;
    let process = Process::current()?;
    let shared = url.is_shared();
    let work = async move {
        if matches!(url, StoreUrl::Sqlite(_)) || also.is_some() {
            may_open_sqlite()?;
        }
        let mut builder = bidlock::Locker::builder()
            .prefix(prefix)
            .platform(process.platform.clone())
            .observer(Arc::<Metrics>::clone(&process.metrics));
        if let Some(also) = also {
            builder = builder.also(also);
        }
        let locker = Arc::new(builder.open(&url).await?);
        process.keep_locker(&locker);
        Ok::<_, Failure>(locker)
    };
    Op::new(work, move |py, locker| {
        Ok(Py::new(py, Locker { locker: Owned::new(locker), shared })?.into_any())
    })
}

impl Locker {
    pub(crate) fn get(&self) -> Result<Arc<bidlock::Locker>, Failure> {
        Ok(Arc::clone(self.locker.get()?))
    }

    fn key(&self, key: &Key) -> Result<bidlock::Key, Failure> {
        Ok(key.0.with_prefix(self.locker.get()?.prefix()))
    }
}

#[pymethods]
impl Locker {
    #[getter]
    fn endpoint(&self) -> Result<String, Failure> {
        Ok(self.locker.get()?.endpoint().to_string())
    }

    #[getter]
    fn prefix(&self) -> Result<String, Failure> {
        Ok(self.locker.get()?.prefix().as_str().to_owned())
    }

    /// Whether several machines can use it.
    #[getter]
    fn shared(&self) -> bool {
        self.shared
    }

    #[pyo3(signature = (key, wait_s, ttl_s, max_hold=None, label=None, renew=true))]
    fn acquire(
        &self,
        key: &Key,
        wait_s: Option<f64>,
        ttl_s: f64,
        max_hold: Option<f64>,
        label: Option<&str>,
        renew: bool,
    ) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let mut acquire = locker.acquire(&key.0).wait(wait(wait_s)?).ttl(ttl(ttl_s)?).renew(renew);
        if let Some(max_hold) = max_hold {
            acquire = acquire.max_hold(duration("max_hold", max_hold)?);
        }
        if let Some(label) = label {
            acquire = acquire.holder_label(bidlock::Label::new(label)?);
        }
        let work = async move { Held::new(acquire.await?, locker) };
        Op::new(work, |py, held| Ok(Py::new(py, Lease::new(held))?.into_any()))
    }

    /// One page of locks.
    #[pyo3(signature = (after=None, limit=1000))]
    fn locks(&self, after: Option<&Key>, limit: u32) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let after = after.map(|key| key.0.clone());
        let work = async move {
            let Some(browse) = locker.browse() else {
                let endpoint = locker.endpoint().clone();
                return Err(Failure::Unsupported { what: "list locks", endpoint });
            };
            let query = LockQuery { prefix: locker.prefix().clone(), after, limit };
            Ok(browse.list(&query).await?)
        };
        Op::new(work, |py, locks| {
            let shown: PyResult<Vec<_>> = locks.iter().map(|lock| lock_info(py, lock)).collect();
            Ok(shown?.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// One lock; None when the key is free.
    fn inspect(&self, key: &Key) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let key = self.key(key)?;
        let work = async move {
            let Some(browse) = locker.browse() else {
                let endpoint = locker.endpoint().clone();
                return Err(Failure::Unsupported { what: "list locks", endpoint });
            };
            Ok(browse.inspect(&key).await?)
        };
        Op::new(work, |py, lock| {
            lock.map_or_else(|| Ok(py.None()), |lock| Ok(lock_info(py, &lock)?.into_any().unbind()))
        })
    }

    /// How the store is.
    fn health(&self) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let work = async move { locker.ping().await };
        Op::new(work, |py, health| {
            let shown = PyDict::new(py);
            shown.set_item("server", health.server)?;
            shown.set_item("version", health.version)?;
            shown.set_item("role", health.role)?;
            shown.set_item("latency", health.latency.as_secs_f64())?;
            Ok(shown.into_any().unbind())
        })
    }

    /// Removes what nothing would ever end by itself; never a live lease.
    fn clear(&self) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let work = async move {
            let Some(cleanup) = locker.cleanup() else { return Ok::<_, Failure>(0_u64) };
            let mut removed = 0;
            for leftover in cleanup.leftovers(locker.prefix()).await? {
                // What belongs to another program is left alone.
                let ours = !leftover.remedy.is_empty();
                removed += u64::from(ours && cleanup.remove(&leftover).await?);
            }
            Ok(removed)
        };
        Op::new(work, |py, removed| Ok(removed.into_pyobject(py)?.into_any().unbind()))
    }

    /// Frees every lock of the prefix that is bidlock's, whoever holds it, and keeps each in the
    /// audit of a ledger.
    fn free_all(&self, ledger: &str, actor: String) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let ledger = StoreUrl::ledger(ledger).map_err(bidlock::Error::from)?;
        let work = async move { free_all(&locker, &ledger, actor).await };
        Op::new(work, |py, freed| Ok(freed.into_pyobject(py)?.into_any().unbind()))
    }

    /// Waits until what was dropped is released.
    fn idle(&self) -> Result<Op, Failure> {
        let locker = Arc::clone(self.locker.get()?);
        let work = async move {
            locker.close().await;
            Ok::<_, Failure>(())
        };
        Op::new(work, |py, ()| Ok(py.None()))
    }
}

/// Frees all locks under the locker's prefix. Each is written to the audit before it is done.
async fn free_all(
    locker: &bidlock::Locker,
    ledger: &StoreUrl,
    actor: String,
) -> Result<u64, Failure> {
    if matches!(ledger, StoreUrl::Sqlite(_)) {
        may_open_sqlite()?;
    }
    // Opened first: what cannot be audited is not done.
    let ledger = bidlock::open_ledger(ledger, locker.platform()).await?;
    let endpoint = locker.endpoint().clone();
    let unsupported = |what| Failure::Unsupported { what, endpoint: endpoint.clone() };
    let browse = locker.browse().ok_or_else(|| unsupported("list locks"))?;
    let revoker = locker.revoker().ok_or_else(|| unsupported("revoke"))?;
    let note = OperatorNote { actor, because: "cleanup_all(force=True)".to_owned() };
    let (mut freed, mut after) = (0, None);
    loop {
        let limit = limits::PAGE_MAX;
        let query = LockQuery { prefix: locker.prefix().clone(), after, limit };
        let page = browse.list(&query).await?;
        let Some(last) = page.last() else { return Ok(freed) };
        after = Some(last.key.clone());
        for lock in &page {
            // A foreign lock has no token, and is never taken.
            let Some(token) = lock.token else { continue };
            let mut act = AuditAct {
                act: "revoke_now".to_owned(),
                key: Some(lock.key.clone()),
                attempt: None,
                token: Some(token),
                note: note.clone(),
            };
            ledger.audit_append(&act).await?;
            let done = revoker.revoke(&lock.key, token, true).await?;
            let held = matches!(done, Revocation::Freed);
            freed += u64::from(held);
            let result = if held { "revoked_freed" } else { "revoke_not_held" };
            result.clone_into(&mut act.act);
            ledger.audit_append(&act).await?;
        }
    }
}

fn lock_info<'py>(py: Python<'py>, lock: &LockInfo) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("key", Key(lock.key.clone()))?;
    shown.set_item("holder", lock.holder.to_string())?;
    shown.set_item("label", lock.holder.label())?;
    shown.set_item("foreign", lock.holder.is_foreign())?;
    shown.set_item("token", lock.token.map(bidlock::FencingToken::get))?;
    shown.set_item("age", lock.age.map(|age| age.as_secs_f64()))?;
    shown.set_item("remaining", lock.remaining.as_secs_f64())?;
    shown.set_item("waiters", lock.waiters)?;
    shown.set_item("revoked", lock.revoked)?;
    Ok(shown)
}
