use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Backoff, Browse, Clock, Endpoint, Health, Key,
    LeaseId, Listener, LossReason, Moment, Op, Ownership, Platform, Prefix, RenewRequest, Renewal,
    Revoke, Ttl,
};
use tokio::sync::Notify;

use crate::Error;
use crate::acquire::Acquire;
use crate::inbox::Inbox;
use crate::keeper::Keeper;
use crate::lease::Lease;
use crate::observe::{Event, Observer, Unobserved};
use crate::open::{self, ConfigError};

/// The longest that one request to a lock store may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// The shortest that one request is given, however short the TTL.
const REQUEST_MIN: Duration = Duration::from_millis(250);

/// Takes locks of one store. Cheap to clone; clones share one connection.
///
/// # Examples
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// use bidlock::{Key, Locker};
///
/// let locker = Locker::connect("memory:").await?;
/// let lease = locker.acquire(&Key::new("upwork", "job_123")?).await?;
/// println!("held with fencing token {}", lease.token());
/// lease.release().await?;
/// # Ok::<(), bidlock::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Locker {
    inner: Arc<Inner>,
}

/// What the clones of a locker, and its leases, share.
#[derive(Debug)]
pub(crate) struct Inner {
    backend: Arc<dyn Backend>,
    pub(crate) prefix: Prefix,
    pub(crate) platform: Platform,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) identity: LeaseId,
    observer: Arc<dyn Observer>,
    background: Arc<Background>,
}

/// Counts what runs in the background, so that closing can wait for it.
#[derive(Debug, Default)]
struct Background {
    running: AtomicUsize,
    idle: Notify,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.stop();
    }
}

/// How to set up a [`Locker`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is connected"]
pub struct Builder {
    prefix: Prefix,
    platform: Option<Platform>,
    observer: Option<Arc<dyn Observer>>,
}

impl Builder {
    /// Puts keys under another prefix than `bid_lock`.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    /// Takes time, randomness and background work from `platform`; by default from the operating
    /// system, with one background thread for each locker.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Tells `observer` of everything that happens.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Opens the store that `url` names: `sqlite:///var/lib/bids.db`, `sqlite:bids.db`, `memory:`.
    ///
    /// # Errors
    /// [`Error::Config`] for a URL that is not understood; [`Error::Store`] for a store that
    /// cannot be opened.
    ///
    /// # Cancel safety
    /// A file may be left created.
    pub async fn connect(mut self, url: &str) -> Result<Locker, Error> {
        let platform = self.take_platform()?;
        let backend = open::backend(url, &platform).await?;
        Ok(self.build(backend, platform))
    }

    /// Uses a store that is open already.
    ///
    /// # Errors
    /// [`Error::Config`] when the background thread cannot be started.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Result<Locker, Error> {
        let platform = self.take_platform()?;
        Ok(self.build(backend, platform))
    }

    fn take_platform(&mut self) -> Result<Platform, Error> {
        match self.platform.take() {
            Some(platform) => Ok(platform),
            None => Ok(bidlock_platform::system().map_err(ConfigError::Platform)?),
        }
    }

    fn build(self, backend: Arc<dyn Backend>, platform: Platform) -> Locker {
        let inbox = Arc::new(Inbox::default());
        let listener: Weak<dyn Listener> = Arc::downgrade(&inbox) as _;
        backend.subscribe(listener);
        let host = platform.processes.host();
        let identity = LeaseId::random(host, std::process::id(), &*platform.rng);
        let inner = Inner {
            backend,
            prefix: self.prefix,
            keeper: Keeper::start(&platform),
            inbox,
            identity,
            platform,
            observer: self.observer.unwrap_or_else(|| Arc::new(Unobserved)),
            background: Arc::default(),
        };
        Locker { inner: Arc::new(inner) }
    }
}

