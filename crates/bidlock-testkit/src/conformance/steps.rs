use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, FencingToken, Holder, Key, Label,
    LeaseId, LockInfo, Ownership, RenewRequest, Renewal, Result, Revocation, Ttl,
};

use super::Fixture;
use crate::SeededRng;

/// A TTL that ends while a rule looks on.
pub(crate) const SHORT: Duration = Duration::from_secs(1);
/// A TTL, or a wait, that does not end within a rule.
pub(crate) const LONG: Duration = Duration::from_mins(10);
/// Enough to be past an end for certain.
pub(crate) const BIT: Duration = Duration::from_millis(100);
/// No request of a rule is late by this.
const WITHIN: Duration = Duration::from_mins(1);

/// The store that a rule is about.
pub(crate) struct Store<'a> {
    pub(crate) fixture: &'a dyn Fixture,
    rng: Arc<SeededRng>,
    processes: AtomicU32,
}

impl<'a> Store<'a> {
    pub(crate) fn new(fixture: &'a dyn Fixture) -> Self {
        Self { fixture, rng: Arc::new(SeededRng::new(42)), processes: AtomicU32::new(100) }
    }

    /// Somebody with a process of its own who wants the key.
    pub(crate) async fn bidder(&self, key: &Key) -> Bidder {
        let pid = self.processes.fetch_add(1, Ordering::Relaxed);
        Bidder {
            backend: self.fixture.client().await,
            lease: LeaseId::random("bot", pid, self.rng.as_ref()),
            key: key.clone(),
            label: None,
            rng: Arc::clone(&self.rng),
        }
    }

    /// Several of them.
    pub(crate) async fn bidders<const N: usize>(&self, key: &Key) -> [Bidder; N] {
        let mut bidders = Vec::with_capacity(N);
        for _ in 0..N {
            bidders.push(self.bidder(key).await);
        }
        bidders.try_into().expect("there are N")
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.fixture.pass(time).await;
    }

    /// Ends the bidder's process; returns false where it is the store's own.
    pub(crate) async fn kills(&self, bidder: &Bidder) -> bool {
        self.fixture.kill(Arc::clone(&bidder.backend)).await
    }
}

/// The key that most rules are about.
pub(crate) fn key() -> Key {
    Key::new("upwork", "job_1").expect("a valid key")
}

/// What a bidder is told that does not get the key.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) holder: Holder,
    pub(crate) remaining: Duration,
    pub(crate) ahead: u32,
}

/// One lease of one process. Its steps repeat what got no answer with the same lease id, as
/// callers do, and fail the rule when the store does not do what the step's name says.
#[derive(Debug)]
pub(crate) struct Bidder {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) lease: LeaseId,
    pub(crate) key: Key,
    pub(crate) label: Option<Label>,
    rng: Arc<SeededRng>,
}

