//! The file itself: its rights, its faults, and who else uses it.

use std::env;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, FencingToken, Key, LeaseId, Listener,
    Ownership, Platform, Refusal, RenewRequest, Renewal, Revocation, Revoke, Ttl, Wake,
};
use bidlock_sqlite::Sqlite;
use bidlock_testkit::{Process, block_on, temp_dir, test_platform, wait_until};
use rusqlite::Connection;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(1);

struct Scene {
    folder: TempDir,
    platform: Platform,
    store: Arc<Sqlite>,
}

impl Scene {
    fn new() -> Self {
        let folder = temp_dir();
        let platform = bidlock_platform::system().expect("the platform starts");
        let store =
            Arc::new(Sqlite::open(&folder.path().join("locks.db"), &platform).expect("it opens"));
        Self { folder, platform, store }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("locks.db")
    }

    /// Another program's connection, for what bidlock itself never does.
    fn stranger(&self) -> Connection {
        Connection::open(self.file()).expect("it opens")
    }

    fn open_again(&self) -> Arc<Sqlite> {
        Arc::new(Sqlite::open(&self.file(), &self.platform).expect("it opens"))
    }

    fn request(&self, posting: &str) -> AcquireRequest {
        request(&self.platform, posting)
    }
}

fn request(platform: &Platform, posting: &str) -> AcquireRequest {
    AcquireRequest {
        key: Key::new("upwork", posting).expect("a sound key"),
        lease: LeaseId::random("host", 1, platform.rng.as_ref()),
        ttl: Ttl::default(),
        label: None,
        wait: None,
        routine: false,
        within: Duration::from_secs(10),
    }
}

fn granted(attempt: Result<Attempt, BackendError>) -> FencingToken {
    match attempt {
        Ok(Attempt::Granted { token }) => token,
        other => panic!("not granted: {other:?}"),
    }
}

fn refusal<T: Debug>(result: Result<T, BackendError>) -> Refusal {
    match result {
        Err(BackendError::Refused { reason, .. }) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[derive(Debug, Default)]
struct Count(AtomicUsize);

impl Listener for Count {
    fn woken(&self, _: &Wake) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst);
        true
    }
}

fn listen(store: &Sqlite) -> Arc<Count> {
    let count = Arc::new(Count::default());
    let heard: Arc<dyn Listener> = Arc::clone(&count) as _;
    store.subscribe(Arc::downgrade(&heard));
    count
}

#[test]
fn a_new_file_and_its_folders_are_the_users_alone() {
    let folder = temp_dir();
    let platform = bidlock_platform::system().unwrap();
    let file = folder.path().join("state/bidlock/locks.db");
    let store = Sqlite::open(&file, &platform).unwrap();
    granted(block_on(store.acquire(&request(&platform, "job"))));
    assert_eq!(mode(&file), 0o600);
    for beside in ["locks.db-wal", "locks.db-shm"] {
        assert_eq!(mode(&file.with_file_name(beside)), 0o600, "{beside}");
    }
    for parent in ["state", "state/bidlock"] {
        assert_eq!(mode(&folder.path().join(parent)), 0o700, "{parent}");
    }
    assert_eq!(store.endpoint().as_str(), format!("sqlite://{}", file.display()));
}

#[test]
fn connecting_does_the_same_without_blocking() {
    let folder = temp_dir();
    let platform = bidlock_platform::system().unwrap();
    let file = folder.path().join("locks.db");
    let store = block_on(Sqlite::connect(&file, &platform)).unwrap();
    let health = block_on(store.ping()).unwrap();
    assert_eq!((health.server.as_str(), health.role.as_str()), ("sqlite", "embedded"));
    let refused = refusal(block_on(Sqlite::connect(folder.path(), &platform)));
    assert!(matches!(&refused, Refusal::WrongType(why) if why.contains("is a folder")));
}

#[test]
fn a_path_that_is_no_file_is_refused_by_name_and_leaves_nothing() {
    let platform = bidlock_platform::system().unwrap();
    let folder = temp_dir();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "mine").unwrap();
    fs::create_dir(path("empty")).unwrap();
    for (bad, named) in [("file/x.db", "file"), ("file/a/b/x.db", "file"), ("empty", "empty")] {
        let Refusal::WrongType(why) = refusal(Sqlite::open(&path(bad), &platform)) else {
            panic!("{bad}");
        };
        assert!(why.contains(&*path(named).to_string_lossy()) && why.contains("name a file"));
    }
    // Folders are made on the way to what turns out to be none.
    for bad in ["new/../empty", "new/x/../../file/locks.db", "new/../empty/../file/a/locks.db"] {
        refusal(Sqlite::open(&path(bad), &platform));
    }
    assert_eq!(fs::read_to_string(path("file")).unwrap(), "mine");
    let mut left: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["empty", "file"], "what was there before stays, and nothing else");
}

