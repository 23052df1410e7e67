//! Requests that a server carries out after their client has given up: they change nothing (I9).

use bidlock::{Error, Wait};
use bidlock_core::{Attempt, BackendError, Key};
use bidlock_testkit::wait_until;

use crate::scene::{
    Client, SOON, Scene, key, millis, now, on_every_kind, pause, queue, ttl, within,
};

/// A connection on which a call had less time than this without a word is kept; else it is
/// closed.
const KEPT: u64 = 120;
const CLOSED: u64 = 260;

impl Scene {
    /// Teaches the scripts to the server, and forgets what it has counted.
    async fn warm(&self, client: &Client) {
        let other = key("warm");
        let lease = client.take(&other, 1_000).await;
        client.renew(&other, &lease, [1_000, 1_000]).await.expect("it is held");
        client.release(&other, &lease).await;
        self.server.reset_stats();
    }

    /// Lets the server go on; returns once it has run the scripts that were sent to it.
    fn thaw(&self, scripts: u64) {
        self.server.go_on();
        wait_until("the late request is carried out", SOON, || {
            let stats = self.server.command_stats();
            stats.get("evalsha").copied().unwrap_or_default() >= scripts
        });
    }

    fn assert_untouched(&self, key: &Key) {
        assert!(!self.exists(key), "a ghost: {}", self.server.text(&["GET", key.as_str()]));
        assert_eq!(self.number(&["EXISTS", &queue(key)]), 0, "a ghost's place");
    }
}

#[test]
fn no_key_and_no_place_appears_for_a_client_that_has_given_up() {
    on_every_kind(async |kind| {
        for wait in [0, 60_000] {
            for (limit, dropped) in [(KEPT, false), (CLOSED, false), (KEPT, true)] {
                let scene = Scene::new(kind);
                let (client, key) = (scene.client().await, key("job"));
                scene.warm(&client).await;
                scene.server.stop();
                let begun = now();
                let failed = client.acquire(&key, &client.lease(), [30_000, wait, limit]).await;
                let took = now() - begun;
                assert!(matches!(failed, Err(BackendError::Unknown { .. })), "{failed:?}");
                assert!(took < millis(limit + 300), "it takes {took:?}");
                let beside = if dropped {
                    drop(client);
                    None
                } else {
                    Some(client)
                };
                // Past the deadline by the server's clock, too.
                pause(millis(20)).await;
                scene.thaw(1);
                scene.assert_untouched(&key);
                // The connection, or the next one, is of use: each request has its own answer.
                if let Some(client) = beside {
                    let lease = client.lease();
                    let call = || client.acquire(&key, &lease, [1_000, 0, 1_000]);
                    let mut got = call().await;
                    // A busy machine may have found the connection dead, and say so now.
                    while got.as_ref().is_err_and(BackendError::is_retryable) {
                        got = call().await;
                    }
                    assert!(matches!(got, Ok(Attempt::Granted { .. })), "{got:?}");
                    client.release(&key, &lease).await;
                }
                scene.await_nothing_left();
            }
        }
    });
}

#[test]
fn no_lease_is_extended_for_a_client_that_has_given_up() {
    on_every_kind(async |kind| {
        for limit in [KEPT, CLOSED] {
            let scene = Scene::new(kind);
            let (client, key) = (scene.client().await, key("job"));
            scene.warm(&client).await;
            let lease = client.take(&key, 5_000).await;
            scene.server.stop();
            let failed = client.renew(&key, &lease, [60_000, limit]).await;
            assert!(matches!(failed, Err(BackendError::Unknown { .. })), "{failed:?}");
            pause(millis(20)).await;
            scene.thaw(2);
            let left = scene.pttl(&key);
            assert!((1..5_000).contains(&left), "extended to {left} ms");
            client.renew(&key, &lease, [60_000, 1_000]).await.expect("it answers again");
            assert!(scene.pttl(&key) > 50_000);
        }
    });
}

#[test]
fn a_caller_whose_time_is_over_leaves_nothing_with_a_frozen_server() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (locker, key) = (scene.locker().await, key("job"));
        scene.server.stop();
        let begun = now();
        let request = locker.acquire(&key).ttl(ttl(30_000)).wait(Wait::For(millis(600)));
        let failed = within("acquire", SOON, request.into_future()).await;
        let took = now() - begun;
        assert!(matches!(failed, Err(Error::Store(_))), "{failed:?}");
        assert!(took >= millis(600) && took < millis(900), "{took:?}");
        scene.server.go_on();
        within("cleaning up", SOON, locker.close()).await;
        scene.assert_untouched(&key);
        let lease = locker.acquire(&key).wait(Wait::No).await.expect("it is free");
        lease.release().await.expect("it is held");
        scene.await_nothing_left();
    });
}
