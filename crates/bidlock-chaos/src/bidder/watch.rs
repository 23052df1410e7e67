//! A lock store that tells what it grants: from when until when a client may believe in a lease,
//! by its own clock.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Endpoint, Health, Key,
    LeaseId, Listener, News, Ownership, RenewRequest, Renewal, Revoke, Wake, limits,
};

use super::TTL;
use super::crash::{Point, reach};
use crate::event::{Event, Log};
use crate::time;

type Result<T> = std::result::Result<T, BackendError>;

/// Tells of every grant of the store within.
#[derive(Debug)]
pub(super) struct Watched {
    inner: Arc<dyn Backend>,
    log: Arc<Log>,
    ears: Mutex<Vec<Arc<Ear>>>,
}

impl Watched {
    pub(super) fn new(inner: Arc<dyn Backend>, log: &Arc<Log>) -> Self {
        Self { inner, log: Arc::clone(log), ears: Mutex::default() }
    }
}

/// Until when a lease may be believed in that was asked for at a moment.
fn until(asked: u64, ttl: Duration) -> u64 {
    asked + time::micros(ttl.saturating_sub(ttl / limits::DRIFT_PARTS))
}

/// Hears of grants that are pushed, on the way to their listener.
#[derive(Debug)]
struct Ear {
    inner: Weak<dyn Listener>,
    log: Arc<Log>,
}

impl Listener for Ear {
    fn woken(&self, wake: &Wake) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        let known = inner.woken(wake);
        if let (true, News::Granted { token, until }) = (known, wake.news) {
            // How long the message was on its way, nobody here knows: the window tells.
            let until = time::micros(until.since_boot());
            let from = until.saturating_sub(time::micros(TTL)).min(time::boot());
            self.log.say(Event::Granted {
                posting: wake.key.posting_encoded().to_owned(),
                lease: wake.lease.expose(),
                token: token.get(),
                from,
                until,
            });
        }
        known
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Watched {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let from = time::boot();
        let attempt = self.inner.acquire(request).await?;
        if let Attempt::Granted { token, .. } = &attempt {
            self.log.say(Event::Granted {
                posting: request.key.posting_encoded().to_owned(),
                lease: request.lease.expose(),
                token: token.get(),
                from,
                until: until(from, request.ttl.get()),
            });
            reach(&self.log, Point::Granted);
        }
        Ok(attempt)
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let from = time::boot();
        let renewal = self.inner.renew(request).await?;
        let lease = request.lease.expose();
        self.log.say(if renewal == Renewal::Renewed {
            Event::Extended { lease, until: until(from, request.ttl.get()) }
        } else {
            Event::Ended { lease }
        });
        Ok(renewal)
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        self.log.say(Event::Ended { lease: lease.expose() });
        let released = self.inner.release(key, lease).await?;
        reach(&self.log, Point::Released);
        Ok(released)
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let ear = Arc::new(Ear { inner: listener, log: Arc::clone(&self.log) });
        let heard: Weak<dyn Listener> = Arc::downgrade(&ear) as _;
        self.ears.lock().unwrap_or_else(PoisonError::into_inner).push(ear);
        self.inner.subscribe(heard);
    }

    async fn ping(&self) -> Result<Health> {
        self.inner.ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        Arc::clone(&self.inner).browse()
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        Arc::clone(&self.inner).revoke()
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        Arc::clone(&self.inner).cleanup()
    }
}
