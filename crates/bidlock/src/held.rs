//! A lease as the background task sees it: what is believed of it, and what is due next.

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

/// A lease, shared by its handle, the background task and what is under way.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) inner: Arc<Inner>,
    pub(crate) key: Key,
    pub(crate) id: LeaseId,
    pub(crate) token: FencingToken,
    pub(crate) ttl: Ttl,
    renews: bool,
    since: Moment,
    state: Mutex<State>,
    pub(crate) lost: watch::Sender<Option<LossReason>>,
    /// Until when a request without an answer may still be carried out, after any release.
    unanswered: Option<Moment>,
    myself: Weak<Self>,
}

#[derive(Debug)]
struct State {
    belief: Belief,
    /// Whether the store has said yes to this lease itself, not only to the one that passed it on.
    confirmed: bool,
    /// Given up: nothing is renewed or lost any more (I4).
    over: bool,
    renewing: Renewing,
    failures: u32,
    backoff: Backoff,
    /// When the next renewal is planned.
    renew_at: Moment,
    /// When it was first planned, before any try failed.
    due: Moment,
    slot: Option<Slot>,
}

/// Whether a renewal is under way in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewing {
    No,
    Yes,
    /// News came on the way, which the answer may be older than: another follows at once.
    AndOnceMore,
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
    /// Until when a request without an answer may still be carried out.
    pub(crate) unanswered: Option<Moment>,
}

/// What is told of a lease, once nothing of it is locked any more: an observer may call back.
#[derive(Debug, Clone, Copy)]
enum News {
    Renewed { lag: Duration, slack: Duration },
    RenewalFailed,
    Lost(LossReason),
}

impl Held {
    /// Takes a grant under care.
    pub(crate) fn new(inner: &Arc<Inner>, grant: Grant) -> Arc<Self> {
        let now = inner.clock().now();
        let renew_at = if grant.confirmed { grant.belief.renew_at() } else { now };
        let state = State {
            belief: grant.belief,
            confirmed: grant.confirmed,
            over: false,
            renewing: Renewing::No,
            failures: 0,
            backoff: Backoff::store(),
            renew_at,
            due: renew_at,
            slot: None,
        };
        Arc::new_cyclic(|myself| Self {
            inner: Arc::clone(inner),
            key: grant.key,
            id: grant.id,
            token: grant.token,
            ttl: grant.ttl,
            renews: grant.renews,
            since: now,
            state: Mutex::new(state),
            lost: watch::Sender::new(None),
            unanswered: grant.unanswered,
            myself: Weak::clone(myself),
        })
    }

    pub(crate) fn check(&self) -> Result<Duration, Error> {
        let (checked, news) = {
            let mut state = lock(&self.state);
            match state.belief.check(self.inner.clock().now()) {
                Ok(left) => (Ok(left), None),
                Err(ran_out) => {
                    let (reason, news) = self.lose(&mut state, ran_out);
                    (Err(Error::lost(&self.key, reason)), news)
                }
            }
        };
        self.tell(news);
        checked
    }

    /// Until when it is believed, as it stands; nothing once it is lost or given up.
    pub(crate) fn believed_until(&self) -> Option<Moment> {
        let state = lock(&self.state);
        let believes = !state.over && state.belief.lost().is_none();
        believes.then(|| state.belief.ends_at())
    }

    /// Releases until the store has answered or the lease has ended by itself.
    pub(crate) fn release_in_background(self: Arc<Self>) {
        let until = lock(&self.state).belief.promised_until();
        let inner = Arc::clone(&self.inner);
        inner.spawn(async move {
            match self.inner.deliver_release(&self.key, &self.id, until).await {
                Some(ownership) => self.released(ownership),
                None => self.report_release(ReleaseOutcome::Failed),
            }
        });
    }

