//! What locks take of the server's memory, and that everything of theirs has an end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bidlock::{Key, Lease, Locker, Revocation, Wait};
use bidlock_core::Rng as _;
use bidlock_testkit::SeededRng;
use bidlock_testkit::servers::{Server, ServerKind};
use bidlock_testkit::wait_until;
use tokio::task::JoinSet;

use crate::kit::{Fleet, SOON, figure, key, locker, millis, run, size, sleep, ttl};
use crate::servers;

servers!(
    a_lock_takes_little_memory,
    everything_has_an_end_after_each_step,
    nothing_is_left_however_the_key_was_had,
);

/// Names the keys that would stay for ever; in one step, so that each state is a whole one.
const ENDLESS: &str = "local endless = {} for _, key in ipairs(redis.call('KEYS', '*')) do if \
                       redis.call('PTTL', key) < 0 then table.insert(endless, key) end end return \
                       endless";

fn endless(server: &Server) -> String {
    server.text(&["EVAL", ENDLESS, "0"])
}

fn a_lock_takes_little_memory(kind: ServerKind) {
    let number: usize = size(20_000, 100_000);
    let fleet = Fleet::new(kind);
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let hours = ttl(Duration::from_hours(2));
        let take = |n| locker.acquire(&key(n)).wait(Wait::No).ttl(hours).renew(false);
        take(number).await.expect("it is free").release().await.expect("it is released");
        let before = fleet.server.used_memory();
        let mut leases = Vec::with_capacity(number);
        for start in (0..number).step_by(100) {
            let some: JoinSet<_> = (start..start + 100).map(|n| take(n).into_future()).collect();
            let some = some.join_all().await;
            leases.extend(some.into_iter().map(|lease| lease.expect("it is free")));
        }
        wait_until("its tables have their size", SOON, || {
            let clients = fleet.server.info("memory", "mem_clients_normal");
            clients.parse::<u64>().expect("a number") < 100_000
        });
        let each = (fleet.server.used_memory() - before) / number as u64;
        figure("memory", format!("{kind}: {each} bytes for each of {number} locks"));
        assert!(each <= 220, "{kind}: {each} bytes for each lock");
        drop(leases);
        locker.close().await;
        assert_eq!(fleet.server.text(&["KEYS", "*"]), "bid_lock:#tokens");
        // Its tables shrink by and by.
        wait_until("its memory is free again", SOON, || {
            fleet.server.used_memory().saturating_sub(before) < 256 * 1_024
        });
    });
}

fn nothing_is_left_however_the_key_was_had(kind: ServerKind) {
    let fleet = Fleet::new(kind);
    let counter = || assert_eq!(fleet.server.text(&["KEYS", "*"]), "bid_lock:#tokens", "{kind}");
    run(async {
        let locker = locker(&fleet.server.url()).await;
        let wait = || locker.acquire(&key(1)).wait(Wait::For(SOON));
        let release = async |asked: bidlock::Acquire| {
            asked.await.expect("it is granted").release().await.expect("it is held");
        };
        release(wait()).await;
        counter();
        // After a lock of another client, and after a lease that ran out: the waiter takes it.
        fleet.server.command(&["SET", key(1).as_str(), "holder", "NX", "PX", "300"]);
        release(wait()).await;
        counter();
        drop(wait().ttl(ttl(millis(300))).await.expect("it is free").detach());
        release(wait()).await;
        counter();
        // Handed over, and confirmed or not.
        for pause in [0, 50] {
            let lease = wait().await.expect("it is free");
            let (next, released) = tokio::join!(wait().into_future(), async {
                sleep(&locker, millis(50)).await;
                lease.release().await
            });
            released.expect("it is held");
            sleep(&locker, millis(pause)).await;
            next.expect("it is handed over").release().await.expect("it is held");
            counter();
        }
        // Given up by the only waiter, and by one of two.
        let lease = wait().await.expect("it is free");
        let asked = || wait().wait(Wait::For(millis(100)));
        drop(tokio::join!(asked().into_future(), asked().into_future()));
        locker.close().await;
        lease.release().await.expect("it is held");
        counter();
    });
}

/// What a random sequence of steps works on.
struct Scene {
    lockers: Vec<Locker>,
    held: Vec<Lease>,
    waiting: JoinSet<Result<Lease, bidlock::Error>>,
    rng: SeededRng,
}

