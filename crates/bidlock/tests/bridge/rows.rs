//! What happens to both stores, step by step, on a clock that the test sets.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bidlock::{
    Backend, BackendError, Browse, Cleanup, Clock as _, Endpoint, FencingToken, Health, Key,
    LeaseId, LockQuery, Memory, Ownership, Prefix, Renewal, Revocation, Revoke, Ttl,
};
use bidlock_core::{AcquireRequest, Attempt, Listener, News, RenewRequest, Result, Wake};
use bidlock_sqlite::legacy::{Bridge, OldLocks};
use bidlock_testkit::{TestPlatform, block_on, test_platform};

use crate::kit::{OldFile, TABLE};

const LONG: Duration = Duration::from_mins(10);
const TTL: Duration = Duration::from_secs(30);
/// The margin for steps of the wall clock, and what a waiter keeps the key by.
const MARGIN: Duration = Duration::from_secs(2);
const PENDING: Duration = Duration::from_secs(5);
const BIT: Duration = Duration::from_millis(100);

type Hook = Box<dyn FnOnce() + Send>;

/// A store after whose next grant something else happens before the answer comes back.
struct Between {
    memory: Arc<Memory>,
    hook: Arc<Mutex<Option<Hook>>>,
    /// Whether the last request came for no other reason than time.
    routine: Arc<AtomicBool>,
}

impl std::fmt::Debug for Between {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Between")
    }
}

#[async_trait]
impl Backend for Between {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        self.routine.store(request.routine, SeqCst);
        let answer = self.memory.acquire(request).await;
        let hook = matches!(answer, Ok(Attempt::Granted { .. }))
            .then(|| self.hook.lock().unwrap().take())
            .flatten();
        if let Some(hook) = hook {
            // Within a runtime of its own: the test's own one is busy here.
            std::thread::scope(|scope| scope.spawn(hook).join().unwrap());
        }
        answer
    }
    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        self.memory.renew(request).await
    }
    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        self.memory.release(key, lease).await
    }
    fn subscribe(&self, listener: std::sync::Weak<dyn Listener>) {
        self.memory.subscribe(listener);
    }
    async fn ping(&self) -> Result<Health> {
        self.memory.ping().await
    }
    fn endpoint(&self) -> &Endpoint {
        self.memory.endpoint()
    }
    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        Arc::clone(&self.memory).browse()
    }
    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        Arc::clone(&self.memory).revoke()
    }
    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        Arc::clone(&self.memory).cleanup()
    }
}

struct World {
    machine: TestPlatform,
    memory: Arc<Memory>,
    hook: Arc<Mutex<Option<Hook>>>,
    routine: Arc<AtomicBool>,
    old: Arc<OldFile>,
    bridge: Arc<Bridge>,
}

fn key(posting: &str) -> Key {
    Key::new("upwork", posting).unwrap()
}

fn asking(lease: &LeaseId, wait: Option<Duration>) -> AcquireRequest {
    AcquireRequest {
        key: key("a"),
        lease: lease.clone(),
        ttl: Ttl::new(TTL).unwrap(),
        label: None,
        wait,
        routine: wait.is_some(),
        within: TTL,
    }
}

impl World {
    fn new() -> Self {
        let machine = test_platform();
        let memory = Arc::new(Memory::new(&machine.platform()));
        let (hook, routine, old) = (Arc::default(), Arc::default(), Arc::new(OldFile::new()));
        let inner = Between {
            memory: Arc::clone(&memory),
            hook: Arc::clone(&hook),
            routine: Arc::clone(&routine),
        };
        let locks = block_on(OldLocks::connect(&old.path, TABLE, &machine.platform())).unwrap();
        let bridge = Bridge::new(Arc::new(inner), locks, &Prefix::default(), &machine.platform());
        Self { machine, memory, hook, routine, old, bridge: Arc::new(bridge) }
    }

    fn now(&self) -> f64 {
        Duration::from_micros(self.machine.clock.wall().as_micros()).as_secs_f64()
    }

    fn pass(&self, time: Duration) {
        self.machine.clock.advance(time);
    }

    fn lease(&self) -> LeaseId {
        LeaseId::random("bot", 7, self.machine.rng.as_ref())
    }

    fn asks(&self, lease: &LeaseId, wait: Option<Duration>) -> Result<Attempt> {
        block_on(self.bridge.acquire(&asking(lease, wait)))
    }

    fn takes(&self, lease: &LeaseId) -> FencingToken {
        match self.asks(lease, Some(LONG)) {
            Ok(Attempt::Granted { token }) => token,
            other => panic!("{other:?}"),
        }
    }

