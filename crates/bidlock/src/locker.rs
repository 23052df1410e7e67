use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use bidlock_core::{
    Browse, Cleanup, Endpoint, Health, Key, LeaseId, Ownership, Platform, Prefix, RenewRequest,
    Renewal, Revoke, Ttl,
};

use crate::acquire::Acquire;
use crate::builder::Builder;
use crate::inner::{Inner, request_timeout};
use crate::lease::{Lease, LeaseView};
use crate::{Error, Wait};

/// Takes locks of one store. Cheap to clone; clones share one connection.
///
/// # Examples
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// use bidlock::{Key, Locker};
///
/// let locker = Locker::connect("memory:").await?;
/// let lease = locker.acquire(&Key::new("upwork", "job_123")?).await?;
/// println!("held with fencing token {}", lease.token());
/// lease.release().await?;
/// # Ok::<(), bidlock::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Locker {
    inner: Arc<Inner>,
}

impl Locker {
    /// Opens the store that `url` names, with the defaults of [`Builder`].
    ///
    /// # Errors
    /// As [`Builder::connect`].
    ///
    /// # Cancel safety
    /// A file may be left created.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().connect(url).await
    }

    pub(crate) fn over(inner: Inner) -> Self {
        Self { inner: Arc::new(inner) }
    }

    /// Sets up a locker step by step.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Asks for a key, by default for 10 s at most and for a TTL of 5 min; await what is returned.
    pub fn acquire(&self, key: &Key) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), key.with_prefix(&self.inner.prefix))
    }

    /// Asks for a key once; `None` when somebody else has it.
    ///
    /// # Errors
    /// [`Error::Store`] when the store gave no answer, or refused.
    ///
    /// # Cancel safety
    /// What the request may have taken is given back in the background.
    pub async fn try_acquire(&self, key: &Key) -> Result<Option<Lease>, Error> {
        match self.acquire(key).wait(Wait::No).await {
            Ok(lease) => Ok(Some(lease)),
            Err(Error::Held { .. }) => Ok(None),
            Err(failed) => Err(failed),
        }
    }

    /// Runs `work` while holding the key, and drops it unfinished when the lease is lost.
    ///
    /// The release is not waited for longer than the store takes to answer; its failure is
    /// logged, because the work is done all the same.
    ///
    /// # Errors
    /// As awaiting [`Locker::acquire`], and [`Error::Lost`] when the lease was lost before the
    /// work was done.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and releases the lease in the background.
    pub async fn with_lock<F, Fut, T>(&self, acquire: Acquire, work: F) -> Result<T, Error>
    where
        F: FnOnce(LeaseView) -> Fut,
        Fut: Future<Output = T>,
    {
        let lease = acquire.await?;
        let done = {
            let mut work = std::pin::pin!(work(lease.view()));
            let mut lost = std::pin::pin!(lease.lost());
            poll_fn(|context| {
                // Looked at before each step of the work: after a suspend it runs no further (R1).
                if lease.check().is_err()
                    && let Poll::Ready(reason) = lost.as_mut().poll(context)
                {
                    return Poll::Ready(Err(reason));
                }
                if let Poll::Ready(done) = work.as_mut().poll(context) {
                    return Poll::Ready(Ok(done));
                }
                lost.as_mut().poll(context).map(Err)
            })
            .await
        };
        match done {
            Err(reason) => Err(Error::lost(lease.key(), reason)),
            Ok(done) => {
                if let Err(failed) = lease.release().await {
                    tracing::warn!(error = %failed, "release after the work was done");
                }
                Ok(done)
            }
        }
    }

    /// Extends a lease that another process holds the identity of.
    ///
    /// # Errors
    /// [`Error::Store`] when the store gave no answer, or refused.
    ///
    /// # Cancel safety
    /// The renewal may still take effect.
    pub async fn renew(&self, key: &Key, lease: &LeaseId, ttl: Ttl) -> Result<Renewal, Error> {
        let key = key.with_prefix(&self.inner.prefix);
        let within = request_timeout(ttl);
        let request = RenewRequest { key, lease: lease.clone(), ttl, within };
        self.inner.renew(&request).await
    }

    /// Gives up a lease that another process took.
    ///
    /// # Errors
    /// [`Error::Store`] when the store gave no answer, or refused.
    ///
    /// # Cancel safety
    /// The release may still take effect; repeating it is harmless.
    pub async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership, Error> {
        self.inner.release(&key.with_prefix(&self.inner.prefix), lease).await
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Asks the store for a sign of life.
    ///
    /// # Errors
    /// [`Error::Store`] when there was none.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn ping(&self) -> Result<Health, Error> {
        self.inner.ping().await
    }

    /// Lists locks, where the store can.
    #[must_use]
    pub fn browse(&self) -> Option<Arc<dyn Browse>> {
        Arc::clone(&self.inner.backend).browse()
    }

    /// Takes keys from their holders, where the store can.
    #[must_use]
    pub fn revoker(&self) -> Option<Arc<dyn Revoke>> {
        Arc::clone(&self.inner.backend).revoke()
    }

    /// Finds and removes what was left behind; `None` where everything ends by itself.
    #[must_use]
    pub fn cleanup(&self) -> Option<Arc<dyn Cleanup>> {
        Arc::clone(&self.inner.backend).cleanup()
    }

    /// Where the store is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.inner.backend.endpoint()
    }

    /// The prefix that keys are put under.
    #[must_use]
    pub fn prefix(&self) -> &Prefix {
        &self.inner.prefix
    }

    /// The clocks, randomness and background thread, to share with a ledger.
    #[must_use]
    pub fn platform(&self) -> &Platform {
        &self.inner.platform
    }

    /// Waits until what was dropped is released: before the process ends, so that no key stays
    /// held for its TTL. Leases that are held stay held: release or drop them first. With a store
    /// that gives no answer, this takes up to the rest of the longest lease: put a bound on it.
    ///
    /// # Cancel safety
    /// The background work goes on.
    pub async fn close(&self) {
        self.inner.idle().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_leases_that_came_and_went() {
        // R26
        let locker = Locker::connect("memory:").await.unwrap();
        for n in 0..1_000 {
            let key = Key::new("upwork", &format!("job_{n}")).unwrap();
            let lease = locker.acquire(&key).await.unwrap();
            assert_eq!((locker.inner.inbox.len(), locker.inner.keeper.len()), (1, 1));
            if n % 2 == 0 {
                lease.release().await.unwrap();
            } else {
                drop(lease);
            }
        }
        locker.close().await;
        assert_eq!((locker.inner.inbox.len(), locker.inner.keeper.len()), (0, 0));
        assert_eq!(Arc::strong_count(&locker.inner), 1);
    }
}
