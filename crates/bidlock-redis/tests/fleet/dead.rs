//! Holders and waiters that die, and those behind them.

use std::time::Duration;

use bidlock::Wait;
use bidlock_testkit::servers::ServerKind;
use bidlock_testkit::wait_until;

use crate::kit::{
    Fleet, SOON, calls, figure, key, locker, millis, now, queued, rest, run, size, teach, ttl,
};
use crate::parts::holds;
use crate::servers;

servers!(one_waiter_of_each_process_tries);

fn one_waiter_of_each_process_tries(kind: ServerKind) {
    const PROCESSES: u64 = 10;
    let tasks = size(200, 1_000);
    let fleet = Fleet::new(kind);
    teach(&fleet.server);
    let mut holder = fleet.play("holder", &[1, 2_000, 1]);
    holds(&holder);
    let play = |_| fleet.play("crowd", &[1, tasks / PROCESSES, 300_000, 60_000, 3_000]);
    let crowd: Vec<_> = (0..PROCESSES).map(play).collect();
    queued(&fleet.server, &key(1), usize::try_from(tasks).expect("few"));
    holder.kill().expect("it can be killed");
    holder.wait(SOON);
    fleet.server.reset_stats();
    wait_until("one has it", SOON, || fleet.lines() == 1);
    rest(Duration::from_secs(1));
    // R3: one look of each process before the end, which is up to 2 s off, and one after it; and
    // the hand-over.
    let expiry = calls(&fleet.server);
    assert!(expiry <= 3 * PROCESSES, "{kind}: {expiry} calls when the holder's lease ended");
    fleet.server.reset_stats();
    wait_until("the next has it", SOON, || fleet.lines() == 3);
    rest(Duration::from_secs(1));
    let release = calls(&fleet.server);
    // Release and confirmation, and the looks of the three at most who were told of the window of
    // the hand-over before, when that ends just now.
    assert!((2..=5).contains(&release), "{kind}: {release} calls for one hand-over");
    figure(
        "herd",
        format!(
            "{kind}: {tasks} waiters in {PROCESSES}: {expiry} calls at expiry, \
        {release} at release"
        ),
    );
    drop(crowd);
}

/// A waiter of this process behind a holder and a waiter in another one, which dies as soon as
/// `dies` says.
fn behind(ttl_ms: u64, dies: impl FnOnce(&Fleet)) -> (Duration, Duration) {
    let fleet = Fleet::new(ServerKind::Redis70);
    let locker = run(locker(&fleet.server.url()));
    let first = run(locker.acquire(&key(1)).into_future()).expect("it is free");
    // Its second waiter is the next in line.
    let other = fleet.play("crowd", &[1, 2, 0, ttl_ms, 3_600_000]);
    queued(&fleet.server, &key(1), 2);
    run(async {
        let waits = locker.acquire(&key(1)).wait(Wait::For(SOON)).ttl(ttl(SOON));
        let mut waits = tokio::task::JoinSet::from_iter([waits.into_future()]);
        while crate::kit::queue(&fleet.server, &key(1)).len() < 3 {
            crate::kit::sleep(&locker, millis(5)).await;
        }
        first.release().await.expect("it is released");
        dies(&fleet);
        other.kill().expect("it can be killed");
        let left = fleet.server.text(&["PTTL", key(1).as_str()]);
        let killed = now(&locker);
        let lease = waits.join_next().await.expect("one waits").expect("it ends");
        let took = now(&locker).since(killed);
        lease.expect("it is granted").release().await.expect("it is released");
        (took, millis(left.parse().unwrap_or_default()))
    })
}

#[test]
fn the_grant_of_a_process_that_died_within_its_window_goes_on() {
    let (took, left) = behind(300_000, |_| ());
    // P4: its rest, which is a window, and a second.
    assert!(took < millis(4_000), "{took:?}, {left:?} were left");
    figure("died in its window", format!("the next after {took:?}, {left:?} were left"));
}

#[test]
fn a_short_lease_that_was_handed_over_goes_on_when_its_process_dies() {
    let (took, left) = behind(1_500, |fleet| {
        wait_until("it holds", SOON, || fleet.lines() == 1);
        // Long after its window, which is as long as its TTL.
        rest(Duration::from_secs(5));
    });
    assert!(left <= millis(1_500), "{left:?}");
    // P4
    assert!(took < millis(2_500), "{took:?}, {left:?} were left");
    figure("died with a short lease", format!("the next after {took:?}, {left:?} were left"));
}
