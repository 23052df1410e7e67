//! Many tasks on real stores, over links that fail: what their clients saw is what one lock would
//! have done. At full size, with `BIDLOCK_SOAK`, ten times as many histories.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bidlock::{Error, Locker, Wait};
use bidlock_core::{Backend, Key, Memory, Platform, Prefix, Rng as _, Ttl};
use bidlock_history::{Call, History, Recorded, Verdict, order, search};
use bidlock_redis::{Config, Redis};
use bidlock_sqlite::Sqlite;
use bidlock_testkit::SeededRng;
use bidlock_testkit::servers::{Proxy, Server, ServerKind, ServerOptions};

const STORES: usize = 5;
const TASKS: usize = 6;
const CALLS: usize = 300;
/// So many keys are worked on at a time.
const AT_ONCE: usize = 120;
const PROCESSES: usize = 3;

fn histories() -> usize {
    let soak = std::env::var_os("BIDLOCK_SOAK").is_some();
    if soak { 2_000 } else { 1_000 / STORES }
}

#[expect(clippy::disallowed_methods, reason = "real stores run in real time")]
async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Locks and unlocks, waits or not, and now and then forgets, drops or renews.
async fn play(locker: Locker, key: Key, history: History, seed: u64) {
    let rng = SeededRng::new(seed);
    while history.count(&key) < CALLS {
        let chance = rng.next_u64() % 100;
        let ttl = Ttl::new(Duration::from_millis(200)).expect("a sound TTL");
        let wait =
            if chance.is_multiple_of(3) { Wait::No } else { Wait::For(Duration::from_millis(400)) };
        let acquire = locker.acquire(&key).ttl(ttl).wait(wait);
        let lease = if chance < 8 {
            // Dropped on the way.
            let most = Duration::from_micros(rng.next_u64() % 3_000);
            match tokio::time::timeout(most, acquire.into_future()).await {
                Ok(answer) => answer,
                Err(_) => continue,
            }
        } else {
            acquire.await
        };
        match lease {
            Ok(lease) => match chance {
                90.. => {
                    // It ends by itself.
                    drop(lease.detach());
                }
                80.. => {
                    drop(lease.renew().await);
                    drop(lease.release().await);
                }
                _ => {
                    pause(rng.next_u64() % 3).await;
                    drop(lease.release().await);
                }
            },
            Err(Error::Held { .. } | Error::TimedOut { .. } | Error::Store(_)) => {
                pause(rng.next_u64() % 4).await;
            }
            Err(Error::Lost { .. }) => {}
            Err(failed) => panic!("{failed:?}"),
        }
    }
}

/// Plays on many keys of one store, and judges what was seen of each.
async fn judge(store: &str, backends: Vec<(Arc<dyn Backend>, Platform)>) {
    let history = History::default();
    let lockers: Vec<Locker> = backends
        .into_iter()
        .map(|(backend, platform)| {
            let recorded = Recorded::new(backend, Arc::clone(&platform.clock), &history);
            Locker::builder()
                .platform(platform)
                .backend(Arc::new(recorded))
                .expect("a thread starts")
        })
        .collect();
    let mut judged = 0;
    while judged < histories() {
        let mut tasks = tokio::task::JoinSet::new();
        let keys = AT_ONCE.min(histories() - judged);
        for n in judged..judged + keys {
            let key = Key::new("upwork", &format!("job_{n}")).expect("a sound key");
            for task in 0..TASKS {
                let locker = lockers[task % lockers.len()].clone();
                let seed = (n * TASKS + task) as u64 + 1;
                tasks.spawn(play(locker, key.clone(), history.clone(), seed));
            }
        }
        tasks.join_all().await;
        for locker in &lockers {
            locker.close().await;
        }
        judge_all(store, history.take());
        judged += keys;
    }
    for locker in &lockers {
        locker.close().await;
    }
}

