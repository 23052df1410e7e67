use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Clock, Endpoint, Health,
    Holder, Key, LeaseId, Listener, Moment, News, Op, Ownership, Platform, Prefix, RenewRequest,
    Renewal, Result, Revoke, Ttl, Wake,
};

use super::browse::{Listing, Revoking};
use super::worker::Call;
use super::{OldLocks, Place, Seen};
use crate::WITHIN_DEFAULT;

/// A waiter that has the key in the new store, and finds an old worker's row, keeps it there for
/// so long at a time: if it dies, the next one does not have to wait for its whole TTL.
const PENDING: Duration = Duration::from_secs(5);

/// A store around a store: a lease of a posting is one in the inner store and a row in the older
/// system's table, both or none (I15).
///
/// The inner lease is taken first, so that clients of bidlock queue there and only the first of
/// them asks for the row. If an old worker has it, that one keeps its inner lease and looks for
/// the end of the row, as behind any holder that tells nobody. Old workers know nothing of the
/// inner store, so nobody ever has the row and waits for the inner lease: no deadlock.
///
/// A row of bidlock is evidence of an inner lease and nothing more: who has the inner lease
/// replaces the row of whoever had it before, by its higher token (I16). A process that died
/// leaves a row that keeps old workers out until the end of its TTL, and nobody else.
///
/// Only postings under the bridge's prefix are bridged. The older system has no other keys.
#[derive(Debug)]
pub struct Bridge {
    inner: Arc<dyn Backend>,
    old: Arc<OldLocks>,
    prefix: Prefix,
    clock: Arc<dyn Clock>,
    /// The leases that have the key in the inner store and wait for the row.
    pending: Mutex<HashSet<LeaseId>>,
    ears: Mutex<Vec<Arc<Ear>>>,
}

impl Bridge {
    /// Holds both stores for keys under a prefix.
    #[must_use]
    pub fn new(
        inner: Arc<dyn Backend>,
        old: OldLocks,
        prefix: &Prefix,
        platform: &Platform,
    ) -> Self {
        Self {
            inner,
            old: Arc::new(old),
            prefix: prefix.clone(),
            clock: Arc::clone(&platform.clock),
            pending: Mutex::default(),
            ears: Mutex::default(),
        }
    }

    /// Whether the older system could want this key as well.
    fn spans(&self, key: &Key) -> bool {
        key.prefix() == self.prefix.as_str() && !key.marketplace().is_empty()
    }

    /// What is left of a request's time, for the inner store.
    fn left(&self, deadline: Moment) -> Duration {
        deadline.since(self.clock.now())
    }

    /// Behind an old worker: the key in the inner store is kept, or waited for, and the row is
    /// left alone.
    async fn wait_behind(
        &self,
        request: &AcquireRequest,
        seen: Seen,
        deadline: Moment,
    ) -> Result<Attempt> {
        if request.wait.is_none() {
            return Ok(self.held(&seen)); // Nothing was asked for, and nothing is kept.
        }
        let ttl = Ttl::new(request.ttl.get().min(PENDING)).unwrap_or(request.ttl);
        match self.ask_inner(request, ttl, deadline).await? {
            Attempt::Granted { .. } => {
                lock(&self.pending).insert(request.lease.clone());
                Ok(self.held(&seen))
            }
            held @ Attempt::Held { .. } => Ok(held),
        }
    }

    async fn ask_inner(
        &self,
        request: &AcquireRequest,
        ttl: Ttl,
        deadline: Moment,
    ) -> Result<Attempt> {
        // One that has the key there has to keep it by asking, whatever others were told.
        let pending = lock(&self.pending).contains(&request.lease);
        let routine = request.routine && !pending;
        let within = self.left(deadline);
        let request = AcquireRequest { ttl, routine, within, ..request.clone() };
        let answer = self.inner.acquire(&request).await?;
        if pending && matches!(answer, Attempt::Held { .. }) {
            lock(&self.pending).remove(&request.lease);
        }
        Ok(answer)
    }

    /// An old worker was faster than the look: goes on waiting, or gives the key back.
    async fn overtaken(&self, request: &AcquireRequest, seen: Seen) -> Result<Attempt> {
        if request.wait.is_some() {
            lock(&self.pending).insert(request.lease.clone());
        } else {
            let given_back = self.inner.release(&request.key, &request.lease).await;
            given_back.map_err(|failed| half_done(Op::Acquire, &request.key, failed))?;
        }
        Ok(self.held(&seen))
    }

    /// The row could not be asked for, while the inner lease was granted: who waits keeps it and
    /// asks again, and has to release either way; who does not wait gets it off its hands.
    async fn half_taken(&self, request: &AcquireRequest, failed: BackendError) -> BackendError {
        let (op, key) = (Op::Acquire, &request.key);
        if request.wait.is_some() && failed.is_retryable() {
            return half_done(op, key, failed);
        }
        match self.inner.release(key, &request.lease).await {
            Ok(_) => failed,
            Err(_) => half_done(op, key, failed),
        }
    }