impl Bidder {
    /// Another lease of the same process.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            backend: Arc::clone(&self.backend),
            lease: self.lease.sibling(self.rng.as_ref()),
            key: self.key.clone(),
            label: None,
            rng: Arc::clone(&self.rng),
        }
    }

    /// Asks once more with the same lease, or for the first time.
    pub(crate) async fn asks(&self, ttl: Duration, wait: Option<Duration>) -> Attempt {
        self.asks_within(WITHIN, ttl, wait).await.expect("the store answers")
    }

    pub(crate) async fn asks_within(
        &self,
        within: Duration,
        ttl: Duration,
        wait: Option<Duration>,
    ) -> Result<Attempt> {
        let request = AcquireRequest {
            key: self.key.clone(),
            lease: self.lease.clone(),
            ttl: length(ttl),
            label: self.label.clone(),
            wait,
            routine: false,
            within,
        };
        answered(async || self.backend.acquire(&request).await).await.0
    }

    /// Gets the key at once, or has it already.
    pub(crate) async fn takes(&self) -> FencingToken {
        self.takes_for(LONG).await
    }

    pub(crate) async fn takes_for(&self, ttl: Duration) -> FencingToken {
        match self.asks(ttl, Some(LONG)).await {
            Attempt::Granted { token } => token,
            held @ Attempt::Held { .. } => panic!("{} does not get it: {held:?}", self.lease),
        }
    }

    /// Goes on waiting, and learns whether it has the key now.
    pub(crate) async fn is_granted(&self) -> bool {
        matches!(self.asks(LONG, Some(LONG)).await, Attempt::Granted { .. })
    }

    /// Does not get the key, and will not wait.
    pub(crate) async fn finds_it_held(&self) -> Held {
        self.is_told_held(LONG, None).await
    }

    /// Does not get the key, and waits for it, or goes on waiting.
    pub(crate) async fn queues(&self) -> Held {
        self.is_told_held(LONG, Some(LONG)).await
    }

    pub(crate) async fn queues_with(&self, ttl: Duration, wait: Duration) -> Held {
        self.is_told_held(ttl, Some(wait)).await
    }

    async fn is_told_held(&self, ttl: Duration, wait: Option<Duration>) -> Held {
        match self.asks(ttl, wait).await {
            Attempt::Held { holder, remaining, ahead } => Held { holder, remaining, ahead },
            granted @ Attempt::Granted { .. } => {
                panic!("{} must not get it: {granted:?}", self.lease)
            }
        }
    }

    pub(crate) async fn renews_for(&self, ttl: Duration) -> Renewal {
        self.renews_within(WITHIN, ttl).await.expect("the store answers")
    }

    pub(crate) async fn renews_within(&self, within: Duration, ttl: Duration) -> Result<Renewal> {
        let (key, lease) = (self.key.clone(), self.lease.clone());
        let request = RenewRequest { key, lease, ttl: length(ttl), within };
        answered(async || self.backend.renew(&request).await).await.0
    }

    /// Keeps what it has.
    pub(crate) async fn keeps_it(&self) {
        assert_eq!(self.renews_for(LONG).await, Renewal::Renewed, "{} has it", self.lease);
    }

    /// Gives up the key or the place that it has.
    pub(crate) async fn gives_up(&self) {
        let (ownership, lost) =
            answered(async || self.backend.release(&self.key, &self.lease).await).await;
        // After a lost answer, the repeat finds nothing: the first one has done it.
        let done = ownership.expect("the store answers") == Ownership::Ours || lost;
        assert!(done, "{} has something to give up", self.lease);
    }

    pub(crate) async fn takes_and_gives_up(&self) {
        self.takes().await;
        self.gives_up().await;
    }

    /// Has nothing to give up.
    pub(crate) async fn has_nothing(&self) {
        let (ownership, _) =
            answered(async || self.backend.release(&self.key, &self.lease).await).await;
        let ownership = ownership.expect("the store answers");
        assert_eq!(ownership, Ownership::NotOurs, "{} has nothing", self.lease);
    }

    /// Revokes as an operator, from this process.
    pub(crate) async fn revokes(&self, token: FencingToken, now: bool) -> Revocation {
        self.revokes_once(token, now).await.0
    }

    /// Frees the key at once as an operator, from this process.
    pub(crate) async fn frees(&self, token: FencingToken) {
        match self.revokes_once(token, true).await {
            (Revocation::Freed, _) => {}
            // After a lost answer, the repeat finds nothing: the first one has done it.
            (Revocation::NotHeld { current }, true) if current != Some(token) => {}
            (answer, _) => panic!("the key shall be free: {answer:?}"),
        }
    }

    async fn revokes_once(&self, token: FencingToken, now: bool) -> (Revocation, bool) {
        let revoke = Arc::clone(&self.backend).revoke().expect("the suite needs Revoke");
        let (answer, lost) = answered(async || revoke.revoke(&self.key, token, now).await).await;
        (answer.expect("the store answers"), lost)
    }

    pub(crate) fn browse(&self) -> Arc<dyn Browse> {
        Arc::clone(&self.backend).browse().expect("the suite needs Browse")
    }

    /// What a listing shows of the key.
    pub(crate) async fn inspects(&self) -> Option<LockInfo> {
        let browse = self.browse();
        answered(async || browse.inspect(&self.key).await).await.0.expect("the store answers")
    }
}

fn length(ttl: Duration) -> Ttl {
    Ttl::new(ttl).expect("a valid TTL")
}

/// Repeats a call until it has an answer; tells whether an answer was lost on the way.
pub(crate) async fn answered<T>(call: impl AsyncFn() -> Result<T>) -> (Result<T>, bool) {
    const TRIES_MAX: usize = 1_000;
    let mut lost = false;
    for _ in 1..TRIES_MAX {
        match call().await {
            Err(BackendError::Unknown { .. }) => lost = true,
            Err(BackendError::Unreachable { .. }) => {}
            answer => return (answer, lost),
        }
        tokio::task::yield_now().await;
    }
    (call().await, lost)
}

/// Runs futures side by side until all have ended.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in &mut running {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if running.iter().any(|(_, output)| output.is_none()) {
            return std::task::Poll::Pending;
        }
        let outputs = running.iter_mut().filter_map(|(_, output)| output.take()).collect();
        std::task::Poll::Ready(outputs)
    })
    .await
}
