use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, Browse, Cleanup, Clock, Endpoint, Health, Key, LeaseId,
    Listener, Moment, News, Ownership, RenewRequest, Renewal, Result, Revoke, Wake,
};

use crate::{Call, Did, NEVER};

/// The calls that were recorded, by key; shared by all clients that record into it.
#[derive(Debug, Clone, Default)]
pub struct History {
    calls: Arc<Mutex<HashMap<String, Vec<Call>>>>,
    told: Option<Told>,
    numbers: Arc<AtomicU64>,
}

/// Who hears of calls instead of their being kept.
#[derive(Clone)]
struct Told(Arc<Tell>);

type Tell = dyn Fn(&Key, u64, Option<&Call>) + Send + Sync;

impl Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Told")
    }
}

impl History {
    /// Keeps nothing, and tells of each call by its number instead: as it begins what is to be
    /// thought of it when nothing more is heard, which is all that a process that is killed can
    /// say; and as it ends what came of it, or nothing when it has had no effect.
    #[must_use]
    pub fn telling(told: impl Fn(&Key, u64, Option<&Call>) + Send + Sync + 'static) -> Self {
        Self { told: Some(Told(Arc::new(told))), ..Self::default() }
    }

    /// Takes what was recorded so far of each key.
    #[must_use]
    pub fn take(&self) -> HashMap<String, Vec<Call>> {
        std::mem::take(&mut *lock(&self.calls))
    }

    /// How many calls were recorded of a key.
    #[must_use]
    pub fn count(&self, key: &Key) -> usize {
        lock(&self.calls).get(&key.to_string()).map_or(0, Vec::len)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A call begins.
    fn begin(&self, key: &Key, number: u64, call: &Call) {
        if let Some(Told(told)) = &self.told {
            told(key, number, Some(call));
        }
    }

    /// A call has ended, or was left alone.
    fn end(&self, key: &Key, number: u64, call: Option<&Call>) {
        if let Some(Told(told)) = &self.told {
            told(key, number, call);
        } else if let Some(call) = call {
            lock(&self.calls).entry(key.to_string()).or_default().push(*call);
        }
    }
}

/// A store around a store that records every acquire, renewal and release, and every grant that
/// comes as a message. Operators' acts are not recorded.
#[derive(Debug)]
pub struct Recorded {
    inner: Arc<dyn Backend>,
    book: Arc<Book>,
    ears: Mutex<Vec<Arc<Ear>>>,
}

/// Where one client's calls are recorded, and by which clock.
#[derive(Debug)]
struct Book {
    history: History,
    clock: Arc<dyn Clock>,
    /// What each lease that was not given up has asked.
    asks: Mutex<HashMap<u64, Asks>>,
}

#[derive(Debug, Clone, Copy)]
struct Asks {
    since: u64,
    /// Whether it was told to wait.
    waits: bool,
}

impl Recorded {
    /// Records the calls to a store.
    #[must_use]
    pub fn new(inner: Arc<dyn Backend>, clock: Arc<dyn Clock>, history: &History) -> Self {
        let book = Book { history: history.clone(), clock, asks: Mutex::default() };
        Self { inner, book: Arc::new(book), ears: Mutex::default() }
    }
}

impl Book {
    fn now(&self) -> u64 {
        micros(self.clock.now().since_boot())
    }
}

/// A call under way: one that is dropped has no answer, and may take effect all the same.
struct Open<'a> {
    book: &'a Book,
    key: &'a Key,
    number: u64,
    /// What is to be thought of it without an answer.
    unknown: Call,
    /// It has had its answer.
    over: bool,
}

impl<'a> Open<'a> {
    fn begin(
        book: &'a Book,
        key: &'a Key,
        lease: &LeaseId,
        within: Option<Duration>,
        unknown: Did,
    ) -> Self {
        let (invoked, number) = (book.now(), book.history.number());
        let returned = within.map_or(NEVER, |within| invoked + micros(within));
        let unknown = Call { lease: lease.unique(), invoked, returned, did: unknown };
        book.history.begin(key, number, &unknown);
        Self { book, key, number, unknown, over: false }
    }

