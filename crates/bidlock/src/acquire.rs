use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, BackendError, Backoff, Belief, FencingToken, Holder, InvalidValue,
    Key, Label, LeaseId, LossReason, Moment, News, Op, Ttl, limits, spread,
};

use crate::Error;
use crate::held::{Grant, class};
use crate::inbox::Seat;
use crate::inner::{Inner, request_timeout};
use crate::lease::Lease;
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

    /// Waits so long at most; 10 s by default. A wait of zero is [`Wait::No`].
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = if wait == Wait::For(Duration::ZERO) { Wait::No } else { wait };
        self
    }

    /// Lets the lease live so long without renewal; 5 min by default.
    pub fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Loses the lease after so long, renewed or not: 100 ms at least, unbounded by default.
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
        if let Some(max_hold) = self.max_hold.filter(|max_hold| *max_hold < limits::TTL_MIN) {
            let why = "a lease is held for 100ms at least";
            return Err(InvalidValue::new("max_hold", format!("{max_hold:?}"), why).into());
        }
        let started = self.inner.clock().now();
        let id = self.inner.identity.sibling(&*self.inner.platform.rng);
        let seat = self.inner.inbox.wait(&id);
        let mut waiting = Waiting {
            ends: match self.wait {
                Wait::No => Some(started),
                Wait::For(length) => Some(started + length),
                Wait::Forever => None,
            },
            claim: Claim { request: self, id, sent: None, unanswered: None, may_have: false },
            seat,
            started,
            attempts: 0,
            routine: false,
            last: None,
            reported: false,
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
    /// Whether the store may have given it the key or a place.
    may_have: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let inner = &self.request.inner;
        let Some(sent) = self.sent.filter(|_| self.may_have) else { return };
        // Whatever was granted ends by itself after its TTL, a place in the queue after its own
        // lease: no release is of use after both.
        let until = sent + self.request.ttl.get().max(limits::WAITER_LEASE);
        inner.give_up(self.request.key.clone(), self.id.clone(), until, self.unanswered);
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
    /// Whether the next look has no other cause than that time has passed.
    routine: bool,
    /// What the store said last, other than yes.
    last: Option<Last>,
    reported: bool,
}

