//! The old system's clients, which use redis-py on the same keys, in one fleet with bidlock.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bidlock::{Error, LossReason, Wait};
use bidlock_testkit::servers::ServerKind;
use bidlock_testkit::{Process, wait_until};
use tokio::task::JoinSet;

use crate::kit::{
    Fleet, SOON, all_end, calls, figure, key, locker, millis, now, queue, run, size, sleep, spread,
    teach, ttl,
};
use crate::servers;

servers!(never_do_both_hold_a_posting, a_late_delete_is_reported_as_taken);

/// Where `cargo xtask tools` puts redis-py.
fn packages() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    let packages = target.join("tools/python");
    assert!(packages.join("redis").is_dir(), "no redis-py: `cargo xtask tools` installs it");
    packages
}

/// Starts an old client.
fn old(fleet: &Fleet, part: &str, words: &[usize]) -> Process {
    let mut command = Command::new("python3");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/old_client.py");
    command.arg(script).arg(part).args(words.iter().map(usize::to_string));
    command.env("PYTHONPATH", packages()).env("BIDLOCK_TEST_URL", fleet.server.url());
    command.env("BIDLOCK_TEST_FOLDER", fleet.folder());
    Process::spawn(&mut command).expect("there is python3")
}

fn says(process: &mut Process, word: &str) {
    wait_until(word, SOON, || {
        let bad = process.ended().expect("its state can be read").is_some_and(|s| !s.success());
        assert!(!bad, "{}", process.stderr());
        process.stdout().contains(word)
    });
}

/// The moments that an old client has printed behind a word, since the machine's start.
fn moments(output: &str, word: &str) -> Vec<Duration> {
    let behind = output.lines().filter_map(|line| line.strip_prefix(word));
    let numbers = behind.map(|rest| rest.split_whitespace().next_back().expect("a number"));
    numbers.map(|number| Duration::from_micros(number.parse().expect("a number"))).collect()
}

fn never_do_both_hold_a_posting(kind: ServerKind) {
    let fleet = Fleet::new(kind);
    let (processes, rounds) = size((3, 40), (10, 1_000));
    let mut all: Vec<Process> = Vec::new();
    for _ in 0..processes {
        all.push(old(&fleet, "fleet", &[3, rounds, 4]));
        all.push(fleet.play("crowd", &[3, rounds as u64, 4]));
    }
    for process in &mut all {
        says(process, "ready");
    }
    fleet.sign("go");
    all_end(&mut all);
    let ours = fleet.checked();
    let mut held: Vec<(String, Duration, Duration, &str)> = Vec::new();
    held.extend(ours.into_iter().map(|held| (held.key, held.entered, held.ended, "ours")));
    let theirs = std::fs::read_to_string(fleet.folder().join("old-log")).expect("a log");
    for line in theirs.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [key, from, to] = words[..] else { panic!("torn line {line:?}") };
        let [from, to] = [from, to].map(|n| Duration::from_micros(n.parse().expect("a number")));
        held.push((key.to_owned(), from, to, "theirs"));
    }
    assert_eq!(held.len(), 2 * processes * rounds);
    held.sort();
    let mut changes = 0;
    for pair in held.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[0].2 <= pair[1].1, "{kind}: both held it: {pair:?}");
        changes += usize::from(pair[0].3 != pair[1].3);
    }
    figure("old clients", format!("{kind}: {} leases, {changes} changes of side", held.len()));
    assert!(changes > rounds / 4, "{kind}: {changes} changes only: they did not meet");
    assert_eq!(fleet.server.text(&["KEYS", "*"]), "bid_lock:#tokens");
}

