use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, BackendError, Backoff, Belief, FencingToken, Holder, Key, Label,
    LeaseId, Moment, Ttl, limits, spread,
};

use crate::Error;
use crate::inbox::Seat;
use crate::inner::{Inner, request_timeout};
use crate::lease::{Grant, Lease, class};
use crate::observe::{AcquireOutcome, Event, WakeSource};

/// How long a call may wait for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: one request.
    No,
    /// At most this long.
    For(Duration),
    /// For as long as it takes.
    Forever,
}

impl Default for Wait {
    fn default() -> Self {
        Self::For(limits::WAIT_DEFAULT)
    }
}

/// A key that is asked for; awaiting it gives the [`Lease`].
///
/// # Errors
/// [`Error::Held`] without a wait, [`Error::TimedOut`] after one, [`Error::Store`] when the store
/// gave no answer for the whole wait or refused.
///
/// # Cancel safety
/// What the request may have taken, or its place in the queue, is given back in the background.
#[derive(Debug, Clone)]
#[must_use = "nothing is asked for until this is awaited"]
pub struct Acquire {
    inner: Arc<Inner>,
    key: Key,
    wait: Wait,
    ttl: Ttl,
    max_hold: Option<Duration>,
    label: Option<Label>,
    renews: bool,
}

impl Acquire {
    pub(crate) fn new(inner: Arc<Inner>, key: Key) -> Self {
        let (wait, ttl) = (Wait::default(), Ttl::default());
        Self { inner, key, wait, ttl, max_hold: None, label: None, renews: true }
    }

    /// Waits so long at most; 10 s by default.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// Lets the lease live so long without renewal; 5 min by default.
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Loses the lease after so long, renewed or not; unbounded by default.
    pub fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// Tells people why or for whom the key is held.
    pub fn holder_label(mut self, label: Label) -> Self {
        self.label = Some(label);
        self
    }

    /// Renews in the background, which is the default, or leaves that to the caller.
    pub fn renew(mut self, renews: bool) -> Self {
        self.renews = renews;
        self
    }

    async fn run(self) -> Result<Lease, Error> {
        let started = self.inner.clock().now();
        let id = self.inner.identity.sibling(&*self.inner.platform.rng);
        let seat = self.inner.inbox.wait(&id);
        let mut waiting = Waiting {
            ends: match self.wait {
                Wait::No => Some(started),
                Wait::For(length) => Some(started + length),
                Wait::Forever => None,
            },
            claim: Claim { request: self, id, sent: None, unanswered: None, settled: false },
            seat,
            started,
            attempts: 0,
            last_holder: None,
        };
        let done = waiting.until_granted().await;
        let outcome = match &done {
            Ok(_) => AcquireOutcome::Acquired,
            Err(Error::Held { .. }) => AcquireOutcome::Busy,
            Err(Error::TimedOut { .. }) => AcquireOutcome::TimedOut,
            Err(_) => AcquireOutcome::Failed,
        };
        waiting.report(outcome);
        done
    }
}

impl IntoFuture for Acquire {
    type Output = Result<Lease, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What an acquire may have taken: given back when it is dropped unsettled (I11).
#[derive(Debug)]
struct Claim {
    request: Acquire,
    id: LeaseId,
    /// When the last request was sent.
    sent: Option<Moment>,
    /// Until when a request without an answer may still be carried out.
    unanswered: Option<Moment>,
    settled: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let inner = &self.request.inner;
        inner.inbox.leave(&self.id);
        if let Some(sent) = self.sent {
            // Whatever was granted ends by itself after its TTL, a place in the queue after its
            // own lease: no release is of use after both.
            let until = sent + self.request.ttl.get().max(limits::WAITER_LEASE);
            inner.give_up(self.request.key.clone(), self.id.clone(), until, self.unanswered);
        }
    }
}

/// An acquire in progress.
struct Waiting {
    claim: Claim,
    seat: Arc<Seat>,
    started: Moment,
    /// When the wait is over; never for one without end.
    ends: Option<Moment>,
    attempts: u32,
    last_holder: Option<(Holder, Duration)>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.attempts != u32::MAX {
            self.report(AcquireOutcome::Cancelled);
        }
    }
}

/// After an answer that grants nothing: when to ask again at the latest.
struct LookAt(Moment);

impl Waiting {
    async fn until_granted(&mut self) -> Result<Lease, Error> {
        let mut foreign = Backoff::foreign();
        let mut store = Backoff::store();
        loop {
            let look = match self.ask().await {
                Ok(Attempt::Granted { token }) => match self.granted(token) {
                    Some(lease) => return Ok(lease),
                    None => LookAt(self.now()),
                },
                Ok(Attempt::Held { holder, remaining, ahead }) => {
                    store.reset();
                    let look = self.held(&mut foreign, &holder, remaining, ahead);
                    self.last_holder = Some((holder, remaining));
                    look
                }
                Err(failed) if failed.is_retryable() && self.has_time() => {
                    tracing::debug!(key = %self.claim.request.key, error = %failed, "asking again");
                    let look = LookAt(self.now() + store.pause(&*self.inner().platform.rng));
                    if self.is_over_at(look.0) {
                        self.pause_until(look.0).await;
                        return Err(failed.into());
                    }
                    look
                }
                Err(failed) => return Err(failed.into()),
            };
            if !self.has_time() {
                return Err(self.out_of_time());
            }
            if let Some(lease) = self.news_until(look.0).await {
                return Ok(lease);
            }
            if !self.has_time() {
                return Err(self.out_of_time());
            }
        }
    }

