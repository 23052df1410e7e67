use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Backoff, Clock, Health, Key, LeaseId, Listener,
    Moment, Op, Ownership, Platform, Prefix, Refusal, RenewRequest, Renewal, Ttl,
};
use tokio::sync::Notify;

use crate::Error;
use crate::inbox::Inbox;
use crate::keeper::Keeper;
use crate::observe::{Event, Observer};

/// The longest that one request to a lock store may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);
/// The shortest that one request is given, however short the TTL.
const REQUEST_MIN: Duration = Duration::from_millis(250);

/// What the clones of a locker, and its leases, share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) backend: Arc<dyn Backend>,
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

/// How much longer than its limit a request is waited for: the store's own word says more.
const HEAD_START: Duration = Duration::from_millis(20);

/// How long one request of a lease may take: well below its TTL (R2).
pub(crate) fn request_timeout(ttl: Ttl) -> Duration {
    (ttl.get() / 3).clamp(REQUEST_MIN, REQUEST_MAX)
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
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        prefix: Prefix,
        platform: Platform,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let inbox = Arc::new(Inbox::default());
        let listener: Weak<dyn Listener> = Arc::downgrade(&inbox) as _;
        backend.subscribe(listener);
        let host = platform.processes.host();
        let identity = LeaseId::random(host, platform.processes.pid(), &*platform.rng);
        let keeper = Keeper::start(&platform);
        let background = Arc::default();
        Self { backend, prefix, platform, inbox, keeper, identity, observer, background }
    }

    pub(crate) async fn ping(&self) -> Result<Health, Error> {
        Ok(self.within(Op::Ping, None, REQUEST_MAX, self.backend.ping()).await?)
    }

    /// Resolves when nothing runs in the background.
    pub(crate) async fn idle(&self) {
        self.background.idle().await;
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.platform.clock
    }

    /// Tells the observer; its panic is its own, and costs no lease (R7).
    pub(crate) fn observe(&self, event: &Event<'_>) {
        let told = catch_unwind(AssertUnwindSafe(|| self.observer.on(event)));
        if told.is_err() {
            tracing::error!(?event, "the observer panicked");
        }
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

    /// Releases; once more when the answer was lost soon after, as with a connection that broke:
    /// a second release of one lease does no harm (I8).
    pub(crate) async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership, Error> {
        const SOON: Duration = Duration::from_secs(1);
        let began = self.clock().now();
        let first = self.release_once(key, lease).await;
        match first {
            Err(lost) if lost.may_have_applied() && self.clock().now().since(began) < SOON => {
                tracing::debug!(%key, %lease, error = %lost, "released again");
                // What is not this lease's any more was given up by the first one.
                self.release_once(key, lease).await.map(|_| Ownership::Ours)
            }
            answer => answer,
        }
        .map_err(Error::from)
    }

    async fn release_once(&self, key: &Key, lease: &LeaseId) -> Result<Ownership, BackendError> {
        let release = self.backend.release(key, lease);
        self.within(Op::Release, Some(key), REQUEST_MAX, release).await
    }

    /// Bounds a call to the store, whatever the store does about it.
    async fn within<T>(
        &self,
        op: Op,
        key: Option<&Key>,
        limit: Duration,
        call: impl Future<Output = Result<T, BackendError>>,
    ) -> Result<T, BackendError> {
        let end = self.clock().now() + limit + HEAD_START;
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

    /// Releases until the store has answered, will not, or the lease has ended by itself.
    pub(crate) async fn deliver_release(
        &self,
        key: &Key,
        lease: &LeaseId,
        until: Moment,
    ) -> Option<Ownership> {
        let mut backoff = Backoff::store();
        loop {
            let failed = match self.release(key, lease).await {
                Ok(ownership) => return Some(ownership),
                Err(failed) => failed,
            };
            let again = self.clock().now() + backoff.pause(&*self.platform.rng);
            // Rights may come back: a password that is being changed costs no key its release.
            let denied = matches!(
                &failed,
                Error::Store(BackendError::Refused { reason: Refusal::Permission(_), .. })
            );
            if again >= until || !(failed.is_retryable() || denied) {
                tracing::warn!(%key, %lease, error = %failed, "not released: the TTL ends it");
                return None;
            }
            self.clock().sleep_until(again).await;
        }
    }
}
