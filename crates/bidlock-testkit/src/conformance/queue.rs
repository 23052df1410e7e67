use bidlock_core::{Renewal, limits};

use super::Store;
use super::steps::{BIT, LONG, SHORT, key};

pub(super) async fn hand_over_goes_to_the_longest_waiting(store: Store<'_>) {
    let [holder, first, second, third] = store.bidders(&key()).await;
    holder.takes().await;
    for waiter in [&first, &second, &third] {
        waiter.queues().await;
    }
    holder.gives_up().await;
    third.queues().await; // I6: whoever looks first does not matter
    second.queues().await;
    first.takes().await;
    first.gives_up().await;
    third.queues().await;
    second.takes().await;
    second.gives_up().await;
    third.takes().await;
}

pub(super) async fn a_newcomer_never_overtakes(store: Store<'_>) {
    let [holder, waiter, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    waiter.queues().await;
    holder.gives_up().await;
    let held = newcomer.finds_it_held().await; // I6
    assert_eq!(held.holder, waiter.lease.holder(None), "the key is the waiter's already");
    holder.sibling().finds_it_held().await; // Not even the process that just had it.
    waiter.takes().await;
}

pub(super) async fn expiry_passes_on_without_release(store: Store<'_>) {
    let [holder, waiter, next] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    waiter.queues().await;
    next.queues().await;
    store.pass(SHORT + BIT).await;
    next.queues().await; // I6 I13: no message, only looks
    waiter.takes().await;
    assert_eq!(holder.renews_for(LONG).await, Renewal::Taken);
    holder.has_nothing().await;
}

pub(super) async fn a_newcomer_never_overtakes_after_expiry(store: Store<'_>) {
    let [holder, waiter, newcomer] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    waiter.queues().await;
    store.pass(SHORT + BIT).await;
    newcomer.finds_it_held().await; // I6: although nobody has it at this instant
    waiter.takes().await;
}

pub(super) async fn a_look_confirms_the_window(store: Store<'_>) {
    let [holder, waiter, other] = store.bidders(&key()).await;
    holder.takes().await;
    waiter.queues().await;
    holder.gives_up().await;
    let pushed = other.inspects().await.expect("it is the waiter's");
    let token = waiter.takes().await;
    assert_eq!(pushed.token, Some(token), "one grant, one token"); // I8
    store.pass(limits::GRANT_WINDOW + BIT).await;
    other.finds_it_held().await; // For the full TTL, not for the window.
    waiter.keeps_it().await;
}

pub(super) async fn a_window_stays_open_as_long_as_promised(store: Store<'_>) {
    let [holder, waiter, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    waiter.queues().await;
    holder.gives_up().await;
    let held = newcomer.finds_it_held().await;
    assert!(held.remaining <= limits::GRANT_WINDOW, "only the window so far: {held:?}");
    store.pass(limits::GRANT_WINDOW / 2).await;
    newcomer.finds_it_held().await; // I6
    waiter.takes().await;
}

pub(super) async fn an_unconfirmed_window_passes_on(store: Store<'_>) {
    let [holder, silent, next, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    silent.queues_with(SHORT, LONG).await; // Its window is as short as its TTL.
    next.queues().await;
    holder.gives_up().await;
    next.queues().await;
    store.pass(SHORT + BIT).await;
    newcomer.finds_it_held().await; // I6
    next.takes().await; // I7
    next.gives_up().await;
    newcomer.takes().await; // The silent one stands in no queue any more.
}

pub(super) async fn a_waiter_that_let_its_window_pass_queues_anew(store: Store<'_>) {
    let [holder, silent, next, last] = store.bidders(&key()).await;
    holder.takes().await;
    silent.queues_with(SHORT, LONG).await;
    next.queues().await;
    last.queues().await;
    holder.gives_up().await;
    store.pass(SHORT + BIT).await;
    next.takes().await;
    assert_eq!(silent.renews_for(LONG).await, Renewal::Taken);
    silent.queues().await; // I7: at the end now
    next.gives_up().await;
    silent.queues().await;
    last.takes().await;
    last.gives_up().await;
    silent.takes().await;
}
