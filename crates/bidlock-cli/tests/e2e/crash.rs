//! `kill -9` of `bidlock bid` at every step, and what others make of the posting afterwards.
//!
//! Where bidlock is to die inside a transaction, the test has put a trigger into the file that
//! takes for ever: bidlock stands there until it is killed. What it commits is watched from
//! outside, as any other process could.

use std::collections::BTreeMap;
use std::fs;

use bidlock_testkit::{Process, SeededRng, SubmissionLog, wait_until};
use rusqlite::{Connection, params};

use crate::{SOON, User, end, measure, pause, runs, scaled};

/// Where a bid is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// It has the lock; its reservation is not committed.
    Reserve,
    /// It has reserved; its start is not committed.
    Start,
    /// Its command runs and has sent nothing; it sends afterwards.
    BeforeSubmit,
    /// Its command runs and has sent nothing; it is killed too.
    InsteadOfSubmit,
    /// Its command has sent the bid and still runs.
    AfterSubmit,
    /// Its command has ended; the outcome is not committed.
    Record,
    /// The outcome is kept; the lock is not released.
    Release,
    /// Whenever it happens.
    AnyTime,
}

const STEPS: [Step; 8] = [
    Step::Reserve,
    Step::Start,
    Step::BeforeSubmit,
    Step::InsteadOfSubmit,
    Step::AfterSubmit,
    Step::Record,
    Step::Release,
    Step::AnyTime,
];

impl Step {
    /// The statement that never ends while the gate of its posting is closed.
    const fn gate(self) -> Option<&'static str> {
        match self {
            Self::Reserve => Some("BEFORE INSERT ON ledger_attempts"),
            Self::Start => Some("BEFORE UPDATE OF state ON ledger_attempts"),
            Self::Record => Some("BEFORE UPDATE OF decided_at_us ON ledger_attempts"),
            Self::Release => Some("BEFORE DELETE ON lock_keys"),
            _ => None,
        }
    }

    const fn is_after_start(self) -> bool {
        matches!(
            self,
            Self::BeforeSubmit | Self::InsteadOfSubmit | Self::AfterSubmit | Self::Record
        )
    }
}

/// A user whose `bidlock` is killed again and again.
struct Scene {
    user: User,
    log: SubmissionLog,
    file: Connection,
    rng: SeededRng,
}

/// A posting whose first bid was killed.
#[derive(Debug)]
struct Killed {
    posting: String,
    step: Step,
}

