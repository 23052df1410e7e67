use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bidlock_core::{
    Backoff, Belief, FencingToken, Key, LeaseId, LossReason, Moment, Ownership, RenewRequest,
    Renewal, Ttl,
};
use tokio::sync::watch;

use crate::Error;
use crate::inbox::lock;
use crate::inner::{Inner, request_timeout};
use crate::keeper::Slot;
use crate::observe::{Event, ReleaseOutcome};

/// A key that is held, for a limited time that is renewed in the background.
///
/// Dropping a lease releases it in the background, wherever it is dropped; [`Lease::release`]
/// says whether that worked.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    held: Arc<Held>,
    /// Whether dropping still has to release.
    armed: bool,
}

/// A lease as the background task sees it.
#[derive(Debug)]
pub(crate) struct Held {
    inner: Arc<Inner>,
    key: Key,
    id: LeaseId,
    token: FencingToken,
    ttl: Ttl,
    renews: bool,
    since: Moment,
    state: Mutex<State>,
    lost: watch::Sender<Option<LossReason>>,
    myself: Weak<Self>,
}

#[derive(Debug)]
struct State {
    belief: Belief,
    /// Whether the store has said yes to this lease itself, not only to the one that passed it on.
    confirmed: bool,
    /// Given up: nothing is renewed or lost any more (I4).
    over: bool,
    renewing: bool,
    failures: u32,
    backoff: Backoff,
    /// When the next renewal is planned.
    renew_at: Moment,
    slot: Option<Slot>,
}

/// What a new lease starts from.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) key: Key,
    pub(crate) id: LeaseId,
    pub(crate) token: FencingToken,
    pub(crate) ttl: Ttl,
    pub(crate) renews: bool,
    pub(crate) belief: Belief,
    /// Whether the store said yes to the lease itself; else it is confirmed beside the work.
    pub(crate) confirmed: bool,
}

impl Lease {
    /// Puts a grant under the care of the background task.
    pub(crate) fn begin(inner: &Arc<Inner>, grant: Grant) -> Self {
        let now = inner.clock().now();
        let renew_at = if grant.confirmed { grant.belief.renew_at() } else { now };
        let held = Arc::new_cyclic(|myself| Held {
            inner: Arc::clone(inner),
            key: grant.key,
            id: grant.id,
            token: grant.token,
            ttl: grant.ttl,
            renews: grant.renews,
            since: now,
            state: Mutex::new(State {
                belief: grant.belief,
                confirmed: grant.confirmed,
                over: false,
                renewing: false,
                failures: 0,
                backoff: Backoff::store(),
                renew_at,
                slot: None,
            }),
            lost: watch::Sender::new(None),
            myself: Weak::clone(myself),
        });
        inner.inbox.hold(&held.id, Weak::clone(&held.myself));
        held.tick();
        Self { held, armed: true }
    }

