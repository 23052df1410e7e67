use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Clock, Endpoint, FencingToken,
    Health, Key, LeaseId, Leftover, Listener, LockInfo, LockQuery, Op, Ownership, Prefix,
    RenewRequest, Renewal, Result, Revocation, Revoke, Wake,
};

use crate::SeededRng;

/// How bad the way to a store is; chances are in percent, from 0 to 100.
#[derive(Debug, Clone)]
pub struct Faults {
    /// How often a request is lost on its way, and the caller knows that it was never sent.
    pub requests_lost: u8,
    /// How often an answer is lost, and the caller does not know what became of its request.
    pub answers_lost: u8,
    /// How often a request arrives twice, one right after the other.
    pub requests_doubled: u8,
    /// How often news is lost.
    pub wakes_lost: u8,
    /// How often news arrives twice.
    pub wakes_doubled: u8,
    /// How often other requests go first.
    pub overtaken: u8,
    /// How long a request takes at most, by a clock; the time counts against its deadline.
    pub delay: Option<(Arc<dyn Clock>, Duration)>,
}

impl Faults {
    /// A way on which nothing goes wrong.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            requests_lost: 0,
            answers_lost: 0,
            requests_doubled: 0,
            wakes_lost: 0,
            wakes_doubled: 0,
            overtaken: 0,
            delay: None,
        }
    }

    /// A bad way: every third request fails somehow, and half of the news is lost.
    #[must_use]
    pub const fn many() -> Self {
        Self {
            requests_lost: 15,
            answers_lost: 15,
            requests_doubled: 20,
            wakes_lost: 50,
            wakes_doubled: 30,
            overtaken: 30,
            delay: None,
        }
    }
}

/// A store behind a bad way: requests, answers and news are lost, doubled and delayed.
///
/// The same seed and the same calls, one after the other, give the same faults.
#[derive(Debug, Clone)]
pub struct Lossy {
    inner: Arc<dyn Backend>,
    way: Arc<Way>,
}

#[derive(Debug)]
struct Way {
    faults: Faults,
    rng: SeededRng,
    endpoint: Endpoint,
    ears: Mutex<Vec<Arc<Ear>>>,
    harmed: AtomicU64,
}

impl Lossy {
    /// Puts a bad way before a store.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, faults: Faults, seed: u64) -> Self {
        let way = Way {
            faults,
            rng: SeededRng::new(seed),
            endpoint: inner.endpoint().clone(),
            ears: Mutex::default(),
            harmed: AtomicU64::new(0),
        };
        Self { inner, way: Arc::new(way) }
    }

    /// How many requests, answers and news were lost or doubled so far.
    #[must_use]
    pub fn harmed(&self) -> u64 {
        self.way.harmed.load(Ordering::Relaxed)
    }
}

impl Way {
    fn strikes(&self, percent: u8) -> bool {
        let strikes = self.rng.chance(percent);
        self.harmed.fetch_add(u64::from(strikes), Ordering::Relaxed);
        strikes
    }

    /// Brings a request to the store, or not; returns how long it was on its way.
    async fn sends(&self, op: Op, key: Option<&Key>) -> Result<Duration> {
        while self.rng.chance(self.faults.overtaken) {
            tokio::task::yield_now().await;
        }
        let late = self.delay().await;
        if self.strikes(self.faults.requests_lost) {
            let (key, endpoint) = (key.cloned(), self.endpoint.clone());
            let source = "the request was lost on purpose".into();
            return Err(BackendError::Unreachable { op, key, endpoint, source });
        }
        Ok(late)
    }

    fn doubles(&self) -> bool {
        self.strikes(self.faults.requests_doubled)
    }

    /// Brings an answer back, or not.
    fn answers<T>(&self, op: Op, key: Option<&Key>, answer: Result<T>) -> Result<T> {
        if !self.strikes(self.faults.answers_lost) {
            return answer;
        }
        let (key, endpoint) = (key.cloned(), self.endpoint.clone());
        let source = "the answer was lost on purpose".into();
        Err(BackendError::Unknown { op, key, endpoint, source })
    }

