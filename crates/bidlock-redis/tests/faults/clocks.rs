//! Server clocks that are stepped while keys are held and waited for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use bidlock::{Error, LossReason, Wait};
use bidlock_core::{Attempt, Backend as _, Listener, News, Wake, limits};
use bidlock_testkit::servers::ServerOptions;
use bidlock_testkit::wait_until;

use crate::scene::{SOON, Scene, Tokens, key, millis, on_every_kind, ttl, within};
use crate::waking::waits;

const HOUR: i64 = 3_600_000_000;

fn options() -> ServerOptions {
    ServerOptions::new().clock(true).args(["--hz", "100"])
}

#[test]
fn tokens_rise_over_every_step_and_the_deadline_costs_one_more_round_trip() {
    on_every_kind(async |kind| {
        let scene = Scene::with(kind, options());
        let client = scene.client().await;
        let (key, mut last) = (key("job"), 0);
        for step in [0, HOUR, -2 * HOUR, HOUR / 2, -HOUR, 5 * HOUR, -HOUR] {
            scene.server.step_clock(step);
            scene.server.reset_stats();
            let lease = client.lease();
            let got = client.acquire(&key, &lease, [60_000, 0, 1_000]).await;
            let Ok(Attempt::Granted { token }) = got else { panic!("after {step} us: {got:?}") };
            assert!(token.get() > last, "after {step} us: {token} comes after {last}");
            let stats = scene.server.command_stats();
            let calls: u64 = ["eval", "evalsha"].iter().filter_map(|name| stats.get(*name)).sum();
            // Before the script is known, one call more.
            let most = if step == 0 { 3 } else { 1 + u64::from(step > 0) };
            assert!(calls <= most, "{calls} calls after {step} us");
            client.release(&key, &lease).await;
            // From here on the new time is known.
            scene.server.reset_stats();
            let lease = client.take(&key, 60_000).await;
            last = scene.counter();
            assert_eq!(scene.server.command_stats().get("evalsha"), Some(&1));
            client.renew(&key, &lease, [60_000, 1_000]).await.expect("it is held");
            client.release(&key, &lease).await;
        }
    });
}

/// What is written is what was answered, to the last of 16 digits.
#[test]
fn tokens_are_exact_and_no_expiry_is_a_time_of_day() {
    on_every_kind(async |kind| {
        let scene = Scene::with(kind, options());
        let mut monitor = TcpStream::connect(scene.server.address()).expect("it listens");
        monitor.set_read_timeout(Some(SOON)).expect("a socket");
        monitor.write_all(b"MONITOR\r\n").expect("it listens");
        let mut seen = vec![0; 5];
        monitor.read_exact(&mut seen).expect("it answers");
        let (first, second, key) = (scene.locker().await, scene.locker().await, key("job"));
        let mut tokens = Tokens::default();
        for step in [0, -HOUR, 777] {
            scene.server.step_clock(step);
            let lease = first.acquire(&key).ttl(ttl(60_000)).await.expect("it is free");
            tokens.rise(&lease);
            let token = lease.token().get();
            assert_eq!((scene.token(&key), scene.counter()), (Some(token), token));
            assert_eq!(token.to_string().len(), 16);
            let waiter = waits(&second, &key);
            scene.await_queue(&key, 1);
            lease.renew().await.expect("it is held");
            lease.release().await.expect("it is held");
            let next = within("the next", SOON, waiter).await.expect("no panic");
            let next = next.expect("its turn");
            tokens.rise(&next);
            let token = next.token().get();
            assert_eq!((scene.token(&key), scene.counter()), (Some(token), token));
            next.renew().await.expect("it is held");
            next.release().await.expect("it is held");
        }
        // A last word, to know that everything before it has been read.
        scene.server.command(&["ECHO", "over-and-out"]);
        let mut piece = [0; 8_192];
        while !String::from_utf8_lossy(&seen).contains("over-and-out") {
            let length = monitor.read(&mut piece).expect("it goes on");
            seen.extend_from_slice(&piece[..length]);
        }
        let seen = String::from_utf8_lossy(&seen).to_ascii_uppercase();
        assert!(seen.contains("EVALSHA") && seen.contains("\"PX\""), "{seen}");
        for bad in ["\"PXAT\"", "\"EXAT\"", "\"PEXPIREAT\"", "\"EXPIREAT\""] {
            let by_script = |line: &str| line.contains(" LUA]") && line.contains(bad);
            assert!(!seen.lines().any(by_script), "{bad}");
        }
    });
}

