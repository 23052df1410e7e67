//! Several real processes on one file: this test binary, started again with a part to play.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, Backend, Key, Label, LeaseId, Listener, Ownership, Platform, Ttl, Wake,
};
use bidlock_sqlite::Sqlite;
use bidlock_testkit::{Process, temp_dir, wait_until};
use tokio::sync::Notify;

const PART: &str = "BIDLOCK_TEST_PART";
const FOLDER: &str = "BIDLOCK_TEST_FOLDER";
const SOON: Duration = Duration::from_mins(1);

/// Starts this test once more; there it plays its part and ends.
fn play(test: &str, part: &str, folder: &Path) -> Process {
    let exe = env::current_exe().expect("the test knows its own file");
    let mut command = Command::new(exe);
    command.args([test, "--exact", "--nocapture"]).env(PART, part).env(FOLDER, folder);
    Process::spawn(&mut command).expect("a process starts")
}

/// The folder to play in, when this process is the one that plays the part.
fn plays(part: &str) -> Option<PathBuf> {
    (env::var(PART).ok()? == part).then(|| PathBuf::from(env::var_os(FOLDER).expect("a folder")))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime starts")
        .block_on(future)
}

#[derive(Debug, Default)]
struct Bell(Notify);

impl Listener for Bell {
    fn woken(&self, _: &Wake) -> bool {
        self.0.notify_one();
        true
    }
}

/// One process's view of the file.
struct Client {
    platform: Platform,
    store: Arc<Sqlite>,
    bell: Arc<Bell>,
}

impl Client {
    fn open(folder: &Path) -> Self {
        let platform = bidlock_platform::system().expect("the platform starts");
        let store = Arc::new(Sqlite::open(&folder.join("locks.db"), &platform).expect("it opens"));
        let bell = Arc::new(Bell::default());
        let heard: Arc<dyn Listener> = Arc::clone(&bell) as _;
        store.subscribe(Arc::downgrade(&heard) as Weak<dyn Listener>);
        Self { platform, store, bell }
    }

    fn request(&self, key: &Key, ttl: Duration, wait: Option<Duration>) -> AcquireRequest {
        AcquireRequest {
            key: key.clone(),
            lease: LeaseId::random("host", std::process::id(), self.platform.rng.as_ref()),
            ttl: Ttl::new(ttl).expect("a sound TTL"),
            label: Some(Label::new("soak").expect("a sound label")),
            wait,
            routine: false,
            within: Duration::from_secs(10),
        }
    }

    /// Waits as a locker does: looks when it is told to, when the grant before it ends, and at
    /// least every few seconds. Returns the token and when the granting request was sent.
    async fn acquire(&self, request: &AcquireRequest) -> (u64, Duration) {
        loop {
            let sent = self.platform.clock.now().since_boot();
            // Whatever comes here as an error is one that users would see (R25).
            match self.store.acquire(request).await.expect("the store answers") {
                Attempt::Granted { token } => return (token.get(), sent),
                Attempt::Held { remaining, .. } => {
                    let pause = remaining.min(Duration::from_secs(3));
                    drop(tokio::time::timeout(pause, self.bell.0.notified()).await);
                }
            }
        }
    }
}

fn key(number: u64) -> Key {
    Key::new("upwork", &format!("job_{number}")).expect("a sound key")
}

mod soak {
    use super::*;

    const PROCESSES: usize = 20;
    const KEYS: u64 = 12;
    const TTL: Duration = Duration::from_millis(400);
    /// Bytes per line, so that the file's length tells how far it all is.
    const LINE: usize = 80;

    /// Lines of enter and exit, appended by every process in one write each.
    struct Log(File);

    impl Log {
        fn write(&mut self, key: u64, token: u64, what: &str, at: Duration, until: Duration) {
            let line = format!("{key} {token} {what} {} {}", at.as_micros(), until.as_micros());
            let line = format!("{line:<width$}\n", width = LINE - 1);
            self.0.write_all(line.as_bytes()).expect("the log takes a line");
        }
    }