    /// Who it waits for.
    fn waits(&self, lease: &LeaseId, wait: Option<Duration>) -> (String, Duration) {
        match self.asks(lease, wait) {
            Ok(Attempt::Held { holder, remaining, .. }) => (holder.to_string(), remaining),
            other => panic!("{other:?}"),
        }
    }

    fn renews(&self, lease: &LeaseId) -> Renewal {
        let ttl = Ttl::new(TTL).unwrap();
        let request = RenewRequest { key: key("a"), lease: lease.clone(), ttl, within: TTL };
        block_on(self.bridge.renew(&request)).unwrap()
    }

    fn releases(&self, lease: &LeaseId) -> Ownership {
        block_on(self.bridge.release(&key("a"), lease)).unwrap()
    }

    /// Whether the new store has a lock under the key.
    fn inner_is_held(&self) -> bool {
        let browse = Arc::clone(&self.memory).browse().unwrap();
        block_on(browse.inspect(&key("a"))).unwrap().is_some()
    }

    fn old_takes(&self) -> bool {
        self.old.takes("a", self.now(), 300.0)
    }
}

#[test]
fn a_lease_is_a_row_too_and_an_old_worker_is_kept_out() {
    // I15
    let world = World::new();
    let lease = world.lease();
    let token = world.takes(&lease);
    let rows = world.old.rows();
    let [(lock_key, holder, ends)] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!(lock_key, "bid:lock:upwork:a");
    assert!(holder.starts_with("bidlock:bot:7:") && !holder.contains(&lease.expose()), "{holder}");
    assert!((ends - world.now() - (TTL + MARGIN).as_secs_f64()).abs() < 0.01, "{ends}");
    assert!(!world.old_takes());
    assert_eq!(world.takes(&lease), token, "I8: asked again");
    assert_eq!(world.releases(&lease), Ownership::Ours);
    assert_eq!((world.old.rows().len(), world.inner_is_held()), (0, false), "I11");
    assert_eq!(world.releases(&lease), Ownership::NotOurs);
    assert!(world.old_takes());
}

#[test]
fn an_old_worker_is_respected_and_nothing_is_kept_without_a_wait() {
    let world = World::new();
    assert!(world.old_takes());
    let (holder, remaining) = world.waits(&world.lease(), None);
    assert!(holder.contains("old-worker in distributed_locks"), "{holder}");
    assert!(remaining > Duration::from_secs(299), "{remaining:?}");
    assert!(!world.inner_is_held());
    assert_eq!(world.old.rows().len(), 1);
}

#[test]
fn who_waits_for_an_old_worker_is_first_when_it_is_done() {
    // I6
    let world = World::new();
    let (first, second) = (world.lease(), world.lease());
    assert!(world.old_takes());
    world.waits(&first, Some(LONG));
    world.waits(&second, Some(LONG));
    for _ in 0..20 {
        world.pass(Duration::from_secs(1)); // It keeps its place by asking.
        world.waits(&first, Some(LONG));
    }
    world.old.releases("a");
    world.waits(&second, Some(LONG));
    let token = world.takes(&first);
    world.releases(&first);
    assert!(world.takes(&second) > token);
}

#[test]
fn who_has_the_new_store_and_waits_for_the_row_asks_it_and_nobodys_memory() {
    let world = World::new();
    let (first, second) = (world.lease(), world.lease());
    assert!(world.old_takes());
    world.waits(&first, Some(LONG));
    world.waits(&first, Some(LONG));
    assert!(!world.routine.load(SeqCst), "its grant is kept by asking");
    world.waits(&second, Some(LONG));
    assert!(world.routine.load(SeqCst), "a place in the queue is not");
    world.old.releases("a");
    world.takes(&first);
    assert!(!world.routine.load(SeqCst));
    world.takes(&first);
    assert!(world.routine.load(SeqCst), "as it was asked");
}

#[test]
fn one_that_dies_while_it_waits_for_an_old_worker_delays_nobody_for_its_ttl() {
    let world = World::new();
    let (dead, next) = (world.lease(), world.lease());
    assert!(world.old_takes());
    world.waits(&dead, Some(LONG));
    world.waits(&next, Some(LONG));
    world.old.releases("a");
    world.pass(PENDING + BIT);
    world.takes(&next); // Not after 30 s.
}

#[test]
fn who_gives_up_waiting_for_an_old_worker_leaves_nothing() {
    // I11
    let world = World::new();
    let lease = world.lease();
    assert!(world.old_takes());
    world.waits(&lease, Some(LONG));
    assert!(world.inner_is_held());
    assert_eq!(world.releases(&lease), Ownership::Ours);
    assert!(!world.inner_is_held());
    assert_eq!(world.old.rows()[0].1, "old-worker");
}