#[test]
fn a_clock_that_is_set_back_costs_nobody_a_key() {
    on_every_kind(async |kind| {
        let scene = Scene::with(kind, options());
        let (first, second, key) = (scene.locker().await, scene.locker().await, key("job"));
        let mut tokens = Tokens::default();
        let lease = first.acquire(&key).ttl(ttl(2_000)).await.expect("it is free");
        tokens.rise(&lease);
        let waiter = waits(&second, &key);
        scene.await_queue(&key, 1);
        scene.server.step_clock(-HOUR);
        lease.renew().await.expect("it is held");
        // The background renews as well.
        assert!(tokio::time::timeout(millis(1_500), lease.lost()).await.is_err());
        lease.release().await.expect("it is held");
        let next = within("the next", millis(500), waiter).await.expect("no panic");
        let next = next.expect("its turn");
        tokens.rise(&next);
        next.renew().await.expect("it is held");
        next.release().await.expect("it is held");
        within("the end", SOON, async { tokio::join!(first.close(), second.close()) }).await;
        scene.await_nothing_left();
    });
}

/// Every lease ends with such a step: its holder is told, and whoever waits goes on.
#[test]
fn a_clock_that_is_set_forward_ends_leases_and_strands_nobody() {
    on_every_kind(async |kind| {
        let scene = Scene::with(kind, options());
        let (first, second, key) = (scene.locker().await, scene.locker().await, key("job"));
        let mut tokens = Tokens::default();
        let lease = first.acquire(&key).ttl(ttl(1_500)).await.expect("it is free");
        tokens.rise(&lease);
        let waiter = waits(&second, &key);
        scene.await_queue(&key, 1);
        scene.server.step_clock(HOUR);
        let reason = within("the loss", millis(1_500), lease.lost()).await;
        let fits = matches!(reason, LossReason::Taken | LossReason::Expired);
        assert!(fits, "{reason:?}");
        let next = within("the next", millis(3_000), waiter).await.expect("no panic");
        let next = next.expect("its turn");
        tokens.rise(&next);
        next.renew().await.expect("it is held");
        let late = lease.release().await;
        assert!(matches!(late, Err(Error::Lost { .. })), "{late:?}");
        next.renew().await.expect("the late release has taken nothing");
        next.release().await.expect("it is held");
    });
}

/// A grant whose message names a time that the client does not know is asked about first.
#[test]
fn a_step_between_a_wait_and_its_grant_is_survived() {
    on_every_kind(async |kind| {
        // An hour forward, every place in the queue has ended: its waiter finds out by a look.
        for (step, most) in [(-HOUR, 500), (2_000_000, 500), (-2_000_000, 500), (HOUR, 4_500)] {
            let scene = Scene::with(kind, options());
            let (first, second, key) = (scene.locker().await, scene.locker().await, key("job"));
            let lease = first.acquire(&key).ttl(ttl(4_000)).await.expect("it is free");
            let request = second.acquire(&key).ttl(ttl(2_000)).wait(Wait::Forever);
            let waiter = tokio::spawn(request.into_future());
            scene.await_queue(&key, 1);
            scene.server.step_clock(step);
            let before = lease.token();
            let released = lease.release().await;
            assert_eq!(released.is_ok(), step < HOUR, "{released:?}");
            let next = within("the next", millis(most), waiter).await.expect("no panic");
            let next = next.expect("its turn");
            assert!(next.token() > before, "after {step} us");
            let lost = tokio::time::timeout(millis(800), next.lost()).await;
            assert!(lost.is_err(), "after {step} us: {lost:?}");
            assert_eq!(scene.token(&key), Some(next.token().get()));
            next.release().await.expect("it is held");
            wait_until("it is free", SOON, || !scene.exists(&key));
        }
    });
}

/// What a message brought is believed no longer than its window, also when the server's clock was
/// stepped since it was last read.
#[test]
fn a_step_lengthens_no_belief_in_a_pushed_grant() {
    on_every_kind(async |kind| {
        let scene = Scene::with(kind, options());
        let (holder, waiting) = (scene.client().await, scene.client().await);
        let (key, heard) = (key("job"), Arc::new(Heard::default()));
        let lease = holder.take(&key, 80_000).await;
        let place = waiting.lease();
        let listener: std::sync::Weak<dyn Listener> = Arc::downgrade(&heard) as _;
        waiting.store.subscribe(listener);
        let held = waiting.acquire(&key, &place, [60_000, 60_000, 1_000]).await;
        assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
        scene.server.step_clock(30_000_000); // Within the life of key and place.
        holder.release(&key, &lease).await;
        wait_until("the grant", SOON, || heard.0.lock().expect("no panic").is_some());
        let now = waiting.platform.clock.now();
        let told = heard.0.lock().expect("no panic").take();
        let Some(News::Granted { until, .. }) = told else { panic!("{told:?}") };
        assert!(until.since(now) <= limits::GRANT_WINDOW, "{:?}", until.since(now));
    });
}

#[derive(Debug, Default)]
struct Heard(Mutex<Option<News>>);

impl Listener for Heard {
    fn woken(&self, wake: &Wake) -> bool {
        *self.0.lock().expect("no panic") = Some(wake.news);
        true
    }
}