#[test]
fn a_waiter_has_the_key_soon_after_an_old_clients_delete() {
    let fleet = Fleet::new(ServerKind::Redis62);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let mut late = Vec::new();
        let mut others = Vec::new();
        for (number, hold_ms) in [4_000, 4_300, 5_500].into_iter().enumerate() {
            let mut one = old(&fleet, "hold", &[number, hold_ms]);
            says(&mut one, "held");
            others.push(one);
        }
        let mut waits = JoinSet::new();
        for number in 0..others.len() {
            // Three of them wait, and one after the other has it.
            for _ in 0..3 {
                let locker = locker.clone();
                waits.spawn(async move {
                    let begun = now(&locker).since_boot();
                    let asked = locker.acquire(&key(number)).wait(Wait::For(SOON));
                    let lease = asked.await.expect("it is granted");
                    let at = now(&locker).since_boot();
                    lease.release().await.expect("it is held");
                    (number, begun, at)
                });
            }
        }
        let mut served = waits.join_all().await;
        served.sort();
        all_end(&mut others);
        for (number, begun, at) in served {
            let deleted = moments(&others[number].stdout(), "deleted")[0];
            assert!(at >= deleted, "job {number} was held by both");
            late.push(at.saturating_sub(deleted.max(begun)));
        }
        assert!(late.iter().all(|late| *late < millis(1_500)), "{late:?}");
        figure("after an old delete", spread(&mut late));
    });
}

#[test]
fn an_old_client_is_refused_while_bidlock_holds_and_shown_while_it_holds() {
    let fleet = Fleet::new(ServerKind::Valkey9);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let lease = locker.acquire(&key(1)).await.expect("it is free");
        let mut one = old(&fleet, "attempt", &[1]);
        says(&mut one, "refused");
        lease.release().await.expect("it is held");
        let mut one = old(&fleet, "attempt", &[1]);
        says(&mut one, "got");
        match locker.acquire(&key(1)).wait(Wait::No).await {
            Err(Error::Held { holder, remaining, .. }) => {
                assert!(holder.is_foreign(), "{holder}");
                assert!(holder.to_string().contains("holder"), "{holder}");
                assert!((millis(290_000)..=millis(300_000)).contains(&remaining), "{remaining:?}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_foreign_lock_without_an_end_is_waited_for_and_respected() {
    for kind in ServerKind::ALL {
        let fleet = Fleet::new(kind);
        fleet.server.command(&["SET", key(1).as_str(), "somebody at it", "NX"]);
        run(async {
            let locker = locker(&fleet.server.url()).await;
            let asked = locker.acquire(&key(1)).wait(Wait::For(millis(300)));
            let Err(Error::TimedOut { holder, remaining, .. }) = asked.await else {
                panic!("{kind}: it is somebody's");
            };
            assert!(holder.is_foreign() && remaining.is_zero(), "{holder} {remaining:?}");
            assert_eq!(fleet.server.text(&["GET", key(1).as_str()]), "somebody at it");
            assert_eq!(fleet.server.text(&["PTTL", key(1).as_str()]), "-1");
            let waits = locker.acquire(&key(1)).wait(Wait::For(SOON)).into_future();
            let mut waits = JoinSet::from_iter([waits]);
            sleep(&locker, millis(500)).await;
            fleet.server.command(&["DEL", key(1).as_str()]);
            let deleted = now(&locker);
            let lease = waits.join_next().await.expect("one waits").expect("it ends");
            assert!(now(&locker).since(deleted) < millis(1_500));
            lease.expect("it is granted").release().await.expect("it is held");
        });
    }
}

fn a_late_delete_is_reported_as_taken(kind: ServerKind) {
    let fleet = Fleet::new(kind);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        for taken_too in [false, true] {
            let ttl = ttl(millis(1_500));
            let lease = locker.acquire(&key(1)).ttl(ttl).await.expect("it is free");
            let waits = locker.acquire(&key(1)).wait(Wait::For(SOON)).into_future();
            let mut waits = JoinSet::from_iter([waits]);
            while queue(&fleet.server, &key(1)).is_empty() {
                sleep(&locker, millis(5)).await;
            }
            let mut thief = old(&fleet, "steal", &[1]);
            says(&mut thief, "stolen 1");
            if taken_too {
                fleet.server.command(&["SET", key(1).as_str(), "holder", "NX", "PX", "800"]);
            }
            let stolen = moments(&thief.stdout(), "stolen")[0];
            let reason = lease.lost().await;
            let told = now(&locker).since_boot().saturating_sub(stolen);
            assert_eq!(reason, LossReason::Taken, "{kind}, taken too: {taken_too}");
            assert!(lease.check().is_err());
            // At the next renewal, which comes each third of its life.
            assert!(told < millis(500 + 250), "{kind}: told after {told:?}");
            drop(lease);
            // The queue goes on.
            let next = waits.join_next().await.expect("one waits").expect("it ends");
            let next = next.expect("it is granted");
            let after = now(&locker).since_boot().saturating_sub(stolen);
            assert!(after < millis(3_000), "{kind}: the next one after {after:?}");
            figure(
                "late delete",
                format!(
                    "{kind}, taken too {taken_too}: told after {told:?}, the \
                next one after {after:?}"
                ),
            );
            next.release().await.expect("it is held");
        }
    });
}

#[test]
fn many_waiters_of_one_process_behind_an_old_lock_ask_for_each_other() {
    let fleet = Fleet::new(ServerKind::Redis70);
    teach(&fleet.server);
    fleet.server.command(&["SET", key(1).as_str(), "holder", "NX", "EX", "300"]);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let mut waits = JoinSet::new();
        for _ in 0..100 {
            waits.spawn(locker.acquire(&key(1)).wait(Wait::For(SOON)).into_future());
        }
        while queue(&fleet.server, &key(1)).len() < 100 {
            sleep(&locker, millis(5)).await;
        }
        fleet.server.reset_stats();
        sleep(&locker, millis(4_000)).await;
        let calls = calls(&fleet.server);
        // R3
        assert!((4..=40).contains(&calls), "{calls} calls in 4 s");
        figure("behind an old lock", format!("100 waiters in one: {calls} calls in 4 s"));
        fleet.server.command(&["DEL", key(1).as_str()]);
        let deleted = now(&locker);
        while let Some(next) = waits.join_next().await {
            let lease = next.expect("it ends").expect("it is granted");
            lease.release().await.expect("it is held");
        }
        let took = now(&locker).since(deleted);
        assert!(took < millis(3_000), "all were served only after {took:?}");
    });
}