    async fn delay(&self) -> Duration {
        let Some((clock, most)) = &self.faults.delay else { return Duration::ZERO };
        let began = clock.now();
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(self.rng.below(micros.saturating_add(1)));
        clock.sleep_until(began + pause).await;
        clock.now().since(began)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Lossy {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let (op, key) = (Op::Acquire, Some(&request.key));
        let late = self.way.sends(op, key).await?;
        let within = request.within.saturating_sub(late);
        let request = AcquireRequest { within, ..request.clone() };
        let answer = self.inner.acquire(&request).await;
        if self.way.doubles() {
            drop(self.inner.acquire(&request).await);
        }
        self.way.answers(op, key, answer)
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let (op, key) = (Op::Renew, Some(&request.key));
        let late = self.way.sends(op, key).await?;
        let within = request.within.saturating_sub(late);
        let request = RenewRequest { within, ..request.clone() };
        let answer = self.inner.renew(&request).await;
        if self.way.doubles() {
            drop(self.inner.renew(&request).await);
        }
        self.way.answers(op, key, answer)
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        self.way.sends(Op::Release, Some(key)).await?;
        let answer = self.inner.release(key, lease).await;
        if self.way.doubles() {
            drop(self.inner.release(key, lease).await);
        }
        self.way.answers(Op::Release, Some(key), answer)
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let ear = Arc::new(Ear { listener, way: Arc::downgrade(&self.way) });
        let weak = Arc::downgrade(&ear);
        self.inner.subscribe(weak);
        let mut ears = self.way.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.retain(|ear| ear.listener.strong_count() > 0);
        ears.push(ear);
    }

    async fn ping(&self) -> Result<Health> {
        self.way.sends(Op::Ping, None).await?;
        let answer = self.inner.ping().await;
        self.way.answers(Op::Ping, None, answer)
    }

    fn endpoint(&self) -> &Endpoint {
        &self.way.endpoint
    }

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        let inner = Arc::clone(&self.inner).browse()?;
        Some(Arc::new(Behind { inner, way: Arc::clone(&self.way) }))
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        let inner = Arc::clone(&self.inner).revoke()?;
        Some(Arc::new(Behind { inner, way: Arc::clone(&self.way) }))
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        let inner = Arc::clone(&self.inner).cleanup()?;
        Some(Arc::new(Behind { inner, way: Arc::clone(&self.way) }))
    }
}

/// A part of a store behind the same bad way.
#[derive(Debug)]
struct Behind<T: ?Sized> {
    way: Arc<Way>,
    inner: Arc<T>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Browse for Behind<dyn Browse> {
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>> {
        self.way.sends(Op::List, None).await?;
        let answer = self.inner.list(query).await;
        self.way.answers(Op::List, None, answer)
    }

    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>> {
        self.way.sends(Op::List, Some(key)).await?;
        let answer = self.inner.inspect(key).await;
        self.way.answers(Op::List, Some(key), answer)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Revoke for Behind<dyn Revoke> {
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation> {
        self.way.sends(Op::Revoke, Some(key)).await?;
        let answer = self.inner.revoke(key, token, now).await;
        if self.way.doubles() {
            drop(self.inner.revoke(key, token, now).await);
        }
        self.way.answers(Op::Revoke, Some(key), answer)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Cleanup for Behind<dyn Cleanup> {
    async fn leftovers(&self, prefix: &Prefix) -> Result<Vec<Leftover>> {
        self.way.sends(Op::List, None).await?;
        let answer = self.inner.leftovers(prefix).await;
        self.way.answers(Op::List, None, answer)
    }

    async fn remove(&self, leftover: &Leftover) -> Result<bool> {
        self.way.sends(Op::Cleanup, None).await?;
        let answer = self.inner.remove(leftover).await;
        self.way.answers(Op::Cleanup, None, answer)
    }
}

/// Hears news for a listener behind the bad way.
#[derive(Debug)]
struct Ear {
    listener: Weak<dyn Listener>,
    way: Weak<Way>,
}

impl Listener for Ear {
    fn woken(&self, wake: &Wake) -> bool {
        let (Some(listener), Some(way)) = (self.listener.upgrade(), self.way.upgrade()) else {
            return false;
        };
        if way.strikes(way.faults.wakes_lost) {
            return true; // The store has sent it, and cannot know better.
        }
        if way.strikes(way.faults.wakes_doubled) {
            listener.woken(wake);
        }
        listener.woken(wake)
    }
}

#[cfg(test)]
mod tests;