impl Locker {
    /// Opens the store that `url` names, with the defaults of [`Builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    ///
    /// # Cancel safety
    /// A file may be left created.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url).await
    }

    /// Sets up a locker step by step.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks for a key, by default for 10 s at most and for a TTL of 5 min; await what is returned.
    pub fn acquire(&self, key: &Key) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), key.with_prefix(&self.inner.prefix))
    }

    /// Asks for a key once; `None` when somebody else has it.
    ///
    /// # Errors
    /// [`Error::Store`] when the store gave no answer, or refused.
    ///
    /// # Cancel safety
    /// What the request may have taken is given back in the background.
    pub async fn try_acquire(&self, key: &Key) -> Result<Option<Lease>, Error> {
        match self.acquire(key).wait(crate::Wait::No).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Error::Held { .. }) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Runs `work` while holding the key, and drops it unfinished when the lease is lost.
    ///
    /// The release is not waited for longer than the store takes to answer; its failure is
    /// logged, because the work is done all the same.
    ///
    /// # Errors
    /// As awaiting [`Locker::acquire`], and [`Error::Lost`] when the lease was lost before the
    /// work was done.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and releases the lease in the background.
    pub async fn with_lock<F, Fut, T>(&self, acquire: Acquire, work: F) -> Result<T, Error>
    where
        F: FnOnce(LeaseView) -> Fut,
        Fut: Future<Output = T>,
    {
        let lease = acquire.await?;
        let view = LeaseView { key: lease.key().clone(), token: lease.token().get() };
        let done = tokio::select! {
            biased;
            reason = lease.lost() => Err(reason),
            done = work(view) => Ok(done),
        };
        match done {
            Ok(done) => {
                if let Err(failed) = lease.release().await {
                    tracing::warn!(error = %failed, "release after the work was done");
                }
                Ok(done)
            }
            Err(reason) => Err(Error::Lost { key: lease.key().clone(), reason }),
        }
    }

    /// Extends a lease that another process holds the identity of.
    ///
    /// # Errors
    /// [`Error::Store`] when the store gave no answer, or refused.
    ///
    /// # Cancel safety
    /// The renewal may still take effect.
    pub async fn renew(&self, key: &Key, lease: &LeaseId, ttl: Ttl) -> Result<Renewal, Error> {
        let key = key.with_prefix(&self.inner.prefix);
        let within = self.inner.request_timeout(ttl);
        let request = RenewRequest { key, lease: lease.clone(), ttl, within };
        self.inner.renew(&request).await
    }

    /// Gives up a lease that another process took.
    ///
    /// # Errors
    /// [`Error::Store`] when the store gave no answer, or refused.
    ///
    /// # Cancel safety
    /// The release may still take effect; repeating it is harmless.
    pub async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership, Error> {
        self.inner.release(&key.with_prefix(&self.inner.prefix), lease).await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Asks the store for a sign of life.
    ///
    /// # Errors
    /// [`Error::Store`] when there was none.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn ping(&self) -> Result<Health, Error> {
        Ok(self.inner.within(Op::Ping, None, REQUEST_MAX, self.inner.backend.ping()).await?)
    }

    /// Lists locks, where the store can.
    #[must_use]
    pub fn browse(&self) -> Option<Arc<dyn Browse>> {
        Arc::clone(&self.inner.backend).browse()
    }

    /// Takes keys from their holders, where the store can.
    #[must_use]
    pub fn revoker(&self) -> Option<Arc<dyn Revoke>> {
        Arc::clone(&self.inner.backend).revoke()
    }

    /// Where the store is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.backend.endpoint()
    }

    /// The prefix that keys are put under.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// The clocks, randomness and background thread, to share with a ledger.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }

    /// Waits until what was dropped is released and nothing runs in the background any more.
    /// Leases that are held stay held: release or drop them first.
    ///
    /// # Cancel safety
    /// The background work goes on.
    pub async fn close(&self) {
        self.inner.background.idle().await;
    }
}

/// What guarded work may know of its lease.
#[derive(Debug, Clone)]
pub struct LeaseView {
    key: Key,
    token: u64,
}

impl LeaseView {
    /// What is held.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The fencing token of the grant.
    #[must_use]
    pub const fn token(&self) -> u64 {
        self.token
    }
}

