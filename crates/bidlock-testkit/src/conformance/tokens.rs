use bidlock_core::{BackendError, FencingToken, Refusal, limits};

use super::Store;
use super::steps::{BIT, LONG, SHORT, key};

const HOUR_MICROS: i64 = 3_600_000_000;

pub(super) async fn tokens_rise_over_release_and_expiry(store: Store<'_>) {
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let released = store.bidder(&key()).await;
        tokens.push(released.takes().await);
        released.gives_up().await;
        let expired = store.bidder(&key()).await;
        tokens.push(expired.takes_for(SHORT).await);
        store.pass(SHORT + BIT).await;
    }
    rise(&tokens);
}

pub(super) async fn tokens_rise_over_hand_over(store: Store<'_>) {
    let [holder, first, second] = store.bidders(&key()).await;
    let mut tokens = vec![holder.takes().await];
    first.queues_with(SHORT, LONG).await;
    second.queues().await;
    holder.gives_up().await;
    tokens.extend(first.inspects().await.and_then(|lock| lock.token));
    store.pass(SHORT + BIT).await; // The first one's window ends unused.
    tokens.push(second.takes().await);
    rise(&tokens);
    assert_eq!(tokens.len(), 3, "the unused window had a token too");
}

pub(super) async fn tokens_rise_over_a_restart(store: Store<'_>) {
    let before = store.bidder(&key()).await;
    let first = before.takes_for(SHORT).await;
    drop(before);
    store.pass(SHORT + BIT).await;
    store.fixture.restart().await;
    let second = store.bidder(&key()).await.takes().await;
    rise(&[first, second]);
}

pub(super) async fn tokens_rise_over_data_loss(store: Store<'_>) {
    let before = store.bidder(&key()).await;
    let first = before.takes_for(SHORT).await;
    drop(before);
    store.pass(SHORT + BIT).await;
    store.fixture.lose_data().await;
    let second = store.bidder(&key()).await.takes().await; // I1: by the clock alone
    rise(&[first, second]);
}

pub(super) async fn tokens_rise_when_the_wall_clock_steps_back(store: Store<'_>) {
    let [first, second] = store.bidders(&key()).await;
    let before = first.takes().await;
    first.gives_up().await;
    store.fixture.step_wall(-HOUR_MICROS); // I1: by the counter alone
    let after = second.takes().await;
    rise(&[before, after]);
    second.gives_up().await;
    rise(&[after, first.sibling().takes().await]);
}

pub(super) async fn nothing_is_granted_past_the_token_bound(store: Store<'_>) {
    let [bidder, waiter] = store.bidders(&key()).await;
    let too_far = i64::try_from(limits::TOKEN_MAX).expect("2^52 fits");
    if !store.fixture.step_wall(too_far) {
        // The wall clock of a real server is out of reach: see that the bound is far away.
        assert!(bidder.takes().await.get() < limits::TOKEN_MAX / 2);
        return;
    }
    let refused = bidder.asks_within(LONG, LONG, None).await;
    let limit = |error: &BackendError| {
        matches!(error, BackendError::Refused { reason: Refusal::Limit(_), .. })
    };
    assert!(refused.as_ref().is_err_and(limit), "{refused:?}"); // I1
    store.fixture.step_wall(-too_far);
    waiter.takes().await; // Nothing was granted, and the counter was not spoilt.
}

fn rise(tokens: &[FencingToken]) {
    assert!(tokens.is_sorted_by(|one, next| one < next), "tokens must rise: {tokens:?}"); // I1
    assert!(tokens.iter().all(|token| token.get() <= limits::TOKEN_MAX), "{tokens:?}");
}
