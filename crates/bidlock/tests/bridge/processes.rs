//! Old workers, as they were, and new ones side by side: real processes, a real server.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bidlock::{Key, Locker, OldTable, Platform, Ttl, Wait, platform};
use bidlock_testkit::servers::{Server, ServerKind};
use bidlock_testkit::{Process, temp_dir, wait_until};
use tempfile::TempDir;

use crate::kit::{SCHEMA, TABLE, connection};

const PART: &str = "BIDLOCK_TEST_PART";
const FOLDER: &str = "BIDLOCK_TEST_FOLDER";
const URL: &str = "BIDLOCK_TEST_URL";
const SOON: Duration = Duration::from_mins(5);

/// A server, the old file, and whoever works on both.
struct Fleet {
    server: Server,
    folder: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let folder = temp_dir();
        connection(&folder.path().join("old.db")).execute_batch(SCHEMA).unwrap();
        Self { server: Server::start(ServerKind::Valkey9), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An old worker.
    fn old(&self, part: &str, number: u64) -> Process {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bridge/old_worker.py");
        let mut command = Command::new("python3");
        command.arg(script).args([part, &number.to_string()]).env(FOLDER, self.folder.path());
        Process::spawn(&mut command).expect("there is python3")
    }

    /// A new worker: this test once more, with a part to play.
    fn new_one(&self, part: &str, number: u64) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["processes::a_new_worker", "--exact", "--nocapture"]);
        command.env(PART, format!("{part} {number}")).env(FOLDER, self.folder.path());
        Process::spawn(command.env(URL, self.server.url())).unwrap()
    }

    fn all_ready(&self, workers: &[Process]) {
        for worker in workers {
            wait_until("all are ready", SOON, || worker.stdout().contains("ready"));
        }
        fs::write(self.path("go"), "").unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits for so many more holds.
    fn works_on(&self, more: usize) {
        let goal = self.log().lines().count() + 2 * more;
        wait_until("work goes on", SOON, || self.log().lines().count() >= goal);
    }

    /// Puts a new worker in the place of one that ends, while all others go on.
    fn replaces(&self, worker: &mut Process, part: &str, postings: u64) {
        worker.wait(SOON);
        *worker = self.new_one(part, postings);
        self.works_on(30);
    }

    fn stops(&self, workers: Vec<Process>) {
        fs::write(self.path("stop"), "").unwrap();
        for mut worker in workers {
            let status = worker.wait(SOON);
            assert!(status.success(), "{}{}", worker.stdout(), worker.stderr());
        }
    }
}

/// Checks that no two holds of a posting overlap; how many each kind had. One that has no end was
/// killed in it, and only known to have begun.
fn holds(log: &str) -> BTreeMap<String, usize> {
    let mut held: BTreeMap<&str, Vec<(u64, &str, &str)>> = BTreeMap::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [posting, kind, what, at] = words[..] else { panic!("torn line {line:?}") };
        held.entry(posting).or_default().push((at.parse().unwrap(), kind, what));
    }
    let mut count = BTreeMap::new();
    for (posting, mut steps) in held {
        steps.sort_by_key(|step| step.0);
        let mut holder = None;
        for (at, kind, what) in steps {
            match what {
                "enter" => {
                    assert!(holder.is_none(), "{posting}: {kind} at {at} beside {holder:?}");
                    holder = Some(kind);
                    *count.entry(kind.to_owned()).or_default() += 1;
                }
                "killed" => holder = None,
                _ => assert_eq!(holder.take(), Some(kind), "{posting}: at {at}"),
            }
        }
    }
    count
}

#[test]
#[should_panic(expected = "new at 150 beside")]
fn an_overlap_is_found() {
    holds("a old enter 100\na old exit 200\na new enter 150\na new exit 250\n");
}

