use std::collections::BTreeSet;
use std::time::Duration;

use bidlock_core::{Attempt, BackendError, Key, Label, Prefix};

use super::Store;
use super::steps::{BIT, LONG, SHORT, all, key};

pub(super) async fn a_free_key_is_granted_once(store: Store<'_>) {
    let [first, second, third] = store.bidders(&key()).await;
    let granted = first.asks(LONG, None).await;
    assert!(matches!(granted, Attempt::Granted { .. }), "{granted:?}");
    let held = second.finds_it_held().await; // I2
    assert_eq!(held.holder, first.lease.holder(None));
    assert!(held.remaining > LONG / 2 && held.remaining <= LONG, "{held:?}");
    third.finds_it_held().await;
    first.keeps_it().await;
}

pub(super) async fn concurrent_acquires_grant_one(store: Store<'_>) {
    let bidders = store.bidders::<8>(&key()).await;
    let mut tokens = BTreeSet::new();
    for round in 0..10 {
        let answers = all(bidders.iter().map(|bidder| bidder.asks(LONG, None))).await;
        let won = |attempt: &Attempt| matches!(attempt, Attempt::Granted { .. });
        assert_eq!(answers.iter().filter(|answer| won(answer)).count(), 1, "{answers:?}"); // I2
        let winner = answers.iter().position(won).expect("one has won");
        tokens.insert(bidders[winner].takes().await);
        assert_eq!(tokens.len(), round + 1, "no token was given twice"); // I1
        bidders[winner].gives_up().await;
    }
}

pub(super) async fn a_repeat_is_recognised(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    let token = holder.takes().await;
    assert_eq!(holder.takes().await, token, "the same grant, the same token"); // I8
    assert_eq!(holder.takes().await, token);
    other.finds_it_held().await;
    holder.gives_up().await;
    other.takes().await; // Repeats are not counted: one release is enough.
}

pub(super) async fn a_repeat_extends_and_never_shortens(store: Store<'_>) {
    let [holder, other] = store.bidders(&key()).await;
    holder.takes_for(SHORT).await;
    holder.takes_for(SHORT * 4).await; // I8: as long as it asks now
    store.pass(SHORT * 2).await;
    other.finds_it_held().await;
    holder.takes_for(LONG).await;
    holder.takes_for(SHORT).await; // I8: never shorter than before
    store.pass(SHORT + BIT).await;
    other.finds_it_held().await;
    holder.keeps_it().await;
}

pub(super) async fn keys_do_not_disturb_each_other(store: Store<'_>) {
    let valid = "a valid key";
    let prefix = Prefix::new("other_lock").expect("a valid prefix");
    let keys = [
        key(),
        Key::new("upwork", "job_12").expect(valid),
        Key::new("fiverr", "job_1").expect(valid),
        Key::new("upwork", "a:job_1").expect(valid),
        Key::named("job_1").expect(valid),
        key().with_prefix(&prefix),
    ];
    let mut holders = Vec::new();
    for key in &keys {
        let holder = store.bidder(key).await;
        holder.takes().await;
        holders.push(holder);
    }
    let waiter = store.bidder(&keys[0]).await;
    waiter.queues().await;
    holders[0].gives_up().await;
    for holder in &holders[1..] {
        holder.keeps_it().await;
        assert_eq!(holder.inspects().await.map(|lock| lock.waiters), Some(0));
    }
    waiter.takes().await;
}

pub(super) async fn held_names_the_holder_but_not_its_secret(store: Store<'_>) {
    let [mut holder, other] = store.bidders(&key()).await;
    holder.label = Some(Label::new("night shift").expect("a valid label"));
    holder.takes().await;
    let held = other.finds_it_held().await;
    assert_eq!(held.holder, holder.lease.holder(holder.label.clone()));
    let listed = other.inspects().await.expect("it is held");
    assert_eq!(listed.holder, held.holder);
    let secret = format!("{:016x}", holder.lease.unique());
    for shown in [format!("{held:?}"), format!("{listed:?}"), held.holder.to_string()] {
        assert!(!shown.contains(&secret), "whoever reads {shown} could release it");
    }
}

pub(super) async fn a_request_that_comes_too_late_changes_nothing(store: Store<'_>) {
    let at_once = Duration::ZERO;
    let [late, other, newcomer] = store.bidders(&key()).await;
    let is_late = |answer: &BackendError| matches!(answer, BackendError::TooLate { .. });

    store.fixture.slow(true);
    let grant = late.asks_within(at_once, LONG, None).await;
    store.fixture.slow(false);
    assert!(grant.as_ref().is_err_and(is_late), "{grant:?}"); // I9
    other.takes().await;

    store.fixture.slow(true);
    let place = late.asks_within(at_once, LONG, Some(LONG)).await;
    store.fixture.slow(false);
    assert!(place.as_ref().is_err_and(is_late), "{place:?}");
    other.gives_up().await;
    newcomer.takes_for(SHORT).await; // No place was taken.

    store.fixture.slow(true);
    let renewal = newcomer.renews_within(at_once, LONG).await;
    store.fixture.slow(false);
    assert!(renewal.as_ref().is_err_and(is_late), "{renewal:?}");
    store.pass(SHORT + BIT).await;
    other.takes().await; // Nothing was extended.
}
