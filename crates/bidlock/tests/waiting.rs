//! How a key is waited for, on a clock that the test sets.

mod common;

use std::future::{Future, IntoFuture};
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bidlock::{Clock as _, Error, Lease, Locker, Wait};
use common::{World, key, settle, ttl};
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);

fn waiter(locker: &Locker, wait: Wait) -> JoinHandle<Result<Lease, Error>> {
    let acquire = locker.acquire(&key("a")).ttl(ttl(60_000)).wait(wait);
    tokio::spawn(async move { acquire.await })
}

#[tokio::test]
async fn without_a_wait_the_store_is_asked_once_and_the_holder_is_named() {
    // R17
    let world = World::new();
    let held = world.locker().acquire(&key("a")).await.unwrap();
    let before = world.store.acquires.load(SeqCst);
    let refused = world.locker().acquire(&key("a")).wait(Wait::No).await.unwrap_err();
    let Error::Held { holder, remaining, .. } = refused else { panic!("{refused}") };
    assert_eq!(*holder, held.id().holder(None));
    assert!(remaining > Duration::from_secs(299));
    assert_eq!(world.store.acquires.load(SeqCst), before + 1);
    assert_eq!(world.seen.count("Busy"), 1);
}

#[tokio::test]
async fn a_wait_ends_on_time_and_leaves_no_place_in_the_queue() {
    let world = World::new();
    let locker = world.locker();
    let held = locker.acquire(&key("a")).await.unwrap();
    let start = world.machine.clock.now();
    let waiting = waiter(&locker, Wait::For(2 * SECOND));
    settle().await;
    world.pass(Duration::from_millis(1_990)).await;
    assert!(!waiting.is_finished());
    world.pass(Duration::from_millis(10)).await;
    let Error::TimedOut { waited, .. } = waiting.await.unwrap().unwrap_err() else { panic!() };
    assert_eq!(waited, world.machine.clock.now().since(start));
    settle().await;
    let info = locker.browse().unwrap().inspect(held.key()).await.unwrap().unwrap();
    assert_eq!(info.waiters, 0);
}

#[tokio::test]
async fn a_waiter_is_served_by_the_message_itself_and_confirms_beside_its_work() {
    // I6, I13
    let world = World::new();
    let (a, b) = (world.locker(), world.locker());
    let held = a.acquire(&key("a")).await.unwrap();
    let waiting = waiter(&b, Wait::Forever);
    settle().await;
    let token = held.token();
    let (acquires, renewals) =
        (world.store.acquires.load(SeqCst), world.store.renewals.load(SeqCst));
    held.release().await.unwrap();
    let next = waiting.await.unwrap().unwrap();
    assert!(next.token() > token);
    assert_eq!(world.store.acquires.load(SeqCst), acquires, "no look was needed");
    assert!(next.confirm().await.unwrap() > 50 * SECOND, "the full TTL, not the window");
    settle().await;
    assert!(world.store.renewals.load(SeqCst) > renewals);
    world.pass(10 * SECOND).await;
    next.check().unwrap();
}

#[tokio::test]
async fn lost_messages_cost_time_and_nothing_else() {
    // I13
    let world = World::new();
    let (a, b) = (world.locker(), world.locker());
    world.store.deaf.store(true, SeqCst);
    let held = a.acquire(&key("a")).ttl(ttl(5_000)).await.unwrap();
    let waiting = waiter(&b, Wait::Forever);
    settle().await;
    held.release().await.unwrap();
    world.pass(6 * SECOND).await;
    assert!(waiting.is_finished(), "the waiter's own timer: the lease it was told, and a bit");
    waiting.await.unwrap().unwrap().check().unwrap();
}

#[tokio::test]
async fn the_key_of_a_dead_holder_goes_on_when_its_lease_ends() {
    // P4
    let world = World::new();
    let dead = world.locker().acquire(&key("a")).ttl(ttl(5_000)).await.unwrap().detach();
    let waiting = waiter(&world.locker(), Wait::Forever);
    world.pass(Duration::from_millis(4_900)).await;
    assert!(!waiting.is_finished(), "{dead} may still believe in it");
    world.pass(SECOND).await;
    waiting.await.unwrap().unwrap().check().unwrap();
}

