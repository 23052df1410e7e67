//! Where news of leases arrives, whoever sent it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bidlock_core::{LeaseId, Listener, News, Wake};
use tokio::sync::Notify;

use crate::held::Held;

/// The leases of one locker that wait or are held.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    slots: Mutex<HashMap<u64, Slot>>,
}

#[derive(Debug)]
enum Slot {
    Waiting(Arc<Seat>),
    Held(Weak<Held>),
}

/// Where one waiter hears news.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    news: Mutex<Option<News>>,
    bell: Notify,
}

impl Seat {
    /// Resolves when there is news.
    ///
    /// # Cancel safety
    /// News that came stays until the next call.
    pub(crate) async fn news(&self) -> News {
        self.bell.notified().await;
        lock(&self.news).take().unwrap_or(News::Look)
    }

    fn tell(&self, news: News) {
        {
            let mut known = lock(&self.news);
            // That the key ends sooner says nothing to whom it was given, or who looks anyway. A
            // hint to look takes back an earlier grant: look first.
            if known.is_some() && matches!(news, News::EndsAt(_)) {
                return;
            }
            *known = Some(news);
        }
        self.bell.notify_one();
    }
}

impl Inbox {
    /// Takes news for a waiter, from before its first request on, so that none is missed (I13).
    pub(crate) fn wait(&self, lease: &LeaseId) -> Arc<Seat> {
        let seat = Arc::new(Seat::default());
        lock(&self.slots).insert(lease.unique(), Slot::Waiting(Arc::clone(&seat)));
        seat
    }

    /// Takes news for a holder.
    pub(crate) fn hold(&self, lease: &LeaseId, held: Weak<Held>) {
        lock(&self.slots).insert(lease.unique(), Slot::Held(held));
    }

    /// Takes no more news for a lease.
    pub(crate) fn leave(&self, lease: &LeaseId) {
        lock(&self.slots).remove(&lease.unique());
    }

    /// How many leases news is taken for.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.slots).len()
    }
}

impl Listener for Inbox {
    fn woken(&self, wake: &Wake) -> bool {
        let held = {
            let slots = lock(&self.slots);
            match slots.get(&wake.lease.unique()) {
                None => return false,
                Some(Slot::Waiting(seat)) => {
                    seat.tell(wake.news);
                    return true;
                }
                Some(Slot::Held(held)) => Weak::clone(held),
            }
        };
        // Outside the lock: the holder may look at the inbox again.
        if let Some(held) = held.upgrade() {
            held.look();
        }
        true
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
