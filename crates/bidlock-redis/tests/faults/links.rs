//! Links that go dead, with a word or without, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bidlock::{Error, LossReason, Wait};
use bidlock_core::{Attempt, Backend as _, BackendError, Refusal};
use bidlock_testkit::servers::{Direction, ServerKind};
use bidlock_testkit::wait_until;

use crate::scene::{
    Client, SOON, Scene, key, millis, now, on_every_kind, pause, refusal, run, side_by_side, ttl,
    within,
};

const WAYS: [Direction; 3] = [Direction::ToServer, Direction::ToClient, Direction::Both];

/// What differs by way, and not by kind of server.
fn on_every_way<F: Future<Output = ()>>(play: impl Fn(Direction, Scene) -> F + Sync) {
    side_by_side(&WAYS, |way| run(play(*way, Scene::new(ServerKind::Redis70))));
}

/// How often the scripts were called.
fn scripts(scene: &Scene) -> u64 {
    let stats = scene.server.command_stats();
    ["eval", "evalsha"].iter().filter_map(|name| stats.get(*name)).sum()
}

/// Asks until there is an answer: the end of an outage, as its callers see it.
async fn is_back(client: &Client, most: u64) {
    let answered = async {
        while client.store.ping().await.is_err() {
            pause(millis(5)).await;
        }
    };
    within("it is back", millis(most), answered).await;
}

#[test]
fn each_command_on_a_dead_link_ends_within_its_own_time() {
    on_every_way(async |way, scene| {
        let (client, key) = (scene.client().await, key("job"));
        let lease = client.take(&key, 20_000).await;
        scene.proxy.black_hole(way);
        // TTL/3 of a TTL of 1 s, the first on the link that is thought sound, the others on none.
        for round in 0..3 {
            for renews in [true, false] {
                let begun = now();
                let failed = if renews {
                    client.renew(&key, &lease, [1_000, 333]).await.expect_err("no way")
                } else {
                    let wait = 1_000 * round;
                    let got = client.acquire(&key, &client.lease(), [1_000, wait, 333]).await;
                    got.expect_err("no way")
                };
                let took = now() - begun;
                assert!(took < millis(333 + 80), "{way:?}: {failed} after {took:?}");
                let fits = match failed {
                    BackendError::Unknown { .. } => round == 0,
                    BackendError::Unreachable { .. } => true,
                    _ => false,
                };
                assert!(fits, "{way:?}, round {round}: {failed:?}");
            }
        }
        let begun = now();
        let failed = client.store.release(&key, &lease).await.expect_err("no way");
        assert!(now() - begun < millis(5_200), "{way:?}: {failed}");
        scene.proxy.heal();
        // The next dial is at most one hello and one pause away.
        is_back(&client, 4_500).await;
        let released = within("release", SOON, client.store.release(&key, &lease)).await;
        released.expect("the link is sound");
        assert!(!scene.exists(&key));
    });
}

#[test]
fn the_loss_is_told_before_the_key_ends_on_the_server_and_for_good() {
    on_every_way(async |way, scene| {
        let (locker, other, key) = (scene.locker().await, scene.direct().await, key("job"));
        let lease = locker.acquire(&key).ttl(ttl(3_000)).await.expect("it is free");
        lease.renew().await.expect("the link is sound");
        let waiter = other.acquire(&key).ttl(ttl(3_000)).wait(Wait::For(SOON)).into_future();
        let waiter = tokio::spawn(waiter);
        scene.await_queue(&key, 1);
        scene.proxy.black_hole(way);
        let reason = within("the loss", millis(3_100), lease.lost()).await;
        let left = scene.pttl(&key);
        // R1
        assert!(left > 0, "{way:?}: told {left} ms before the end");
        assert!(!waiter.is_finished());
        assert_eq!(reason, LossReason::Unreachable, "{way:?}");
        assert!(matches!(lease.check(), Err(Error::Lost { .. })));
        scene.proxy.heal();
        let next = within("the next", millis(left.unsigned_abs() + 1_000), waiter).await;
        let next = next.expect("no panic").expect("its turn");
        assert!(next.token() > lease.token());
        assert!(matches!(lease.check(), Err(Error::Lost { .. })));
        let late = lease.renew().await;
        assert!(matches!(late, Err(Error::Lost { reason: LossReason::Unreachable, .. })));
        drop(lease);
        within("its late release", SOON, locker.close()).await;
        next.renew().await.expect("no late release has taken it");
        next.release().await.expect("it is held");
    });
}

#[test]
fn a_waiters_silently_dead_link_is_replaced_and_each_waiter_looks_once() {
    const WAITERS: u64 = 3;
    on_every_way(async |way, scene| {
        let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
        let lease = holder.acquire(&key).ttl(ttl(60_000)).await.expect("it is free");
        let mut waiters = tokio::task::JoinSet::new();
        for n in 1..=WAITERS.cast_signed() {
            waiters.spawn(locker.acquire(&key).wait(Wait::For(SOON)).into_future());
            scene.await_queue(&key, n);
        }
        // Their answers have come as well, or the link would not be silent.
        locker.ping().await.expect("the link is sound");
        scene.server.reset_stats();
        scene.proxy.black_hole_one(0, way);
        let dead = now();
        wait_until("a new connection", millis(5_000), || scene.proxy.connections() > 1);
        wait_until("they look", millis(1_000), || scripts(&scene) >= WAITERS);
        // R2
        assert!(now() - dead < millis(5_000), "back after {:?}", now() - dead);
        pause(millis(300)).await;
        assert_eq!(scripts(&scene), WAITERS, "each once");
        assert_eq!(scene.queue(&key), WAITERS.cast_signed());
        lease.release().await.expect("it is held");
        let next = within("hand-over", millis(500), waiters.join_next()).await;
        next.expect("one of them")
            .expect("no panic")
            .expect("its turn")
            .release()
            .await
            .expect("held");
    });
}