#[test]
fn what_is_no_database_is_refused_and_left_alone() {
    let platform = bidlock_platform::system().unwrap();
    let folder = temp_dir();
    let file = folder.path().join("notes.txt");
    let text = "these are my notes, not a database; ".repeat(200);
    fs::write(&file, &text).unwrap();
    let refused = refusal(Sqlite::open(&file, &platform));
    let Refusal::Corrupt(why) = refused else { panic!("{refused:?}") };
    assert!(why.contains("notes.txt") && why.contains("name another file"), "{why}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_damaged_file_is_refused() {
    let scene = Scene::new();
    granted(block_on(scene.store.acquire(&scene.request("job"))));
    let (file, platform, folder) = (scene.file(), scene.platform.clone(), scene.folder);
    drop(scene.store);
    wait_until("the file is closed", SOON, || !file.with_file_name("locks.db-wal").exists());
    let mut bytes = fs::read(&file).unwrap();
    bytes[100..].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let refused = refusal(Sqlite::open(&file, &platform));
    assert!(matches!(&refused, Refusal::Corrupt(why) if why.contains("damaged")), "{refused:?}");
    drop(folder);
}

#[test]
fn a_newer_file_is_refused_and_left_alone() {
    let scene = Scene::new();
    scene.stranger().execute_batch("UPDATE lock_version SET version = 2").unwrap();
    let refused = refusal(Sqlite::open(&scene.file(), &scene.platform));
    assert!(matches!(&refused, Refusal::Newer(why) if why.contains("upgrade")), "{refused:?}");
    let sql = "SELECT version FROM lock_version";
    let version: i64 = scene.stranger().query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(version, 2);
}

#[test]
fn another_users_tables_in_the_file_stay() {
    let scene = Scene::new();
    let stranger = scene.stranger();
    stranger.execute_batch("PRAGMA user_version = 77; CREATE TABLE bids (n)").unwrap();
    granted(block_on(scene.open_again().acquire(&scene.request("job"))));
    let version: i64 = stranger.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 77);
}

/// Rights bind root only in another user's shoes: this test starts itself once more as nobody.
#[test]
fn missing_rights_are_named() {
    const FOLDER: &str = "BIDLOCK_TEST_RIGHTS";
    let expect_permission = |folder: &Path| {
        let platform = bidlock_platform::system().unwrap();
        for name in ["unreadable.db", "readonly.db", "locked/new.db", "locked/deep/new.db"] {
            let refused = refusal(Sqlite::open(&folder.join(name), &platform));
            let Refusal::Permission(why) = refused else { panic!("{name}: {refused:?}") };
            assert!(why.contains(name) && why.contains("rights"), "{why}");
        }
    };
    if let Some(folder) = env::var_os(FOLDER) {
        return expect_permission(Path::new(&folder));
    }
    let scene = Scene::new();
    let folder = scene.folder.path();
    drop(scene.stranger());
    for (name, rights) in [("unreadable.db", 0o000), ("readonly.db", 0o444)] {
        fs::copy(scene.file(), folder.join(name)).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(rights)).unwrap();
    }
    fs::create_dir(folder.join("locked")).unwrap();
    fs::set_permissions(folder.join("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    if !nix::unistd::geteuid().is_root() {
        return expect_permission(folder);
    }
    let exe = folder.join("test");
    fs::copy(env::current_exe().unwrap(), &exe).unwrap();
    let mut command = Command::new(exe);
    command.args(["missing_rights_are_named", "--exact", "--nocapture"]).env(FOLDER, folder);
    let mut nobody = Process::spawn(command.uid(65_534).gid(65_534)).unwrap();
    assert!(nobody.wait(SOON).success(), "{}{}", nobody.stdout(), nobody.stderr());
}