    fn held(&self, seen: &Seen) -> Attempt {
        Attempt::Held { holder: holder(seen, &self.old), remaining: seen.remaining, ahead: 0 }
    }
}

/// An old worker, with the table that it is to be looked up in.
pub(super) fn holder(seen: &Seen, old: &OldLocks) -> Holder {
    Holder::foreign(&format!("{} in {}", seen.holder, old.table()))
}

/// One store did what it was asked, the other did not: the caller has to ask again, or release.
pub(super) fn half_done(op: Op, key: &Key, failed: BackendError) -> BackendError {
    let endpoint = failed.endpoint().clone();
    BackendError::Unknown { op, key: Some(key.clone()), endpoint, source: Box::new(failed) }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Bridge {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let key = &request.key;
        if !self.spans(key) {
            return self.inner.acquire(request).await;
        }
        let deadline = self.old.deadline(request.within);
        if let Some(seen) = self.old.look(key, deadline).await? {
            return self.wait_behind(request, seen, deadline).await;
        }
        let token = match self.ask_inner(request, request.ttl, deadline).await? {
            Attempt::Granted { token } => token,
            held @ Attempt::Held { .. } => return Ok(held),
        };
        // I15: not granted before both are there.
        let place = Place::of(key, &request.lease);
        match self.old.take(key, place, token, request.ttl, deadline).await {
            Ok(None) => {
                lock(&self.pending).remove(&request.lease);
                Ok(Attempt::Granted { token })
            }
            Ok(Some(seen)) => self.overtaken(request, seen).await,
            Err(failed) => Err(self.half_taken(request, failed).await),
        }
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let key = &request.key;
        if !self.spans(key) {
            return self.inner.renew(request).await;
        }
        let deadline = self.old.deadline(request.within);
        let renewal = self.inner.renew(request).await?;
        if renewal != Renewal::Renewed {
            return Ok(renewal);
        }
        let extend = Call::Extend(Place::of(key, &request.lease), request.ttl);
        let ours = self.old.change(Op::Renew, key, deadline, extend).await?;
        // I15: whoever deleted the row may work by now, so the lease is over for good (I4).
        Ok(if ours { Renewal::Renewed } else { Renewal::Taken })
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        let inner = self.inner.release(key, lease).await;
        if !self.spans(key) {
            return inner;
        }
        lock(&self.pending).remove(lease);
        // I11: the row goes whatever became of the inner lease, whose next holder replaces it in
        // the meantime (I16).
        let gone = Call::Leave(Place::of(key, lease));
        let deadline = self.old.deadline(WITHIN_DEFAULT);
        let row = self.old.change(Op::Release, key, deadline, gone).await;
        match (inner?, row) {
            (Ownership::Ours, Ok(_)) | (Ownership::NotOurs, Ok(true)) => Ok(Ownership::Ours),
            (Ownership::NotOurs, Ok(false)) => Ok(Ownership::NotOurs),
            (_, Err(failed)) if failed.is_retryable() => Err(half_done(Op::Release, key, failed)),
            (_, Err(failed)) => Err(failed),
        }
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let ear = Arc::new(Ear { listener, prefix: self.prefix.clone() });
        let weak = Arc::downgrade(&ear);
        self.inner.subscribe(weak);
        let mut ears = lock(&self.ears);
        ears.retain(|ear| ear.listener.strong_count() > 0);
        ears.push(ear);
    }

    async fn ping(&self) -> Result<Health> {
        let asked = self.clock.now();
        let health = self.inner.ping().await?;
        self.old.all(Op::Ping).await?;
        Ok(Health { latency: self.clock.now().since(asked), ..health })
    }

    fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        let inner = Arc::clone(&self.inner).browse()?;
        let (old, prefix) = (Arc::clone(&self.old), self.prefix.clone());
        Some(Arc::new(Listing { inner, old, prefix }))
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        let inner = Arc::clone(&self.inner).revoke()?;
        Some(Arc::new(Revoking { inner, bridge: self }))
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        Arc::clone(&self.inner).cleanup()
    }
}

impl Bridge {
    /// Frees the row of a lease that an operator ended at once (I12).
    pub(super) async fn free(&self, key: &Key, token: bidlock_core::FencingToken) -> Result<()> {
        if !self.spans(key) {
            return Ok(());
        }
        let free = Call::Free(super::lock_key(key), token);
        let deadline = self.old.deadline(WITHIN_DEFAULT);
        let freed = self.old.change(Op::Revoke, key, deadline, free).await;
        freed.map(drop).map_err(|failed| half_done(Op::Revoke, key, failed))
    }
}

/// Hears news of the inner store: a grant there is no grant yet, but a reason to look.
#[derive(Debug)]
struct Ear {
    listener: Weak<dyn Listener>,
    prefix: Prefix,
}

impl Listener for Ear {
    fn woken(&self, wake: &Wake) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        let named = wake.key.marketplace().is_empty();
        let bridged = wake.key.prefix() == self.prefix.as_str() && !named;
        match wake.news {
            // I15
            News::Granted { .. } if bridged => {
                listener.woken(&Wake { news: News::Look, ..wake.clone() })
            }
            _ => listener.woken(wake),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
