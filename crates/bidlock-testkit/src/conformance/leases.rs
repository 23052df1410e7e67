use bidlock_core::Renewal;

use super::Store;
use super::steps::{BIT, LONG, SHORT, key};

pub(super) async fn a_lease_ends_by_itself(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    store.pass(SHORT / 2).await;
    let held = other.finds_it_held().await;
    assert!(held.remaining <= SHORT / 2, "{held:?}");
    store.pass(SHORT / 2 + BIT).await;
    other.takes().await; // I10: nobody had to clean up
}

pub(super) async fn a_renewal_extends(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    for _ in 0..3 {
        store.pass(SHORT * 6 / 10).await;
        assert_eq!(holder.renews_for(SHORT).await, Renewal::Renewed); // I5
    }
    store.pass(SHORT * 6 / 10).await;
    other.finds_it_held().await;
    store.pass(SHORT).await;
    other.takes().await; // By its TTL from the last renewal, and no longer.
}

pub(super) async fn renew_never_revives(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    store.pass(SHORT + BIT).await;
    assert_eq!(holder.renews_for(LONG).await, Renewal::Expired); // I5
    other.takes().await;
    assert_eq!(holder.renews_for(LONG).await, Renewal::Taken); // I4
    other.keeps_it().await;
}

pub(super) async fn renew_never_recreates(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    holder.takes().await;
    holder.gives_up().await;
    assert_eq!(holder.renews_for(LONG).await, Renewal::Expired); // I4 I5
    assert_eq!(other.inspects().await, None);
    other.takes().await;
}

pub(super) async fn renew_never_shortens(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    holder.takes_for(LONG).await;
    assert_eq!(holder.renews_for(SHORT).await, Renewal::Renewed);
    store.pass(SHORT + BIT).await;
    other.finds_it_held().await; // I5
    holder.keeps_it().await;
}

pub(super) async fn renew_by_another_changes_nothing(store: Store<'_>) {
    let [holder, waiter, stranger] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    waiter.queues().await;
    assert_eq!(waiter.renews_for(LONG).await, Renewal::Taken); // I2: waiting is not having
    assert_eq!(stranger.renews_for(LONG).await, Renewal::Taken);
    assert_eq!(holder.sibling().renews_for(LONG).await, Renewal::Taken, "same process");
    store.pass(SHORT + BIT).await;
    waiter.takes().await; // I5: the holder's lease was not extended by them
}

pub(super) async fn release_frees_the_key(store: Store<'_>) {
    let [first, second] = store.bidders(&key()).await;
    for _ in 0..3 {
        first.sibling().takes_and_gives_up().await;
        second.sibling().takes_and_gives_up().await;
    }
    assert_eq!(first.inspects().await, None);
}

pub(super) async fn release_by_another_changes_nothing(store: Store<'_>) {
    let [holder, stranger, waiter] = store.bidders(&key()).await;
    holder.takes().await;
    waiter.queues().await;
    stranger.has_nothing().await; // I2
    holder.sibling().has_nothing().await; // The same process is not the same lease.
    stranger.finds_it_held().await;
    assert_eq!(waiter.queues().await.holder, holder.lease.holder(None));
    holder.keeps_it().await;
}

pub(super) async fn a_lease_that_ended_releases_nothing(store: Store<'_>) {
    let [late, next, third] = store.bidders(&key()).await;
    late.takes_for(SHORT).await;
    store.pass(SHORT + BIT).await;
    next.takes().await;
    late.has_nothing().await; // I2 I4: the key is another's now
    third.finds_it_held().await;
    next.keeps_it().await;
    next.gives_up().await;
    next.has_nothing().await;
    third.takes_for(LONG).await;
}
