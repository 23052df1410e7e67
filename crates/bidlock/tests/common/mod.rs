//! A locker whose store, time and background work a test has in its hands.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock::{
    Backend, BackendError, Browse, Cleanup, Endpoint, Event, Health, Key, LeaseId, Locker, Memory,
    Observer, Op, Ownership, Platform, Refusal, Renewal, Revoke, Ttl,
};
use bidlock_core::{AcquireRequest, Attempt, BoxFuture, Listener, RenewRequest, Result, Spawn};
use bidlock_testkit::{ManualClock, TestPlatform, test_platform};

/// Runs background work on the test's own runtime, so that nothing happens behind its back.
#[derive(Debug)]
struct Here(tokio::runtime::Handle);

impl Spawn for Here {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.0.spawn(task));
    }
}

pub(crate) struct World {
    pub(crate) machine: TestPlatform,
    pub(crate) store: Arc<Switched>,
    pub(crate) seen: Arc<Seen>,
}

impl World {
    /// Must be called within a runtime of one thread.
    pub(crate) fn new() -> Self {
        let mut machine = test_platform();
        machine.spawn = Arc::new(Here(tokio::runtime::Handle::current()));
        let memory = Arc::new(Memory::new(&machine.platform()));
        let store = Arc::new(Switched::new(memory, machine.clock.clone()));
        Self { machine, store, seen: Arc::default() }
    }

    pub(crate) fn platform(&self) -> Platform {
        self.machine.platform()
    }

    /// Another process on the same store.
    pub(crate) fn locker(&self) -> Locker {
        let observer = Arc::clone(&self.seen) as Arc<dyn Observer>;
        let builder = Locker::builder().platform(self.platform()).observer(observer);
        builder.backend(Arc::clone(&self.store) as _).unwrap()
    }

    /// Lets time pass in steps, and everything that is due run.
    pub(crate) async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(10);
        let mut left = time;
        while !left.is_zero() {
            let now = left.min(step);
            self.machine.clock.advance(now);
            left -= now;
            settle().await;
        }
    }
}

/// Lets everything run that can.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn key(posting: &str) -> Key {
    Key::new("upwork", posting).unwrap()
}

pub(crate) fn ttl(millis: u64) -> Ttl {
    Ttl::new(Duration::from_millis(millis)).unwrap()
}

/// The names of what an observer was told.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<Vec<String>>);

impl Seen {
    pub(crate) fn count(&self, part: &str) -> usize {
        self.0.lock().unwrap().iter().filter(|event| event.contains(part)).count()
    }
}

impl Observer for Seen {
    fn on(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(format!("{event:?}"));
    }
}

/// A store whose link a test can cut, slow down or spoil.
#[derive(Debug)]
pub(crate) struct Switched {
    inner: Arc<Memory>,
    clock: ManualClock,
    /// Requests are not answered at all.
    pub(crate) hangs: AtomicBool,
    /// Requests fail before they are sent.
    pub(crate) unreachable: AtomicBool,
    /// Requests are carried out, and their answers lost.
    pub(crate) loses_answers: AtomicUsize,
    /// Requests are refused for lack of a right.
    pub(crate) forbidden: AtomicBool,
    /// Requests are carried out, and answered only when this is switched off.
    pub(crate) slow_answers: AtomicBool,
    /// How long a request is on its way, in milliseconds.
    pub(crate) delay_ms: AtomicUsize,
    /// News is lost.
    pub(crate) deaf: Arc<AtomicBool>,
    pub(crate) acquires: AtomicUsize,
    pub(crate) renewals: AtomicUsize,
    pub(crate) releases: AtomicUsize,
    ears: Mutex<Vec<Arc<Ear>>>,
    endpoint: Endpoint,
}

/// Passes news on unless the store is deaf.
#[derive(Debug)]
struct Ear {
    deaf: Arc<AtomicBool>,
    to: Weak<dyn Listener>,
}

impl Listener for Ear {
    fn woken(&self, wake: &bidlock_core::Wake) -> bool {
        !self.deaf.load(Ordering::SeqCst) && self.to.upgrade().is_some_and(|to| to.woken(wake))
    }
}

impl Switched {
    fn new(inner: Arc<Memory>, clock: ManualClock) -> Self {
        Self {
            inner,
            clock,
            hangs: AtomicBool::new(false),
            unreachable: AtomicBool::new(false),
            loses_answers: AtomicUsize::new(0),
            forbidden: AtomicBool::new(false),
            slow_answers: AtomicBool::new(false),
            delay_ms: AtomicUsize::new(0),
            deaf: Arc::default(),
            acquires: AtomicUsize::new(0),
            renewals: AtomicUsize::new(0),
            releases: AtomicUsize::new(0),
            ears: Mutex::default(),
            endpoint: Endpoint::new("switched:"),
        }
    }

    async fn send(&self, op: Op, key: &Key) -> Result<()> {
        tokio::task::yield_now().await;
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let delay = self.delay_ms.load(Ordering::SeqCst);
        self.clock.advance(Duration::from_millis(u64::try_from(delay).unwrap()));
        let (key, endpoint) = (Some(key.clone()), self.endpoint.clone());
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(BackendError::Unreachable { op, key, endpoint, source: "cut".into() });
        }
        if self.forbidden.load(Ordering::SeqCst) {
            let reason = Refusal::Permission("no right".to_owned());
            return Err(BackendError::Refused { op, key, endpoint, reason });
        }
        Ok(())
    }

    async fn receive<T>(&self, op: Op, key: &Key, answer: Result<T>) -> Result<T> {
        tokio::task::yield_now().await;
        while self.slow_answers.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        let left = self.loses_answers.load(Ordering::SeqCst);
        if left == 0 {
            return answer;
        }
        self.loses_answers.store(left - 1, Ordering::SeqCst);
        let (key, endpoint) = (Some(key.clone()), self.endpoint.clone());
        Err(BackendError::Unknown { op, key, endpoint, source: "answer lost".into() })
    }
}

#[async_trait]
impl Backend for Switched {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        self.acquires.fetch_add(1, Ordering::SeqCst);
        self.send(Op::Acquire, &request.key).await?;
        let answer = self.inner.acquire(request).await;
        self.receive(Op::Acquire, &request.key, answer).await
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        self.renewals.fetch_add(1, Ordering::SeqCst);
        self.send(Op::Renew, &request.key).await?;
        let answer = self.inner.renew(request).await;
        self.receive(Op::Renew, &request.key, answer).await
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        self.releases.fetch_add(1, Ordering::SeqCst);
        self.send(Op::Release, key).await?;
        let answer = self.inner.release(key, lease).await;
        self.receive(Op::Release, key, answer).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let ear = Arc::new(Ear { deaf: Arc::clone(&self.deaf), to: listener });
        let weak: Weak<dyn Listener> = Arc::downgrade(&ear) as _;
        self.inner.subscribe(weak);
        self.ears.lock().unwrap().push(ear);
    }

    async fn ping(&self) -> Result<Health> {
        self.inner.ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
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
