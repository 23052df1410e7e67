//! Many calls over a link that fails at random: nothing runs without a confirmed lock (R20).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bidlock::{Error, LeaseView, Locker, Wait};
use bidlock_core::{Key, Rng as _};
use bidlock_testkit::SeededRng;
use bidlock_testkit::servers::{Direction, Proxy, ServerKind, ServerOptions};
use bidlock_testkit::wait_until;

use crate::scene::{SOON, Scene, key, millis, now, pause, run, ttl, within};

const KEYS: usize = 5;
const TASKS: usize = 50;
/// Lets a write with a token below one that was seen fail, and counts both.
const FENCED: &str = "local last = tonumber(redis.call('GET', KEYS[1]) or '0') \
                      if tonumber(ARGV[1]) < last then redis.call('INCR', KEYS[3]) return 0 end \
                      redis.call('SET', KEYS[1], ARGV[1]) redis.call('INCR', KEYS[2]) return 1";

/// One stay inside of a body.
#[derive(Debug, Clone, Copy)]
struct Stay {
    key: usize,
    token: u64,
    from: Duration,
    to: Duration,
}

/// What is known of all bodies, beside what the server knows.
#[derive(Debug, Default)]
struct Truth {
    stays: Mutex<Vec<Stay>>,
    bodies: AtomicU64,
}

async fn body(truth: &Truth, locker: &Locker, n: usize, view: LeaseView) -> bool {
    let clock = &locker.platform().clock;
    let from = clock.now().since_boot();
    // R20: confirmed, or it could not run.
    view.check().expect("a body runs with a lease");
    truth.bodies.fetch_add(1, Ordering::SeqCst);
    pause(millis(2)).await;
    if view.check().is_err() {
        return false;
    }
    let to = clock.now().since_boot();
    let stay = Stay { key: n, token: view.token().get(), from, to };
    truth.stays.lock().expect("no panic").push(stay);
    true
}

/// Spoils the link until it is told to end.
fn spoil(proxy: &Proxy, over: &AtomicBool) {
    let rng = SeededRng::new(11);
    while !over.load(Ordering::SeqCst) {
        match rng.next_u64() % 6 {
            0 => proxy.cut(),
            1 => proxy.lose_next_reply(),
            2 => proxy.black_hole(Direction::ToServer),
            3 => proxy.black_hole(Direction::ToClient),
            4 => proxy.jitter(millis(rng.next_u64() % 20)),
            _ => proxy.drop_pushes(rng.next_u64().is_multiple_of(2)),
        }
        std::thread::park_timeout(millis(10 + rng.next_u64() % 60));
        proxy.heal();
        std::thread::park_timeout(millis(rng.next_u64() % 120));
    }
    proxy.heal();
    proxy.jitter(Duration::ZERO);
    proxy.drop_pushes(false);
}

fn no_two_at_once(stays: &mut [Stay]) {
    stays.sort_by_key(|stay| (stay.key, stay.token));
    for pair in stays.windows(2) {
        let (one, next) = (pair[0], pair[1]);
        if one.key == next.key {
            assert!(one.token < next.token, "one grant, one body: {pair:?}");
            assert!(one.to <= next.from, "two at once, or out of order: {pair:?}");
        }
    }
}

#[test]
fn bodies_run_one_at_a_time_over_a_link_that_fails_at_random() {
    let soak = std::env::var_os("BIDLOCK_SOAK").is_some();
    let (calls, most) = if soak { (200, SOON * 40) } else { (12, SOON * 6) };
    let scene = Scene::with(ServerKind::Redis70, ServerOptions::new());
    run(async {
        let lockers = [scene.locker().await, scene.locker().await, scene.direct().await];
        let (truth, over) = (Arc::new(Truth::default()), Arc::new(AtomicBool::new(false)));
        let spoiler = {
            let (proxy, over) = (Arc::clone(&scene.proxy), Arc::clone(&over));
            std::thread::spawn(move || spoil(&proxy, &over))
        };
        let keys: [Key; KEYS] = std::array::from_fn(|n| key(&format!("job_{n}")));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let (locker, truth) = (lockers[task % lockers.len()].clone(), Arc::clone(&truth));
            let (keys, server) = (keys.clone(), Arc::clone(&scene.server));
            tasks.spawn(async move {
                let (mut done, mut refused) = (0_u64, 0_u64);
                for call in 0..calls {
                    let n = (task + call) % KEYS;
                    let wait = if call % 3 == 0 { Wait::No } else { Wait::For(millis(1_500)) };
                    let request = locker.acquire(&keys[n]).ttl(ttl(3_000)).wait(wait);
                    let ran = locker
                        .with_lock(request, async |view: LeaseView| {
                            let token = view.token().to_string();
                            let stayed = body(&truth, &locker, n, view).await;
                            let [seen, good, stale] =
                                ["seen", "good", "stale"].map(|name| format!("{name}:{n}"));
                            if stayed {
                                let words =
                                    ["EVAL", FENCED, "3", &seen, &good, &stale, token.as_str()];
                                tokio::task::block_in_place(|| server.command(&words));
                            }
                        })
                        .await;
                    match ran {
                        Ok(()) => done += 1,
                        Err(Error::Store(_) | Error::Held { .. } | Error::TimedOut { .. }) => {
                            refused += 1;
                        }
                        Err(Error::Lost { .. }) => {}
                        Err(failed) => panic!("{failed:?}"),
                    }
                }
                (done, refused)
            });
        }
        let all = within("all calls", most, tasks.join_all()).await;
        over.store(true, Ordering::SeqCst);
        spoiler.join().expect("no panic");
        let (done, refused) = all.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let bodies = truth.bodies.load(Ordering::SeqCst);
        let count = |name: &str| -> u64 {
            let number = |n| scene.server.text(&["GET", &format!("{name}:{n}")]).parse();
            (0..KEYS).map(|n| number(n).unwrap_or(0)).sum()
        };
        let about = format!("{done} done, {refused} refused, {bodies} bodies");
        assert_eq!(count("stale"), 0, "{about}");
        let mut stays = std::mem::take(&mut *truth.stays.lock().expect("no panic"));
        assert_eq!(count("good"), stays.len() as u64, "{about}");
        assert!(bodies >= done && bodies >= stays.len() as u64, "{about}");
        assert!(done > 50 && refused > 0, "it fails now and then: {about}");
        no_two_at_once(&mut stays);
        for locker in &lockers {
            within("the releases", SOON, locker.close()).await;
        }
        wait_until("all is free", SOON, || keys.iter().all(|key| !scene.exists(key)));
    });
}

/// No setting and no error turns an outage into success.
#[test]
fn nothing_runs_while_the_server_is_away() {
    let scene = Scene::new(ServerKind::Valkey9);
    run(async {
        let locker = scene.locker().await;
        scene.server.kill();
        let ran = Arc::new(AtomicBool::new(false));
        for wait in [Wait::No, Wait::For(millis(300))] {
            let begun = now();
            let request = locker.acquire(&key("job")).wait(wait);
            let told = locker.with_lock(request, async |_| ran.store(true, Ordering::SeqCst)).await;
            assert!(matches!(told, Err(Error::Store(_))), "{told:?}");
            assert!(now() - begun < millis(2_200), "{:?}", now() - begun);
        }
        assert!(!ran.load(Ordering::SeqCst));
        let other = Locker::connect(&scene.url()).await;
        assert!(matches!(other, Err(Error::Store(_))), "{other:?}");
    });
}
