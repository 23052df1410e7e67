use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Clock, Endpoint, FencingToken,
    Health, Key, Label, LeaseId, Listener, LockInfo, LockQuery, Moment, News, Op, Ownership,
    Platform, Refusal, RenewRequest, Renewal, Result, Revocation, Revoke, Ttl, Wake, grant_window,
    limits, next_token,
};

/// A store of leases in this process: for tests, and for programs that run alone.
///
/// It keeps every rule of the other stores, so that code tested on it meets no surprise there.
/// Several clients share it through an [`Arc`].
#[derive(Debug)]
pub struct Memory {
    clock: Arc<dyn Clock>,
    endpoint: Endpoint,
    state: Mutex<State>,
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
}

/// Everything that is kept.
#[derive(Debug, Default)]
struct State {
    last_token: u64,
    /// Only keys that are granted or waited for.
    locks: BTreeMap<Key, Lock>,
}

/// One key: who has it, and who wants it, in order of arrival.
#[derive(Debug, Default)]
struct Lock {
    grant: Option<Grant>,
    waiters: VecDeque<Waiter>,
    /// Leases that were revoked at once, until what they were promised has passed.
    revoked: Vec<(LeaseId, Moment)>,
}

#[derive(Debug)]
struct Grant {
    lease: LeaseId,
    label: Option<Label>,
    token: FencingToken,
    since: Moment,
    until: Moment,
    revoked: bool,
}

#[derive(Debug)]
struct Waiter {
    lease: LeaseId,
    label: Option<Label>,
    ttl: Ttl,
    /// When its caller stops waiting.
    deadline: Moment,
    /// When its place ends unless it looks again.
    place_until: Moment,
}

/// One change of one key at one instant, and the news that it makes.
struct Change<'a> {
    clock: &'a dyn Clock,
    now: Moment,
    last_token: &'a mut u64,
    key: &'a Key,
    lock: &'a mut Lock,
    wakes: Vec<Wake>,
}

impl Memory {
    /// Makes an empty store that lives as long as the process.
    #[must_use]
    pub fn new(platform: &Platform) -> Self {
        Self {
            clock: Arc::clone(&platform.clock),
            endpoint: Endpoint::new("memory:"),
            state: Mutex::default(),
            listeners: Mutex::default(),
        }
    }

