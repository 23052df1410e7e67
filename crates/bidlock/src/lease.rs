use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{FencingToken, Key, LeaseId, LossReason, Moment, Ownership, Ttl};

use crate::Error;
use crate::held::{Grant, Held};
use crate::inner::Inner;

/// A key that is held, for a limited time that is renewed in the background.
///
/// Dropping a lease releases it in the background, wherever it is dropped; [`Lease::release`]
/// says whether that worked. A process that ends right after the drop may end before the release
/// is sent, and the key then stays held for its TTL: release what is held, or await
/// [`Locker::close`](crate::Locker::close), before the end.
#[derive(Debug)]
#[must_use = "a lease that is dropped is released"]
pub struct Lease {
    held: Arc<Held>,
    /// Whether dropping still has to release.
    armed: bool,
}

impl Lease {
    /// Puts a grant under the care of the background task.
    pub(crate) fn begin(inner: &Arc<Inner>, grant: Grant) -> Self {
        let held = Held::new(inner, grant);
        inner.inbox.hold(&held.id, Arc::downgrade(&held));
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

    /// A part of the lease that may be handed on, to look at but not to give up.
    #[must_use]
    pub fn view(&self) -> LeaseView {
        LeaseView { held: Arc::clone(&self.held) }
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
        lost(&self.held).await
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
        renew(&self.held).await
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
        confirm(&self.held).await
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
        if let Ok(ownership) = &answer {
            self.armed = false;
            self.held.released(*ownership);
        }
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

/// What guarded work may know of its lease.
#[derive(Debug, Clone)]
pub struct LeaseView {
    held: Arc<Held>,
}

impl LeaseView {
    /// What is held.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.held.key
    }

    /// The fencing token of the grant.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.held.token
    }

    /// Until when the lease may be believed unless it is renewed, on the platform's clock;
    /// nothing once it is lost or given up. For those who plan or watch: it decides nothing.
    #[must_use]
    pub fn believed_until(&self) -> Option<Moment> {
        self.held.believed_until()
    }

    /// Tests the lease as [`Lease::check`] does.
    ///
    /// # Errors
    /// [`Error::Lost`] with the reason.
    pub fn check(&self) -> Result<Duration, Error> {
        self.held.check()
    }

    /// Resolves as [`Lease::lost`] does.
    ///
    /// # Cancel safety
    /// As [`Lease::lost`].
    pub async fn lost(&self) -> LossReason {
        lost(&self.held).await
    }

    /// Renews as [`Lease::renew`] does; after a release it renews nothing.
    ///
    /// # Errors
    /// As [`Lease::renew`].
    ///
    /// # Cancel safety
    /// As [`Lease::renew`].
    pub async fn renew(&self) -> Result<Duration, Error> {
        renew(&self.held).await
    }

    /// Confirms as [`Lease::confirm`] does.
    ///
    /// # Errors
    /// As [`Lease::renew`].
    ///
    /// # Cancel safety
    /// As [`Lease::renew`].
    pub async fn confirm(&self) -> Result<Duration, Error> {
        confirm(&self.held).await
    }
}

async fn lost(held: &Held) -> LossReason {
    let mut news = held.lost.subscribe();
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

async fn renew(held: &Held) -> Result<Duration, Error> {
    held.check()?;
    held.renew().await?;
    held.check()
}

async fn confirm(held: &Held) -> Result<Duration, Error> {
    if held.is_confirmed() { held.check() } else { renew(held).await }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.armed {
            // A lease that was lost still sends one release: it tells an operator who revoked
            // it that the work has stopped, and frees a key that the store may still keep.
            self.held.end();
            Arc::clone(&self.held).release_in_background();
        }
    }
}
