//! What a locker makes of a bridge, in real time.

use std::future::{Future as _, IntoFuture as _};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bidlock::{Error, Key, Locker, LossReason, OldTable, Ttl, Wait};

use crate::kit::OldFile;

const TTL: Duration = Duration::from_secs(3);
const SOON: Duration = Duration::from_secs(20);

fn key() -> Key {
    Key::new("upwork", "a").unwrap()
}

fn ttl() -> Ttl {
    Ttl::new(TTL).unwrap()
}

async fn locker(old: &OldFile, url: &str) -> Locker {
    Locker::builder().also(OldTable::parse(&old.url()).unwrap()).connect(url).await.unwrap()
}

fn wall(locker: &Locker) -> f64 {
    Duration::from_micros(locker.platform().clock.wall().as_micros()).as_secs_f64()
}

async fn pause(locker: &Locker, time: Duration) {
    let clock = Arc::clone(&locker.platform().clock);
    clock.sleep_until(clock.now() + time).await;
}

#[tokio::test]
async fn a_lease_outlives_its_ttl_in_both_stores() {
    // R4
    let old = OldFile::new();
    let locker = locker(&old, "memory:").await;
    let lease = locker.acquire(&key()).ttl(ttl()).await.unwrap();
    for _ in 0..8 {
        pause(&locker, TTL / 4).await;
        assert!(!old.takes("a", wall(&locker), 60.0));
        lease.check().unwrap();
    }
    assert!(old.rows()[0].2 > wall(&locker) + 1.9 + TTL.as_secs_f64() / 2.0);
    lease.release().await.unwrap();
    assert!(old.rows().is_empty());
}

#[tokio::test]
async fn a_deleted_row_loses_the_lease_as_taken_within_a_third_of_its_ttl() {
    // P6, I15
    let old = OldFile::new();
    let locker = locker(&old, "memory:").await;
    let lease = locker.acquire(&key()).ttl(ttl()).await.unwrap();
    old.connection().execute("DELETE FROM distributed_locks", []).unwrap();
    assert!(old.takes("a", wall(&locker), 60.0));
    let began = locker.platform().clock.now();
    let reason = tokio::time::timeout(SOON, lease.lost()).await.unwrap();
    assert_eq!(reason, LossReason::Taken);
    assert!(locker.platform().clock.now().since(began) < TTL / 2);
    drop(lease);
    locker.close().await;
    assert_eq!(old.rows()[0].1, "old-worker");
    let held = locker.acquire(&key()).wait(Wait::No).await.unwrap_err();
    let Error::Held { holder, .. } = held else { panic!("{held}") };
    assert!(holder.to_string().contains("old-worker in distributed_locks"), "{holder}");
}

#[tokio::test]
async fn a_wait_behind_an_old_worker_ends_with_its_release_or_its_budget() {
    // R17
    let old = OldFile::new();
    let locker = locker(&old, "memory:").await;
    assert!(old.takes("a", wall(&locker), 60.0));
    let wait = Wait::For(Duration::from_millis(700));
    let began = locker.platform().clock.now();
    let out = locker.acquire(&key()).ttl(ttl()).wait(wait).await.unwrap_err();
    let took = locker.platform().clock.now().since(began);
    let Error::TimedOut { holder, .. } = &out else { panic!("{out}") };
    assert!(holder.is_foreign(), "{holder}");
    assert!((690..900).contains(&took.as_millis()), "{took:?}");
    locker.close().await;
    let browse = locker.browse().unwrap();
    assert_eq!(browse.inspect(&key()).await.unwrap().unwrap().waiters, 0, "nobody waits any more");

    let acquire = locker.acquire(&key()).ttl(ttl()).wait(Wait::Forever);
    let waiting = tokio::spawn(async move { acquire.await });
    pause(&locker, Duration::from_millis(500)).await;
    assert_eq!(browse.inspect(&key()).await.unwrap().unwrap().waiters, 1);
    old.releases("a");
    let lease = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    lease.check().unwrap();
    lease.release().await.unwrap();
    assert!(old.rows().is_empty());
}

#[tokio::test]
async fn waiters_take_turns_without_the_row_ever_being_free() {
    let old = OldFile::new();
    let folder = bidlock_testkit::temp_dir();
    let url = format!("sqlite://{}/new.db", folder.path().display());
    let locker = locker(&old, &url).await;
    let first = locker.acquire(&key()).ttl(ttl()).await.unwrap();
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let acquire = locker.acquire(&key()).ttl(ttl()).wait(Wait::Forever);
        waiting.push(tokio::spawn(async move {
            let lease = acquire.await.unwrap();
            let token = lease.token();
            lease.check().unwrap();
            lease.release().await.unwrap();
            token
        }));
        pause(&locker, Duration::from_millis(20)).await;
    }
    let mut token = first.token();
    first.release().await.unwrap();
    for next in waiting {
        let next = tokio::time::timeout(SOON, next).await.unwrap().unwrap();
        assert!(next > token, "P3, P4: in their order");
        token = next;
    }
    locker.close().await;
    assert!(old.rows().is_empty());
}

#[tokio::test]
async fn an_acquire_that_is_dropped_at_any_step_leaves_nothing_in_either_store() {
    // R9, I11
    let old = OldFile::new();
    let locker = locker(&old, "memory:").await;
    for behind in [false, true] {
        for steps in 0..24_u64 {
            if behind {
                assert!(old.takes("a", wall(&locker), 60.0));
            }
            let brief = Ttl::new(Duration::from_millis(700)).unwrap();
            let mut acquire = Box::pin(locker.acquire(&key()).ttl(brief).into_future());
            for _ in 0..steps % 12 {
                let polled = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if polled.is_ready() {
                    break;
                }
                // Its steps end on another thread: some of them are met, each time others.
                pause(&locker, Duration::from_micros(steps * 20)).await;
            }
            drop(acquire);
            locker.close().await;
            if behind {
                old.releases("a");
            }
            assert!(old.rows().is_empty(), "{steps} {:?}", old.rows());
            assert_eq!(locker.browse().unwrap().inspect(&key()).await.unwrap(), None, "{steps}");
        }
    }
}

#[tokio::test]
async fn a_runtime_is_not_blocked_by_a_busy_file() {
    let old = OldFile::new();
    let locker = locker(&old, "memory:").await;
    let other = old.connection();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let acquire = locker.acquire(&key()).ttl(ttl());
    let waiting = tokio::spawn(async move { acquire.await });
    let began = locker.platform().clock.now();
    for _ in 0..20 {
        pause(&locker, Duration::from_millis(10)).await;
    }
    let took = locker.platform().clock.now().since(began);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!waiting.is_finished());
    other.execute_batch("COMMIT").unwrap();
    let lease = tokio::time::timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
    lease.release().await.unwrap();
}

#[tokio::test]
async fn an_old_file_that_is_gone_ends_the_lease_as_unreachable() {
    // P5
    let old = OldFile::new();
    let locker = locker(&old, "memory:").await;
    let lease = locker.acquire(&key()).ttl(ttl()).await.unwrap();
    std::fs::remove_file(&old.path).unwrap();
    let reason = tokio::time::timeout(SOON, lease.lost()).await.unwrap();
    assert_eq!(reason, LossReason::Unreachable);
    assert!(locker.try_acquire(&key()).await.is_err(), "and nothing new is locked");
}
