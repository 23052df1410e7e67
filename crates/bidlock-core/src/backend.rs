use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Cleanup, Endpoint, FencingToken, Holder, Key, Label, LeaseId, Moment, Prefix, Result, Ttl,
};

/// Asks for a key, or looks at it again.
#[derive(Debug, Clone)]
pub struct AcquireRequest {
    /// What to lock.
    pub key: Key,
    /// The identity of the lease, picked before the first attempt and kept over repeats.
    pub lease: LeaseId,
    /// How long the lease lives without renewal.
    pub ttl: Ttl,
    /// For people: why or for whom the key is held.
    pub label: Option<Label>,
    /// How much longer the caller will wait; `None` when it will not, and enters no queue.
    pub wait: Option<Duration>,
    /// A waiter looks again because time has passed, and for no other reason: the store may
    /// answer with what it has just told another waiter of this process.
    pub routine: bool,
    /// A request that runs later than this after the call began does nothing.
    pub within: Duration,
}

/// Asks for a lease to live on.
#[derive(Debug, Clone)]
pub struct RenewRequest {
    /// What is locked.
    pub key: Key,
    /// The lease that holds it.
    pub lease: LeaseId,
    /// How long the lease shall live from now; a longer rest is not shortened.
    pub ttl: Ttl,
    /// A request that runs later than this after the call began does nothing.
    pub within: Duration,
}

/// How an attempt to acquire went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The key is the caller's, for the TTL that it asked for.
    Granted {
        /// Higher than that of every earlier grant of the key.
        token: FencingToken,
    },
    /// Somebody else has the key, or stands before the caller in its queue.
    Held {
        /// Who.
        holder: Holder,
        /// When the key ends unless it is renewed; zero when nobody can tell.
        remaining: Duration,
        /// How many waiters stand before the caller.
        ahead: u32,
    },
}

/// How a renewal went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives on for the TTL that was asked for.
    Renewed,
    /// The lease ended, and nobody has the key.
    Expired,
    /// Somebody else has the key.
    Taken,
    /// An operator has taken the key; the holder shall stop, then release.
    Revoked,
    /// The store forgot its locks.
    DataLost,
}

/// Whether the key, or a place in its queue, was the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// It was, and is given up.
    Ours,
    /// It was not; nothing was changed.
    NotOurs,
}

/// News of a lease: a hint, which may come early, twice or never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wake {
    /// The key.
    pub key: Key,
    /// The lease that waits for the key, or holds it.
    pub lease: LeaseId,
    /// What there is to tell.
    pub news: News,
}

/// What a lease is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Something happened: the lease shall look for itself.
    Look,
    /// The key is the lease's, until then unless it confirms.
    Granted {
        /// The grant's token.
        token: FencingToken,
        /// Until when it may be believed without a word to the store.
        until: Moment,
    },
    /// The key ends sooner than the waiter was told: it shall look then, if nothing else comes.
    EndsAt(Moment),
}

/// Hears news of leases.
pub trait Listener: Debug + Send + Sync {
    /// Takes the news; returns whether the lease is known here. Never blocks.
    fn woken(&self, wake: &Wake) -> bool;
}

/// How a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The server or library, such as `sqlite`.
    pub server: String,
    /// Its version.
    pub version: String,
    /// Its part, such as `primary`; `embedded` where there is no server.
    pub role: String,
    /// How long it took to answer.
    pub latency: Duration,
}

/// One store of leases. A call is one attempt: no retry, sleep or renewal in here.
///
/// # Errors
/// Every call may fail with any [`BackendError`](crate::BackendError); those of a caller's own
/// making come as [`Refusal::Limit`](crate::Refusal::Limit). After
/// [`may_have_applied`](crate::BackendError::may_have_applied), repeat the call or release.
///
/// Contention is a value; `Err` means that the store gave no answer. The caller picks the lease
/// id, so that repeating a call after a lost reply is harmless. Only durations cross the trait:
/// the store's clock decides expiry, and the caller counts from the moment before it asked.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// Grants the key if it is free, expired, handed over to the lease, or the lease's already
    /// (then with the same token); else queues the lease when the request says how long it waits.
    ///
    /// # Cancel safety
    /// The request may take effect after the future was dropped: release the lease.
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt>;

    /// Makes a live lease run `ttl` from now. Never revives an expired one.
    ///
    /// # Cancel safety
    /// The request may take effect after the future was dropped, which harms nobody.
    async fn renew(&self, request: &RenewRequest) -> Result<Renewal>;

    /// Gives up whatever the lease has: the key, handed to the next waiter, or its place in the
    /// queue.
    ///
    /// # Cancel safety
    /// The request may take effect after the future was dropped; repeating it is harmless.
    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership>;

    /// Sends news of leases of this process to `listener`, for as long as it lives.
    fn subscribe(&self, listener: std::sync::Weak<dyn Listener>);

    /// Asks the store for a sign of life.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    async fn ping(&self) -> Result<Health>;

    /// Where the store is.
    fn endpoint(&self) -> &Endpoint;

    /// Lists locks, where the store can.
    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>>;

    /// Takes keys from their holders, where the store can.
    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>>;

    /// Finds and removes what was left behind, where a store can be left with anything (I10).
    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>>;
}

/// Which locks to list: those under the prefix, in key order.
#[derive(Debug, Clone)]
pub struct LockQuery {
    /// Only keys under this prefix.
    pub prefix: Prefix,
    /// Only keys after this one.
    pub after: Option<Key>,
    /// At most this many, up to [`limits::PAGE_MAX`](crate::limits::PAGE_MAX).
    pub limit: u32,
}

/// What a listing shows of one lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockInfo {
    /// The key.
    pub key: Key,
    /// Who has it.
    pub holder: Holder,
    /// The grant's token; `None` for a foreign client's lock.
    pub token: Option<FencingToken>,
    /// Since when, where it is known.
    pub age: Option<Duration>,
    /// When it ends unless it is renewed.
    pub remaining: Duration,
    /// How many wait for it.
    pub waiters: u32,
    /// Whether an operator has taken it, and its holder has not yet stopped.
    pub revoked: bool,
}

/// Shows what a store holds.
#[async_trait]
pub trait Browse: Debug + Send + Sync + 'static {
    /// Lists one page of live locks.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    async fn list(&self, query: &LockQuery) -> Result<Vec<LockInfo>>;

    /// Shows one lock; `None` when the key is free.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    async fn inspect(&self, key: &Key) -> Result<Option<LockInfo>>;
}

/// How a revocation went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// The holder is told; the key is free when it has stopped, or after this long at most.
    Marked {
        /// The rest of the lease that the holder was promised.
        remaining: Duration,
    },
    /// The key was freed at once.
    Freed,
    /// The key has another token, or none: nothing was changed.
    NotHeld {
        /// The token that the key has now.
        current: Option<FencingToken>,
    },
}

/// Takes a key from its holder.
#[async_trait]
pub trait Revoke: Debug + Send + Sync + 'static {
    /// Marks the grant with this very token as taken, or with `now` frees the key at once.
    ///
    /// # Cancel safety
    /// The request may take effect after the future was dropped; repeating it is harmless.
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation>;
}