#[test]
fn fifty_threads_open_a_new_file_at_once() {
    let folder = temp_dir();
    let platform = bidlock_platform::system().unwrap();
    let file = folder.path().join("locks.db");
    let open = || Sqlite::open(&file, &platform).map(drop);
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..50).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn a_busy_file_is_waited_for_within_the_requests_own_time() {
    let scene = Scene::new();
    let stranger = scene.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hasty = AcquireRequest { within: Duration::from_millis(200), ..scene.request("job") };
    let asked = scene.platform.clock.now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (failed, ticks) = runtime.block_on(async {
        let mut ticks = 0;
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        let mut acquire = scene.store.acquire(&hasty);
        loop {
            tokio::select! {
                failed = &mut acquire => break (failed, ticks),
                _ = interval.tick() => ticks += 1,
            }
        }
    });
    let took = scene.platform.clock.now().since(asked);
    let failed = failed.unwrap_err();
    assert!(matches!(failed, BackendError::Busy { .. }), "{failed:?}");
    assert!(!failed.may_have_applied() && took >= hasty.within, "{took:?}");
    assert!(ticks >= 5, "the runtime was blocked: {ticks}");

    // A patient request gets through as soon as the file is free; a hasty one that comes while
    // the thread waits for the patient one's sake is answered in its own time.
    let patient = scene.request("job");
    let mut acquire = scene.store.acquire(&patient);
    assert!(acquire.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let asked = scene.platform.clock.now();
    assert!(block_on(scene.store.acquire(&hasty)).is_err());
    let took = scene.platform.clock.now().since(asked);
    assert!(took < patient.within / 2, "{took:?}");
    stranger.execute_batch("COMMIT").unwrap();
    granted(block_on(acquire));
}

#[test]
fn a_failed_transaction_changes_nothing_for_anybody_in_it() {
    let scene = Scene::new();
    let stranger = scene.stranger();
    let trap = "CREATE TRIGGER trap BEFORE INSERT ON lock_keys WHEN new.key LIKE '%bad'
                BEGIN SELECT RAISE(ABORT, 'trapped'); END";
    stranger.execute_batch(trap).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let requests = ["first", "good", "bad"].map(|posting| scene.request(posting));
    let mut calls = requests.each_ref().map(|request| scene.store.acquire(request));
    for call in &mut calls {
        // The first is on its own, held up by the stranger; the others share the next transaction.
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    stranger.execute_batch("COMMIT").unwrap();
    let [first, good, bad] = calls.map(block_on);
    assert!(bad.is_err());
    for (attempt, request) in [(first, &requests[0]), (good, &requests[1])] {
        let there = block_on(scene.store.inspect(&request.key)).unwrap();
        assert_eq!(attempt.is_ok(), there.is_some(), "{attempt:?}, {there:?}");
    }
    assert_eq!(block_on(scene.store.inspect(&requests[2].key)).unwrap(), None);
    // The failure was the transaction's, not the thread's.
    stranger.execute_batch("DROP TRIGGER trap").unwrap();
    for request in &requests {
        granted(block_on(scene.store.acquire(request)));
    }
}

#[test]
fn a_cancelled_caller_leaves_the_store_sound() {
    let scene = Scene::new();
    let stranger = scene.stranger();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (first, second) = (scene.request("job"), scene.request("job"));
    {
        let mut acquire = scene.store.acquire(&first);
        let polled = acquire.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "{polled:?}");
    }
    stranger.execute_batch("COMMIT").unwrap();
    // R9: nobody was listening when its turn came, so the key was not taken.
    granted(block_on(scene.store.acquire(&second)));
    let released = block_on(scene.store.release(&first.key, &first.lease)).unwrap();
    assert_eq!(released, Ownership::NotOurs);
}

#[test]
fn requests_that_were_made_are_done_after_the_handle_is_gone() {
    let scene = Scene::new();
    let request = scene.request("job");
    granted(block_on(scene.store.acquire(&request)));
    let other = scene.open_again();
    let writer = rusqlite::Connection::open(scene.file()).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE").unwrap();
    {
        // At the second poll it is made, and left to the thread: the file is busy.
        let mut release = scene.store.release(&request.key, &request.lease);
        for _ in 0..2 {
            let polled = release.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
        }
    }
    drop(scene.store);
    writer.execute_batch("COMMIT").unwrap();
    drop(writer);
    wait_until("the key is free", SOON, || {
        block_on(other.inspect(&request.key)).unwrap().is_none()
    });
    drop(other);
    let wal = scene.folder.path().join("locks.db-wal");
    wait_until("the last thread has closed the file", SOON, || !wal.exists());
}

#[test]
fn a_file_that_was_replaced_is_noticed() {
    let scene = Scene::new();
    let request = scene.request("job");
    granted(block_on(scene.store.acquire(&request)));
    fs::remove_file(scene.file()).unwrap();
    for beside in ["locks.db-wal", "locks.db-shm"] {
        fs::remove_file(scene.folder.path().join(beside)).unwrap();
    }
    let renew = RenewRequest {
        key: request.key.clone(),
        lease: request.lease.clone(),
        ttl: request.ttl,
        within: request.within,
    };
    let failed = block_on(scene.store.renew(&renew)).unwrap_err();
    let source = std::error::Error::source(&failed).unwrap().to_string();
    assert!(source.contains("deleted or replaced"), "{source}");
    // The lease is not in the new file: its holder must not go on (I5).
    assert_eq!(block_on(scene.store.renew(&renew)).unwrap(), Renewal::Expired);
    granted(block_on(scene.open_again().acquire(&scene.request("job"))));
    assert_eq!(mode(&scene.file()), 0o600);
}

#[test]
fn a_link_to_the_file_is_the_same_store() {
    let scene = Scene::new();
    granted(block_on(scene.store.acquire(&scene.request("job"))));
    let link = scene.folder.path().join("link.db");
    symlink(scene.file(), &link).unwrap();
    let other = Sqlite::open(&link, &scene.platform).unwrap();
    let attempt = block_on(other.acquire(&scene.request("job"))).unwrap();
    assert!(matches!(attempt, Attempt::Held { .. }), "{attempt:?}");
}

#[test]
fn another_boot_ends_every_lock_and_wait() {
    let folder = temp_dir();
    let file = folder.path().join("locks.db");
    let machine = test_platform();
    let store = Sqlite::open(&file, &machine.platform()).unwrap();
    let held = request(&machine.platform(), "job");
    let before = granted(block_on(store.acquire(&held)));
    let waiting = AcquireRequest { wait: Some(SOON), ..request(&machine.platform(), "job") };
    block_on(store.acquire(&waiting)).unwrap();

    let machine = machine.rebooted(Duration::from_secs(1));
    let old_connection = store;
    let store = Sqlite::open(&file, &machine.platform()).unwrap();
    assert_eq!(block_on(store.inspect(&held.key)).unwrap(), None);
    let newcomer = request(&machine.platform(), "job");
    // I1, I10: the boot clock began anew; neither holder nor waiter counts, and the token rises.
    let after = granted(block_on(store.acquire(&newcomer)));
    assert!(after > before, "{after} after {before}");
    drop(old_connection);
}

#[test]
fn another_process_hears_of_a_hand_over_and_of_a_revocation() {
    let scene = Scene::new();
    let other = scene.open_again();
    let heard = listen(&other);
    let holder = scene.request("job");
    granted(block_on(scene.store.acquire(&holder)));
    let waiter = AcquireRequest { wait: Some(SOON), ..scene.request("job") };
    let attempt = block_on(other.acquire(&waiter)).unwrap();
    assert!(matches!(attempt, Attempt::Held { ahead: 0, .. }), "{attempt:?}");
    let wakes = || heard.0.load(Ordering::SeqCst);

    let asked = scene.platform.clock.now();
    block_on(scene.store.release(&holder.key, &holder.lease)).unwrap();
    wait_until("the hand-over is heard", SOON, || wakes() > 0);
    let took = scene.platform.clock.now().since(asked);
    assert!(took < Duration::from_millis(900), "it was only the look of every second: {took:?}");
    let token = granted(block_on(other.acquire(&waiter)));

    let before = wakes();
    let revoked = block_on(Revoke::revoke(&*scene.store, &holder.key, token, false)).unwrap();
    assert!(matches!(revoked, Revocation::Marked { .. }), "{revoked:?}");
    wait_until("the revocation is heard", SOON, || wakes() > before);
    let attempt = block_on(other.acquire(&waiter)).unwrap();
    assert!(matches!(attempt, Attempt::Held { .. }), "a revoked lease is not granted: {attempt:?}");
    let released = block_on(other.release(&waiter.key, &waiter.lease)).unwrap();
    assert_eq!(released, Ownership::Ours);
    granted(block_on(scene.store.acquire(&scene.request("job"))));
}

#[test]
fn the_log_stays_short_though_nobody_writes_much_and_one_stays_open() {
    let scene = Scene::new();
    let mut longest = 0;
    for _ in 0..60 {
        let short_lived = scene.open_again();
        for n in 0..60 {
            let request = scene.request(&format!("job_{n}"));
            granted(block_on(short_lived.acquire(&request)));
            let released = block_on(short_lived.release(&request.key, &request.lease));
            assert_eq!(released.unwrap(), Ownership::Ours);
        }
        drop(short_lived);
        let log = fs::metadata(scene.folder.path().join("locks.db-wal")).unwrap();
        longest = longest.max(log.len());
    }
    assert!(longest > 1 << 20, "{longest} bytes: too few to show anything");
    assert!(longest < 12 << 20, "{longest} bytes");
}