    fn end(mut self, did: Did) {
        self.over = true;
        let call = Call { returned: self.book.now(), did, ..self.unknown };
        self.book.history.end(self.key, self.number, Some(&call));
    }

    /// It is known to have had no effect.
    fn forget(mut self) {
        self.over = true;
        self.book.history.end(self.key, self.number, None);
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.over {
            self.book.history.end(self.key, self.number, Some(&self.unknown));
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Recorded {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let (ttl, waits) = (micros(request.ttl.get()), request.wait.is_some());
        let unknown = Did::MaybeAcquired { ttl, waits };
        let within = Some(request.within);
        let open = Open::begin(&self.book, &request.key, &request.lease, within, unknown);
        let asks = Asks { since: open.unknown.invoked, waits: false };
        let asks = *lock(&self.book.asks).entry(open.unknown.lease).or_insert(asks);
        let answer = self.inner.acquire(request).await;
        match &answer {
            Ok(Attempt::Granted { token }) => open.end(Did::Granted { token: token.get(), ttl }),
            // A look by the clock may be answered from what the client knows, but not the one that
            // first finds a place in the queue: after a request that was never sent, it may be one.
            Ok(Attempt::Held { .. }) if request.routine && asks.waits => open.forget(),
            Ok(Attempt::Held { .. }) => {
                if let Some(asks) = lock(&self.book.asks).get_mut(&open.unknown.lease) {
                    asks.waits |= waits;
                }
                open.end(Did::Held { waits });
            }
            Err(failed) if failed.may_have_applied() => {}
            Err(_) => open.forget(),
        }
        answer
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let ttl = micros(request.ttl.get());
        let unknown = Did::MaybeRenewed { ttl };
        let within = Some(request.within);
        let open = Open::begin(&self.book, &request.key, &request.lease, within, unknown);
        let answer = self.inner.renew(request).await;
        match &answer {
            Ok(Renewal::Renewed) => open.end(Did::Renewed { ttl }),
            Ok(_) => open.end(Did::Lost),
            Err(failed) if failed.may_have_applied() => {}
            Err(_) => open.forget(),
        }
        answer
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        let open = Open::begin(&self.book, key, lease, None, Did::MaybeReleased);
        lock(&self.book.asks).remove(&open.unknown.lease);
        let answer = self.inner.release(key, lease).await;
        match &answer {
            Ok(Ownership::Ours) => open.end(Did::Released),
            Ok(Ownership::NotOurs) => open.end(Did::NotOurs),
            Err(failed) if failed.may_have_applied() => {}
            Err(_) => open.forget(),
        }
        answer
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let ear = Arc::new(Ear { listener, book: Arc::clone(&self.book) });
        let weak = Arc::downgrade(&ear);
        lock(&self.ears).push(ear);
        self.inner.subscribe(weak);
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

/// Records the grants that come as messages.
#[derive(Debug)]
struct Ear {
    listener: Weak<dyn Listener>,
    book: Arc<Book>,
}

impl Listener for Ear {
    fn woken(&self, wake: &Wake) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        let (lease, now) = (wake.lease.unique(), self.book.now());
        let since = lock(&self.book.asks).get(&lease).map(|asks| asks.since);
        let known = listener.woken(wake);
        let News::Granted { token, until } = wake.news else { return known };
        if !known {
            // Nobody waits for it any more: the store gives it back by itself.
            let did = Did::MaybeReleased;
            let call = Call { lease, invoked: now, returned: NEVER, did };
            self.book.history.end(&wake.key, self.book.history.number(), Some(&call));
        } else if let Some(invoked) = since {
            let until = micros(Moment::since_boot(until));
            let did = Did::Pushed { token: token.get(), until };
            let call = Call { lease, invoked, returned: now, did };
            self.book.history.end(&wake.key, self.book.history.number(), Some(&call));
        }
        known
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(NEVER)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
