//! A call takes the time that it was given (R17), and what was dropped is gone (R9).

use std::time::Duration;

use bidlock::{Error, Locker, Wait};
use bidlock_testkit::servers::ServerKind;
use tokio::task::JoinSet;

use crate::kit::{
    Fleet, calls, figure, key, locker, millis, now, queue, run, size, sleep, spread, teach, ttl,
};
use crate::servers;

servers!(a_call_ends_with_its_budget, dropped_acquires_leave_nothing);

/// How much longer than 50 ms a shared machine may take.
const SLACK: u32 = 4;
const LATE: Duration = Duration::from_millis(50);

/// How long an acquire that fails takes.
async fn asks(locker: &Locker, wait: Wait, ttl_length: Duration) -> (Error, Duration) {
    let begun = now(locker);
    let asked = locker.acquire(&key(1)).wait(wait).ttl(ttl(ttl_length)).await;
    (asked.expect_err("somebody else has it"), now(locker).since(begun))
}

fn a_call_ends_with_its_budget(kind: ServerKind) {
    let fleet = Fleet::new(kind);
    teach(&fleet.server);
    run(async {
        let (holder, locker) =
            (locker(&fleet.server.url()).await, locker(&fleet.server.url()).await);
        let lease = holder.acquire(&key(1)).await.expect("it is free");
        fleet.server.reset_stats();
        let (error, took) = asks(&locker, Wait::No, millis(300_000)).await;
        assert!(matches!(error, Error::Held { .. }), "{error}");
        assert_eq!(calls(&fleet.server), 1, "exactly one attempt");
        assert!(took < LATE * SLACK, "{took:?}");
        let mut late = Vec::new();
        for stopped in [false, true] {
            if stopped {
                fleet.server.stop();
            }
            for (wait, ttl_ms) in [(20, 100), (100, 300_000), (333, 1_000), (700, 60_000)] {
                let (error, took) = asks(&locker, Wait::For(millis(wait)), millis(ttl_ms)).await;
                let told = match error {
                    Error::TimedOut { .. } => !stopped,
                    Error::Store(_) => stopped,
                    _ => false,
                };
                assert!(told, "{kind}, stopped {stopped}: {error}");
                assert!(took >= millis(wait) || stopped, "{kind}: {took:?} of {wait} ms");
                late.push(took.saturating_sub(millis(wait)));
            }
            if stopped {
                fleet.server.go_on();
            }
        }
        assert!(late.iter().all(|late| *late < LATE * SLACK), "{kind}: {late:?}");
        figure("budget", format!("{kind}: later than asked {}", spread(&mut late)));
        lease.release().await.expect("it was held all the while");
    });
}

#[test]
fn a_cancelled_wait_leaves_the_queue() {
    let fleet = Fleet::new(ServerKind::Redis70);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let lease = locker.acquire(&key(1)).await.expect("it is free");
        let mut late = Vec::new();
        for _ in 0..20 {
            let mut waits = JoinSet::from_iter([locker.acquire(&key(1)).into_future()]);
            while queue(&fleet.server, &key(1)).is_empty() {
                sleep(&locker, millis(2)).await;
            }
            let cancelled = now(&locker);
            waits.shutdown().await;
            while !queue(&fleet.server, &key(1)).is_empty() {
                sleep(&locker, millis(1)).await;
            }
            late.push(now(&locker).since(cancelled));
        }
        assert!(late.iter().all(|late| *late < LATE * SLACK), "{late:?}");
        figure("cancel", format!("out of the queue after {}", spread(&mut late)));
        lease.release().await.expect("it is held");
    });
}

fn dropped_acquires_leave_nothing(kind: ServerKind) {
    let fleet = Fleet::new(kind);
    run(async {
        let lockers = [locker(&fleet.server.url()).await, locker(&fleet.server.url()).await];
        let number = size(1_000, 10_000);
        let mut others = JoinSet::new();
        for locker in &lockers {
            // Load: leases that come and go all the time.
            let locker = locker.clone();
            others.spawn(async move {
                for n in 0..number {
                    let asked = locker.acquire(&key(n % 3)).wait(Wait::For(millis(20)));
                    drop(asked.ttl(ttl(millis(2_000))).await);
                }
            });
        }
        for n in 0..number {
            let locker = &lockers[n % 2];
            let asked = locker.acquire(&key(n % 3)).ttl(ttl(millis(2_000))).into_future();
            let mut asked = Box::pin(asked);
            // Polled a few times, and dropped wherever it is then.
            for _ in 0..n % 7 {
                let once = polled_once(&mut asked).await;
                if once {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        others.join_all().await;
        for locker in &lockers {
            locker.close().await;
        }
        // Those that were never answered are given up once more after their deadline.
        let left = fleet.server.text(&["KEYS", "*"]);
        assert!(left.lines().all(|name| name == "bid_lock:#tokens"), "{kind}: {left}");
        for n in 0..3 {
            let free = lockers[0].try_acquire(&key(n)).await.expect("the server answers");
            assert!(free.is_some(), "{kind}: job {n} is an orphan's");
        }
    });
}

/// Polls once; returns whether that was the end, and drops what came of it.
async fn polled_once<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    std::future::poll_fn(|context| {
        let ended = std::pin::Pin::new(&mut *future).poll(context);
        std::task::Poll::Ready(ended.is_ready())
    })
    .await
}