    /// Applies one change to one key, then sends its news (I14).
    fn change<T>(&self, key: &Key, apply: impl FnOnce(&mut Change<'_>) -> T) -> T {
        let (answer, wakes) = {
            let mut state = lock(&self.state);
            let State { last_token, locks } = &mut *state;
            let now = self.clock.now();
            let lock = locks.entry(key.clone()).or_default();
            let clock = &*self.clock;
            let mut change = Change { clock, now, last_token, key, lock, wakes: Vec::new() };
            let answer = apply(&mut change);
            let wakes = change.wakes;
            if lock.is_empty() {
                locks.remove(key);
            }
            (answer, wakes)
        };
        for wake in &wakes {
            self.announce(wake);
        }
        answer
    }

    /// Offers the news to each client until one says that the lease is its own.
    fn announce(&self, wake: &Wake) {
        let listeners: Vec<_> = {
            let mut known = lock(&self.listeners);
            known.retain(|listener| listener.strong_count() > 0);
            known.iter().filter_map(Weak::upgrade).collect()
        };
        listeners.iter().any(|listener| listener.woken(wake));
    }

    fn too_late(&self, op: Op, key: &Key) -> BackendError {
        BackendError::TooLate { op, key: Some(key.clone()), endpoint: self.endpoint.clone() }
    }

    fn exhausted(&self, op: Op, key: &Key, limit: &Exhausted) -> BackendError {
        let reason = Refusal::Limit(limit.0.to_owned());
        let endpoint = self.endpoint.clone();
        BackendError::Refused { op, key: Some(key.clone()), endpoint, reason }
    }
}

/// A bound that stops a request.
struct Exhausted(&'static str);

impl Change<'_> {
    /// Takes the key from a grant that has ended, and passes it on.
    fn expire(&mut self) -> Result<(), Exhausted> {
        self.lock.revoked.retain(|(_, until)| *until > self.now);
        if self.lock.grant.as_ref().is_some_and(|grant| grant.until <= self.now) {
            self.lock.grant = None;
        }
        self.pass_on()
    }

    /// Gives a free key to the longest-waiting live waiter, under a grant window (I6, I7).
    fn pass_on(&mut self) -> Result<(), Exhausted> {
        if self.lock.grant.is_some() {
            return Ok(());
        }
        while let Some(waiter) = self.lock.waiters.pop_front() {
            if waiter.deadline <= self.now || waiter.place_until <= self.now {
                continue;
            }
            let window = grant_window(waiter.ttl);
            let token = self.grant(waiter.lease.clone(), waiter.label, window)?;
            let until = self.now + window;
            self.tell(waiter.lease, News::Granted { token, until });
            // The key may now end sooner than the next waiter was told.
            if let Some(next) = self.lock.waiters.front() {
                self.tell(next.lease.clone(), News::EndsAt(until));
            }
            return Ok(());
        }
        Ok(())
    }

    fn tell(&mut self, lease: LeaseId, news: News) {
        self.wakes.push(Wake { key: self.key.clone(), lease, news });
    }

    /// Grants the free key, with a token above every earlier one (I1, I2).
    fn grant(
        &mut self,
        lease: LeaseId,
        label: Option<Label>,
        length: Duration,
    ) -> Result<FencingToken, Exhausted> {
        let token = next_token(*self.last_token, self.clock.wall())
            .ok_or(Exhausted("no fencing token is left below 2^52: mend the clock"))?;
        *self.last_token = token.get();
        let (since, until) = (self.now, self.now + length);
        self.lock.grant = Some(Grant { lease, label, token, since, until, revoked: false });
        Ok(token)
    }

    fn acquire(&mut self, request: &AcquireRequest) -> Result<Attempt, Exhausted> {
        self.look(request);
        self.expire()?;
        match &mut self.lock.grant {
            None => {
                let length = request.ttl.get();
                let token = self.grant(request.lease.clone(), request.label.clone(), length)?;
                Ok(Attempt::Granted { token })
            }
            // A repeat, or the confirmation of a window (I8).
            Some(grant) if grant.lease == request.lease && !grant.revoked => {
                grant.until = grant.until.max(self.now + request.ttl.get());
                Ok(Attempt::Granted { token: grant.token })
            }
            Some(grant) => {
                let holder = grant.lease.holder(grant.label.clone());
                let remaining = grant.until.since(self.now);
                let own = grant.lease == request.lease;
                let ahead = if own { 0 } else { self.queue(request)? };
                Ok(Attempt::Held { holder, remaining, ahead })
            }
        }
    }

    /// Renews the caller's place in the queue, or gives it up when it no longer waits.
    fn look(&mut self, request: &AcquireRequest) {
        match request.wait {
            None => self.lock.waiters.retain(|waiter| waiter.lease != request.lease),
            Some(wait) => {
                let now = self.now;
                for waiter in self.lock.waiters.iter_mut().filter(|w| w.lease == request.lease) {
                    waiter.deadline = now + wait;
                    waiter.place_until = now + limits::WAITER_LEASE;
                }
            }
        }
    }

    /// Enters the caller in the queue unless it is there; returns how many stand before it.
    fn queue(&mut self, request: &AcquireRequest) -> Result<u32, Exhausted> {
        let waiters = &mut self.lock.waiters;
        waiters.retain(|waiter| waiter.deadline > self.now && waiter.place_until > self.now);
        let place = waiters.iter().position(|waiter| waiter.lease == request.lease);
        let ahead = place.unwrap_or(waiters.len());
        if let (None, Some(wait)) = (place, request.wait) {
            if waiters.len() >= limits::WAITERS_MAX as usize {
                return Err(Exhausted("10000 waiters queue for the key already"));
            }
            waiters.push_back(Waiter {
                lease: request.lease.clone(),
                label: request.label.clone(),
                ttl: request.ttl,
                deadline: self.now + wait,
                place_until: self.now + limits::WAITER_LEASE,
            });
        }
        Ok(u32::try_from(ahead).unwrap_or(u32::MAX))
    }

    /// Extends a live grant; never revives or shortens one (I5).
    fn renew(&mut self, request: &RenewRequest) -> Result<Renewal, Exhausted> {
        self.expire()?;
        if self.lock.revoked.iter().any(|(lease, _)| *lease == request.lease) {
            return Ok(Renewal::Revoked);
        }
        Ok(match &mut self.lock.grant {
            None => Renewal::Expired,
            Some(grant) if grant.lease != request.lease => Renewal::Taken,
            Some(grant) if grant.revoked => Renewal::Revoked,
            Some(grant) => {
                grant.until = grant.until.max(self.now + request.ttl.get());
                Renewal::Renewed
            }
        })
    }

    /// Gives up both the key and the place in the queue (I11).
    fn release(&mut self, lease: &LeaseId) -> Result<Ownership, Exhausted> {
        self.lock.revoked.retain(|(revoked, _)| revoked != lease);
        let queued = self.lock.waiters.len();
        self.lock.waiters.retain(|waiter| waiter.lease != *lease);
        let mut ours = self.lock.waiters.len() < queued;
        self.expire()?;
        if self.lock.grant.as_ref().is_some_and(|grant| grant.lease == *lease) {
            ours = true;
            self.lock.grant = None;
            self.pass_on()?;
        }
        Ok(if ours { Ownership::Ours } else { Ownership::NotOurs })
    }

    /// Takes the key from the grant with this very token (I12).
    fn revoke(&mut self, token: FencingToken, now: bool) -> Result<Revocation, Exhausted> {
        self.expire()?;
        let Some(grant) = self.lock.grant.as_mut().filter(|grant| grant.token == token) else {
            let current = self.lock.grant.as_ref().map(|grant| grant.token);
            return Ok(Revocation::NotHeld { current });
        };
        grant.revoked = true;
        let (lease, until) = (grant.lease.clone(), grant.until);
        self.tell(lease.clone(), News::Look);
        if !now {
            return Ok(Revocation::Marked { remaining: until.since(self.now) });
        }
        self.lock.revoked.push((lease, until));
        self.lock.grant = None;
        self.pass_on()?;
        Ok(Revocation::Freed)
    }
}

impl Lock {
    fn is_empty(&self) -> bool {
        self.grant.is_none() && self.waiters.is_empty() && self.revoked.is_empty()
    }

