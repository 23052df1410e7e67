//! Many leases at once, and many names one after the other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bidlock::{Event, Lease, Locker, Observer, Wait};
use bidlock_testkit::servers::ServerKind;
use tokio::task::JoinSet;

use crate::kit::{Fleet, calls, figure, key, millis, run, size, sleep, spread, ttl};

/// Keeps how late renewals were, and what went wrong.
#[derive(Debug, Default)]
struct Lags(Mutex<Seen>);

#[derive(Debug, Default, Clone)]
struct Seen {
    lags: Vec<Duration>,
    slack: Option<Duration>,
    failed: usize,
    lost: usize,
}

impl Observer for Lags {
    fn on(&self, event: &Event<'_>) {
        let mut seen = self.0.lock().expect("nobody panicked");
        match event {
            Event::Renewed { lag, slack, .. } => {
                seen.lags.push(*lag);
                seen.slack = Some(seen.slack.unwrap_or(*slack).min(*slack));
            }
            Event::RenewalFailed { .. } => seen.failed += 1,
            Event::Lost { .. } => seen.lost += 1,
            _ => {}
        }
    }
}

/// Takes so many keys, a hundred at a time.
async fn take(locker: &Locker, number: usize, ttl_length: Duration) -> Vec<Lease> {
    let mut all = Vec::with_capacity(number);
    for start in (0..number).step_by(100) {
        let mut some = JoinSet::new();
        for n in start..number.min(start + 100) {
            let asked = locker.acquire(&key(n)).wait(Wait::No).ttl(ttl(ttl_length));
            some.spawn(async move { asked.await.expect("it is free") });
        }
        all.extend(some.join_all().await);
    }
    all
}

#[test]
fn many_leases_of_one_process_are_all_renewed_in_time() {
    let fleet = Fleet::new(ServerKind::Redis70);
    let (number, ttl_length, held) = size(
        (2_000, Duration::from_secs(3), Duration::from_secs(7)),
        (10_000, Duration::from_secs(10), Duration::from_mins(2)),
    );
    run(async {
        let lags = Arc::new(Lags::default());
        let builder = Locker::builder().observer(Arc::clone(&lags) as Arc<dyn Observer>);
        let locker = builder.connect(&fleet.server.url()).await.expect("the server answers");
        let leases = take(&locker, number, ttl_length).await;
        fleet.server.reset_stats();
        sleep(&locker, held).await;
        let calls = calls(&fleet.server);
        let bytes: u64 = fleet.server.info("stats", "total_net_input_bytes").parse().unwrap();
        // Since Redis 7.0 a read is counted; each may have many commands.
        let reads: u64 = fleet.server.info("stats", "total_reads_processed").parse().unwrap();
        for lease in &leases {
            lease.check().expect("none is lost");
        }
        let seen = lags.0.lock().expect("nobody panicked").clone();
        let mut renewed = seen.lags;
        assert_eq!((seen.lost, seen.failed), (0, 0));
        // Each lease has one under way at most.
        let most = (renewed.len() + number) as u64;
        assert!(calls <= most, "{calls} calls, {} renewals", renewed.len());
        assert!(renewed.len() > 2 * number, "{} renewals", renewed.len());
        // R27
        let most = *renewed.iter().max().expect("there are some");
        assert!(most < ttl_length / 3, "a renewal was {most:?} late");
        assert!(bytes / calls < 500, "{} bytes for a renewal", bytes / calls);
        let slack = seen.slack.expect("there are some");
        figure(
            "leases",
            format!(
                "{number} of TTL {ttl_length:?} for {held:?}: lag {}; least slack \
            {slack:?}; {calls} calls of {} bytes in {reads} reads",
                spread(&mut renewed),
                bytes / calls
            ),
        );
        for some in leases.chunks(100) {
            let key = some[0].key().clone();
            assert_eq!(fleet.server.text(&["EXISTS", key.as_str()]), "1");
        }
        drop(leases);
        locker.close().await;
        assert_eq!(fleet.server.text(&["DBSIZE"]), "1", "only the counter is left");
    });
}

/// How much memory this process has, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("there is /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.split_whitespace().next().expect("a number").parse().expect("a number")
}

/// Locks and releases so many names, a hundred at a time; with somebody who waits for each, too.
async fn names(locker: &Locker, first: usize, number: usize, contended: bool) {
    let mut some = JoinSet::new();
    for n in first..first + number {
        if some.len() == 100 {
            some.join_next().await.expect("a hundred run").expect("it ends");
        }
        let locker = locker.clone();
        some.spawn(async move {
            let ask = || locker.acquire(&key(n)).wait(Wait::For(Duration::from_secs(30)));
            let lease = ask().await.expect("it is granted");
            if !contended {
                return lease.release().await.expect("it is released");
            }
            let (released, next) = tokio::join!(
                async {
                    sleep(&locker, millis(1)).await;
                    lease.release().await
                },
                ask()
            );
            released.expect("it is released");
            // Half of them are released in the background.
            let next = next.expect("it is granted");
            if n % 2 == 0 { next.release().await.expect("it is released") } else { drop(next) }
        });
    }
    some.join_all().await;
    locker.close().await;
}

#[test]
fn names_that_came_and_went_leave_nothing() {
    for (contended, number) in
        size([(false, 20_000), (true, 4_000)], [(false, 1_000_000), (true, 100_000)])
    {
        let fleet = Fleet::new(ServerKind::Redis70);
        run(async {
            let locker = crate::kit::locker(&fleet.server.url()).await;
            names(&locker, 0, 2_000, contended).await;
            let (client, server) = (resident(), fleet.server.used_memory());
            let begun = crate::kit::now(&locker);
            names(&locker, 2_000, number, contended).await;
            let took = crate::kit::now(&locker).since(begun);
            assert_eq!(fleet.server.text(&["DBSIZE"]), "1", "only the counter is left");
            let client = resident().saturating_sub(client);
            let server = fleet.server.used_memory().saturating_sub(server) / 1_024;
            let what = if contended { "with a waiter each" } else { "without waiters" };
            figure(
                "names",
                format!(
                    "{number} {what}: client +{client} KiB, server +{server} KiB, \
                {took:?}"
                ),
            );
            // R26; other tests of this process have memory too.
            assert!(client < 16 * 1_024, "{what}: client +{client} KiB");
            assert!(server < 256, "{what}: server +{server} KiB");
        });
    }
}