#[test]
fn a_row_that_an_old_worker_left_behind_ends_by_its_time() {
    let world = World::new();
    assert!(world.old.takes("a", world.now(), 60.0));
    let lease = world.lease();
    world.pass(Duration::from_mins(1) + MARGIN / 2);
    world.waits(&lease, None); // Its clock may be a little behind.
    world.pass(MARGIN);
    world.takes(&lease);
    let rows = world.old.rows();
    assert!(rows.len() == 1 && rows[0].1.starts_with("bidlock:"), "{rows:?}");
}

#[test]
fn a_row_without_an_end_is_waited_for() {
    let world = World::new();
    world
        .old
        .connection()
        .execute("INSERT INTO distributed_locks VALUES ('x', 'bid:lock:upwork:a', 'o', 1, 'x')", [])
        .unwrap();
    world.pass(Duration::from_hours(24 * 365));
    let (_, remaining) = world.waits(&world.lease(), None);
    assert_eq!(remaining, Duration::ZERO, "nobody can tell");
}

#[test]
fn a_renewal_moves_both_ends() {
    // I5
    let world = World::new();
    let lease = world.lease();
    world.takes(&lease);
    let before = world.old.rows()[0].2;
    for _ in 0..5 {
        world.pass(TTL / 2);
        assert_eq!(world.renews(&lease), Renewal::Renewed);
        assert!(!world.old_takes(), "its row outlives each renewal");
    }
    assert!(world.old.rows()[0].2 > before + 2.0 * TTL.as_secs_f64());
    // A step of the wall clock shortens nothing.
    world.machine.clock.step_wall(-3_600_000_000);
    let before = world.old.rows()[0].2;
    assert_eq!(world.renews(&lease), Renewal::Renewed);
    assert!(world.old.rows()[0].2 >= before);
}

#[test]
fn a_row_that_somebody_deleted_is_a_lost_lease() {
    // I4, I15
    let world = World::new();
    let lease = world.lease();
    world.takes(&lease);
    world.old.connection().execute("DELETE FROM distributed_locks", []).unwrap();
    assert_eq!(world.renews(&lease), Renewal::Taken);
    assert!(world.old.rows().is_empty(), "I5: it is not made anew");
    assert!(world.old_takes());
    assert_eq!(world.renews(&lease), Renewal::Taken);
    world.releases(&lease);
    assert_eq!(world.old.rows()[0].1, "old-worker", "I2: another's row is left alone");
}

#[test]
fn a_lease_lost_in_the_new_store_is_lost() {
    // I15
    let world = World::new();
    let lease = world.lease();
    world.takes(&lease);
    block_on(world.memory.release(&key("a"), &lease)).unwrap();
    let before = world.old.rows()[0].2;
    world.pass(TTL / 3);
    assert_eq!(world.renews(&lease), Renewal::Expired);
    assert!((world.old.rows()[0].2 - before).abs() < 0.01, "its row was not extended");
    assert_eq!(world.releases(&lease), Ownership::Ours, "the row goes all the same");
    assert!(world.old.rows().is_empty());
}

#[test]
fn the_row_of_a_dead_process_keeps_old_workers_out_to_its_end_and_nobody_else() {
    // I16
    let world = World::new();
    let (dead, next) = (world.lease(), world.lease());
    let token = world.takes(&dead);
    world.pass(TTL + BIT);
    assert!(!world.old_takes(), "the row outlives the belief in the lease");
    assert!(world.takes(&next) > token);
    let rows = world.old.rows();
    assert!(rows.len() == 1 && rows[0].1 != format!("bidlock:{dead}"), "{rows:?}");
    world.releases(&dead);
    assert_eq!(world.old.rows(), rows, "I2");
    world.pass(TTL + 2 * MARGIN);
    assert!(world.old_takes());
}

#[test]
fn a_grant_that_was_overtaken_on_its_way_to_the_row_takes_nothing() {
    // I16: stopped between its two steps until another had both.
    let world = World::new();
    let (late, next) = (world.lease(), world.lease());
    let (request, clock) = (asking(&next, None), world.machine.clock.clone());
    let bridge = Arc::clone(&world.bridge);
    *world.hook.lock().unwrap() = Some(Box::new(move || {
        // Its inner lease ends before its request is too late.
        clock.advance(TTL + Duration::from_millis(500));
        let granted = block_on(bridge.acquire(&request)).unwrap();
        assert!(matches!(granted, Attempt::Granted { .. }), "{granted:?}");
    }));
    let request = AcquireRequest { within: LONG, ..asking(&late, Some(LONG)) };
    let answer = block_on(world.bridge.acquire(&request)).unwrap();
    assert!(matches!(answer, Attempt::Held { .. }), "{answer:?}");
    assert_eq!(world.renews(&next), Renewal::Renewed);
    world.releases(&late);
    assert_eq!(world.renews(&next), Renewal::Renewed);
}

