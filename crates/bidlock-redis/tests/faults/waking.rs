//! Nobody waits for a message that does not come: releases, deaths and lost messages at every
//! point of a waiter's way (R3).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bidlock::{Error, Lease, Locker, Wait};
use bidlock_core::Key;
use bidlock_testkit::servers::{Proxy, ServerKind};
use bidlock_testkit::wait_until;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::scene::{SOON, Scene, Tokens, key, millis, now, on_every_kind, pause, run, ttl, within};

/// What a hand-over by message may take; 100 ms are asked for, and the rest is the machine's.
const PUSHED: u64 = 500;
const TTL: u64 = 1_500;

pub(crate) type Waiter = JoinHandle<Result<Lease, Error>>;

pub(crate) fn waits(locker: &Locker, key: &Key) -> Waiter {
    let request = locker.acquire(key).ttl(ttl(TTL)).wait(Wait::For(SOON));
    tokio::spawn(request.into_future())
}

async fn holds(locker: &Locker, key: &Key, length: u64) -> Lease {
    locker.acquire(key).ttl(ttl(length)).await.expect("it is free")
}

async fn served(what: &str, waiter: Waiter, most: u64) -> Lease {
    within(what, millis(most), waiter).await.expect("no panic").expect("its turn")
}

/// Releases on a proxy's thread.
fn release_now(runtime: &Handle, lease: &Mutex<Option<Lease>>) {
    let lease = lease.lock().expect("no panic").take().expect("it is held");
    runtime.block_on(lease.release()).expect("it is held");
}

#[test]
fn a_release_before_a_waiters_first_request_is_seen_by_it() {
    on_every_kind(async |kind| {
        // The request by its number, and the one that teaches the script when it is not known.
        for forgotten in [false, true] {
            let scene = Scene::new(kind);
            let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
            let lease = Arc::new(Mutex::new(Some(holds(&holder, &key, 60_000).await)));
            if forgotten {
                scene.server.command(&["SCRIPT", "FLUSH"]);
            }
            let runtime = Handle::current();
            let pattern: &[u8] = if forgotten { b"EVAL\r\n" } else { b"EVALSHA\r\n" };
            let held = Arc::clone(&lease);
            scene.proxy.on_request(pattern, move |_| {
                if held.lock().expect("no panic").is_some() {
                    release_now(&runtime, &held);
                }
            });
            let next = served("the waiter", waits(&locker, &key), PUSHED).await;
            assert!(lease.lock().expect("no panic").is_none(), "it was released on the way");
            next.release().await.expect("it is held");
            scene.await_nothing_left();
        }
    });
}

#[test]
fn a_release_between_a_waiters_place_and_its_answer_reaches_it() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
        let lease = holds(&holder, &key, 60_000).await;
        scene.proxy.delay(Duration::ZERO, millis(150));
        let waiter = waits(&locker, &key);
        scene.await_queue(&key, 1);
        lease.release().await.expect("it is held");
        let next = served("the waiter", waiter, 150 + PUSHED).await;
        assert_eq!(scene.token(&key), Some(next.token().get()));
        scene.proxy.delay(Duration::ZERO, Duration::ZERO);
        next.release().await.expect("it is held");
        locker.close().await;
        scene.await_nothing_left();
    });
}

/// Messages and answers come by different connections where there is no RESP3, in any order.
#[test]
fn a_grant_that_arrives_before_the_answer_that_one_must_wait_counts() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        scene.proxy.without_resp3(true);
        let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
        assert_eq!(scene.proxy.connections(), 2);
        let lease = holds(&holder, &key, 60_000).await;
        scene.proxy.delay(Duration::ZERO, millis(100));
        let waiter = waits(&locker, &key);
        scene.await_queue(&key, 1);
        // The answer is on its way, and stays there.
        scene.proxy.hold(0);
        lease.release().await.expect("it is held");
        pause(millis(200)).await;
        scene.proxy.delay(Duration::ZERO, Duration::ZERO);
        scene.proxy.let_go(0);
        let next = served("the waiter", waiter, PUSHED).await;
        assert_eq!(scene.token(&key), Some(next.token().get()), "one grant");
        assert_eq!(scene.counter(), next.token().get());
        next.renew().await.expect("it is held");
        next.release().await.expect("it is held");
    });
}

/// A release and an acquire that meet on their way: whichever comes first, the key goes on.
#[test]
fn a_release_and_an_acquire_may_cross() {
    on_every_kind(async |kind| {
        for release_is_held in [true, false] {
            let scene = Scene::new(kind);
            let (holder, locker) = (scene.locker().await, scene.locker().await);
            let (key, mut tokens) = (key("job"), Tokens::default());
            let lease = holds(&holder, &key, 60_000).await;
            tokens.rise(&lease);
            let held = usize::from(!release_is_held);
            scene.proxy.hold(held);
            let release = tokio::spawn(lease.release());
            let waiter = waits(&locker, &key);
            if release_is_held {
                scene.await_queue(&key, 1);
            } else {
                wait_until("it is free", SOON, || !scene.exists(&key));
            }
            pause(millis(20)).await;
            assert!(!waiter.is_finished());
            scene.proxy.let_go(held);
            let next = served("the waiter", waiter, PUSHED).await;
            tokens.rise(&next);
            within("release", SOON, release).await.expect("no panic").expect("it is held");
            next.release().await.expect("it is held");
            scene.await_nothing_left();
        }
    });
}

