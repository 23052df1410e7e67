use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Endpoint, Health, Key,
    LeaseId, Listener, Moment, Op, Ownership, Platform, Refusal, RenewRequest, Renewal, Result,
    Revoke, limits,
};

use super::Fault;
use super::queue::{Asker, Grant, Lock, State, Waiter};

/// A small store in memory that keeps all rules, or all but one.
///
/// It is written to be read and sabotaged, not to be used: `bidlock_core::Memory` is for that.
#[derive(Debug, Clone)]
pub struct ReferenceStore {
    state: Arc<Mutex<State>>,
}

impl ReferenceStore {
    /// Makes an empty store, with a fault or without.
    #[must_use]
    pub fn new(fault: Option<Fault>) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(fault))) }
    }

    /// The store as one process sees it.
    #[must_use]
    pub fn client(&self, platform: &Platform) -> Arc<dyn Backend> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.clients += 1;
        Arc::new(Client {
            state: Arc::clone(&self.state),
            platform: platform.clone(),
            number: state.clients,
            endpoint: Endpoint::new("reference:"),
        })
    }
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    state: Arc<Mutex<State>>,
    platform: Platform,
    number: usize,
    endpoint: Endpoint,
}

impl Client {
    /// Changes one lock, then says what is to be said (I14).
    pub(super) fn change<T>(
        &self,
        key: &Key,
        change: impl FnOnce(&mut State, &mut Lock, Moment) -> T,
    ) -> T {
        let (answer, news) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.platform.clock.now();
            let mut lock = state.take(key, &self.platform, now);
            let answer = change(&mut state, &mut lock, now);
            state.put(lock);
            (answer, state.take_news())
        };
        for (listener, wake) in news {
            if let Some(listener) = listener.upgrade() {
                listener.woken(&wake);
            }
        }
        answer
    }

    pub(super) fn hand_over(&self, state: &mut State, lock: &mut Lock, now: Moment, unless: Fault) {
        lock.grant = None;
        state.settle(lock, &self.platform, now, unless);
    }

    /// Grants the key to a lease that only a renewal names.
    pub(super) fn grant_again(
        &self,
        request: &RenewRequest,
        state: &mut State,
        lock: &mut Lock,
        now: Moment,
    ) {
        let request = AcquireRequest {
            key: request.key.clone(),
            lease: request.lease.clone(),
            ttl: request.ttl,
            label: None,
            wait: None,
            routine: false,
            within: request.within,
        };
        drop(self.grant(&request, state, lock, now));
    }

    /// Looks at a lock as it was when it was last changed.
    pub(super) fn peek<T>(
        &self,
        key: &Key,
        show: impl FnOnce(&State, &Lock, Moment) -> Option<T>,
    ) -> Option<T> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = state.locks.get(&state.name(key))?;
        show(&state, lock, self.platform.clock.now())
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.locks.values().map(|lock| lock.key.clone()).collect()
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).has(fault)
    }

    fn asker(&self, request: &AcquireRequest) -> Asker {
        Asker {
            lease: request.lease.clone(),
            label: request.label.clone(),
            ttl: request.ttl,
            client: self.number,
            process: self.platform.processes.current(),
        }
    }

    /// Refuses what runs later than it may (I9).
    fn in_time(&self, op: Op, key: &Key, began: Moment, within: Duration) -> Result<()> {
        let late = self.platform.clock.now().since(began) >= within;
        if !late || self.has(Fault::TooLateIsIgnored) {
            return Ok(());
        }
        let (key, endpoint) = (Some(key.clone()), self.endpoint.clone());
        Err(BackendError::TooLate { op, key, endpoint })
    }

    fn limit(&self, op: Op, key: &Key, reason: &str) -> BackendError {
        let reason = Refusal::Limit(reason.to_owned());
        BackendError::Refused {
            op,
            key: Some(key.clone()),
            endpoint: self.endpoint.clone(),
            reason,
        }
    }

    fn decide(
        &self,
        request: &AcquireRequest,
        state: &mut State,
        lock: &mut Lock,
        now: Moment,
    ) -> Result<Attempt> {
        if let Some(grant) = &mut lock.grant
            && grant.asker.lease == request.lease
            && !state.has(Fault::RepeatIsHeld)
        {
            return Ok(self.repeat(request, state, grant, now));
        }
        if lock.grant.is_none() || state.has(Fault::GrantsTwice) {
            return self.grant(request, state, lock, now);
        }
        self.refuse(request, state, lock, now)
    }

    /// Answers the holder's own question again, and confirms a window (I8).
    fn repeat(
        &self,
        request: &AcquireRequest,
        state: &mut State,
        grant: &mut Grant,
        now: Moment,
    ) -> Attempt {
        let asked = now + request.ttl.get();
        let confirms = !grant.confirmed;
        grant.confirmed = true;
        grant.until = match state.fault {
            Some(Fault::RepeatShortens) => asked,
            Some(Fault::RepeatDoesNotExtend) if !confirms => grant.until,
            Some(Fault::ConfirmDoesNotExtend) if confirms => grant.until,
            fault if grant.revoked && fault != Some(Fault::RevokedLivesOn) => grant.until,
            _ => grant.until.max(asked),
        };
        if state.has(Fault::RepeatGetsNewToken)
            && let Some(token) = state.next_token(self.platform.clock.wall())
        {
            grant.token = token;
        }
        Attempt::Granted { token: grant.token }
    }

    fn grant(
        &self,
        request: &AcquireRequest,
        state: &mut State,
        lock: &mut Lock,
        now: Moment,
    ) -> Result<Attempt> {
        let Some(token) = state.next_token(self.platform.clock.wall()) else {
            return Err(self.limit(Op::Acquire, &request.key, "no token is left"));
        };
        lock.free_for_all = false;
        lock.queue.retain(|waiter| waiter.asker.lease != request.lease);
        lock.grant = Some(Grant {
            asker: self.asker(request),
            token,
            since: now,
            until: now + request.ttl.get(),
            confirmed: true,
            revoked: false,
        });
        Ok(Attempt::Granted { token })
    }

    fn refuse(
        &self,
        request: &AcquireRequest,
        state: &State,
        lock: &mut Lock,
        now: Moment,
    ) -> Result<Attempt> {
        let queued = state.has(Fault::PassersByAreQueued).then_some(Duration::from_mins(1));
        if let Some(wait) = request.wait.or(queued) {
            self.queue(request, wait, state, lock, now)?;
        }
        let before = |waiter: &Waiter| waiter.asker.lease != request.lease;
        let ahead = lock.queue.iter().take_while(|waiter| before(waiter)).count();
        let ahead = if state.has(Fault::WaitersAreNotCounted) { 0 } else { ahead };
        let Some(grant) = &lock.grant else {
            return Err(self.limit(Op::Acquire, &request.key, "no token is left"));
        };
        Ok(Attempt::Held {
            holder: state.shows(&grant.asker),
            remaining: grant.until.since(now),
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
        })
    }

    fn queue(
        &self,
        request: &AcquireRequest,
        wait: Duration,
        state: &State,
        lock: &mut Lock,
        now: Moment,
    ) -> Result<()> {
        let (deadline, looked_until) = (now + wait, now + limits::WAITER_LEASE);
        let waiter = Waiter { asker: self.asker(request), deadline, looked_until };
        if state.has(Fault::LookLosesThePlace) {
            lock.queue.retain(|other| other.asker.lease != request.lease);
        }
        let mut places = lock.queue.iter_mut();
        let place = places.find(|other| other.asker.lease == request.lease);
        if let Some(place) = place
            && !state.has(Fault::LookAddsAPlace)
        {
            *place = waiter;
            return Ok(());
        }
        let full = lock.queue.len() >= limits::WAITERS_MAX as usize; // I10
        if full && !state.has(Fault::QueueIsUnbounded) {
            return Err(self.limit(Op::Acquire, &request.key, "too many wait"));
        }
        lock.queue.push(waiter);
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Client {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let began = self.platform.clock.now();
        self.in_time(Op::Acquire, &request.key, began, request.within)?;
        if self.has(Fault::LooksBeforeItTakes) {
            let free = self.change(&request.key, |_, lock, _| lock.grant.is_none());
            tokio::task::yield_now().await;
            return self.change(&request.key, |state, lock, now| {
                let granted = if free { Self::grant } else { Self::decide };
                granted(self, request, state, lock, now)
            });
        }
        self.change(&request.key, |state, lock, now| self.decide(request, state, lock, now))
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let began = self.platform.clock.now();
        self.in_time(Op::Renew, &request.key, began, request.within)?;
        Ok(self.change(&request.key, |state, lock, now| self.extend(request, state, lock, now)))
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        Ok(self.change(key, |state, lock, now| self.give_up(lease, state, lock, now)))
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.listeners.push((self.number, listener));
    }

    async fn ping(&self) -> Result<Health> {
        Ok(Health {
            server: "reference".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role: "embedded".to_owned(),
            latency: Duration::ZERO,
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        Some(self)
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        Some(self)
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        None // Everything ends by itself (I10).
    }
}