impl Background {
    async fn idle(&self) {
        loop {
            // Listens before it looks, so that no end is missed.
            let mut idle = std::pin::pin!(self.idle.notified());
            idle.as_mut().enable();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Inner {
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.platform.clock
    }

    pub(crate) fn observe(&self, event: &Event<'_>) {
        self.observer.on(event);
    }

    /// How long one request of a lease may take: well below its TTL (R2).
    #[expect(clippy::unused_self, reason = "a store with its own limit will set it here")]
    pub(crate) fn request_timeout(&self, ttl: Ttl) -> Duration {
        (ttl.get() / 3).clamp(REQUEST_MIN, REQUEST_MAX)
    }

    /// Runs a task on the background thread; [`Locker::close`] waits for it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        struct Running(Arc<Background>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.running.fetch_sub(1, Ordering::SeqCst);
                self.0.idle.notify_waiters();
            }
        }
        self.background.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(Arc::clone(&self.background));
        self.platform.spawn.spawn(Box::pin(async move {
            task.await;
            drop(running);
        }));
    }

    pub(crate) async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt, BackendError> {
        let key = Some(&request.key);
        self.within(Op::Acquire, key, request.within, self.backend.acquire(request)).await
    }

    pub(crate) async fn renew(&self, request: &RenewRequest) -> Result<Renewal, Error> {
        let key = Some(&request.key);
        Ok(self.within(Op::Renew, key, request.within, self.backend.renew(request)).await?)
    }

    pub(crate) async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership, Error> {
        let release = self.backend.release(key, lease);
        Ok(self.within(Op::Release, Some(key), REQUEST_MAX, release).await?)
    }

    /// Bounds a call to the store, whatever the store does about it.
    async fn within<T>(
        &self,
        op: Op,
        key: Option<&Key>,
        limit: Duration,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let end = self.clock().now() + limit;
        tokio::select! {
            biased;
            answer = call => answer,
            () = self.clock().sleep_until(end) => Err(BackendError::Unknown {
                op,
                key: key.cloned(),
                endpoint: self.backend.endpoint().clone(),
                source: format!("no answer within {limit:?}").into(),
            }),
        }
    }

    /// Releases in the background whatever the lease has, until the store has answered or the
    /// lease has ended by itself; once more after `unanswered`, the deadline of a request whose
    /// answer never came and which might still be carried out until then (R9).
    pub(crate) fn give_up(
        self: &Arc<Self>,
        key: Key,
        lease: LeaseId,
        until: Moment,
        unanswered: Option<Moment>,
    ) {
        let inner = Arc::clone(self);
        self.spawn(async move {
            inner.deliver_release(&key, &lease, until).await;
            if let Some(deadline) = unanswered {
                inner.clock().sleep_until(deadline).await;
                inner.deliver_release(&key, &lease, until.max(deadline)).await;
            }
        });
    }

    async fn deliver_release(&self, key: &Key, lease: &LeaseId, until: Moment) {
        let mut backoff = Backoff::store();
        while let Err(failed) = self.release(key, lease).await {
            let now = self.clock().now();
            let pause = backoff.pause(&*self.platform.rng);
            if now + pause >= until {
                tracing::warn!(%key, %lease, error = %failed, "release given up: the TTL ends it");
                return;
            }
            self.clock().sleep_until(now + pause).await;
        }
    }
}

/// Tells why a lease is no longer its holder's.
pub(crate) fn lost(key: &Key, reason: LossReason) -> Error {
    Error::Lost { key: key.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_leases_that_came_and_went() {
        // R26
        let locker = Locker::connect("memory:").await.unwrap();
        for n in 0..1_000 {
            let key = Key::new("upwork", &format!("job_{n}")).unwrap();
            let lease = locker.acquire(&key).await.unwrap();
            assert_eq!((locker.inner.inbox.len(), locker.inner.keeper.len()), (1, 1));
            if n % 2 == 0 {
                lease.release().await.unwrap();
            } else {
                drop(lease);
            }
        }
        locker.close().await;
        assert_eq!((locker.inner.inbox.len(), locker.inner.keeper.len()), (0, 0));
        assert_eq!(Arc::strong_count(&locker.inner), 1);
    }
}
