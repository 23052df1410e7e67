//! The parts that processes play.

use std::sync::Arc;
use std::time::Duration;

use bidlock::{Error, Key, Locker, Ttl, Wait};
use bidlock_testkit::{Process, wait_until};
use tokio::task::JoinSet;

use crate::kit::{Log, Part, SOON, key, locker, millis, run, sleep, ttl};

pub(crate) fn play(part: &Part) {
    match part.name.as_str() {
        "crowd" => crowd(part),
        "holder" => holder(part),
        "rival" => rival(part),
        "triers" => triers(part),
        other => panic!("no part is called {other}"),
    }
}

/// Waits until a process that holds keys says so.
pub(crate) fn holds(process: &Process) {
    wait_until("it holds", SOON, || process.stdout().contains("held"));
}

/// KEY TASKS WAIT-MS TTL-MS HOLD-MS: as many tasks wait for one key, hold it, and give it up. A
/// wait of 0 has no end.
fn crowd(part: &Part) {
    let (key, tasks): (usize, usize) = (part.number(0), part.number(1));
    let wait = match part.number(2) {
        0 => Wait::Forever,
        length => Wait::For(millis(length)),
    };
    let (ttl, hold) = (ttl(millis(part.number(3))), millis(part.number(4)));
    let log = Arc::new(Log::open(&part.folder));
    run(async {
        let locker = locker(&part.url).await;
        let mut all = JoinSet::new();
        for _ in 0..tasks {
            all.spawn(cycle(locker.clone(), self::key(key), wait, ttl, hold, Arc::clone(&log)));
        }
        all.join_all().await;
        locker.close().await;
    });
}

/// One lease, from its acquire to its release.
pub(crate) async fn cycle(
    locker: Locker,
    key: Key,
    wait: Wait,
    ttl: Ttl,
    hold: Duration,
    log: Arc<Log>,
) -> bool {
    let lease = match locker.acquire(&key).wait(wait).ttl(ttl).await {
        Ok(lease) => lease,
        Err(Error::TimedOut { .. } | Error::Held { .. }) => return false,
        Err(failed) => panic!("{failed}"),
    };
    if let Some(until) = log.enter(&locker, &lease) {
        sleep(&locker, hold).await;
        log.exit(&locker, &lease, until);
    }
    match lease.release().await {
        // Whoever was stopped for longer than his window has it no more.
        Ok(()) | Err(Error::Lost { .. }) => true,
        Err(failed) => panic!("{failed}"),
    }
}

/// KEY TTL-MS NUMBER: holds as many keys from this one on, renewed, until it is killed.
#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
fn holder(part: &Part) {
    let (first, number): (usize, usize) = (part.number(0), part.number(2));
    let ttl = ttl(millis(part.number(1)));
    run(async {
        let locker = locker(&part.url).await;
        let mut leases = Vec::new();
        for n in first..first + number {
            leases.push(locker.acquire(&key(n)).ttl(ttl).await.expect("it is granted"));
        }
        println!("held");
        std::future::pending::<()>().await;
    });
}

/// KEY: asks for a key again and again, and says how often, and whether it ever got it.
#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
fn rival(part: &Part) {
    let key = key(part.number(0));
    run(async {
        let locker = locker(&part.url).await;
        while !part.folder.join("stop").exists() {
            match locker.try_acquire(&key).await.expect("the server answers") {
                Some(lease) => println!("got it with token {}", lease.token()),
                None => println!("refused"),
            }
            sleep(&locker, millis(20)).await;
        }
    });
}

/// KEY TASKS: at a sign, as many tasks ask once; who has it keeps it until all are done.
#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
fn triers(part: &Part) {
    let (key, tasks): (usize, usize) = (part.number(0), part.number(1));
    run(async {
        let locker = locker(&part.url).await;
        println!("ready");
        part.wait_for("go");
        let mut all = JoinSet::new();
        for _ in 0..tasks {
            let (locker, key) = (locker.clone(), self::key(key));
            all.spawn(async move { locker.acquire(&key).wait(Wait::No).await });
        }
        let answers = all.join_all().await;
        let (mut granted, mut held) = (0, 0);
        for answer in &answers {
            match answer {
                Ok(_) => granted += 1,
                Err(Error::Held { .. }) => held += 1,
                Err(failed) => panic!("{failed}"),
            }
        }
        println!("granted {granted} held {held} done");
        part.wait_for("end");
        drop(answers);
        locker.close().await;
    });
}