    /// Tells of a release, and repeats it once after the deadline of a request that was never
    /// answered: it might still be carried out until then (R9).
    pub(crate) fn released(&self, ownership: Ownership) {
        self.report_release(match ownership {
            Ownership::Ours => ReleaseOutcome::Released,
            Ownership::NotOurs => ReleaseOutcome::NotOwner,
        });
        if let Some(deadline) = self.unanswered.filter(|at| *at > self.inner.clock().now()) {
            let (inner, key, id) = (Arc::clone(&self.inner), self.key.clone(), self.id.clone());
            self.inner.spawn(async move {
                inner.clock().sleep_until(deadline).await;
                inner.deliver_release(&key, &id, deadline).await;
            });
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
        if let Err(ran_out) = state.belief.check(now) {
            let (_, news) = self.lose(&mut state, ran_out);
            drop(state);
            return self.tell(news);
        }
        let mut next = state.belief.ends_at();
        let mut renew_now = false;
        // A grant that was passed on is confirmed even where its holder renews it himself.
        if (self.renews || !state.confirmed) && state.renewing == Renewing::No {
            renew_now = state.renew_at <= now;
            if !renew_now {
                next = next.min(state.renew_at);
            }
        }
        if renew_now {
            state.renewing = Renewing::Yes;
        }
        state.slot = Some(self.inner.keeper.plan(next, Weak::clone(&self.myself)));
        drop(state);
        if renew_now {
            self.renew_in_background();
        }
    }

    /// Asks the store at once, after a hint that something happened to the lease.
    pub(crate) fn look(&self) {
        {
            let mut state = lock(&self.state);
            if state.renewing == Renewing::Yes {
                state.renewing = Renewing::AndOnceMore;
            }
            state.renew_at = self.inner.clock().now();
            state.due = state.renew_at;
        }
        self.tick();
    }

    fn renew_in_background(&self) {
        let Some(held) = self.myself.upgrade() else { return };
        // Not counted as work that closing waits for: it goes on for as long as the lease.
        self.inner.platform.spawn.spawn(Box::pin(async move {
            // The outcome is kept in the state; an error is tried again by the next tick.
            drop(held.renew().await);
            held.renewed_in_background();
            held.tick();
        }));
    }

    fn renewed_in_background(&self) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.renewing, Renewing::No) == Renewing::AndOnceMore {
            state.renew_at = self.inner.clock().now();
            state.due = state.renew_at;
        }
    }

    pub(crate) async fn renew(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let sent = inner.clock().now();
        let (lag, left) = {
            let state = lock(&self.state);
            if let Some(reason) = state.belief.lost() {
                return Err(Error::lost(&self.key, reason));
            }
            if state.over {
                // I4: released meanwhile; nothing of it is sent any more.
                return Ok(());
            }
            (sent.since(state.due), state.belief.ends_at().since(sent))
        };
        let request = RenewRequest {
            key: self.key.clone(),
            lease: self.id.clone(),
            ttl: self.ttl,
            within: request_timeout(self.ttl).min(left),
        };
        let answer = inner.renew(&request).await;
        let now = inner.clock().now();
        let (done, news) = {
            let mut state = lock(&self.state);
            match answer {
                Ok(Renewal::Renewed) => {
                    state.renewed(sent, now, self.ttl);
                    let slack = state.belief.ends_at().since(now);
                    (Ok(()), Some(News::Renewed { lag, slack }))
                }
                Ok(ended) => {
                    let promised = state.belief.promised_until() > now;
                    let (reason, news) = self.lose_for(&mut state, reason_of(ended, promised));
                    (Err(Error::lost(&self.key, reason)), news)
                }
                Err(failed) => {
                    state.failures += 1;
                    let pause = state.backoff.pause(&*inner.platform.rng).min(self.ttl.get() / 20);
                    state.renew_at = now + pause;
                    tracing::debug!(key = %self.key, error = %failed, "renewal failed");
                    (Err(failed), Some(News::RenewalFailed))
                }
            }
        };
        self.tell(news);
        done
    }

    /// Ends the belief because its time ran out, and finds out why it did.
    fn lose(&self, state: &mut State, ran_out: LossReason) -> (LossReason, Option<News>) {
        let reason = match ran_out {
            LossReason::Expired if !self.renews => LossReason::Expired,
            // The store was asked in time, and did not answer.
            LossReason::Expired if state.failures > 0 || state.renewing != Renewing::No => {
                LossReason::Unreachable
            }
            // Nobody came to ask it: the process or its machine stood still.
            LossReason::Expired => LossReason::Suspended,
            known => known,
        };
        self.lose_for(state, reason)
    }

    fn lose_for(&self, state: &mut State, reason: LossReason) -> (LossReason, Option<News>) {
        let known = state.belief.lost().is_some();
        let reason = state.belief.lose(reason);
        if known || state.over {
            return (reason, None);
        }
        self.lost.send_replace(Some(reason));
        (reason, Some(News::Lost(reason)))
    }

    fn tell(&self, news: Option<News>) {
        let key = &self.key;
        match news {
            None => {}
            Some(News::RenewalFailed) => {
                tracing::warn!(%key, lease = %self.id, "renewal had no answer");
                self.inner.observe(&Event::RenewalFailed { class: self.class() });
            }
            Some(News::Renewed { lag, slack }) => {
                tracing::trace!(%key, lag_ms = lag.as_millis(), "renewed");
                self.inner.observe(&Event::Renewed { class: self.class(), lag, slack });
            }
            Some(News::Lost(reason)) => {
                let held = self.inner.clock().now().since(self.since);
                tracing::warn!(%key, lease = %self.id, token = self.token.get(),
                    reason = reason.as_str(), held_ms = held.as_millis(), "lease lost");
                self.inner.observe(&Event::Lost { class: self.class(), reason, held });
            }
        }
    }

    /// Whether the store has said yes to the lease itself.
    pub(crate) fn is_confirmed(&self) -> bool {
        lock(&self.state).confirmed
    }

    /// Stops all care for the lease; tells why it was lost before, if it was.
    pub(crate) fn end(&self) -> Option<LossReason> {
        // A lease that ran out is lost before it is given up.
        drop(self.check());
        let mut state = lock(&self.state);
        state.over = true;
        if let Some(slot) = state.slot.take() {
            self.inner.keeper.forget(slot);
        }
        self.inner.inbox.leave(&self.id);
        state.belief.lost()
    }

    fn report_release(&self, outcome: ReleaseOutcome) {
        let held = self.inner.clock().now().since(self.since);
        tracing::debug!(key = %self.key, lease = %self.id, ?outcome, held_ms = held.as_millis(),
            "released");
        self.inner.observe(&Event::Released { class: self.class(), outcome, held });
    }

    fn class(&self) -> &str {
        class(&self.key)
    }
}

impl State {
    /// Believes the answer of a renewal that was sent at `sent`.
    fn renewed(&mut self, sent: Moment, now: Moment, ttl: Ttl) {
        self.belief.renewed(sent, ttl);
        self.confirmed = true;
        self.failures = 0;
        self.backoff.reset();
        self.renew_at = self.belief.renew_at().max(now);
        self.due = self.renew_at;
    }
}

/// Why a lease is lost, by the answer to its renewal, and whether it came within the time that the
/// store had promised: a key that is free by then was taken from its holder.
const fn reason_of(ended: Renewal, promised: bool) -> LossReason {
    match ended {
        Renewal::Taken => LossReason::Taken,
        Renewal::Expired if promised => LossReason::Taken,
        Renewal::Revoked => LossReason::Revoked,
        Renewal::DataLost => LossReason::DataLost,
        // `Renewed` is no end; it never comes here.
        Renewal::Expired | Renewal::Renewed => LossReason::Expired,
    }
}

/// What stands for a key in metrics.
pub(crate) fn class(key: &Key) -> &str {
    if key.marketplace().is_empty() { "named" } else { key.marketplace() }
}
