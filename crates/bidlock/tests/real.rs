//! What only the real clock, threads and files can show.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

use std::time::Duration;

use bidlock::{ConfigError, Error, Key, Locker, StoreUrl, Ttl, Wait};

fn key() -> Key {
    Key::new("upwork", "job_123").unwrap()
}

fn short() -> Ttl {
    Ttl::new(Duration::from_millis(400)).unwrap()
}

fn file(folder: &tempfile::TempDir) -> String {
    format!("sqlite://{}", folder.path().join("bidlock.db").display())
}

#[tokio::test]
async fn a_blocked_runtime_does_not_starve_the_renewal() {
    // R7
    for sqlite in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let url = if sqlite { file(&folder) } else { "memory:".to_owned() };
        let locker = Locker::connect(&url).await.unwrap();
        let lease = locker.acquire(&key()).ttl(short()).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "blocking the runtime is the point")]
        std::thread::sleep(Duration::from_secs(2));
        lease.check().unwrap();
        assert!(locker.try_acquire(&key()).await.unwrap().is_none());
    }
}

#[test]
fn a_lease_may_be_dropped_outside_of_any_runtime() {
    // R13
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let locker = runtime.block_on(Locker::connect("memory:")).unwrap();
    let lease = runtime.block_on(locker.acquire(&key()).into_future()).unwrap();
    drop(runtime);
    drop(lease);
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    other.block_on(locker.close());
    let free = other.block_on(locker.try_acquire(&key())).unwrap();
    assert!(free.is_some());
}

#[test]
fn a_panic_in_the_work_releases_the_lease() {
    // R13
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let locker = runtime.block_on(Locker::connect("memory:")).unwrap();
    let work = {
        let locker = locker.clone();
        move || {
            runtime.block_on(async {
                let _lease = locker.acquire(&key()).await.unwrap();
                panic!("the work goes wrong");
            })
        }
    };
    let panicked = std::thread::spawn(work).join().unwrap_err();
    assert_eq!(panicked.downcast_ref::<&str>(), Some(&"the work goes wrong"));
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
    other.block_on(locker.close());
    assert!(other.block_on(locker.try_acquire(&key())).unwrap().is_some());
}

#[tokio::test]
async fn the_last_locker_may_go_before_its_lease() {
    let folder = tempfile::tempdir().unwrap();
    let locker = Locker::connect(&file(&folder)).await.unwrap();
    let lease = locker.acquire(&key()).ttl(short()).await.unwrap();
    drop(locker);
    let platform = bidlock::platform::system().unwrap();
    let clock = &platform.clock;
    clock.sleep_until(clock.now() + Duration::from_secs(1)).await;
    lease.check().unwrap();
    lease.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_and_two_lockers_of_one_file_take_turns() {
    // P2: the counter is read and written in two steps, which only a holder may do.
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    let folder = tempfile::tempdir().unwrap();
    let lockers = [
        Locker::connect(&file(&folder)).await.unwrap(),
        Locker::connect(&file(&folder)).await.unwrap(),
    ];
    let (counter, inside) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for n in 0..40 {
        let locker = lockers[n % 2].clone();
        let (counter, inside) = (Arc::clone(&counter), Arc::clone(&inside));
        tasks.push(tokio::spawn(async move {
            let lease =
                locker.acquire(&key()).wait(Wait::For(Duration::from_mins(1))).await.unwrap();
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "another is inside");
            let seen = counter.load(Ordering::SeqCst);
            tokio::task::yield_now().await;
            counter.store(seen + 1, Ordering::SeqCst);
            lease.check().unwrap();
            inside.fetch_sub(1, Ordering::SeqCst);
            lease.release().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(counter.load(Ordering::SeqCst), 40);
}

#[tokio::test]
async fn a_bad_url_names_what_is_wrong_and_what_is_accepted() {
    for (url, said) in [
        ("mysql://h/db", "unknown scheme \"mysql\""),
        ("nothing", "not a URL"),
        ("", "empty"),
        ("sqlite:", "no file is named"),
        ("sqlite:///folder/", "no file is named"),
        ("sqlite://host.db", "stands where a host would"),
        ("sqlite:///a?mode=ro", "a path without ?"),
        ("sqlite::memory:", "cannot be shared"),
        ("memory:x", "takes no path"),
        ("postgres://u:s3cret@h/db", "keeps the ledger"),
        ("redis://:s3cret@h:port", "the port is not a number"),
        ("redis://:s3cret@h/first", "what follows the /"),
        ("rediss://s3cret@h", "without a password"),
        ("valkey://u:s3?cret@h", "\"valkey://***\""),
        ("valkeys://u:s3cret@", "no host is named"),
        ("unix://run?password=s3cret", "unix:///PATH"),
        ("redis:u:s3cret@h", "\"***\""),
    ] {
        let refused = Locker::connect(url).await.unwrap_err();
        assert!(matches!(refused, Error::Config(ConfigError::Url { .. })), "{url}: {refused}");
        let text = refused.to_string();
        assert!(text.contains(said), "{url}: {text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[test]
fn a_server_is_shown_without_its_password() {
    for (url, shown) in [
        ("redis://u:s3cret@h:6380/2", "redis://u:***@h:6380/2"),
        ("VALKEY://:s3%40cret@h", "redis://:***@h:6379/0"),
        ("rediss://u:s3cret@[::1]?ca=/x.pem", "rediss://u:***@[::1]:6379/0"),
        ("valkeys://h", "rediss://h:6379/0"),
        ("unix:///run/redis.sock?db=1&password=s3cret", "unix:///run/redis.sock?db=1"),
    ] {
        let read = StoreUrl::lock(url).unwrap();
        assert!(matches!(read, StoreUrl::Redis(_)) && read.is_shared(), "{url}");
        assert_eq!(read.to_string(), shown);
        assert!(!format!("{read:?}").contains("cret"), "{read:?}");
    }
    let parts = StoreUrl::redis("h", 6380, 2, Some("s3%cret@/ ")).unwrap();
    assert_eq!(parts, StoreUrl::lock("redis://:s3%25cret%40%2F%20@h:6380/2").unwrap());
    assert!(!format!("{parts:?} {parts}").contains("s3"), "{parts:?}");
    assert!(StoreUrl::redis("a b", 1, 0, None).is_err());
}
