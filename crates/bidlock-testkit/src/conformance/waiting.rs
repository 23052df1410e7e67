use std::time::Duration;

use bidlock_core::{BackendError, Refusal, limits};

use super::Store;
use super::steps::{BIT, LONG, SHORT, key};

pub(super) async fn queue_positions_are_counted(store: Store<'_>) {
    let [holder, first, second, third] = store.bidders(&key()).await;
    holder.takes().await;
    assert_eq!(first.queues().await.ahead, 0);
    assert_eq!(second.queues().await.ahead, 1);
    assert_eq!(third.queues().await.ahead, 2);
    first.gives_up().await;
    assert_eq!(second.queues().await.ahead, 0);
    assert_eq!(third.queues().await.ahead, 1);
}

pub(super) async fn a_look_keeps_the_place(store: Store<'_>) {
    let [holder, first, second, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    first.queues().await;
    second.queues().await;
    for _ in 0..3 {
        assert_eq!(first.queues().await.ahead, 0); // I8
        assert_eq!(second.queues().await.ahead, 1);
    }
    assert_eq!(holder.inspects().await.map(|lock| lock.waiters), Some(2), "one place each");
    holder.gives_up().await;
    first.takes_and_gives_up().await;
    second.takes_and_gives_up().await;
    newcomer.takes().await; // Nobody has a second place.
}

pub(super) async fn a_waiter_past_its_deadline_is_skipped(store: Store<'_>) {
    let [holder, tired, next, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    tired.queues_with(LONG, SHORT).await;
    next.queues().await;
    store.pass(SHORT + BIT).await;
    assert_eq!(next.queues().await.ahead, 0);
    holder.gives_up().await;
    next.takes().await; // I6: at once, not after a window for nobody
    tired.finds_it_held().await;
    next.gives_up().await;
    newcomer.takes().await; // I10
}

pub(super) async fn a_waiter_that_looks_no_more_is_skipped(store: Store<'_>) {
    let hour = Duration::from_hours(1);
    let [holder, silent, alive, newcomer] = store.bidders(&key()).await;
    holder.takes_for(hour).await;
    silent.queues_with(LONG, hour).await;
    alive.queues_with(LONG, hour).await;
    for _ in 0..3 {
        store.pass(limits::WAITER_LEASE / 3 + BIT).await;
        alive.queues_with(LONG, hour).await; // Its look keeps its place.
    }
    holder.gives_up().await;
    alive.takes().await; // I6 I10
    alive.gives_up().await;
    newcomer.takes().await;
}

pub(super) async fn dead_waiters_are_passed_over(store: Store<'_>) {
    let [holder, alive] = store.bidders(&key()).await;
    holder.takes().await;
    let dead = store.bidders::<5>(&key()).await;
    for waiter in &dead {
        waiter.queues().await;
    }
    alive.queues().await;
    // One window for the store to notice; where nobody can die alone, one for each.
    let mut windows = 1;
    for waiter in &dead {
        if !store.kills(waiter).await {
            windows = dead.len();
        }
    }
    holder.gives_up().await;
    for _ in 0..windows {
        if alive.is_granted().await {
            break;
        }
        store.pass(limits::GRANT_WINDOW + BIT).await;
    }
    alive.takes().await; // I6
}

pub(super) async fn a_cancelled_waiter_leaves_nothing(store: Store<'_>) {
    let [holder, cancelled, next, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    cancelled.queues().await;
    next.queues().await;
    cancelled.gives_up().await;
    cancelled.has_nothing().await; // I11
    assert_eq!(holder.inspects().await.map(|lock| lock.waiters), Some(1));
    holder.keeps_it().await; // What was given up was the place, not the key.
    holder.gives_up().await;
    next.takes_and_gives_up().await;
    newcomer.takes().await;
}

pub(super) async fn release_of_a_crossed_grant_hands_it_over(store: Store<'_>) {
    let [holder, crossed, next, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    crossed.queues().await;
    next.queues().await;
    holder.gives_up().await; // The key is `crossed`'s now, who does not know it,
    crossed.gives_up().await; // and stops waiting.
    crossed.has_nothing().await; // I11
    newcomer.finds_it_held().await;
    next.takes_and_gives_up().await; // No window has to pass.
    newcomer.takes().await;
}

pub(super) async fn no_wait_enters_no_queue(store: Store<'_>) {
    let [holder, passer_by, newcomer] = store.bidders(&key()).await;
    holder.takes().await;
    passer_by.finds_it_held().await;
    passer_by.has_nothing().await;
    assert_eq!(holder.inspects().await.map(|lock| lock.waiters), Some(0));
    holder.gives_up().await;
    newcomer.takes().await; // I6: nobody stands before it
}

pub(super) async fn the_queue_is_bounded(store: Store<'_>) {
    let [holder, process] = store.bidders(&key()).await;
    holder.takes().await;
    let first = process.sibling();
    first.queues().await;
    for _ in 1..limits::WAITERS_MAX {
        process.sibling().queues().await;
    }
    let refused = process.asks_within(LONG, LONG, Some(LONG)).await;
    let limit = |error: &BackendError| {
        matches!(error, BackendError::Refused { reason: Refusal::Limit(_), .. })
    };
    assert!(refused.as_ref().is_err_and(limit), "{refused:?}"); // I10
    process.has_nothing().await;
    process.finds_it_held().await; // Asking without waiting still works.
    first.queues().await; // Who is in stays in.
    first.gives_up().await;
    process.queues().await; // A place was freed.
}
