//! Code that is not sound, switched on by name: what this crate checks has to notice it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, Browse, Cleanup, Clock, Endpoint, FencingToken, Health, Key,
    LeaseId, Listener, News, Ownership, RenewRequest, Renewal, Result, Revoke, Ttl, Wake,
};

use crate::client::Env;
use crate::ledger;

/// What is not sound in a run.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
pub(crate) struct Switches {
    pub(crate) ledger: ledger::Faults,
    pub(crate) client: Option<Client>,
    /// The clock of leases is one that stops in suspend.
    pub(crate) sleeps: bool,
    /// The clock of leases is the wall clock.
    pub(crate) wall: bool,
    /// Who finds a posting reserved by an attempt without an outcome sends that again.
    pub(crate) resends_reserved: bool,
    /// A reconciler takes a bid that the marketplace does not list for one that was not sent.
    pub(crate) reopens_not_found: bool,
}

/// What a client's side of the store does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// A renewal without an answer counts as one.
    RenewsByHope,
    /// That somebody else has the key is not believed.
    RenewsWhatIsTaken,
    /// A request without an answer counts as granted.
    HopesForGrants,
    /// The store is asked for a shorter lease than is believed in.
    NoMargin,
    /// Each request has an identity of its own.
    NewIdentities,
    /// A waiter relies on messages, and has no timer.
    WaitsForNews,
    /// Who stops waiting says so to nobody.
    LeavesPlaces,
    /// A pushed grant is believed for longer than it lasts.
    BelievesMessages,
    /// A waiter's grant is believed from when its answer came, and not from when it was asked for.
    CountsFromAnswers,
}

/// A process's store, as sound as it shall be.
pub(crate) fn backend(sound: Arc<dyn Backend>, env: &Env) -> Arc<dyn Backend> {
    match env.mutants.client {
        None => sound,
        Some(fault) => {
            let listeners = Mutex::default();
            let clock = Arc::new(env.clock.clone());
            let (platform, answers) = (env.platform(), Mutex::default());
            Arc::new(Faulty { sound, fault, listeners, clock, platform, answers })
        }
    }
}

#[derive(Debug)]
struct Faulty {
    sound: Arc<dyn Backend>,
    fault: Client,
    listeners: Mutex<Vec<Arc<Mishearing>>>,
    clock: Arc<dyn Clock>,
    platform: bidlock_core::Platform,
    /// Grants whose callers are told of them when they ask once more.
    answers: Mutex<BTreeMap<u64, FencingToken>>,
}

/// Hears messages, and passes something else on.
#[derive(Debug)]
struct Mishearing {
    fault: Client,
    listener: Weak<dyn Listener>,
}

impl Listener for Mishearing {
    fn woken(&self, wake: &Wake) -> bool {
        let Some(listener) = self.listener.upgrade() else { return false };
        let mut wake = wake.clone();
        if let (Client::BelievesMessages, News::Granted { token, until }) = (self.fault, wake.news)
        {
            wake.news = News::Granted { token, until: until + Duration::from_millis(500) };
        }
        listener.woken(&wake)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Backend for Faulty {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let mut request = request.clone();
        match self.fault {
            Client::NoMargin => request.ttl = shorter(request.ttl),
            Client::NewIdentities => {
                let host = self.platform.processes.host();
                let pid = self.platform.processes.pid();
                request.lease = LeaseId::random(host, pid, &*self.platform.rng);
            }
            _ => {}
        }
        if let Some(token) = self.answers().remove(&request.lease.unique()) {
            return Ok(Attempt::Granted { token });
        }
        let answer = self.sound.acquire(&request).await;
        match (self.fault, answer) {
            (Client::CountsFromAnswers, Ok(Attempt::Granted { token }))
                if request.wait.is_some() =>
            {
                self.answers().insert(request.lease.unique(), token);
                let (holder, remaining) = (request.lease.holder(None), Duration::ZERO);
                Ok(Attempt::Held { holder, remaining, ahead: 0 })
            }
            (Client::HopesForGrants, Err(error)) if error.may_have_applied() => {
                let token = FencingToken::new(self.clock.wall().as_micros());
                Ok(Attempt::Granted { token })
            }
            (Client::WaitsForNews, Ok(Attempt::Held { holder, ahead, .. })) => {
                let remaining = Duration::from_hours(1);
                Ok(Attempt::Held { holder, remaining, ahead })
            }
            (_, answer) => answer,
        }
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let mut request = request.clone();
        if self.fault == Client::NoMargin {
            request.ttl = shorter(request.ttl);
        }
        match (self.fault, self.sound.renew(&request).await) {
            (Client::RenewsByHope, Err(_))
            | (Client::RenewsWhatIsTaken, Ok(Renewal::Taken | Renewal::Expired)) => {
                Ok(Renewal::Renewed)
            }
            (_, answer) => answer,
        }
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        if self.fault == Client::LeavesPlaces {
            return Ok(Ownership::Ours);
        }
        self.sound.release(key, lease).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        let mishearing = Arc::new(Mishearing { fault: self.fault, listener });
        let weak: Weak<Mishearing> = Arc::downgrade(&mishearing);
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(mishearing);
        self.sound.subscribe(weak);
    }

    async fn ping(&self) -> Result<Health> {
        self.sound.ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        self.sound.endpoint()
    }

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        Arc::clone(&self.sound).browse()
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        Arc::clone(&self.sound).revoke()
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        Arc::clone(&self.sound).cleanup()
    }
}

impl Faulty {
    fn answers(&self) -> MutexGuard<'_, BTreeMap<u64, FencingToken>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A little less.
fn shorter(ttl: Ttl) -> Ttl {
    Ttl::new(ttl.get().mul_f64(0.95)).unwrap_or(ttl)
}
