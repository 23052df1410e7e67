//! Requests that are carried out, and whose answers never arrive.

use bidlock::{Error, Wait};
use bidlock_core::{Attempt, BackendError};

use crate::scene::{
    SOON, Scene, Tokens, key, millis, now, on_every_kind, passes, queue, ttl, within,
};

/// A lost answer is noticed at once, because its connection ends with it.
const AT_ONCE: u64 = 700;

#[test]
fn a_repeated_acquire_is_the_same_grant_with_the_same_token_at_once() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let locker = scene.locker().await;
        locker.acquire(&key("warm")).await.expect("it is free").release().await.expect("held");
        let key = key("job");
        let fired = scene.lose_next_answer(&key);
        let begun = now();
        let lease = locker.acquire(&key).ttl(ttl(60_000)).await.expect("it is free");
        assert!(now() - begun < millis(AT_ONCE), "it takes {:?}", now() - begun);
        fired.wait();
        let token = lease.token().get();
        assert_eq!(scene.token(&key), Some(token));
        assert_eq!(scene.counter(), token, "one grant");
        lease.release().await.expect("it is held");
        locker.close().await;
        scene.await_nothing_left();

        let client = scene.client().await;
        let lease = client.lease();
        scene.lose_next_answer(&key);
        let lost = client.acquire(&key, &lease, [60_000, 0, 1_000]).await;
        assert!(matches!(lost, Err(BackendError::Unknown { .. })), "{lost:?}");
        let token = scene.counter();
        let again = client.acquire(&key, &lease, [60_000, 0, 1_000]).await;
        let Ok(Attempt::Granted { token: same }) = again else { panic!("{again:?}") };
        assert_eq!((same.get(), scene.counter()), (token, token));
        client.release(&key, &lease).await;
    });
}

#[test]
fn a_place_whose_answer_was_lost_is_one_place_and_keeps_its_turn() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, first, second) =
            (scene.direct().await, scene.locker().await, scene.direct().await);
        let (key, mut tokens) = (key("job"), Tokens::default());
        let lease = holder.acquire(&key).ttl(ttl(30_000)).await.expect("it is free");
        tokens.rise(&lease);
        let fired = scene.lose_next_answer(&key);
        let wait = || Wait::For(SOON);
        let waits_first = tokio::spawn(first.acquire(&key).wait(wait()).into_future());
        fired.wait();
        scene.await_queue(&key, 1);
        let waits_second = tokio::spawn(second.acquire(&key).wait(wait()).into_future());
        scene.await_queue(&key, 2);
        scene.await_listeners(3);
        lease.release().await.expect("it is held");
        let lease = within("the first", millis(AT_ONCE), waits_first).await.expect("no panic");
        let lease = lease.expect("its turn");
        tokens.rise(&lease);
        assert!(!waits_second.is_finished() && scene.queue(&key) == 1);
        lease.release().await.expect("it is held");
        let lease = within("the second", millis(AT_ONCE), waits_second).await.expect("no panic");
        let lease = lease.expect("its turn");
        tokens.rise(&lease);
        lease.release().await.expect("it is held");
        assert_eq!(scene.number(&["EXISTS", &queue(&key)]), 0);
    });
}

#[test]
fn a_release_whose_answer_was_lost_has_freed_or_handed_over() {
    on_every_kind(async |kind| {
        for waits in [false, true] {
            let scene = Scene::new(kind);
            let (locker, other, key) = (scene.locker().await, scene.direct().await, key("job"));
            let lease = locker.acquire(&key).await.expect("it is free");
            lease.release().await.expect("the script is known from now on");
            let lease = locker.acquire(&key).ttl(ttl(30_000)).await.expect("it is free");
            let token = lease.token();
            let waiter = other.acquire(&key).wait(Wait::For(SOON)).into_future();
            let waiter = waits.then(|| tokio::spawn(waiter));
            scene.await_queue(&key, i64::from(waits));
            let fired = scene.lose_next_answer(&key);
            let released = within("release", millis(AT_ONCE), lease.release()).await;
            fired.wait();
            assert!(released.as_ref().err().is_none_or(passes), "{released:?}");
            if let Some(waiter) = waiter {
                let next = within("hand-over", millis(AT_ONCE), waiter).await.expect("no panic");
                let next = next.expect("its turn");
                assert!(next.token() > token);
                // The repeated release takes nothing from whom it went to.
                within("the repeated release", SOON, locker.close()).await;
                next.renew().await.expect("it is held");
                next.release().await.expect("it is held");
            } else {
                assert!(!scene.exists(&key));
            }
            within("the repeated release", SOON, locker.close()).await;
            scene.await_nothing_left();
        }
    });
}

#[test]
fn a_renewal_whose_answer_was_lost_has_extended_and_costs_no_lease() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (locker, key) = (scene.locker().await, key("job"));
        let lease = locker.acquire(&key).ttl(ttl(3_000)).await.expect("it is free");
        lease.renew().await.expect("it is held");
        let fired = scene.lose_next_answer(&key);
        let renewed = within("renew", millis(AT_ONCE), lease.renew()).await;
        fired.wait();
        assert!(matches!(&renewed, Err(Error::Store(failed)) if failed.may_have_applied()));
        assert!(scene.pttl(&key) > 2_000, "it took effect");
        lease.check().expect("it is held");
        lease.renew().await.expect("it is held");
        // The background meets the same.
        let fired = scene.lose_next_answer(&key);
        fired.wait();
        let lost = tokio::time::timeout(millis(3_500), lease.lost()).await;
        assert!(lost.is_err(), "{lost:?}");
        lease.release().await.expect("it is held");
    });
}

#[test]
fn a_confirmation_whose_answer_was_lost_is_repeated() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
        let lease = holder.acquire(&key).ttl(ttl(30_000)).await.expect("it is free");
        let waiter = locker.acquire(&key).wait(Wait::For(SOON)).ttl(ttl(1_500)).into_future();
        let waiter = tokio::spawn(waiter);
        scene.await_queue(&key, 1);
        let fired = scene.lose_next_answer(&key);
        lease.release().await.expect("it is held");
        let next = within("hand-over", millis(AT_ONCE), waiter).await.expect("no panic");
        let next = next.expect("its turn");
        fired.wait();
        let lost = tokio::time::timeout(millis(2_500), next.lost()).await;
        assert!(lost.is_err(), "{lost:?}");
        assert_eq!(scene.token(&key), Some(next.token().get()));
        next.release().await.expect("it is held");
    });
}