impl Scene {
    fn draw(&self, below: usize) -> usize {
        usize::try_from(self.rng.next_u64() % below as u64).expect("below")
    }

    fn key(&self) -> Key {
        key(self.draw(4))
    }

    async fn step(&mut self) -> &'static str {
        let locker = self.lockers[self.draw(self.lockers.len())].clone();
        let short = ttl(millis(200 + 100 * self.draw(8) as u64));
        while let Some(ended) = self.waiting.try_join_next() {
            // One that was cancelled has nothing.
            self.held.extend(ended.ok().and_then(Result::ok));
        }
        match self.draw(9) {
            0 | 1 => {
                let asked = locker.acquire(&self.key()).wait(Wait::No).ttl(short);
                self.held.extend(asked.await.ok());
                "try"
            }
            2 | 3 => {
                let wait = Wait::For(millis(50 * self.draw(20) as u64 + 1));
                self.waiting.spawn(locker.acquire(&self.key()).wait(wait).ttl(short).into_future());
                "wait"
            }
            4 if !self.held.is_empty() => {
                let lease = self.held.swap_remove(self.draw(self.held.len()));
                drop(lease.release().await);
                "release"
            }
            5 if !self.held.is_empty() => {
                drop(self.held[self.draw(self.held.len())].renew().await);
                "renew"
            }
            6 if !self.held.is_empty() => {
                // Nobody cares for it any more.
                drop(self.held.swap_remove(self.draw(self.held.len())).detach());
                "detach"
            }
            7 if !self.held.is_empty() => {
                let lease = &self.held[self.draw(self.held.len())];
                let (now, revoker) = (self.draw(2) == 0, locker.revoker().expect("it can"));
                let done = revoker.revoke(lease.key(), lease.token(), now).await;
                let done = done.expect("the server answers");
                if let Revocation::Freed = done { "revoke at once" } else { "revoke" }
            }
            8 if self.draw(4) == 0 => {
                self.waiting.abort_all();
                "cancel"
            }
            _ => {
                sleep(&locker, millis(20)).await;
                "pass"
            }
        }
    }
}

fn everything_has_an_end_after_each_step(kind: ServerKind) {
    let seed = 7;
    let fleet = Fleet::new(kind);
    run(async {
        let mut lockers = Vec::new();
        for _ in 0..3 {
            lockers.push(locker(&fleet.server.url()).await);
        }
        let (rng, waiting) = (SeededRng::new(seed), JoinSet::new());
        let mut scene = Scene { lockers, held: Vec::new(), waiting, rng };
        for n in 0..size(400, 10_000) {
            let step = scene.step().await;
            let endless = endless(&fleet.server);
            // I10
            let sound = endless.is_empty() || endless == "bid_lock:#tokens";
            assert!(sound, "{kind}, seed {seed}, step {n} ({step}): {endless}");
        }
        scene.waiting.shutdown().await;
        drop(scene.held);
        for locker in &scene.lockers {
            locker.close().await;
        }
        wait_until("all has ended", SOON, || {
            let left = fleet.server.text(&["KEYS", "*"]);
            left.lines().all(|name| name == "bid_lock:#tokens" || name.ends_with(":revoked"))
        });
    });
}

#[test]
fn nothing_is_endless_under_load() {
    let fleet = Fleet::new(ServerKind::Valkey9);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                let endless = endless(&fleet.server);
                assert!(endless.is_empty() || endless == "bid_lock:#tokens", "{endless}");
                looks += 1;
            }
            looks
        });
        run(async {
            let locker = locker(&fleet.server.url()).await;
            let mut all = JoinSet::new();
            for n in 0..size(2_000, 50_000) {
                if all.len() == 100 {
                    drop(all.join_next().await);
                }
                let asked = locker.acquire(&key(n % 7)).ttl(ttl(millis(1_000)));
                let locker = locker.clone();
                all.spawn(async move {
                    let Ok(lease) = asked.wait(Wait::For(millis(200))).await else { return };
                    if n % 3 == 0 {
                        sleep(&locker, millis(1)).await;
                    }
                    if n % 2 == 0 { drop(lease.release().await) } else { drop(lease) }
                });
            }
            all.join_all().await;
        });
        done.store(true, Ordering::Relaxed);
        let looks = looks.join().expect("nothing was endless");
        assert!(looks > 50, "{looks} looks only");
        figure("load", format!("{looks} looks, nothing without an end"));
    });
}