/// What a new worker does; a test of its own only for who starts it.
#[test]
fn a_new_worker() {
    let Ok(part) = env::var(PART) else { return };
    let (part, number) = part.split_once(' ').unwrap();
    let folder = PathBuf::from(env::var_os(FOLDER).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(works(part, number.parse().unwrap(), &folder));
}

#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
async fn works(part: &str, number: u64, folder: &Path) {
    let platform = platform::system().unwrap();
    let old = format!("sqlite://{}/old.db?table={TABLE}", folder.display());
    let builder = Locker::builder().platform(platform.clone());
    let builder =
        if part == "alone" { builder } else { builder.also(OldTable::parse(&old).unwrap()) };
    let locker = builder.connect(&env::var(URL).unwrap()).await.unwrap();
    if part == "hold" {
        let ttl = Ttl::new(Duration::from_secs(number)).unwrap();
        let key = Key::new("upwork", "held").unwrap();
        let acquire = locker.acquire(&key).ttl(ttl).wait(Wait::For(SOON));
        let lease = acquire.await.unwrap();
        println!("held {}", platform.clock.now().since_boot().as_micros());
        wait_until("the end", SOON, || folder.join("stop").exists());
        return lease.release().await.unwrap();
    }
    println!("ready");
    wait_until("the start", SOON, || folder.join("go").exists());
    if part == "race" {
        for posting in 0..number {
            bids(&locker, &platform, folder, posting).await;
        }
    } else {
        while !folder.join("stop").exists() {
            let posting = platform.rng.next_u64() % number;
            bids(&locker, &platform, folder, posting).await;
        }
    }
    locker.close().await;
}

/// Holds a posting for a moment, and writes down from when to when.
async fn bids(locker: &Locker, platform: &Platform, folder: &Path, posting: u64) {
    let wait = match platform.rng.next_u64() % 3 {
        0 => Wait::No,
        1 => Wait::For(Duration::from_millis(50)),
        _ => Wait::For(Duration::from_millis(300)),
    };
    let key = Key::new("upwork", &format!("job_{posting}")).unwrap();
    let acquire = locker.acquire(&key).ttl(Ttl::new(Duration::from_secs(6)).unwrap()).wait(wait);
    let lease = match acquire.await {
        Ok(lease) => lease,
        // Others had it, or kept the file busy, for as long as this one would wait.
        Err(busy) if busy.is_retryable() => return,
        Err(failed) => panic!("{failed:?}"),
    };
    let mut log = OpenOptions::new().create(true).append(true).open(folder.join("log")).unwrap();
    let mut writes = |what: &str| {
        let at = platform.clock.now().since_boot().as_micros();
        log.write_all(format!("job_{posting} new {what} {at}\n").as_bytes()).unwrap();
    };
    lease.check().unwrap();
    writes("enter");
    let pause = Duration::from_micros(platform.rng.next_u64() % 2_000);
    platform.clock.sleep_until(platform.clock.now() + pause).await;
    lease.check().unwrap();
    writes("exit");
    lease.release().await.unwrap();
}

#[test]
fn four_old_and_four_new_workers_race_for_the_same_postings() {
    // Each change of the old file waits for the disk, as it always did.
    let postings = if env::var_os("BIDLOCK_SOAK").is_some() { 500 } else { 100 };
    let fleet = Fleet::new();
    let mut workers: Vec<Process> = (0..4).map(|_| fleet.old("race", postings)).collect();
    workers.extend((0..4).map(|_| fleet.new_one("race", postings)));
    fleet.all_ready(&workers);
    for worker in &mut workers {
        let status = worker.wait(SOON);
        assert!(status.success(), "{}{}", worker.stdout(), worker.stderr());
    }
    let log = fleet.log();
    let count = holds(&log);
    println!("{count:?}");
    let names: std::collections::BTreeSet<_> =
        log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names.len() as u64, postings, "each was had by somebody");
    assert!(count["old"] > 50 && count["new"] > 50, "{count:?}");
    let left = "SELECT count(*) FROM distributed_locks";
    let left: u32 =
        connection(&fleet.path("old.db")).query_row(left, [], |row| row.get(0)).unwrap();
    assert_eq!((left, fleet.server.text(&["KEYS", "bid_lock:upwork:*"])), (0, String::new()));
}