#[test]
fn without_messages_a_waiter_has_its_timer() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
        scene.proxy.drop_pushes(true);
        let lease = holds(&holder, &key, TTL).await;
        let token = lease.token();
        let waiter = waits(&locker, &key);
        scene.await_queue(&key, 1);
        lease.release().await.expect("it is held");
        let next = served("the waiter", waiter, TTL + 1_000).await;
        assert!(next.token() > token);
        assert_eq!(scene.token(&key), Some(next.token().get()));
        next.renew().await.expect("it is held");
        next.release().await.expect("it is held");
    });
}

/// The server believes that it was told; the next in line is not kept waiting for longer than the
/// window.
#[test]
fn a_waiter_that_does_not_hear_delays_the_next_by_its_window() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, deaf) = (scene.direct().await, scene.locker().await);
        let (next, key) = (scene.direct().await, key("job"));
        let lease = holds(&holder, &key, 60_000).await;
        let silent = waits(&deaf, &key);
        scene.await_queue(&key, 1);
        let waiter = waits(&next, &key);
        scene.await_queue(&key, 2);
        scene.proxy.drop_pushes(true);
        let begun = now();
        lease.release().await.expect("it is held");
        let lease = served("the next", waiter, TTL + 700).await;
        assert!(now() - begun >= millis(TTL - 100), "the window was open");
        assert!(!silent.is_finished());
        scene.proxy.drop_pushes(false);
        // Its client let its window pass, and is out of the queue until it looks again.
        assert_eq!(scene.queue(&key), 0);
        lease.release().await.expect("it is held");
        silent.abort();
    });
}

#[test]
fn a_dead_holders_key_goes_on_in_the_order_of_arrival() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (dead, key) = (scene.client().await, key("job"));
        let mut tokens = Tokens::default();
        let lockers = [scene.locker().await, scene.locker().await, scene.locker().await];
        let mut waiters = Vec::new();
        let ends = now() + millis(1_000);
        dead.take(&key, 1_000).await;
        for (n, locker) in (1..).zip(&lockers) {
            waiters.push(waits(locker, &key));
            scene.await_queue(&key, n);
        }
        drop(dead);
        let mut waiters = waiters.into_iter();
        let lease = served("the first", waiters.next().expect("one"), 2_000).await;
        assert!(now() >= ends && now() < ends + millis(700), "{:?} late", now() - ends);
        tokens.rise(&lease);
        lease.release().await.expect("it is held");
        for waiter in waiters {
            let lease = served("the next", waiter, PUSHED).await;
            tokens.rise(&lease);
            lease.release().await.expect("it is held");
        }
        scene.await_nothing_left();
    });
}

/// Who finds the key free at its look leaves no more behind than who was told.
#[test]
fn a_waiter_that_takes_the_key_by_its_look_leaves_nothing() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (dead, locker, key) = (scene.client().await, scene.locker().await, key("job"));
        dead.take(&key, 300).await;
        let waiter = waits(&locker, &key);
        scene.await_queue(&key, 1);
        let lease = served("the waiter", waiter, 300 + 1_000).await;
        lease.release().await.expect("it is held");
        let left = scene.server.text(&["KEYS", "*"]);
        assert_eq!(left, "bid_lock:#tokens", "only the counter is left");
    });
}

#[test]
fn a_release_while_a_waiter_is_cut_off_is_found_by_its_one_look() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
        let lease = holds(&holder, &key, 60_000).await;
        let waiter = waits(&locker, &key);
        scene.await_queue(&key, 1);
        scene.proxy.refuse(true);
        scene.proxy.cut();
        scene.await_listeners(1);
        lease.release().await.expect("it is held");
        assert!(!waiter.is_finished());
        scene.server.reset_stats();
        scene.proxy.refuse(false);
        let next = served("the waiter", waiter, 1_000 + PUSHED).await;
        assert_eq!(scene.server.command_stats().get("evalsha"), Some(&1));
        next.release().await.expect("it is held");
    });
}

/// Cut at every moment of a hand-over, again and again.
#[test]
fn a_link_that_is_cut_at_any_moment_of_a_hand_over_loses_nobody() {
    const ROUNDS: u64 = 40;
    let scene = Scene::new(ServerKind::Redis70);
    run(async {
        let (first, second) = (scene.locker().await, scene.locker().await);
        let mut tokens = Tokens::default();
        for round in 0..ROUNDS {
            let key = key(&format!("job_{round}"));
            let lease = holds(&first, &key, 1_000).await;
            tokens.rise(&lease);
            let waiter = waits(&second, &key);
            let proxy: Arc<Proxy> = Arc::clone(&scene.proxy);
            let cutter = tokio::spawn(async move {
                pause(Duration::from_micros(round * 150)).await;
                proxy.cut();
            });
            drop(lease);
            let next = served("the waiter", waiter, 2_500).await;
            tokens.rise(&next);
            cutter.await.expect("no panic");
            drop(next);
        }
        within("the end", SOON, async { tokio::join!(first.close(), second.close()) }).await;
        scene.await_nothing_left();
    });
}
