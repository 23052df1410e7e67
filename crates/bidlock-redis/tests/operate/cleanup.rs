//! R19: what nothing would end by itself is found and removed, and never what lives.

use std::time::Duration;

use bidlock::Locker;
use bidlock_core::{
    AcquireRequest, Attempt, Backend as _, Cleanup as _, Key, LeaseId, Leftover, Ownership, Prefix,
    Revoke as _, Ttl, limits,
};
use bidlock_redis::Redis;
use bidlock_testkit::servers::Server;
use bidlock_testkit::{SeededRng, block_on, wait_until};

use super::{cli, on_each, open, options};

const SOON: Duration = Duration::from_secs(20);
const KEY: &str = "bid_lock:upwork:job_1";
const QUEUE: &str = "{bid_lock:upwork:job_1}:waiters";
const PLACES: &str = "{bid_lock:upwork:job_1}:places";
const DAY: i64 = 86_400_000_000;

fn key() -> Key {
    Key::new("upwork", "job_1").expect("a key")
}

fn ask(store: &Redis, seed: u64, wait: Option<Duration>) -> (LeaseId, Attempt) {
    let lease = LeaseId::random("h", 1, &SeededRng::new(seed));
    let request = AcquireRequest {
        key: key(),
        lease: lease.clone(),
        ttl: Ttl::new(Duration::from_mins(1)).expect("a TTL"),
        label: None,
        wait,
        routine: false,
        within: Duration::from_secs(5),
    };
    let attempt = block_on(store.acquire(&request)).expect("an answer");
    (lease, attempt)
}

fn granted(store: &Redis, seed: u64) -> bool {
    matches!(ask(store, seed, None).1, Attempt::Granted { .. })
}

fn list(store: &Redis) -> Vec<Leftover> {
    block_on(store.leftovers(&Prefix::default())).expect("a list")
}

fn remove(store: &Redis, leftover: &Leftover) -> bool {
    block_on(store.remove(leftover)).expect("an answer")
}

fn left(server: &Server, name: &str) -> i64 {
    server.text(&["PTTL", name]).parse().expect("a number")
}

#[test]
fn a_live_holder_keeps_its_lease_and_gives_it_an_end() {
    on_each(options, |server| {
        let store = open(&server.url()).unwrap();
        block_on(async {
            let locker = Locker::connect(&server.url()).await.unwrap();
            let ttl = Ttl::new(Duration::from_mins(10)).unwrap();
            let lease = locker.acquire(&key()).ttl(ttl).await.unwrap();
            assert_eq!(store.leftovers(&Prefix::default()).await.unwrap(), [], "it lives");
            server.command(&["PERSIST", KEY]);
            let found = store.leftovers(&Prefix::default()).await.unwrap();
            let [leftover] = &found[..] else { panic!("{}: {found:?}", server.kind()) };
            assert_eq!(leftover.name, KEY);
            assert!(!leftover.why.contains(&lease.id().expose()), "the secret: {leftover:?}");
            assert!(leftover.why.contains(&lease.id().holder(None).to_string()), "{leftover:?}");
            assert!(store.remove(leftover).await.unwrap());
            wait_until("the holder renews it", SOON, || left(server, KEY) > 0);
            assert!(left(server, KEY) <= 600_000, "{}: as long as it shall be", server.kind());
            lease.confirm().await.unwrap();
            assert_eq!(store.leftovers(&Prefix::default()).await.unwrap(), []);
            assert!(!store.remove(leftover).await.unwrap(), "it is a leftover no more");
            lease.check().unwrap();
            locker.close().await;
        });
    });
}

#[test]
fn the_lease_of_a_dead_holder_ends_and_not_before_any_lease_may() {
    on_each(
        || options().clock(true),
        |server| {
            let store = open(&server.url()).unwrap();
            let dead = open(&server.url()).unwrap();
            assert!(granted(&dead, 1));
            drop(dead);
            wait_until("its connection is gone", SOON, || {
                server.text(&["PUBSUB", "CHANNELS"]).lines().count() == 1
            });
            server.command(&["PERSIST", KEY]);
            let found = list(&store);
            assert_eq!(found.len(), 1, "{}: {found:?}", server.kind());
            assert!(remove(&store, &found[0]));
            let longest = i64::try_from(limits::TTL_MAX.as_millis()).unwrap();
            let rest = left(server, KEY);
            assert!((longest - 10_000..=longest).contains(&rest), "{}: {rest}", server.kind());
            assert!(!remove(&store, &found[0]), "once is enough");
            assert_eq!(list(&store), []);
            assert!(!granted(&store, 2), "it may live");
            server.step_clock(DAY);
            assert!(granted(&store, 2), "{}", server.kind());
        },
    );
}

