//! Servers that will not have a client, for a while or for ever.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use bidlock::Error;
use bidlock_core::{BackendError, Refusal};
use bidlock_testkit::servers::{ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use crate::scene::{Client, SOON, Scene, key, on_every_kind, refusal, ttl};

const SECRET: &str = "s3cret-canary";

/// A server that knows neither HELLO nor AUTH says what it did not understand, and that is the
/// password.
#[test]
fn a_password_that_a_server_does_not_understand_is_not_repeated() {
    on_every_kind(async |kind| {
        let renamed = ["--rename-command", "HELLO", "", "--rename-command", "AUTH", ""];
        let scene = Scene::with(kind, ServerOptions::new().args(renamed));
        let url = scene.url().replace("redis://", &format!("redis://bots:{SECRET}@"));
        let Err(failed) = Client::connect(&url).await else { panic!("it has no AUTH") };
        let shown = format!("{failed} {failed:?}");
        assert!(refusal(&failed).is_some(), "{shown}");
        assert!(shown.contains("AUTH") && !shown.contains(SECRET), "{shown}");
    });
}

/// R9 R10: the release of a lease outlives a time in which the server lets nobody in.
#[test]
fn a_full_server_delays_a_release_and_does_not_end_it() {
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        let (locker, key) = (scene.locker().await, key("job"));
        let lease = locker.acquire(&key).ttl(ttl(60_000)).await.expect("it is free");
        // Held open, so that there is one client too many for the locker's next connection.
        let mut open = UnixStream::connect(scene.server.unix_socket()).expect("it listens");
        let mut limit = |clients: u16| {
            open.write_all(format!("CONFIG SET maxclients {clients}\r\n").as_bytes())
                .expect("sent");
            let mut answer = [0; 5];
            open.read_exact(&mut answer).expect("it answers");
            assert_eq!(&answer, b"+OK\r\n");
        };
        limit(1);
        scene.proxy.cut();
        let released = lease.release().await;
        let full = matches!(
            &released,
            Err(Error::Store(BackendError::Refused { reason: Refusal::NotReady(_), .. }))
        );
        assert!(full, "{released:?}");
        limit(100);
        wait_until("it is released after all", SOON, || !scene.exists(&key));
        locker.close().await;
    });
}

#[test]
fn a_server_without_resp3_says_what_it_is() {
    use bidlock_core::Backend as _;
    on_every_kind(async |kind| {
        let scene = Scene::new(kind);
        scene.proxy.without_resp3(true);
        let health = scene.client().await.store.ping().await.expect("it answers");
        let name = if kind == ServerKind::Valkey9 { "valkey" } else { "redis" };
        assert_eq!((health.server.as_str(), health.role.as_str()), (name, "primary"));
        assert!(health.version.starts_with(|c: char| c.is_ascii_digit()), "{health:?}");
    });
}