#[test]
fn a_request_that_is_late_between_its_steps_writes_no_row() {
    // I9
    let world = World::new();
    let lease = world.lease();
    let clock = world.machine.clock.clone();
    *world.hook.lock().unwrap() = Some(Box::new(move || clock.advance(TTL)));
    let answer = world.asks(&lease, None);
    assert!(matches!(answer, Err(BackendError::TooLate { .. })), "{answer:?}");
    assert_eq!((world.old.rows().len(), world.inner_is_held()), (0, false));
}

#[test]
fn an_old_worker_that_is_faster_than_the_second_step_is_respected() {
    for wait in [None, Some(LONG)] {
        let world = World::new();
        let (lease, now) = (world.lease(), world.now());
        let old = Arc::clone(&world.old);
        *world.hook.lock().unwrap() = Some(Box::new(move || assert!(old.takes("a", now, 300.0))));
        let (holder, _) = world.waits(&lease, wait);
        assert!(holder.contains("old-worker"), "{holder}");
        assert_eq!(world.inner_is_held(), wait.is_some());
        world.old.releases("a");
        world.takes(&lease);
    }
}

#[test]
fn a_busy_file_is_waited_for_within_the_time_of_the_request_and_leaves_nothing() {
    for wait in [None, Some(LONG)] {
        let world = World::new();
        let lease = world.lease();
        let other = world.old.connection();
        other.execute_batch("BEGIN IMMEDIATE").unwrap(); // Readers are let in, writers are not.
        let within = Duration::from_millis(200);
        let request = AcquireRequest { within, ..asking(&lease, wait) };
        let failed = block_on(world.bridge.acquire(&request)).unwrap_err();
        // Who waits keeps what it has, and is told that it may have something.
        assert_eq!(failed.may_have_applied(), wait.is_some(), "{failed:?}");
        assert!(failed.is_retryable());
        assert_eq!(world.inner_is_held(), wait.is_some());
        other.execute_batch("COMMIT").unwrap();
        world.takes(&lease);
        assert_eq!(world.renews(&lease), Renewal::Renewed);
    }
}

#[test]
fn a_reader_that_stays_keeps_a_commit_waiting_and_no_longer_than_the_request_has() {
    // I9: in a rollback journal, a reader blocks the commit itself.
    let world = World::new();
    let lease = world.lease();
    let reader = world.old.connection();
    reader.execute_batch("BEGIN; SELECT count(*) FROM distributed_locks").unwrap();
    let within = Duration::from_millis(200);
    let request = AcquireRequest { within, ..asking(&lease, None) };
    let real = bidlock::platform::system().unwrap().clock;
    let began = real.now();
    let failed = block_on(world.bridge.acquire(&request)).unwrap_err();
    assert!(matches!(failed, BackendError::Busy { .. }), "{failed:?}");
    assert!(real.now().since(began) < Duration::from_secs(5));
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!((world.old.rows().len(), world.inner_is_held()), (0, false));
    world.takes(&lease);
}

#[test]
fn an_operator_frees_both_stores_at_once_or_leaves_both_to_the_holder() {
    // I12
    let world = World::new();
    let revoke = Arc::clone(&world.bridge).revoke().unwrap();
    let lease = world.lease();
    let token = world.takes(&lease);
    let marked = block_on(revoke.revoke(&key("a"), token, false)).unwrap();
    assert!(matches!(marked, Revocation::Marked { .. }), "{marked:?}");
    assert_eq!(world.renews(&lease), Renewal::Revoked);
    assert!(!world.old_takes(), "its holder may still work");
    let other = block_on(revoke.revoke(&key("a"), FencingToken::new(1), true)).unwrap();
    assert!(matches!(other, Revocation::NotHeld { .. }), "{other:?}");
    assert_eq!(world.old.rows().len(), 1);
    assert_eq!(block_on(revoke.revoke(&key("a"), token, true)).unwrap(), Revocation::Freed);
    assert!(world.old_takes());
    assert_eq!(world.renews(&lease), Renewal::Revoked);
}