#[test]
fn a_queue_of_the_dead_is_removed_and_a_live_one_never() {
    on_each(
        || options().clock(true),
        |server| {
            let store = open(&server.url()).unwrap();
            let (holder, attempt) = ask(&store, 1, None);
            assert!(matches!(attempt, Attempt::Granted { .. }));
            let waiter = open(&server.url()).unwrap();
            let day = Some(Duration::from_hours(24));
            assert!(matches!(ask(&waiter, 2, day).1, Attempt::Held { .. }));
            for name in [QUEUE, PLACES, KEY] {
                server.command(&["PERSIST", name]);
            }
            let found = list(&store);
            let names: Vec<_> = found.iter().map(|leftover| leftover.name.as_str()).collect();
            assert_eq!(names, [KEY], "{}: somebody lives in it", server.kind());
            // Listed by one who saw it before somebody came: it lives again.
            server.step_clock(91_000_000);
            let listed = list(&store).into_iter().find(|leftover| leftover.name == QUEUE);
            let listed = listed.unwrap_or_else(|| panic!("{}: nobody lives", server.kind()));
            assert!(listed.why.contains("queue of 1"), "{listed:?}");
            ask(&waiter, 2, day);
            assert!(!remove(&store, &listed), "{}: it lives again", server.kind());
            assert_eq!(server.text(&["ZCARD", QUEUE]), "1");
            for name in [QUEUE, PLACES] {
                server.command(&["PERSIST", name]);
            }
            server.step_clock(91_000_000);
            assert!(remove(&store, &listed));
            assert_eq!(server.text(&["EXISTS", QUEUE, PLACES]), "0", "{}", server.kind());
            assert!(!remove(&store, &listed), "once is enough");
            assert_eq!(server.text(&["EXISTS", KEY]), "1", "the lease is another matter");
            // Nobody is in the way of the next one.
            assert_eq!(block_on(store.release(&key(), &holder)).unwrap(), Ownership::Ours);
            assert!(granted(&store, 3), "{}", server.kind());
        },
    );
}

#[test]
fn what_is_kept_of_revoked_leases_gets_an_end() {
    on_each(options, |server| {
        let store = open(&server.url()).unwrap();
        let (_, attempt) = ask(&store, 1, None);
        let Attempt::Granted { token } = attempt else { panic!("{attempt:?}") };
        block_on(store.revoke(&key(), token, true)).unwrap();
        let name = "{bid_lock:upwork:job_1}:revoked";
        assert_eq!(list(&store), []);
        server.command(&["PERSIST", name]);
        let found = list(&store);
        assert_eq!((found.len(), found[0].name.as_str()), (1, name), "{found:?}");
        assert!(remove(&store, &found[0]));
        assert!(left(server, name) > 0, "{}", server.kind());
        assert_eq!(list(&store), []);
        assert!(!remove(&store, &found[0]));
    });
}

#[test]
fn what_is_another_program_s_is_listed_and_left_alone() {
    on_each(options, |server| {
        let store = open(&server.url()).unwrap();
        server.command(&["SET", KEY, "holder"]);
        server.command(&["RPUSH", "bid_lock:upwork:list", "x"]);
        server.command(&["SET", "{bid_lock:upwork:odd}:places", "x"]);
        server.command(&["SET", "{bid_lock:upwork:odd}:revoked", "x"]);
        // Not ours to look at: no lock's name, an end of its own, other prefixes.
        server.command(&["SET", "bid_lock:settings", "x"]);
        server.command(&["SET", "bid_lock:upwork:ends", "x", "PX", "60000"]);
        server.command(&["SET", "bid_lock2:upwork:job_1", "x"]);
        server.command(&["SET", "{bid_lock:other:upwork:job_1}:places", "x"]);
        let before = server.text(&["DBSIZE"]);
        let found = list(&store);
        let names: Vec<_> = found.iter().map(|leftover| leftover.name.as_str()).collect();
        assert_eq!(names, [KEY, "bid_lock:upwork:list"], "{}: {found:?}", server.kind());
        assert!(found[0].why.contains("foreign client \"holder\""), "{found:?}");
        let way_out = format!("{}DEL {KEY}, when its owner is gone", cli(server));
        assert!(found[0].why.ends_with(&way_out), "{found:?}");
        for leftover in &found {
            assert!(leftover.remedy.is_empty(), "{leftover:?}");
            assert!(!remove(&store, leftover), "{leftover:?}");
        }
        assert_eq!(server.text(&["DBSIZE"]), before);
        assert_eq!(server.text(&["GET", KEY]), "holder");
    });
}

#[test]
fn what_has_changed_since_it_was_listed_is_left_as_it_is() {
    on_each(options, |server| {
        let store = open(&server.url()).unwrap();
        assert!(granted(&store, 1));
        server.command(&["PERSIST", KEY]);
        let listed = list(&store).remove(0);
        for change in [&["SET", KEY, "theirs"][..], &["PEXPIRE", KEY, "35000"], &["DEL", KEY]] {
            server.command(change);
            let before = (server.text(&["GET", KEY]), left(server, KEY) / 10_000);
            assert!(!remove(&store, &listed), "{}: {change:?}", server.kind());
            assert_eq!((server.text(&["GET", KEY]), left(server, KEY) / 10_000), before);
        }
        let listed = Leftover { name: "session:1".to_owned(), ..listed };
        server.command(&["SET", "session:1", "x"]);
        assert!(!remove(&store, &listed), "no name of ours");
        assert_eq!(left(server, "session:1"), -1);
    });
}

#[test]
fn thousands_of_names_are_looked_through() {
    on_each(options, |server| {
        let store = open(&server.url()).unwrap();
        let fill = "for i = 1, 5000 do \
                    redis.call('SET', 'bid_lock:upwork:n' .. i, 'h:1:0#b1;7;h;;', 'PX', 600000) \
                    redis.call('SET', 'other' .. i, 'x') end";
        server.command(&["EVAL", fill, "0"]);
        server.command(&["PERSIST", "bid_lock:upwork:n4999"]);
        let found = list(&store);
        assert_eq!(found.len(), 1, "{}: {found:?}", server.kind());
        assert_eq!(found[0].name, "bid_lock:upwork:n4999");
    });
}