    /// What is held.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.held.key
    }

    /// The lease's identity: whoever knows all of it can release the lease.
    #[must_use]
    pub fn id(&self) -> &LeaseId {
        &self.held.id
    }

    /// The grant's fencing token, above that of every earlier grant of the key.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.held.token
    }

    /// How long it lives without renewal.
    #[must_use]
    pub fn ttl(&self) -> Ttl {
        self.held.ttl
    }

    /// Tests, locally and at next to no cost, whether the lease may still be believed; returns
    /// the time left. A process that was stopped for longer than the lease fails here first.
    ///
    /// # Errors
    /// [`Error::Lost`] with the reason, from the loss on and for good: stop what the lease guards.
    pub fn check(&self) -> Result<Duration, Error> {
        self.held.check()
    }

    /// Resolves when the lease is lost, with the reason; never after its release.
    ///
    /// # Cancel safety
    /// Dropping the future forgets nothing: the next call resolves at once.
    pub async fn lost(&self) -> LossReason {
        let mut news = self.held.lost.subscribe();
        loop {
            if let Some(reason) = *news.borrow_and_update() {
                return reason;
            }
            // The sender lives as long as the lease, so there is always more to wait for.
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Renews now, beside the renewals in the background; returns the time left.
    ///
    /// # Errors
    /// [`Error::Lost`] when it is the caller's no longer; [`Error::Store`] when the store gave no
    /// answer, while the lease still runs to its old end.
    ///
    /// # Cancel safety
    /// The renewal may still take effect.
    pub async fn renew(&self) -> Result<Duration, Error> {
        self.held.check()?;
        self.held.renew().await?;
        self.held.check()
    }

    /// Makes sure that the store has said yes to this lease itself, and tests it; a grant that
    /// was passed on by a message starts without that. Returns the time left.
    ///
    /// # Errors
    /// As [`Lease::renew`].
    ///
    /// # Cancel safety
    /// As [`Lease::renew`].
    pub async fn confirm(&self) -> Result<Duration, Error> {
        if lock(&self.held.state).confirmed {
            return self.held.check();
        }
        self.renew().await
    }

    /// Stops renewing, then gives the key to the next waiter, or frees it.
    ///
    /// # Errors
    /// [`Error::Lost`] when the lease was lost before; [`Error::Store`] when the store gave no
    /// answer: the release goes on in the background while the lease lasts.
    ///
    /// # Cancel safety
    /// A dropped call goes on in the background.
    pub async fn release(mut self) -> Result<(), Error> {
        let lost = self.held.end();
        let answer = self.held.inner.release(&self.held.key, &self.held.id).await;
        if answer.is_ok() {
            self.armed = false;
        }
        self.held.report_release(answer.as_ref().ok().copied());
        match (lost, answer) {
            (Some(reason), _) => Err(Error::lost(&self.held.key, reason)),
            (None, Ok(Ownership::Ours)) => Ok(()),
            (None, Ok(Ownership::NotOurs)) => Err(Error::lost(&self.held.key, LossReason::Taken)),
            (None, Err(failed)) => Err(failed),
        }
    }

    /// Stops caring for the lease and leaves it to run to its end: whoever has the identity that
    /// is returned renews and releases it.
    #[must_use = "without its identity nobody can release the lease"]
    pub fn detach(mut self) -> LeaseId {
        self.armed = false;
        self.held.end();
        self.held.id.clone()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.armed {
            // A lease that was lost still sends one release: it tells an operator who revoked
            // it that the work has stopped, and frees a key that the store may still keep.
            self.held.end();
            let until = lock(&self.held.state).belief.ends_at();
            self.held.inner.give_up(self.held.key.clone(), self.held.id.clone(), until, None);
        }
    }
}

impl Held {
    fn check(&self) -> Result<Duration, Error> {
        let mut state = lock(&self.state);
        match state.belief.check(self.inner.clock().now()) {
            Ok(left) => Ok(left),
            Err(reason) => Err(Error::lost(&self.key, self.lose(&mut state, reason))),
        }
    }

    /// Does what is due now, and plans what is due next.
    pub(crate) fn tick(&self) {
        let mut state = lock(&self.state);
        if let Some(slot) = state.slot.take() {
            self.inner.keeper.forget(slot);
        }
        if state.over || state.belief.lost().is_some() {
            return;
        }
        let now = self.inner.clock().now();
        if let Err(reason) = state.belief.check(now) {
            self.lose(&mut state, reason);
            return;
        }
        let mut next = state.belief.ends_at();
        let mut renew_now = false;
        if self.renews && !state.renewing {
            renew_now = state.renew_at <= now;
            if !renew_now {
                next = next.min(state.renew_at);
            }
        }
        state.renewing |= renew_now;
        state.slot = Some(self.inner.keeper.plan(next, Weak::clone(&self.myself)));
        drop(state);
        if renew_now {
            self.renew_in_background();
        }
    }

    /// Asks the store at once, after a hint that something happened to the lease.
    pub(crate) fn look(&self) {
        lock(&self.state).renew_at = Moment::default();
        self.tick();
    }

    fn renew_in_background(&self) {
        let Some(held) = self.myself.upgrade() else { return };
        self.inner.spawn(async move {
            // The outcome is kept in the state; an error is tried again by the next tick.
            drop(held.renew().await);
            lock(&held.state).renewing = false;
            held.tick();
        });
    }

    async fn renew(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let sent = inner.clock().now();
        let (due, within) = {
            let state = lock(&self.state);
            let left = state.belief.ends_at().since(sent);
            (state.renew_at, request_timeout(self.ttl).min(left))
        };
        let (key, lease) = (self.key.clone(), self.id.clone());
        let request = RenewRequest { key, lease, ttl: self.ttl, within };
        let answer = inner.renew(&request).await;
        let now = inner.clock().now();
        let mut state = lock(&self.state);
        let reason = match answer {
            Ok(Renewal::Renewed) => {
                state.belief.renewed(sent, self.ttl);
                state.confirmed = true;
                state.failures = 0;
                state.backoff.reset();
                state.renew_at = state.belief.renew_at().max(now);
                let slack = state.belief.ends_at().since(now);
                let lag = if due == Moment::default() { Duration::ZERO } else { sent.since(due) };
                inner.observe(&Event::Renewed { class: self.class(), lag, slack });
                return Ok(());
            }
            Ok(Renewal::Expired) => LossReason::Expired,
            Ok(Renewal::Taken) => LossReason::Taken,
            Ok(Renewal::Revoked) => LossReason::Revoked,
            Ok(Renewal::DataLost) => LossReason::DataLost,
            Err(failed) => {
                state.failures += 1;
                let pause = state.backoff.pause(&*inner.platform.rng).min(self.ttl.get() / 20);
                state.renew_at = now + pause;
                tracing::warn!(key = %self.key, error = %failed, "renewal failed");
                inner.observe(&Event::RenewalFailed { class: self.class() });
                return Err(failed);
            }
        };
        Err(Error::lost(&self.key, self.lose_for(&mut state, reason)))
    }

    /// Ends the belief because its time ran out, and finds out why it did.
    fn lose(&self, state: &mut State, ran_out: LossReason) -> LossReason {
        let reason = match ran_out {
            LossReason::Expired if !self.renews => LossReason::Expired,
            // The store was asked in time, and did not answer.
            LossReason::Expired if state.failures > 0 || state.renewing => LossReason::Unreachable,
            // Nobody came to ask it: the process or its machine stood still.
            LossReason::Expired => LossReason::Suspended,
            known => known,
        };
        self.lose_for(state, reason)
    }

    fn lose_for(&self, state: &mut State, reason: LossReason) -> LossReason {
        let known = state.belief.lost().is_some();
        let reason = state.belief.lose(reason);
        if !known && !state.over {
            let held = self.inner.clock().now().since(self.since);
            tracing::warn!(key = %self.key, token = self.token.get(), reason = reason.as_str(),
                held_ms = held.as_millis(), "lease lost");
            self.inner.observe(&Event::Lost { class: self.class(), reason, held });
            self.lost.send_replace(Some(reason));
        }
        reason
    }

    /// Stops all care for the lease; tells why it was lost before, if it was.
    fn end(&self) -> Option<LossReason> {
        let mut state = lock(&self.state);
        let good = state.belief.check(self.inner.clock().now()).map(drop);
        if let (false, Err(reason)) = (state.over, good) {
            self.lose(&mut state, reason);
        }
        state.over = true;
        if let Some(slot) = state.slot.take() {
            self.inner.keeper.forget(slot);
        }
        self.inner.inbox.leave(&self.id);
        state.belief.lost()
    }

    fn report_release(&self, answer: Option<Ownership>) {
        let outcome = match answer {
            Some(Ownership::Ours) => ReleaseOutcome::Released,
            Some(Ownership::NotOurs) => ReleaseOutcome::NotOwner,
            None => ReleaseOutcome::Failed,
        };
        let held = self.inner.clock().now().since(self.since);
        self.inner.observe(&Event::Released { class: self.class(), outcome, held });
    }

    fn class(&self) -> &str {
        class(&self.key)
    }
}

/// What stands for a key in metrics.
pub(crate) fn class(key: &Key) -> &str {
    if key.marketplace().is_empty() { "named" } else { key.marketplace() }
}