    fn bidder(folder: &Path) {
        let client = Client::open(folder);
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log"));
        let mut log = Log(log.expect("the log opens"));
        let now = || client.platform.clock.now().since_boot();
        run(async {
            while !folder.join("stop").exists() {
                let number = client.platform.rng.next_u64() % KEYS;
                let request = client.request(&key(number), TTL, Some(SOON));
                let (token, sent) = client.acquire(&request).await;
                let until = sent + TTL * 99 / 100; // I3
                let entered = now();
                if entered < until {
                    log.write(number, token, "enter", entered, until);
                    log.write(number, token, "exit", now().min(until), until);
                }
                let released = client.store.release(&request.key, &request.lease).await;
                released.expect("the store answers");
            }
        });
    }

    /// Checks that every key's intervals, in the order of their tokens, follow one another in time.
    fn check(log: &str) -> usize {
        let mut held: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
        for line in log.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [key, token, what, at, until] = words[..] else { panic!("torn line {line:?}") };
            let [key, token, at, until] =
                [key, token, at, until].map(|text| text.parse::<u64>().expect("a number"));
            if what == "enter" {
                // I1: no two grants have the same token.
                let twice = held.insert((key, token), (at, until));
                assert!(twice.is_none(), "key {key}: token {token} twice");
            } else {
                held.get_mut(&(key, token)).expect("entered before").1 = at;
            }
        }
        let mut before: Option<(u64, u64)> = None;
        for ((key, token), (entered, ended)) in &held {
            if let Some((key_before, ended_before)) = before
                && key_before == *key
            {
                // I1, I2
                assert!(*entered >= ended_before, "key {key}: token {token} entered too early");
            }
            before = Some((*key, *ended));
        }
        held.len()
    }

    #[test]
    fn twenty_processes_with_kills_never_overlap() {
        const TEST: &str = "soak::twenty_processes_with_kills_never_overlap";
        if let Some(folder) = plays("bidder") {
            return bidder(&folder);
        }
        let cycles = if env::var_os("BIDLOCK_SOAK").is_some() { 100_000 } else { 4_000 };
        let folder = temp_dir();
        let start = || play(TEST, "bidder", folder.path());
        let mut processes: Vec<Process> = (0..PROCESSES).map(|_| start()).collect();
        let log = folder.path().join("log");
        let mut killed = 0;
        let done = || fs::metadata(&log).map_or(0, |meta| meta.len()) / (2 * LINE as u64);
        for round in 0.. {
            let target = (u64::try_from(round).expect("few rounds") + 1) * 100;
            wait_until("a hundred more cycles", SOON, || {
                for process in &mut processes {
                    let ended = process.ended().expect("its state can be read");
                    assert!(ended.is_none(), "{}{}", process.stdout(), process.stderr());
                }
                done() >= target.min(cycles)
            });
            if done() >= cycles {
                break;
            }
            let victim = round % PROCESSES;
            processes[victim].kill().expect("it can be killed");
            processes[victim] = start();
            killed += 1;
        }
        fs::write(folder.path().join("stop"), "").expect("a file can be made");
        for process in &mut processes {
            let status = process.wait(SOON);
            assert!(status.success(), "{}{}", process.stdout(), process.stderr());
        }
        let seen = check(&fs::read_to_string(&log).expect("the log can be read"));
        assert!(seen as u64 >= cycles && killed > 5, "{seen} grants, {killed} kills");
    }

    #[test]
    #[should_panic(expected = "entered too early")]
    fn the_checker_finds_an_overlap() {
        check("1 5 enter 100 900\n1 6 enter 899 1800\n1 6 exit 900 1800\n");
    }

    #[test]
    #[should_panic(expected = "entered too early")]
    fn the_checker_finds_a_falling_token() {
        check("1 6 enter 100 900\n1 6 exit 200 900\n1 5 enter 300 1200\n");
    }
}

/// Waits for the key that somebody else has, and gives it up as soon as it was granted.
#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
fn wait_in_queue(folder: &Path) {
    let client = Client::open(folder);
    let request = client.request(&key(1), Duration::from_secs(20), Some(SOON));
    run(async {
        let first = client.store.acquire(&request).await.expect("the store answers");
        assert!(matches!(first, Attempt::Held { .. }), "{first:?}");
        println!("queued");
        let (token, _) = client.acquire(&request).await;
        println!("granted {token}");
        let released = client.store.release(&request.key, &request.lease).await;
        assert_eq!(released.expect("the store answers"), Ownership::Ours);
    });
}

