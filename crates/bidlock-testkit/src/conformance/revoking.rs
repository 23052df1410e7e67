use bidlock_core::{FencingToken, Renewal, Revocation};

use super::Store;
use super::steps::{BIT, LONG, SHORT, key};

pub(super) async fn revoke_names_the_token(store: Store<'_>) {
    let [holder, operator] = store.bidders(&key()).await;
    let none = Revocation::NotHeld { current: None };
    assert_eq!(operator.revokes(FencingToken::new(1), true).await, none);
    let old = holder.takes().await;
    holder.gives_up().await;
    let current = holder.sibling();
    let token = current.takes().await;
    for now in [false, true] {
        let answer = operator.revokes(old, now).await; // I12
        assert_eq!(answer, Revocation::NotHeld { current: Some(token) });
    }
    current.keeps_it().await;
    assert_eq!(operator.inspects().await.map(|lock| lock.revoked), Some(false));
}

pub(super) async fn a_revoked_holder_is_told_and_frees_by_release(store: Store<'_>) {
    let [holder, operator, other] = store.bidders(&key()).await;
    let token = holder.takes().await;
    for _ in 0..2 {
        match operator.revokes(token, false).await {
            Revocation::Marked { remaining } => assert!(remaining <= LONG, "{remaining:?}"),
            answer => panic!("the holder was promised its lease: {answer:?}"),
        }
    }
    assert_eq!(holder.renews_for(LONG).await, Renewal::Revoked); // I12
    assert_eq!(operator.inspects().await.map(|lock| lock.revoked), Some(true));
    other.finds_it_held().await; // Its holder may still be at work.
    holder.gives_up().await;
    assert!(other.takes().await > token);
    assert_eq!(operator.inspects().await.map(|lock| lock.revoked), Some(false));
}

pub(super) async fn a_revoked_lease_ends_when_promised(store: Store<'_>) {
    let [holder, operator, other] = store.bidders(&key()).await;
    let token = holder.takes_for(SHORT).await;
    operator.revokes(token, false).await;
    assert_eq!(holder.renews_for(LONG).await, Renewal::Revoked);
    holder.asks(LONG, None).await; // Whatever it is told, it gets no more time.
    store.pass(SHORT + BIT).await;
    other.takes().await; // I12
}

pub(super) async fn revoke_now_frees_at_once(store: Store<'_>) {
    let [holder, operator, other] = store.bidders(&key()).await;
    let token = holder.takes().await;
    operator.frees(token).await; // I12
    assert_eq!(holder.renews_for(LONG).await, Renewal::Revoked, "it is told what happened");
    assert!(other.takes().await > token);
    assert_eq!(holder.renews_for(LONG).await, Renewal::Revoked, "also when another has the key");
    holder.has_nothing().await;
    other.keeps_it().await;
}

pub(super) async fn revoke_now_hands_over(store: Store<'_>) {
    let [holder, operator, waiter, newcomer] = store.bidders(&key()).await;
    let token = holder.takes().await;
    waiter.queues().await;
    operator.frees(token).await;
    let held = newcomer.finds_it_held().await; // I6
    assert_eq!(held.holder, waiter.lease.holder(None));
    assert!(waiter.takes().await > token);
}