    /// Sends one request.
    async fn ask(&mut self) -> Result<Attempt, BackendError> {
        /// A call may end this much after its wait budget (R17: 50 ms).
        const GRACE: Duration = Duration::from_millis(40);
        let inner = Arc::clone(self.inner());
        let request = &self.claim.request;
        let sent = inner.clock().now();
        let mut within = request_timeout(request.ttl);
        let left = self.ends.map_or(limits::WAITER_LEASE, |ends| ends.since(sent));
        if request.wait != Wait::No {
            within = within.min(left + GRACE);
        }
        let request = AcquireRequest {
            key: request.key.clone(),
            lease: self.claim.id.clone(),
            ttl: request.ttl,
            label: request.label.clone(),
            wait: (request.wait != Wait::No).then_some(left),
            within,
        };
        self.attempts += 1;
        self.claim.sent = Some(sent);
        let earlier = self.claim.unanswered.replace(sent + within);
        let answer = inner.acquire(&request).await;
        if !answer.as_ref().is_err_and(BackendError::may_have_applied) {
            self.claim.unanswered = earlier.filter(|deadline| *deadline > inner.clock().now());
        }
        answer
    }

    /// Makes a lease of an answer, unless the answer took longer than the lease lasts.
    fn granted(&mut self, token: FencingToken) -> Option<Lease> {
        let sent = self.claim.sent?;
        let belief = Belief::granted(sent, self.claim.request.ttl);
        self.lease(token, belief, true)
    }

    fn lease(&mut self, token: FencingToken, belief: Belief, confirmed: bool) -> Option<Lease> {
        let now = self.now();
        let request = &self.claim.request;
        let belief = match request.max_hold {
            Some(max_hold) => belief.capped(now + max_hold),
            None => belief,
        };
        belief.check(now).ok()?;
        self.claim.settled = true;
        let grant = Grant {
            key: request.key.clone(),
            id: self.claim.id.clone(),
            token,
            ttl: request.ttl,
            renews: request.renews,
            belief,
            confirmed,
        };
        tracing::debug!(key = %request.key, token = token.get(), "acquired");
        Some(Lease::begin(&request.inner, grant))
    }

    /// When to look at a key that somebody else has: when it ends, and now and then in between.
    fn held(
        &self,
        foreign: &mut Backoff,
        holder: &Holder,
        remaining: Duration,
        ahead: u32,
    ) -> LookAt {
        let now = self.now();
        if holder.is_foreign() {
            return LookAt(now + foreign.pause(&*self.inner().platform.rng));
        }
        let expiry = remaining.max(Duration::from_millis(1)) + spread(ahead);
        LookAt(now + expiry.min(limits::LOOK_INTERVAL_MAX))
    }

    /// Waits for news, the next look or the end of the wait; a pushed grant ends it (I13).
    async fn news_until(&mut self, look: Moment) -> Option<Lease> {
        let at = self.ends.map_or(look, |ends| ends.min(look));
        let clock = Arc::clone(&self.inner().platform.clock);
        let (source, grant) = tokio::select! {
            biased;
            grant = self.seat.news() => (WakeSource::Push, grant),
            () = clock.sleep_until(at) => (WakeSource::Timer, None),
        };
        self.inner().observe(&Event::Woken { class: class(&self.claim.request.key), source });
        let (token, until) = grant?;
        // Starts on the message itself; the store is asked beside the work.
        self.lease(token, Belief::pushed(self.now(), until), false)
    }

    async fn pause_until(&self, at: Moment) {
        let at = self.ends.map_or(at, |ends| ends.min(at));
        self.inner().clock().sleep_until(at).await;
    }

    fn out_of_time(&mut self) -> Error {
        let key = self.claim.request.key.clone();
        let (holder, remaining) =
            self.last_holder.take().unwrap_or((Holder::foreign("nobody known"), Duration::ZERO));
        let holder = Box::new(holder);
        if self.claim.request.wait == Wait::No {
            // Without a wait there is no place in the queue, and the answer said no grant.
            self.claim.settled = self.claim.unanswered.is_none();
            self.inner().inbox.leave(&self.claim.id);
            return Error::Held { key, holder, remaining };
        }
        Error::TimedOut { key, holder, remaining, waited: self.now().since(self.started) }
    }

    fn has_time(&self) -> bool {
        self.ends.is_none_or(|ends| self.now() < ends)
    }

    fn is_over_at(&self, at: Moment) -> bool {
        self.ends.is_some_and(|ends| ends <= at)
    }

    fn now(&self) -> Moment {
        self.inner().clock().now()
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.claim.request.inner
    }

    /// Tells of the end, once.
    fn report(&mut self, outcome: AcquireOutcome) {
        let attempts = std::mem::replace(&mut self.attempts, u32::MAX);
        let waited = self.now().since(self.started);
        let class = class(&self.claim.request.key);
        self.inner().observe(&Event::Acquire { class, outcome, waited, attempts });
    }
}