/// A holder here and two waiting processes behind it, the first of them first.
fn two_wait(test: &str, folder: &Path) -> (Client, AcquireRequest, Process, Process) {
    let client = Client::open(folder);
    let request = client.request(&key(1), Duration::from_mins(1), None);
    let granted = run(client.store.acquire(&request)).expect("the store answers");
    assert!(matches!(granted, Attempt::Granted { .. }), "{granted:?}");
    let first = play(test, "waiter", folder);
    wait_until("the first waits", SOON, || first.stdout().contains("queued"));
    let second = play(test, "waiter", folder);
    wait_until("the second waits", SOON, || second.stdout().contains("queued"));
    (client, request, first, second)
}

#[test]
fn a_killed_waiter_is_passed_over_at_once() {
    if let Some(folder) = plays("waiter") {
        return wait_in_queue(&folder);
    }
    let folder = temp_dir();
    let test = "a_killed_waiter_is_passed_over_at_once";
    let (client, request, mut first, mut second) = two_wait(test, folder.path());
    first.kill().expect("it can be killed");
    first.wait(SOON);
    let released = client.platform.clock.now();
    run(client.store.release(&request.key, &request.lease)).expect("the store answers");
    assert!(second.wait(SOON).success(), "{}", second.stderr());
    // A grant window for the dead one would have taken 3 s.
    let took = client.platform.clock.now().since(released);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(second.stdout().contains("granted") && !first.stdout().contains("granted"));
}

#[test]
fn a_stopped_waiter_is_passed_over_and_enters_again() {
    if let Some(folder) = plays("waiter") {
        return wait_in_queue(&folder);
    }
    let folder = temp_dir();
    let test = "a_stopped_waiter_is_passed_over_and_enters_again";
    let (client, request, mut first, mut second) = two_wait(test, folder.path());
    // Not while it has SQLite's write lock: that would stop everybody.
    while {
        first.stop().expect("it can be stopped");
        let looked = client.request(&key(1), Duration::from_secs(1), None);
        let looked = AcquireRequest { within: Duration::from_millis(500), ..looked };
        run(client.store.acquire(&looked)).is_err()
    } {
        first.go_on().expect("it can go on");
    }
    // Its row grows stale in 5 s; after that nobody counts on it.
    let probe = client.request(&key(1), Duration::from_secs(1), None);
    let ahead = || match run(client.store.acquire(&probe)).expect("the store answers") {
        Attempt::Held { ahead, .. } => ahead,
        granted @ Attempt::Granted { .. } => panic!("{granted:?}"),
    };
    assert_eq!(ahead(), 2);
    wait_until("the stopped one is stale", SOON, || ahead() == 1);
    run(client.store.release(&request.key, &request.lease)).expect("the store answers");
    assert!(second.wait(Duration::from_secs(3)).success(), "{}", second.stderr());
    assert!(!first.stdout().contains("granted"), "a stopped process was granted the key");
    first.go_on().expect("it can go on");
    assert!(first.wait(SOON).success(), "{}", first.stderr());
    assert!(first.stdout().contains("granted"));
}

#[test]
fn a_hundred_processes_open_a_new_file_at_once() {
    const TEST: &str = "a_hundred_processes_open_a_new_file_at_once";
    if let Some(folder) = plays("opener") {
        wait_until("the start", SOON, || folder.join("go").exists());
        let client = Client::open(&folder.join("new/deep"));
        let request = client.request(&key(u64::from(std::process::id())), SOON, None);
        let granted = run(client.store.acquire(&request)).expect("the store answers");
        assert!(matches!(granted, Attempt::Granted { .. }), "{granted:?}");
        return;
    }
    let folder = temp_dir();
    let mut processes: Vec<_> = (0..100).map(|_| play(TEST, "opener", folder.path())).collect();
    fs::write(folder.path().join("go"), "").expect("a file can be made");
    for process in &mut processes {
        let status = process.wait(SOON);
        assert!(status.success(), "{}{}", process.stdout(), process.stderr());
    }
}
