//! A real process that is stopped while it holds a key.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bidlock::{Error, Locker, LossReason, Wait};
use bidlock_testkit::servers::ServerKind;
use bidlock_testkit::{Process, temp_dir, wait_until};

use crate::scene::{SOON, Scene, key, millis, pause, run, ttl, within};

const FOLDER: &str = "BIDLOCK_TEST_FOLDER";
const URL: &str = "BIDLOCK_TEST_URL";
const TTL: u64 = 1_000;

/// Holds the key, and notes when each of its checks began that said yes; then what ended it.
fn holder(folder: &Path, url: &str) {
    run(async {
        let locker = Locker::connect(url).await.expect("the server answers");
        let lease = locker.acquire(&key("job")).ttl(ttl(TTL)).await.expect("it is free");
        let clock = &locker.platform().clock;
        let mut steps = String::new();
        let begun = clock.now();
        let reason = loop {
            let before = clock.now();
            match lease.check() {
                Ok(_) => writeln!(steps, "{}", before.since_boot().as_micros()).expect("a string"),
                Err(Error::Lost { reason, .. }) => break reason,
                Err(failed) => panic!("{failed:?}"),
            }
            if before.since(begun) > Duration::from_millis(TTL * 2)
                && !folder.join("token").exists()
            {
                // It is renewed by now, so that it is stopped in the middle of a long life.
                fs::write(folder.join("token"), lease.token().to_string()).expect("a folder");
            }
            pause(Duration::from_millis(1)).await;
        };
        fs::write(folder.join("steps"), steps).expect("a folder");
        fs::write(folder.join("said"), format!("{reason:?}")).expect("a folder");
        drop(lease);
        locker.close().await;
    });
}

#[test]
fn a_process_that_stood_still_for_longer_than_its_lease_takes_no_further_step() {
    if let (Some(folder), Ok(url)) = (env::var_os(FOLDER), env::var(URL)) {
        return holder(&PathBuf::from(folder), &url);
    }
    let test =
        "processes::a_process_that_stood_still_for_longer_than_its_lease_takes_no_further_step";
    let (scene, folder) = (Scene::new(ServerKind::Valkey9), temp_dir());
    let exe = env::current_exe().expect("the test knows its own file");
    let mut command = Command::new(exe);
    command.args([test, "--exact", "--nocapture"]);
    command.env(FOLDER, folder.path()).env(URL, scene.server.url());
    let mut stopped = Process::spawn(&mut command).expect("a process starts");
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    wait_until("it holds the key", SOON, || !read("token").is_empty());
    let first: u64 = read("token").parse().expect("a number");
    run(async {
        let (locker, key) = (scene.direct().await, key("job"));
        let waiter = locker.acquire(&key).ttl(ttl(5_000)).wait(Wait::For(SOON)).into_future();
        let waiter = tokio::spawn(waiter);
        scene.await_queue(&key, 1);
        stopped.stop().expect("it runs");
        let next = within("the next", millis(TTL + 1_000), waiter).await;
        let granted = locker.platform().clock.now();
        let next = next.expect("no panic").expect("its turn");
        assert!(next.token().get() > first);
        stopped.go_on().expect("it is stopped");
        wait_until("it says what it found", SOON, || !read("said").is_empty());
        let said = read("said");
        let fits = [LossReason::Suspended, LossReason::Unreachable, LossReason::Taken];
        assert!(fits.iter().any(|reason| said == format!("{reason:?}")), "{said}");
        let last = read("steps").lines().last().map(str::parse::<u128>);
        let last = last.expect("some steps").expect("a number");
        let latest = granted.since_boot().as_micros();
        assert!(last < latest, "it took a step {} us after the next one's grant", last - latest);
        assert!(stopped.wait(SOON).success());
        // Its late release has taken nothing.
        next.renew().await.expect("it is held");
        assert_eq!(scene.token(&key), Some(next.token().get()));
        next.release().await.expect("it is held");
    });
}