impl Scene {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        let user = User::new();
        assert_eq!(user.run(&["health"]).code, 0);
        let file = Connection::open(user.database()).unwrap();
        file.busy_timeout(SOON).unwrap();
        file.execute_batch("CREATE TABLE gates (posting TEXT, step TEXT)").unwrap();
        file.execute_batch(
            "CREATE TABLE many (n INTEGER);
             INSERT INTO many WITH RECURSIVE count (n) AS
                 (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < 1000) SELECT n FROM count;",
        )
        .unwrap();
        for step in STEPS {
            let Some(gate) = step.gate() else { continue };
            let column = if step == Step::Release {
                "'bid_lock:upwork:' || posting = OLD.key"
            } else {
                "posting = NEW.posting"
            };
            // 10^18 rows to count: nobody lives to see the end of it.
            file.execute_batch(&format!(
                "CREATE TRIGGER gate_{step:?} {gate}
                 WHEN EXISTS (SELECT 1 FROM gates WHERE step = '{step:?}' AND {column})
                 BEGIN
                     SELECT count(*) FROM many a, many b, many c, many d, many e, many f
                         WHERE a.n + b.n + c.n + d.n + e.n + f.n < 0;
                 END"
            ))
            .unwrap();
        }
        let log = SubmissionLog::new(&user.path("sent"));
        Self { user, log, file, rng: SeededRng::new(seed) }
    }

    /// Whether the key of a posting is locked, by the file.
    fn locked(&self, posting: &str) -> bool {
        let key = format!("bid_lock:upwork:{posting}");
        let sql = "SELECT count(*) FROM lock_keys WHERE key = ?1";
        self.file.query_row(sql, [key], |row| row.get::<_, i64>(0)).unwrap() > 0
    }

    /// The state that is kept of a posting's newest attempt.
    fn state(&self, posting: &str) -> Option<String> {
        let sql = "SELECT state FROM ledger_attempts WHERE posting = ?1 ORDER BY seq DESC";
        let mut statement = self.file.prepare_cached(sql).unwrap();
        statement.query_map([posting], |row| row.get(0)).unwrap().next().map(Result::unwrap)
    }

    fn sent(&self, posting: &str) -> usize {
        self.log.count(posting).unwrap()
    }

    fn state_is(&self, posting: &str, state: &str) -> bool {
        self.state(posting).as_deref() == Some(state)
    }

    /// Kills a bid on a new posting at a step. Where the machine is so busy that the bid loses its
    /// short lease before it gets there, another posting is tried.
    fn kill_at(&self, step: Step, posting: &str) -> Killed {
        for n in 0..20 {
            if let Some(killed) = self.try_to_kill_at(step, format!("{posting}_{n}")) {
                return killed;
            }
        }
        panic!("{posting}: no bid reached {step:?}");
    }

    fn try_to_kill_at(&self, step: Step, posting: String) -> Option<Killed> {
        let gate = params![posting, format!("{step:?}")];
        self.file.execute("INSERT INTO gates VALUES (?1, ?2)", gate).unwrap();
        let whole = match step {
            Step::AnyTime => measure(&self.user, &format!("{posting}-measured")),
            _ => 0,
        };
        let bid = self.bid(step, &posting);
        let bid_pid = i32::try_from(bid.id()).unwrap();
        let name = posting.as_str();
        let reached = || match step {
            Step::Reserve => self.locked(name) && self.state(name).is_none(),
            Step::Start => self.state_is(name, "reserved"),
            Step::BeforeSubmit | Step::InsteadOfSubmit => {
                self.user.path(&format!("{name}.here")).exists()
            }
            Step::AfterSubmit => self.sent(name) == 1,
            Step::Record => self.sent(name) == 1 && self.state_is(name, "started"),
            Step::Release => self.state_is(name, "placed") && self.locked(name),
            Step::AnyTime => true,
        };
        if step == Step::AnyTime {
            pause(self.rng.below(whole));
        } else {
            let what = format!("{posting} reaches {step:?}");
            wait_until(&what, SOON, || reached() || !runs(bid_pid));
            if !reached() {
                let ended = end(bid);
                println!("{posting} ended before {step:?}: {ended:?}");
                assert_eq!(ended.code, 76, "{ended:?}");
                self.file.execute("DELETE FROM gates", []).unwrap();
                return None;
            }
        }
        bid.kill().unwrap();
        let ended = end(bid);
        assert!(step == Step::AnyTime || ended.code == 1009, "{step:?}: {ended:?}");
        self.file.execute("DELETE FROM gates", []).unwrap();
        match step {
            Step::InsteadOfSubmit => self.end_command(name),
            Step::BeforeSubmit => {
                fs::write(self.user.path(&format!("{name}.go")), "").unwrap();
                wait_until("the orphan sends", SOON, || self.sent(name) == 1);
            }
            _ => {}
        }
        Some(Killed { posting, step })
    }

    /// Starts a bid whose command stands still where the step wants it to.
    fn bid(&self, step: Step, posting: &str) -> Process {
        let sends = self.log.shell_line();
        let stands =
            format!("echo $$ > {posting}.here; until [ -e {posting}.go ]; do sleep 0.02; done");
        let script = match step {
            Step::BeforeSubmit | Step::InsteadOfSubmit => format!("{stands}; {sends}"),
            Step::AfterSubmit => format!("{sends}; {stands}"),
            _ => sends,
        };
        let words = ["bid", "upwork", posting, "--ttl", "300ms", "--submit-timeout", "4s", "--"];
        self.user.start(&[&words[..], &["sh", "-c", &script]].concat())
    }

    /// Kills the command that a killed bid has left behind.
    fn end_command(&self, posting: &str) {
        let pid = crate::pid_in(&self.user.path(&format!("{posting}.here")));
        nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(pid),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        wait_until("the command is gone", SOON, || !runs(pid));
    }

    /// Bids again, from several processes, as other instances would; returns their exit codes.
    fn bid_again(&self, killed: &Killed) -> Vec<i32> {
        let script = self.log.shell_line();
        let words = ["bid", "upwork", &killed.posting, "--wait", "50s", "--ttl", "1s", "--"];
        let words = [&words[..], &["sh", "-c", &script]].concat();
        let others: Vec<Process> = (0..2).map(|_| self.user.start(&words)).collect();
        let mut codes: Vec<i32> = others.into_iter().map(|other| end(other).code).collect();
        codes.sort_unstable();
        codes
    }

    /// What others must find after a kill.
    fn check(&self, killed: &Killed) {
        let (posting, step) = (killed.posting.as_str(), killed.step);
        let before = (self.state(posting), self.sent(posting));
        let codes = self.bid_again(killed);
        let sent = self.sent(posting);
        let context = format!("{killed:?}, found {before:?}: exit codes {codes:?}, sent {sent}");
        match before.0.as_deref() {
            // Nothing was started: one of the later calls bids, once.
            None | Some("reserved") => {
                assert!(!step.is_after_start(), "{context}");
                assert_eq!((codes.as_slice(), sent), (&[0, 10][..], 1), "{context}");
            }
            // L4, L6: whatever happened, nobody repeats it.
            Some("started") => {
                assert!(step.is_after_start() || step == Step::AnyTime, "{context}");
                assert_eq!(codes, [11, 11], "{context}");
                // A command that was just started may send after its bidlock is gone.
                let late = usize::from(step == Step::AnyTime);
                assert!(sent == before.1 || sent == before.1 + late, "{context}");
            }
            Some("placed") => {
                assert!(matches!(step, Step::Release | Step::AnyTime), "{context}");
                assert_eq!((codes.as_slice(), sent), (&[10, 10][..], 1), "{context}");
            }
            other => panic!("{other:?}: {context}"),
        }
    }

    /// The doubt about a posting shows, and is ended by an operator.
    fn clear_up(&self, killed: &Killed) {
        let posting = killed.posting.as_str();
        wait_until("the send-by", SOON, || self.user.states(posting) == ["unknown"]);
        if self.user.path(&format!("{posting}.here")).exists() && killed.step == Step::AfterSubmit {
            // L6: its command still runs, and might send again.
            let alive =
                self.user.run(&["resolve", "upwork", posting, "--not-sent", "--because", "x"]);
            assert_eq!(alive.code, 11, "{killed:?}: {alive:?}");
            assert_eq!(self.user.states(posting), ["unknown"]);
            self.end_command(posting);
        }
        if self.sent(posting) == 1 {
            let done = self.user.resolve(posting, &["--placed", "seen"]);
            assert_eq!(done.code, 0, "{killed:?}: {done:?}");
            assert_eq!(self.user.states(posting), ["placed"]);
            assert_eq!(self.bid_again(killed), [10, 10], "{killed:?}");
        } else {
            let done = self.user.resolve(posting, &["--not-sent"]);
            assert_eq!(done.code, 0, "{killed:?}: {done:?}");
            assert_eq!(self.bid_again(killed), [0, 10], "{killed:?}");
            assert_eq!(self.user.states(posting), ["placed", "abandoned"]);
        }
    }
}

#[test]
fn killed_at_any_step_a_bid_is_never_sent_twice() {
    let scene = Scene::new(0x0b1d);
    let mut doubtful = Vec::new();
    let mut found: BTreeMap<(Step, Option<String>), usize> = BTreeMap::new();
    for round in 0..scaled(200, 5) {
        let step = STEPS[round % STEPS.len()];
        let killed = scene.kill_at(step, &format!("job_{round}"));
        let state = scene.state(&killed.posting);
        scene.check(&killed);
        if state.as_deref() == Some("started") {
            doubtful.push(killed);
        }
        *found.entry((step, state)).or_default() += 1;
    }
    for ((step, state), times) in &found {
        println!("{times:4} killed at {step:?}, left {}", state.as_deref().unwrap_or("nothing"));
    }
    for step in STEPS {
        assert!(found.keys().any(|(at, _)| *at == step), "{step:?} was never reached");
    }
    for killed in &doubtful {
        scene.clear_up(killed);
    }
    let doubles = scene.log.doubles().unwrap();
    assert!(doubles.is_empty(), "{doubles:?}");
    assert!(scene.user.json(&["bids", "--state", "unknown"]).is_empty());
}