enum Last {
    Held(Holder, Duration),
    Failed(BackendError),
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.report(AcquireOutcome::Cancelled);
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
                    None => self.too_slow(),
                },
                Ok(Attempt::Held { holder, remaining, ahead }) => {
                    store.reset();
                    let look = self.held(&mut foreign, &holder, remaining, ahead);
                    self.last = Some(Last::Held(holder, remaining));
                    look
                }
                Err(failed) if failed.is_retryable() => {
                    let key = &self.claim.request.key;
                    tracing::debug!(%key, error = %failed, "the store gave no answer");
                    // Who held it says more than that others were in the way of asking again.
                    if !(failed.is_contention() && matches!(self.last, Some(Last::Held(..)))) {
                        self.last = Some(Last::Failed(failed));
                    }
                    LookAt(self.now() + store.pause(&*self.inner().platform.rng))
                }
                Err(refused) => return Err(refused.into()),
            };
            if self.has_time()
                && let Some(lease) = self.news_until(look.0).await
            {
                return Ok(lease);
            }
            if !self.has_time() {
                return Err(self.out_of_time());
            }
        }
    }

    /// A grant whose answer took longer than it lasts is none.
    fn too_slow(&mut self) -> LookAt {
        self.last = Some(Last::Failed(BackendError::Unknown {
            op: Op::Acquire,
            key: Some(self.claim.request.key.clone()),
            endpoint: self.inner().backend.endpoint().clone(),
            source: "its answer took longer than the lease lasts".into(),
        }));
        LookAt(self.now())
    }

    /// Sends one request.
    async fn ask(&mut self) -> Result<Attempt, BackendError> {
        /// A request may end this much after the wait budget; the call has 50 ms (R17).
        const GRACE: Duration = Duration::from_millis(15);
        /// One request without a wait takes this long at most.
        const AT_ONCE: Duration = Duration::from_secs(2);
        /// What a store is told of a wait without end; its place lasts for its looks anyway.
        const FOREVER: Duration = Duration::from_hours(365 * 24);
        let inner = Arc::clone(self.inner());
        let request = &self.claim.request;
        let waits = request.wait != Wait::No;
        let sent = inner.clock().now();
        let left = self.ends.map_or(FOREVER, |ends| ends.since(sent));
        let most = if waits { left + GRACE } else { AT_ONCE };
        let within = request_timeout(request.ttl).min(most);
        let request = AcquireRequest {
            key: request.key.clone(),
            lease: self.claim.id.clone(),
            ttl: request.ttl,
            label: request.label.clone(),
            wait: waits.then_some(left),
            routine: self.routine,
            within,
        };
        self.attempts += 1;
        let earlier = (self.claim.unanswered, self.claim.may_have);
        self.claim.sent = Some(sent);
        self.claim.unanswered = Some(sent + within);
        self.claim.may_have = true;
        let answer = inner.acquire(&request).await;
        match &answer {
            Err(failed) if failed.may_have_applied() => return answer,
            // Nothing was done by this one, or nothing is kept of it.
            Err(_) => self.claim.may_have = earlier.1,
            Ok(Attempt::Held { .. }) => self.claim.may_have = waits || earlier.0.is_some(),
            Ok(Attempt::Granted { .. }) => {}
        }
        self.claim.unanswered = earlier.0.filter(|deadline| *deadline > inner.clock().now());
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
        // From here on the lease gives back what was granted.
        self.claim.may_have = false;
        let grant = Grant {
            key: request.key.clone(),
            id: self.claim.id.clone(),
            token,
            ttl: request.ttl,
            renews: request.renews,
            belief,
            confirmed,
            unanswered: self.claim.unanswered,
        };
        tracing::debug!(key = %request.key, lease = %self.claim.id, token = token.get(),
            waited_ms = now.since(self.started).as_millis(), "acquired");
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
        let mut at = self.ends.map_or(look, |ends| ends.min(look));
        let clock = Arc::clone(&self.inner().platform.clock);
        let (source, grant) = loop {
            tokio::select! {
                biased;
                news = self.seat.news() => match news {
                    News::Look => break (WakeSource::Push, None),
                    News::Granted { token, until } => {
                        break (WakeSource::Push, Some((token, until)));
                    }
                    // Nothing to ask yet.
                    News::EndsAt(end) => at = at.min(end),
                },
                () = clock.sleep_until(at) => break (WakeSource::Timer, None),
            }
        };
        self.routine = source == WakeSource::Timer;
        self.inner().observe(&Event::Woken { class: class(&self.claim.request.key), source });
        let (token, until) = grant?;
        // Starts on the message itself; the store is asked beside the work.
        self.lease(token, Belief::pushed(self.now(), until), false)
    }

    /// What to say when there is no more time: what the store said last.
    fn out_of_time(&mut self) -> Error {
        let key = self.claim.request.key.clone();
        let waited = self.now().since(self.started);
        match self.last.take() {
            Some(Last::Failed(failed)) => failed.into(),
            Some(Last::Held(holder, remaining)) => {
                tracing::info!(%key, %holder, remaining_ms = remaining.as_millis(),
                    waited_ms = waited.as_millis(), "held by another");
                let holder = Box::new(holder);
                if self.claim.request.wait == Wait::No {
                    Error::Held { key, holder, remaining }
                } else {
                    Error::TimedOut { key, holder, remaining, waited }
                }
            }
            // Every round ends with one of both.
            None => Error::lost(&key, LossReason::Expired),
        }
    }

    fn has_time(&self) -> bool {
        self.ends.is_none_or(|ends| self.now() < ends)
    }

    fn now(&self) -> Moment {
        self.inner().clock().now()
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.claim.request.inner
    }

    /// Tells of the end, once; what is still taken goes back when the claim is dropped.
    fn report(&mut self, outcome: AcquireOutcome) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        if outcome != AcquireOutcome::Acquired {
            self.inner().inbox.leave(&self.claim.id);
        }
        let waited = self.now().since(self.started);
        let (class, attempts) = (class(&self.claim.request.key), self.attempts);
        self.inner().observe(&Event::Acquire { class, outcome, waited, attempts });
    }
}
