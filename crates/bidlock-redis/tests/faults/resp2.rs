//! Servers, or proxies before them, without RESP3: messages come by a second connection.

use std::sync::{Arc, OnceLock};

use bidlock::Wait;
use bidlock_core::{Backend, Prefix};
use bidlock_redis::{Config, Redis};
use bidlock_testkit::servers::{Proxy, ServerFixture, ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use crate::scene::{SOON, Scene, Tokens, key, millis, now, on_every_kind, within};
use crate::waking::waits;

/// The whole suite; the oldest server is the likeliest to be found behind such a proxy.
fn fixture() -> ServerFixture {
    let options = ServerOptions::new().password("s3cret").append_only(true);
    let proxy = OnceLock::new();
    ServerFixture::new(ServerKind::Redis62, options, move |server, platform| {
        let proxy = proxy.get_or_init(|| {
            let proxy = Proxy::to(server.address());
            proxy.without_resp3(true);
            proxy
        });
        let from = format!(":{}/", server.port());
        let url = server.url().replace(&from, &format!(":{}/", proxy.port()));
        let platform = platform.clone();
        Box::pin(async move {
            let config = Config::from_url(&url).expect("the server's own URL");
            let store = Redis::connect(&config, &Prefix::default(), &platform).await;
            Arc::new(store.expect("the server answers")) as Arc<dyn Backend>
        })
    })
}

bidlock_testkit::conformance!(redis62, fixture());

#[test]
fn a_second_connection_carries_messages() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        scene.proxy.without_resp3(true);
        let (first, second) = (scene.locker().await, scene.locker().await);
        assert_eq!(scene.proxy.open_connections(), 4);
        let (key, mut tokens) = (key("job"), Tokens::default());
        let lease = first.acquire(&key).wait(Wait::No).await.expect("it is free");
        tokens.rise(&lease);
        let waiter = waits(&second, &key);
        scene.await_queue(&key, 1);
        scene.server.reset_stats();
        lease.release().await.expect("it is held");
        let next = within("hand-over", millis(300), waiter).await.expect("no panic");
        let next = next.expect("its turn");
        tokens.rise(&next);
        next.renew().await.expect("it is held");
        next.release().await.expect("it is held");
    });
}

/// Each of both is as good as the whole: when one ends, both are set up anew.
#[test]
fn the_loss_of_either_connection_is_the_loss_of_both() {
    on_every_kind(async |kind| {
        for number in [1, 0] {
            let scene = Scene::new(kind);
            scene.proxy.without_resp3(true);
            let (holder, locker, key) = (scene.direct().await, scene.locker().await, key("job"));
            let lease = holder.acquire(&key).await.expect("it is free");
            let waiter = waits(&locker, &key);
            scene.await_queue(&key, 1);
            scene.server.reset_stats();
            let begun = now();
            scene.proxy.black_hole_one(number, bidlock_testkit::servers::Direction::Both);
            // R2: silence is what there always is on the one for messages, so it is tested too.
            wait_until("both are new", millis(5_000), || scene.proxy.connections() >= 4);
            scene.await_listeners(2);
            wait_until("it looks", SOON, || {
                scene.server.command_stats().get("evalsha").copied() >= Some(1)
            });
            assert!(now() - begun < millis(5_000));
            lease.release().await.expect("it is held");
            let next = within("hand-over", millis(300), waiter).await.expect("no panic");
            next.expect("its turn").release().await.expect("it is held");
        }
    });
}