    /// What a listing shows of the key, if it is held.
    fn info(&self, key: &Key, now: Moment) -> Option<LockInfo> {
        let grant = self.grant.as_ref().filter(|grant| grant.until > now)?;
        let live = |w: &&Waiter| w.deadline > now && w.place_until > now;
        Some(LockInfo {
            key: key.clone(),
            holder: grant.lease.holder(grant.label.clone()),
            token: Some(grant.token),
            age: Some(now.since(grant.since)),
            remaining: grant.until.since(now),
            waiters: u32::try_from(self.waiters.iter().filter(live).count()).unwrap_or(u32::MAX),
            revoked: grant.revoked,
        })
    }
}

#[async_trait]
impl Backend for Memory {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        // A call takes no time here, so only one that had none to begin with is late (I9).
        if request.within.is_zero() {
            return Err(self.too_late(Op::Acquire, &request.key));
        }
        self.change(&request.key, |change| change.acquire(request))
            .map_err(|limit| self.exhausted(Op::Acquire, &request.key, &limit))
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        if request.within.is_zero() {
            return Err(self.too_late(Op::Renew, &request.key));
        }
        self.change(&request.key, |change| change.renew(request))
            .map_err(|limit| self.exhausted(Op::Renew, &request.key, &limit))
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        self.change(key, |change| change.release(lease))
            .map_err(|limit| self.exhausted(Op::Release, key, &limit))
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        lock(&self.listeners).push(listener);
    }

    async fn ping(&self) -> Result<Health> {
        Ok(Health {
            server: "memory".to_owned(),
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

#[async_trait]
impl Browse for Memory {
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>> {
        let state = lock(&self.state);
        let now = self.clock.now();
        let from = query.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let after = state.locks.range((from, Bound::Unbounded));
        let page = after
            .filter(|(key, _)| key.prefix() == query.prefix.as_str())
            .filter_map(|(key, lock)| lock.info(key, now))
            .take(query.limit.min(limits::PAGE_MAX) as usize);
        Ok(page.collect())
    }

    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>> {
        Ok(lock(&self.state).locks.get(key).and_then(|lock| lock.info(key, self.clock.now())))
    }
}

#[async_trait]
impl Revoke for Memory {
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation> {
        self.change(key, |change| change.revoke(token, now))
            .map_err(|limit| self.exhausted(Op::Revoke, key, &limit))
    }
}

/// No change can panic half-way, so what a panicking listener left behind is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