fn judge_all(store: &str, histories: HashMap<String, Vec<Call>>) {
    for (key, calls) in histories {
        if let Err(wrong) = order(&calls) {
            panic!("{store}, {key}: {wrong}\n{}", told(&calls));
        }
        match search(&calls) {
            Verdict::Linearizable => {}
            Verdict::Not(stuck) => {
                panic!("{store}, {key}: no lock does this: {stuck:#?}\n{}", told(&calls))
            }
            Verdict::Undecided => {
                panic!("{store}, {key}: cannot be decided\n{}", told(&calls))
            }
        }
    }
}

/// A history that a person can read: in the order of the beginnings, in milliseconds.
fn told(calls: &[Call]) -> String {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.invoked);
    let began = calls.first().map_or(0, |call| call.invoked);
    let millis = |at: u64| Duration::from_micros(at.saturating_sub(began)).as_secs_f64() * 1_000.0;
    let line = |call: &Call| {
        let (lease, did) = (call.lease % 1_000_000, call.did);
        let (from, to) = (millis(call.invoked), millis(call.returned.min(began + 999_999_000)));
        format!("{lease:>6} {from:>10.3} {to:>10.3} {did:?}\n")
    };
    calls.iter().map(line).collect()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(future)
}

fn platform() -> Platform {
    bidlock_platform::system().expect("a thread starts")
}

/// Cuts connections, and loses answers and messages, until it is told to end.
fn spoil(proxy: &Proxy, over: &AtomicBool) {
    let rng = SeededRng::new(7);
    while !over.load(Ordering::SeqCst) {
        match rng.next_u64() % 4 {
            0 => proxy.cut(),
            1 => proxy.lose_next_reply(),
            2 => proxy.jitter(Duration::from_millis(rng.next_u64() % 10)),
            _ => proxy.drop_pushes(rng.next_u64().is_multiple_of(2)),
        }
        std::thread::park_timeout(Duration::from_millis(20 + rng.next_u64() % 200));
    }
}

fn on_server(kind: ServerKind) {
    let server = Server::start_with(kind, ServerOptions::new());
    let proxy = Arc::new(Proxy::to(server.address()));
    let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let over = Arc::new(AtomicBool::new(false));
    let spoiler = {
        let (proxy, over) = (Arc::clone(&proxy), Arc::clone(&over));
        move || spoil(&proxy, &over)
    };
    run(async {
        let config = Config::from_url(&url).expect("a sound URL");
        let mut backends: Vec<(Arc<dyn Backend>, Platform)> = Vec::new();
        for _ in 0..PROCESSES {
            let platform = platform();
            let redis = Redis::connect(&config, &Prefix::default(), &platform)
                .await
                .expect("the server answers");
            backends.push((Arc::new(redis), platform));
        }
        let spoiler = std::thread::spawn(spoiler);
        judge(&kind.to_string(), backends).await;
        over.store(true, Ordering::SeqCst);
        spoiler.join().expect("no panic");
    });
}

#[test]
fn on_redis_6_2() {
    on_server(ServerKind::Redis62);
}

#[test]
fn on_redis_7_0() {
    on_server(ServerKind::Redis70);
}

#[test]
fn on_valkey_9() {
    on_server(ServerKind::Valkey9);
}

#[test]
fn in_memory() {
    run(async {
        let platform = platform();
        let memory: Arc<dyn Backend> = Arc::new(Memory::new(&platform));
        let shared = (0..PROCESSES).map(|_| (Arc::clone(&memory), platform.clone()));
        judge("memory", shared.collect()).await;
    });
}

#[test]
fn in_a_file() {
    let folder = tempfile::tempdir().expect("a folder is made");
    run(async {
        let open = |_| {
            let platform = platform();
            let file =
                Sqlite::open(&folder.path().join("locks.db"), &platform).expect("a file is made");
            (Arc::new(file) as Arc<dyn Backend>, platform)
        };
        judge("sqlite", (0..PROCESSES).map(open).collect()).await;
    });
}
