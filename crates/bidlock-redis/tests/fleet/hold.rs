//! Leases that are held for long, with the settings that everybody has (R4).

use std::time::Duration;

use bidlock::{Locker, Wait};
use bidlock_testkit::servers::{OffsetClock, ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use crate::kit::{
    Fleet, SOON, figure, key, leap, leaping, locker, millis, now, run, size, sleep, ttl,
};
use crate::parts::holds;

#[test]
fn work_of_ten_times_the_ttl_is_never_disturbed() {
    let fleet = Fleet::new(ServerKind::Redis62);
    let ttl_ms = size(500, 3_000);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let lease = locker.acquire(&key(1)).ttl(ttl(millis(ttl_ms))).await.expect("it is free");
        let rivals: Vec<_> = (0..3).map(|_| fleet.play("rival", &[1])).collect();
        let refused = |text: String| text.lines().filter(|line| *line == "refused").count();
        wait_until("all have tried", SOON, || rivals.iter().all(|r| refused(r.stdout()) > 0));
        sleep(&locker, millis(10 * ttl_ms)).await;
        lease.check().expect("it is held");
        let tried: usize = rivals.iter().map(|rival| refused(rival.stdout())).sum();
        for rival in &rivals {
            let output = rival.stdout();
            assert!(!output.contains("got it"), "{output}{}", rival.stderr());
        }
        lease.release().await.expect("it was held to its end");
        wait_until("it is free", SOON, || rivals.iter().any(|r| r.stdout().contains("got it")));
        fleet.sign("stop");
        figure("held for 10 TTL", format!("{ttl_ms} ms TTL: {tried} refusals, no grant"));
    });
}

#[test]
fn default_settings_hold_a_key_for_ten_times_their_ttl() {
    let fleet = Fleet::with(ServerKind::Valkey9, ServerOptions::new().clock(true));
    run(async {
        let clock = OffsetClock::start().expect("a thread starts");
        let url = fleet.server.url();
        let open = || Locker::builder().platform(leaping(&clock)).connect(&url);
        let (locker, rival) = (open().await.unwrap(), open().await.unwrap());
        let lease = locker.acquire(&key(1)).await.expect("it is free");
        let ttl = lease.ttl().get();
        for _ in 0..10 * 20 {
            leap(&fleet.server, &clock, ttl / 20).await;
            let refused = rival.try_acquire(&key(1)).await.expect("the server answers");
            assert!(refused.is_none(), "somebody else got it");
        }
        lease.check().expect("it is held");
        lease.release().await.expect("it was held to its end");
        assert!(rival.try_acquire(&key(1)).await.expect("the server answers").is_some());
    });
}

#[test]
fn a_killed_holder_of_default_settings_keeps_the_key_for_its_ttl_and_no_longer() {
    let fleet = Fleet::with(ServerKind::Redis70, ServerOptions::new().clock(true));
    let default = bidlock::limits::TTL_DEFAULT;
    let millis = u64::try_from(default.as_millis()).expect("a short TTL");
    let mut holder = fleet.play("holder", &[1, millis, 1]);
    holds(&holder);
    holder.kill().expect("it can be killed");
    holder.wait(SOON);
    run(async {
        let clock = OffsetClock::start().expect("a thread starts");
        let builder = Locker::builder().platform(leaping(&clock));
        let locker = builder.connect(&fleet.server.url()).await.expect("the server answers");
        let wait = Wait::For(default * 2);
        let mut waits =
            tokio::task::JoinSet::from_iter([locker.acquire(&key(1)).wait(wait).into_future()]);
        for _ in 0..29 {
            leap(&fleet.server, &clock, Duration::from_secs(10)).await;
        }
        assert!(waits.try_join_next().is_none(), "it was passed on too early");
        leap(&fleet.server, &clock, Duration::from_secs(10)).await;
        let expired = clock.offset();
        let lease = loop {
            if let Some(ended) = waits.try_join_next() {
                break ended.expect("it ends").expect("it is granted");
            }
            assert!(clock.offset() < expired + Duration::from_secs(1), "not within a second");
            leap(&fleet.server, &clock, Duration::from_millis(100)).await;
        };
        lease.release().await.expect("it is released");
    });
}

#[test]
fn a_killed_holders_key_goes_to_a_waiter_within_its_ttl_and_a_second() {
    for kind in size(vec![ServerKind::Redis70], ServerKind::ALL.to_vec()) {
        let fleet = Fleet::new(kind);
        let holder = fleet.play("holder", &[1, 1_000, 1]);
        holds(&holder);
        run(async {
            let locker = locker(&fleet.server.url()).await;
            let waits = locker.acquire(&key(1)).wait(Wait::For(SOON)).into_future();
            let mut waits = tokio::task::JoinSet::from_iter([waits]);
            // It is renewed all the while.
            sleep(&locker, millis(1_500)).await;
            assert!(waits.try_join_next().is_none(), "{kind}: it was passed on while it was held");
            holder.kill().expect("it can be killed");
            let killed = now(&locker);
            let lease = waits.join_next().await.expect("one waits").expect("it ends");
            let took = now(&locker).since(killed);
            assert!(took < millis(2_000), "{kind}: {took:?}");
            lease.expect("it is granted").release().await.expect("it is released");
            figure("killed holder", format!("{kind}: TTL 1 s, the next after {took:?}"));
        });
    }
}
