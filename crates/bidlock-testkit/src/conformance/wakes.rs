use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bidlock_core::{LeaseId, Listener, News as Told, Revocation, Wake};
use tokio::sync::Notify;

use super::steps::key;
use super::{Bidder, Store};

pub(super) async fn a_waiter_is_woken_on_hand_over(store: Store<'_>) {
    let [holder, bystander] = store.bidders(&key()).await;
    let waiter = holder.sibling();
    let news = News::of(&waiter);
    holder.takes().await;
    waiter.queues().await;
    assert!(
        !news.heard().iter().any(|wake| matches!(wake.news, Told::Granted { .. })),
        "nothing was granted yet"
    );
    holder.gives_up().await;
    if store.fixture.wakes_arrive() {
        news.arrives(&store).await;
    }
    bystander.finds_it_held().await;
    let token = waiter.takes().await; // I13 I14: a look suffices, and what was told is true
    for wake in news.heard() {
        assert_eq!(wake.key, waiter.key);
        if let Told::Granted { token: granted, .. } = wake.news {
            assert_eq!(granted, token, "{wake:?}");
        }
    }
}

pub(super) async fn a_revoked_holder_is_woken(store: Store<'_>) {
    let [holder] = store.bidders(&key()).await;
    let news = News::of(&holder);
    let token = holder.takes().await;
    let marked = holder.revokes(token, false).await;
    assert!(matches!(marked, Revocation::Marked { .. }), "{marked:?}");
    if store.fixture.wakes_arrive() {
        news.arrives(&store).await; // I12: at once, not with its next renewal
    }
    assert!(news.heard().iter().all(|wake| wake.news == Told::Look), "no grant lies in that");
}

pub(super) async fn news_of_a_lease_stays_in_its_process(store: Store<'_>) {
    let [holder, waiter, stranger] = store.bidders(&key()).await;
    let (own, foreign) = (News::of(&waiter), News::of(&stranger));
    holder.takes().await;
    waiter.queues().await;
    holder.gives_up().await;
    store.pass(Duration::from_millis(50)).await;
    waiter.takes().await; // I13
    assert!(foreign.all().iter().all(|wake| wake.lease != waiter.lease), "a lease id is a secret");
    assert!(own.all().iter().all(|wake| wake.lease == waiter.lease));
}

/// What a process hears of its one lease.
#[derive(Debug)]
struct News {
    lease: LeaseId,
    wakes: Mutex<Vec<Wake>>,
    more: Notify,
}

impl News {
    fn of(bidder: &Bidder) -> Arc<Self> {
        let news = Arc::new(Self {
            lease: bidder.lease.clone(),
            wakes: Mutex::default(),
            more: Notify::new(),
        });
        let weak = Arc::downgrade(&news);
        bidder.backend.subscribe(weak);
        news
    }

    fn all(&self) -> Vec<Wake> {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn heard(&self) -> Vec<Wake> {
        self.all().into_iter().filter(|wake| wake.lease == self.lease).collect()
    }

    /// Waits for it, well within the grant window.
    async fn arrives(&self, store: &Store<'_>) {
        const STEP: Duration = Duration::from_millis(10);
        for _ in 0..100 {
            if !self.heard().is_empty() {
                return;
            }
            // The store's clock may be set by hand, but its threads take real time.
            drop(tokio::time::timeout(STEP, self.more.notified()).await);
            store.pass(STEP).await;
        }
        panic!("no news of {} within a second", self.lease);
    }
}

impl Listener for News {
    fn woken(&self, wake: &Wake) -> bool {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(wake.clone());
        self.more.notify_one();
        wake.lease == self.lease
    }
}