#[test]
fn a_fleet_moves_over_one_by_one_under_load_and_kills() {
    const POSTINGS: u64 = 40;
    let fleet = Fleet::new();
    let mut workers: Vec<Process> = (0..6).map(|_| fleet.old("loop", POSTINGS)).collect();
    fleet.all_ready(&workers);
    fleet.works_on(50);
    // Half of the old ones are killed in the middle of whatever they do, and leave rows behind.
    for (place, worker) in workers.iter_mut().enumerate() {
        if place % 2 == 0 {
            worker.kill().unwrap();
        } else {
            worker.terminate().unwrap();
        }
        fleet.replaces(worker, "loop", POSTINGS);
    }
    // New ones are killed, too, and others take their place.
    for worker in &mut workers[..3] {
        worker.kill().unwrap();
        fleet.replaces(worker, "loop", POSTINGS);
    }
    // No old worker is left: the bridge goes, again one by one.
    for worker in &mut workers {
        worker.kill().unwrap();
        fleet.replaces(worker, "alone", POSTINGS);
    }
    fleet.stops(workers);
    let count = holds(&ended_by_kills(&fleet.log()));
    assert!(count["old"] >= 50 && count["new"] >= 300, "{count:?}");
}

/// A hold without an end was one of a killed worker: it ended where the next one of its posting
/// begins, at the latest by then, because nothing of it runs any more.
fn ended_by_kills(log: &str) -> String {
    let mut open: BTreeMap<&str, &str> = BTreeMap::new();
    let mut text = String::new();
    let mut lines: Vec<&str> = log.lines().collect();
    lines.sort_by_key(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    let mut killed = 0;
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let [posting, kind, what, at] = words[..] else { panic!("torn line {line:?}") };
        if what == "exit" {
            open.remove(posting);
        } else if open.insert(posting, kind).is_some() {
            killed += 1;
            text.extend([posting, " ", kind, " killed ", at, "\n"]);
        }
        text.extend([line, "\n"]);
    }
    // No more than were killed: an overlap of two that live has an end too many.
    assert!(killed <= 15, "{killed} holds have no end");
    text
}

fn at(worker: &Process) -> u64 {
    wait_until("it is held", SOON, || worker.stdout().contains("held "));
    let text = worker.stdout();
    let line = text.lines().find_map(|line| line.split_once("held ")).unwrap().1;
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_killed_new_worker_keeps_the_others_out_until_its_promise_ends() {
    // P4
    let fleet = Fleet::new();
    let mut dead = fleet.new_one("hold", 2);
    let since = at(&dead);
    let next = fleet.new_one("hold", 2);
    let old = fleet.old("hold", 60);
    dead.kill().unwrap();
    dead.wait(SOON);
    let after = at(&next) - since;
    assert!((1_900_000..3_900_000).contains(&after), "within its TTL and a bit: {after}us");
    assert!(!old.stdout().contains("held"), "the row went from one new worker to the next");
    next.kill().unwrap();
    let after = at(&old) - since;
    assert!(after > 5_500_000, "TTL and margin of the second one: {after}us");
}

#[test]
fn a_killed_old_worker_keeps_new_ones_out_until_its_row_ends() {
    let fleet = Fleet::new();
    let mut dead = fleet.old("hold", 3);
    let since = at(&dead);
    let next = fleet.new_one("hold", 6);
    dead.kill().unwrap();
    dead.wait(SOON);
    let after = at(&next) - since;
    assert!((4_900_000..7_500_000).contains(&after), "its time and 2 s: {after}us");
    fs::write(fleet.path("stop"), "").unwrap();
}