#[tokio::test]
async fn waiters_are_served_in_the_order_of_their_arrival() {
    // P4
    let world = World::new();
    let locker = world.locker();
    let held = locker.acquire(&key("a")).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(waiter(&world.locker(), Wait::Forever));
        settle().await;
    }
    let mut token = held.token();
    held.release().await.unwrap();
    for next in waiting {
        let lease = next.await.unwrap().unwrap();
        assert!(lease.token() > token);
        token = lease.token();
        lease.release().await.unwrap();
    }
}

#[tokio::test]
async fn an_idle_waiter_hardly_asks() {
    // R3: one look in 30 s.
    let world = World::new();
    let _held = world.locker().acquire(&key("a")).await.unwrap();
    let waiting = waiter(&world.locker(), Wait::Forever);
    settle().await;
    let before = world.store.acquires.load(SeqCst);
    world.pass(Duration::from_mins(2)).await;
    let looks = world.store.acquires.load(SeqCst) - before;
    assert!((3..=4).contains(&looks), "{looks} looks in 120 s");
    waiting.abort();
}

#[tokio::test]
async fn a_lost_answer_is_asked_again_and_gives_the_same_grant() {
    // I8
    let world = World::new();
    world.store.loses_answers.store(2, SeqCst);
    let locker = world.locker();
    let asking = waiter(&locker, Wait::For(5 * SECOND));
    world.pass(SECOND).await;
    let lease = asking.await.unwrap().unwrap();
    let info = locker.browse().unwrap().inspect(lease.key()).await.unwrap().unwrap();
    assert_eq!(info.token, Some(lease.token()));
    assert_eq!(world.store.acquires.load(SeqCst), 3);
}

#[tokio::test]
async fn an_unreachable_store_is_an_error_of_its_own_after_the_wait() {
    // R6, R20
    let world = World::new();
    world.store.unreachable.store(true, SeqCst);
    let asking = waiter(&world.locker(), Wait::For(2 * SECOND));
    world.pass(Duration::from_millis(1_900)).await;
    assert!(!asking.is_finished(), "tried again for the whole wait");
    world.pass(Duration::from_millis(150)).await;
    assert!(matches!(asking.await.unwrap(), Err(Error::Store(_))));
    assert!(world.store.acquires.load(SeqCst) > 3);
    assert_eq!(world.seen.count("Failed"), 1);
}

#[tokio::test]
async fn a_refusal_for_lack_of_rights_is_told_at_once() {
    let world = World::new();
    world.store.forbidden.store(true, SeqCst);
    let refused = world.locker().acquire(&key("a")).await.unwrap_err();
    assert!(refused.to_string().contains("permission denied"), "{refused}");
    assert_eq!(world.store.acquires.load(SeqCst), 1);
}

#[tokio::test]
async fn a_hanging_store_does_not_hold_the_caller_past_its_wait() {
    // R17: 50 ms.
    let world = World::new();
    world.store.hangs.store(true, SeqCst);
    let asking = waiter(&world.locker(), Wait::For(SECOND));
    world.pass(Duration::from_millis(1_050)).await;
    assert!(matches!(asking.await.unwrap(), Err(Error::Store(_))));
}

#[tokio::test]
async fn an_acquire_that_is_dropped_at_any_await_leaves_nothing() {
    // R9, I11: free at once, or held by somebody else and not waited for.
    for contended in [false, true] {
        for polls in 0..12 {
            let world = World::new();
            let locker = world.locker();
            let held = if contended {
                Some(world.locker().acquire(&key("a")).await.unwrap())
            } else {
                None
            };
            drop_after(polls, locker.acquire(&key("a")).wait(Wait::Forever).into_future()).await;
            // A request that got no answer is followed by a release after its deadline.
            tokio::join!(locker.close(), world.pass(6 * SECOND));
            let browse = locker.browse().unwrap();
            let info = browse.inspect(&key("a")).await.unwrap();
            assert_eq!(info.as_ref().map_or(0, |info| info.waiters), 0, "after {polls} polls");
            assert_eq!(info.is_some(), contended, "after {polls} polls");
            drop(held);
        }
    }
}

