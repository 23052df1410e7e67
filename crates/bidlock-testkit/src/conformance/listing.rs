use bidlock_core::{Key, Label, LockInfo, LockQuery, Prefix, limits};

use super::steps::{BIT, LONG, SHORT, answered, key};
use super::{Bidder, Store};

pub(super) async fn listing_shows_live_locks_only(store: Store<'_>) {
    let held = store.bidder(&posting("held")).await;
    let released = store.bidder(&posting("released")).await;
    let expired = store.bidder(&posting("expired")).await;
    held.takes().await;
    released.takes_and_gives_up().await;
    expired.takes_for(SHORT).await;
    assert_eq!(keys(&list(&held, None, 10).await), [&expired.key, &held.key]);
    store.pass(SHORT + BIT).await;
    assert_eq!(keys(&list(&held, None, 10).await), [&held.key]); // I10
    assert_eq!(expired.inspects().await, None);
    assert_eq!(released.inspects().await, None);
}

pub(super) async fn listing_goes_by_prefix_and_page(store: Store<'_>) {
    let mut holders = Vec::new();
    for name in ["c", "a", "e", "b", "d"] {
        let holder = store.bidder(&posting(name)).await;
        holder.takes().await;
        holders.push(holder);
    }
    // One prefix begins like the other, and is another all the same.
    let other = Prefix::new("bid_lock2").expect("a valid prefix");
    let elsewhere = store.bidder(&posting("b").with_prefix(&other)).await;
    elsewhere.takes().await;

    let names = ["a", "b", "c", "d", "e"].map(posting);
    let whole = list(&elsewhere, None, limits::PAGE_MAX).await;
    assert_eq!(keys(&whole), names.iter().collect::<Vec<_>>());
    let first = list(&elsewhere, None, 2).await;
    assert_eq!(keys(&first), [&names[0], &names[1]]);
    let second = list(&elsewhere, Some(&names[1]), 2).await;
    assert_eq!(keys(&second), [&names[2], &names[3]]);
    let last = list(&elsewhere, Some(&names[3]), 2).await;
    assert_eq!(keys(&last), [&names[4]]);
    assert!(list(&elsewhere, Some(&names[4]), 2).await.is_empty());
}

pub(super) async fn listing_tells_token_holder_and_waiters(store: Store<'_>) {
    let [mut holder, first, second] = store.bidders(&key()).await;
    holder.label = Some(Label::new("for Ada").expect("a valid label"));
    let token = holder.takes().await;
    first.queues().await;
    second.queues().await;
    store.pass(SHORT).await;
    let lock = second.inspects().await.expect("it is held");
    assert_eq!(lock.holder, holder.lease.holder(holder.label.clone()));
    assert_eq!((lock.token, lock.waiters, lock.revoked), (Some(token), 2, false));
    assert!(lock.remaining + SHORT / 2 <= LONG, "{lock:?}");
    assert!(lock.age.is_none_or(|age| age >= SHORT / 2 && age < LONG), "{lock:?}");
    let listed = list(&first, None, 10).await;
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].holder, listed[0].token), (&lock.holder, lock.token));
    holder.gives_up().await;
    let passed_on = second.inspects().await.expect("it was handed over");
    assert_eq!(passed_on.holder, first.lease.holder(None));
    assert!(passed_on.token > Some(token) && passed_on.waiters == 1, "{passed_on:?}");
}

fn posting(name: &str) -> Key {
    Key::new("upwork", name).expect("a valid key")
}

fn keys(locks: &[LockInfo]) -> Vec<&Key> {
    locks.iter().map(|lock| &lock.key).collect()
}

async fn list(reader: &Bidder, after: Option<&Key>, limit: u32) -> Vec<LockInfo> {
    let query = LockQuery { prefix: Prefix::default(), after: after.cloned(), limit };
    let browse = reader.browse();
    answered(async || browse.list(&query).await).await.0.expect("the store answers")
}