#[test]
fn old_clients_and_bidlock_have_it_in_turn() {
    let fleet = Fleet::new(ServerKind::Redis70);
    let rounds = size(3, 20);
    let mut one = old(&fleet, "turns", &[1, rounds]);
    let ours = run(async {
        let locker = locker(&fleet.server.url()).await;
        let mut since = Vec::new();
        for _ in 0..rounds {
            // Asks while the other holds, and holds while the other asks.
            while fleet.server.text(&["EXISTS", key(1).as_str()]) == "0" {
                sleep(&locker, millis(2)).await;
            }
            let asked = locker.acquire(&key(1)).wait(Wait::For(SOON));
            let lease = asked.await.expect("it is granted");
            since.push(now(&locker).since_boot());
            sleep(&locker, millis(1_700)).await;
            lease.release().await.expect("nobody took it");
        }
        since
    });
    all_end(std::slice::from_mut(&mut one));
    let (theirs, deleted) = (moments(&one.stdout(), "held"), moments(&one.stdout(), "deleted"));
    assert_eq!((theirs.len(), ours.len()), (rounds, rounds));
    for n in 0..rounds {
        assert!(theirs[n] <= deleted[n] && deleted[n] <= ours[n], "round {n}: {theirs:?} {ours:?}");
        assert!(theirs.get(n + 1).is_none_or(|next| *next > ours[n]), "{theirs:?} {ours:?}");
    }
}
