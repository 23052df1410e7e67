//! A hand-over between two processes that are far from their server.

use std::time::Duration;

use bidlock::Wait;
use bidlock_testkit::servers::{Proxy, ServerKind};

use crate::kit::{Fleet, SOON, figure, key, locker, millis, now, queue, run, size, sleep};
use crate::servers;

servers!(a_hand_over_takes_one_round_trip);

/// One way for the release, and one for the message: the next holder starts on that.
fn a_hand_over_takes_one_round_trip(kind: ServerKind) {
    const ONE_WAY: Duration = Duration::from_micros(2_500);
    let fleet = Fleet::new(kind);
    let proxy = Proxy::to(fleet.server.address());
    proxy.delay(ONE_WAY, ONE_WAY);
    let url = format!("redis://127.0.0.1:{}/0", proxy.port());
    let (first, second) = (run(locker(&url)), run(locker(&url)));
    let (mut trips, mut taken) = (Vec::new(), Vec::new());
    for n in 0..size(20, 200) {
        let key = key(n);
        let held = run(first.acquire(&key).into_future()).expect("it is free");
        run(async {
            let ping = first.ping().await.expect("it answers");
            trips.push(ping.latency);
            let waits = second.acquire(&key).wait(Wait::For(SOON));
            let waiter = tokio::spawn(waits.into_future());
            while queue(&fleet.server, &key).is_empty() {
                sleep(&second, millis(1)).await;
            }
            let began = now(&second);
            let release = tokio::spawn(held.release());
            let lease = waiter.await.expect("no panic").expect("its turn");
            taken.push(now(&second).since(began));
            release.await.expect("no panic").expect("it was held");
            lease.release().await.expect("it is held");
        });
    }
    trips.sort_unstable();
    taken.sort_unstable();
    let (trip, took) = (trips[trips.len() / 2], taken[taken.len() / 2]);
    let ratio = took.as_secs_f64() / trip.as_secs_f64();
    figure("hand-over", format!("{kind}: p50 {took:?}, {ratio:.2} round trips of {trip:?}"));
    // No figure, which machines under load would upset: one more trip would make it two.
    assert!(ratio < 1.8, "{kind}: {took:?} is {ratio:.2} round trips");
}