#[tokio::test]
async fn a_waiter_dropped_as_its_grant_arrives_passes_the_key_on() {
    // I11
    let world = World::new();
    let locker = world.locker();
    let held = locker.acquire(&key("a")).await.unwrap();
    let first = waiter(&world.locker(), Wait::Forever);
    settle().await;
    let second = waiter(&world.locker(), Wait::Forever);
    settle().await;
    held.release().await.unwrap();
    // Whether its grant has just arrived or made a lease already.
    first.abort();
    drop(first);
    // Well within the grant window, which would pass the key on by itself.
    world.pass(SECOND).await;
    second.await.unwrap().unwrap().check().unwrap();
}

/// Polls a future so often, then drops it.
async fn drop_after<F: Future>(polls: u32, future: F) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(_done) = polled {
            return;
        }
        settle().await;
    }
}

#[tokio::test]
async fn a_grant_by_message_lasts_its_ttl_also_without_renewal() {
    let world = World::new();
    let held = world.locker().acquire(&key("a")).await.unwrap();
    let acquire = world.locker().acquire(&key("a")).ttl(ttl(60_000)).renew(false);
    let waiting = tokio::spawn(async move { acquire.wait(Wait::Forever).await });
    settle().await;
    held.release().await.unwrap();
    let lease = waiting.await.unwrap().unwrap();
    world.pass(50 * SECOND).await;
    lease.check().unwrap();
    world.pass(10 * SECOND).await;
    assert!(lease.check().is_err());
}

#[tokio::test]
async fn a_grant_that_came_too_late_without_a_wait_is_given_back() {
    // I11
    let world = World::new();
    let locker = world.locker();
    world.store.delay_ms.store(220, SeqCst);
    let asked = locker.acquire(&key("a")).ttl(ttl(200)).wait(Wait::No).await;
    assert!(matches!(asked, Err(Error::Store(_))), "{asked:?}");
    world.store.delay_ms.store(0, SeqCst);
    assert_eq!(world.store.releases.load(SeqCst), 0);
    locker.close().await;
    assert_eq!(world.store.releases.load(SeqCst), 1);
}

#[tokio::test]
async fn what_took_nothing_gives_nothing_back() {
    let world = World::new();
    let locker = world.locker();
    world.store.forbidden.store(true, SeqCst);
    assert!(locker.acquire(&key("a")).await.is_err());
    world.store.forbidden.store(false, SeqCst);
    let _held = world.locker().acquire(&key("b")).await.unwrap();
    assert!(locker.acquire(&key("b")).wait(Wait::For(Duration::ZERO)).await.is_err());
    locker.close().await;
    assert_eq!(world.store.releases.load(SeqCst), 0);
}

#[tokio::test]
async fn a_request_without_an_answer_is_released_once_more_after_its_deadline() {
    // R9: the first request sits in a buffer while the second is granted and released.
    let world = World::new();
    let locker = world.locker();
    world.store.loses_answers.store(1, SeqCst);
    let asking = waiter(&locker, Wait::For(10 * SECOND));
    world.pass(SECOND).await;
    asking.await.unwrap().unwrap().release().await.unwrap();
    assert_eq!(world.store.releases.load(SeqCst), 1);
    world.pass(6 * SECOND).await;
    assert_eq!(world.store.releases.load(SeqCst), 2);
}

#[tokio::test]
async fn closing_waits_for_no_lease_that_is_held() {
    let world = World::new();
    let locker = world.locker();
    let _held = locker.acquire(&key("a")).ttl(ttl(3_000)).await.unwrap();
    world.store.hangs.store(true, SeqCst);
    world.pass(2 * SECOND).await;
    let closing = tokio::spawn(async move { locker.close().await });
    settle().await;
    assert!(closing.is_finished(), "a renewal that hangs is no work to wait for");
}