#[test]
fn a_listing_shows_who_works_in_either_system() {
    let world = World::new();
    let (lease, waits) = (world.lease(), world.lease());
    for posting in ["b", "d", "a"] {
        assert!(world.old.takes(posting, world.now(), 300.0));
    }
    let other = "INSERT INTO distributed_locks VALUES ('y', 'bid:lock:Upwork:z', 'o', 1, 9e99)";
    world.old.connection().execute(other, []).unwrap();
    world.waits(&waits, Some(LONG));
    let request = AcquireRequest { key: key("c"), ..asking(&lease, None) };
    assert!(matches!(block_on(world.bridge.acquire(&request)), Ok(Attempt::Granted { .. })));
    let browse = Arc::clone(&world.bridge).browse().unwrap();
    let list = |after: Option<&str>, limit| {
        let query = LockQuery { prefix: Prefix::default(), after: after.map(key), limit };
        block_on(browse.list(&query)).unwrap()
    };
    let all = list(None, 10);
    let shown: Vec<_> = all.iter().map(|lock| (lock.key.posting(), lock.waiters)).collect();
    let posting = |text: &str| text.to_owned();
    let expected = vec![(posting("a"), 1), (posting("b"), 0), (posting("c"), 0), (posting("d"), 0)];
    assert_eq!(shown, expected);
    assert!(all[0].holder.is_foreign() && all[0].token.is_none() && all[2].token.is_some());
    let pages = [list(None, 2), list(Some("b"), 2), list(Some("d"), 2)].concat();
    assert_eq!(pages, all);
    assert_eq!(block_on(browse.inspect(&key("a"))).unwrap().as_ref(), Some(&all[0]));
    assert_eq!(block_on(browse.inspect(&key("c"))).unwrap().as_ref(), Some(&all[2]));
    assert_eq!(block_on(browse.inspect(&key("x"))).unwrap(), None);
}

#[test]
fn keys_that_the_older_system_has_not_are_left_to_the_new_store() {
    let world = World::new();
    let prefix = Prefix::new("other").unwrap();
    for key in [Key::named("nightly").unwrap(), key("a").with_prefix(&prefix)] {
        let request = AcquireRequest { key, ..asking(&world.lease(), None) };
        assert!(matches!(block_on(world.bridge.acquire(&request)), Ok(Attempt::Granted { .. })));
    }
    assert!(world.old.rows().is_empty());
    assert!(world.old_takes());
}

#[derive(Debug, Default)]
struct Ears(Mutex<Vec<News>>);

impl Listener for Ears {
    fn woken(&self, wake: &Wake) -> bool {
        self.0.lock().unwrap().push(wake.news);
        true
    }
}

#[test]
fn a_grant_that_the_new_store_pushes_is_a_reason_to_look_and_no_grant() {
    // I13, I15
    let world = World::new();
    let ears: Arc<Ears> = Arc::default();
    let listener: Arc<dyn Listener> = Arc::clone(&ears) as _;
    world.bridge.subscribe(Arc::downgrade(&listener));
    let (holder, waiter) = (world.lease(), world.lease());
    world.takes(&holder);
    world.waits(&waiter, Some(LONG));
    world.releases(&holder);
    assert_eq!(*ears.0.lock().unwrap(), [News::Look]);
    world.takes(&waiter);
    assert_eq!(world.old.rows().len(), 1);
}

#[test]
fn a_file_that_was_replaced_is_used_no_more() {
    let world = World::new();
    let lease = world.lease();
    world.takes(&lease);
    let away = world.old.path.with_extension("away");
    std::fs::rename(&world.old.path, &away).unwrap();
    std::fs::copy(&away, &world.old.path).unwrap();
    let failed = world.asks(&world.lease(), None).unwrap_err();
    assert!(failed.to_string().contains("replaced"), "{failed}");
    let ttl = Ttl::new(TTL).unwrap();
    let request = RenewRequest { key: key("a"), lease, ttl, within: TTL };
    assert!(block_on(world.bridge.renew(&request)).is_err(), "P5: no answer is no renewal");
}

#[test]
fn form_and_rows_of_others_are_never_changed() {
    let world = World::new();
    let form = world.old.form();
    assert_eq!(form.1, "delete", "a rollback journal, as Python's default");
    assert!(world.old.takes("other", world.now(), 1.0));
    world.pass(Duration::from_hours(1));
    let lease = world.lease();
    world.takes(&lease);
    assert_eq!(world.renews(&lease), Renewal::Renewed);
    world.releases(&lease);
    let rows = world.old.rows();
    assert!(rows.len() == 1 && rows[0].1 == "old-worker", "ended, and theirs: {rows:?}");
    assert_eq!(world.old.form(), form);
}