#[test]
fn a_short_outage_is_unseen_and_a_long_one_told_at_once_with_its_cause() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (client, key) = (Arc::new(scene.client().await), key("job"));
        let lease = client.take(&key, 60_000).await;
        scene.proxy.refuse(true);
        scene.proxy.cut();
        pause(millis(50)).await;
        let call = {
            let (client, key, lease) = (Arc::clone(&client), key.clone(), lease.clone());
            tokio::spawn(async move {
                let asks = client.lease();
                let (renewed, held, ping) = tokio::join!(
                    client.renew(&key, &lease, [60_000, 3_000]),
                    client.acquire(&key, &asks, [1_000, 0, 3_000]),
                    client.store.ping()
                );
                renewed.expect("it is held");
                assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
                ping.expect("it is there");
            })
        };
        pause(millis(400)).await;
        assert!(!call.is_finished(), "they wait");
        scene.proxy.refuse(false);
        within("calls in a short outage", millis(1_200), call).await.expect("no error");

        scene.proxy.refuse(true);
        scene.proxy.cut();
        pause(millis(50)).await;
        let begun = now();
        let first = client.renew(&key, &lease, [60_000, 5_000]).await.expect_err("no way");
        let took = now() - begun;
        assert!(took > millis(500) && took < millis(1_400), "{took:?}");
        let begun = now();
        let next = client.renew(&key, &lease, [60_000, 5_000]).await.expect_err("no way");
        assert!(now() - begun < millis(100), "{:?}", now() - begun);
        for failed in [first, next] {
            let BackendError::Unreachable { source, .. } = failed else { panic!("{failed:?}") };
            assert!(source.to_string().contains("refused"), "{source}");
        }
        scene.proxy.refuse(false);
        is_back(&client, 1_500).await;
        client.renew(&key, &lease, [60_000, 1_000]).await.expect("it is held");
        client.release(&key, &lease).await;
    });
}

/// Whoever waits for a key of a server that has gone is not told that somebody still has it.
#[test]
fn a_wait_that_outlasts_its_server_ends_with_what_became_of_it() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (holder, locker, key) = (scene.locker().await, scene.locker().await, key("job"));
        let lease = holder.acquire(&key).ttl(ttl(60_000)).await.expect("it is free");
        let wait = locker.acquire(&key).wait(Wait::For(millis(3_000)));
        let waiter = tokio::spawn(wait.into_future());
        scene.await_queue(&key, 1);
        scene.server.kill();
        scene.proxy.refuse(true);
        scene.proxy.cut();
        let ended = within("the wait", millis(3_500), waiter).await.expect("no panic");
        let gone = matches!(&ended, Err(Error::Store(BackendError::Unreachable { .. })));
        assert!(gone, "{ended:?}");
        drop(lease);
    });
}

#[test]
fn an_outage_is_not_answered_by_a_storm_of_connections() {
    let scene = Scene::new(ServerKind::Redis70);
    run(async {
        let (client, key) = (scene.client().await, key("job"));
        let before = scene.proxy.connections();
        scene.server.kill();
        pause(Duration::from_secs(3)).await;
        let tried = scene.proxy.connections() - before;
        // Often while calls wait for it; then pauses that double up to 1 s.
        assert!((6..=20).contains(&tried), "{tried} attempts in 3 s");
        scene.server.restart();
        is_back(&client, 1_500).await;
        client.take(&key, 1_000).await;
    });
}

/// A server, or what stands before it, that drops each connection as soon as it is set up.
#[test]
fn a_server_that_drops_each_connection_is_not_dialled_without_a_pause() {
    let scene = Scene::new(ServerKind::Redis70);
    run(async {
        let (_client, proxy) = (scene.client().await, Arc::clone(&scene.proxy));
        let over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&over);
        let cutter = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                proxy.cut();
                std::thread::park_timeout(millis(10));
            }
        });
        let before = scene.proxy.connections();
        pause(Duration::from_secs(2)).await;
        let tried = scene.proxy.connections() - before;
        over.store(true, Ordering::SeqCst);
        cutter.join().expect("no panic");
        assert!(tried < 60, "{tried} attempts in 2 s");
        assert!(tried > 3);
    });
}

#[test]
fn a_password_that_was_changed_is_told_and_forgiven() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let set = |password: &str| {
            let rights = ["ACL", "SETUSER", "bots", "reset", "on", password, "~*", "&*", "+@all"];
            scene.server.command(&rights);
        };
        set(">first");
        let url = scene.url().replace("redis://", "redis://bots:first@");
        let client = Client::connect(&url).await.expect("the right password");
        let key = key("job");
        let lease = client.take(&key, 60_000).await;
        set(">second");
        // Who is in stays in; nobody comes in again.
        scene.proxy.cut();
        wait_until("it was turned away", SOON, || scene.proxy.connections() > 1);
        let mut told = None;
        for _ in 0..100 {
            let begun = now();
            let failed = client.renew(&key, &lease, [60_000, 2_000]).await.expect_err("no way in");
            assert!(now() - begun < millis(1_200), "{:?}", now() - begun);
            if let Some(Refusal::Permission(why)) = refusal(&failed) {
                told = Some(why.clone());
                break;
            }
        }
        let told = told.expect("the caller learns the cause");
        assert!(told.contains("WRONGPASS") && !told.contains("first"), "{told}");
        set(">first");
        is_back(&client, 1_800).await;
        client.renew(&key, &lease, [60_000, 2_000]).await.expect("the right password");
        client.release(&key, &lease).await;
    });
}
