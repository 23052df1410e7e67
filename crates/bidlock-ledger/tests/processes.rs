//! Real processes on one file: they race, and are killed at any step.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use bidlock_core::{FencingToken, Key, Platform, Refusal};
use bidlock_ledger::{
    AttemptId, Ledger, LedgerError, Outcome, Reservation, ReserveRequest, Start, StartRequest,
};
use bidlock_testkit::block_on;
use rusqlite::Connection;

const ROLE: &str = "BIDLOCK_TEST_ROLE";
const FILE: &str = "BIDLOCK_TEST_FILE";
const TOKEN: &str = "BIDLOCK_TEST_TOKEN";

/// What a child does; in the parent, which has no role, that there is none.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        assert!(std::env::var_os(FILE).is_none());
        return;
    };
    let path = std::env::var(FILE).unwrap();
    let platform = bidlock_platform::system().unwrap();
    match role.as_str() {
        "open" => match Ledger::open_sqlite(Path::new(&path), &platform) {
            Ok(_) => say("opened"),
            Err(LedgerError::Refused { reason: Refusal::Permission(_), .. }) => say("permission"),
            Err(other) => say(&format!("{other:?}")),
        },
        "race" => {
            // The parent opens the gate for all by closing its ends.
            io::stdin().read_to_end(&mut Vec::new()).unwrap();
            let token = std::env::var(TOKEN).unwrap().parse().unwrap();
            let ledger = Ledger::open_sqlite(Path::new(&path), &platform).unwrap();
            let answer = block_on(bid_once(&ledger, &platform, "one", token, |_| {}));
            say(if answer { "yes" } else { "no" });
        }
        "bid" => {
            let ledger = Ledger::open_sqlite(Path::new(&path), &platform).unwrap();
            for n in 0_u64.. {
                let token = platform.clock.wall().as_micros();
                let posting = format!("p{n}");
                block_on(bid_once(&ledger, &platform, &posting, token, say));
            }
        }
        other => panic!("no such role: {other}"),
    }
}

fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "# {line}").unwrap();
    out.flush().unwrap();
}

/// Makes one bid and tells each step once it is acknowledged; returns whether it was started.
async fn bid_once(
    ledger: &Ledger,
    platform: &Platform,
    posting: &str,
    token: u64,
    mut tell: impl FnMut(&str),
) -> bool {
    let key = Key::new("upwork", posting).unwrap();
    let token = FencingToken::new(token);
    let request = ReserveRequest {
        attempt: AttemptId::random(platform.rng.as_ref()),
        token,
        holder: "child".to_owned(),
        process: platform.processes.current(),
        seen_at: None,
    };
    let id = request.attempt;
    let Reservation::Reserved(_) = ledger.reserve(&key, &request).await.unwrap() else {
        return false;
    };
    tell(&format!("reserved {posting} {id}"));
    let send_by = platform.clock.wall() + Duration::from_mins(1);
    let start = StartRequest { token, send_by, payload: None };
    let Start::Yes(_) = ledger.start(&id, &start).await.unwrap() else { return false };
    tell(&format!("started {posting} {id}"));
    let placed = Outcome::Placed { reference: Some(format!("ref-{posting}")) };
    ledger.record(&id, &placed).await.unwrap();
    tell(&format!("placed {posting} {id}"));
    true
}

fn command(program: &Path, role: &str, file: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(FILE, file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    command
}

fn me() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

/// What a child said: the harness around it has lines of its own.
fn said(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    text.lines().filter_map(|line| Some(line.split_once("# ")?.1.to_owned())).collect()
}

#[test]
fn a_hundred_processes_open_a_new_file_at_once_and_one_of_them_starts() {
    const PROCESSES: u64 = 100;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/ledger.db");
    let mut children: Vec<Child> = (0..PROCESSES)
        .map(|n| {
            // Some share a token, the others take each other over.
            let token = (1 + n / 2).to_string();
            command(&me(), "race", &file).env(TOKEN, token).spawn().unwrap()
        })
        .collect();
    let gates: Vec<_> = children.iter_mut().map(|child| child.stdin.take()).collect();
    drop(gates);
    let mut started = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let said = said(&output.stdout);
        assert!(said == ["yes"] || said == ["no"], "{said:?}");
        started += usize::from(said == ["yes"]);
    }
    assert_eq!(started, 1, "L2: one submission of one posting");
    Checked::of(&file).expect_sound();
}

/// Children that bid, and what they were told.
struct Fleet<'a> {
    file: &'a Path,
    children: Vec<Child>,
    lines: Receiver<String>,
    tell: Sender<String>,
}

impl<'a> Fleet<'a> {
    fn new(file: &'a Path, size: usize) -> Self {
        let (tell, lines) = channel();
        let mut fleet = Self { file, children: Vec::new(), lines, tell };
        for _ in 0..size {
            let child = fleet.spawn();
            fleet.children.push(child);
        }
        fleet
    }

    fn spawn(&self) -> Child {
        let mut child = command(&me(), "bid", self.file).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let tell = self.tell.clone();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let line = line.split_once("# ").map(|(_, said)| said.to_owned());
                if line.is_some_and(|line| tell.send(line).is_err()) {
                    return;
                }
            }
        });
        child
    }

    /// Kills one child where it stands, and puts another one in its place.
    fn kill(&mut self, victim: usize) {
        let another = self.spawn();
        let mut killed = std::mem::replace(&mut self.children[victim], another);
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
}

impl Drop for Fleet<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn processes_killed_at_any_step_leave_a_sound_ledger_and_never_a_second_start() {
    const KILLS: usize = 60;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let mut fleet = Fleet::new(&file, 3);
    let mut acknowledged = HashMap::new();
    let mut starts: HashMap<String, String> = HashMap::new();
    for round in 0..KILLS {
        // From one line to the next a child is somewhere in one of its three steps.
        for _ in 0..=round % 7 {
            let line = fleet.lines.recv_timeout(Duration::from_mins(1)).unwrap();
            let (step, posting, id) = parts(&line);
            if step == "started" {
                let before = starts.insert(posting.clone(), id.clone());
                assert_eq!(before, None, "L2: {posting} was started twice");
            }
            acknowledged.insert((posting, id), step);
        }
        fleet.kill(round % 3);
        let checked = Checked::of(&file);
        checked.expect_sound();
        checked.expect_kept(&acknowledged);
    }
    assert!(starts.len() > KILLS / 4, "they did bid: {}", starts.len());
}

fn parts(line: &str) -> (String, String, String) {
    let mut words = line.split(' ').map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap(), words.next().unwrap())
}

/// A file as a stranger finds it.
struct Checked(Connection);

impl Checked {
    fn of(file: &Path) -> Self {
        let connection = Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        Self(connection)
    }

    fn expect_sound(&self) {
        let check: String =
            self.0.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
        let twice = "SELECT count(*) FROM (SELECT 1 FROM ledger_attempts
             WHERE state <> 'abandoned' GROUP BY marketplace, posting HAVING count(*) > 1)";
        let twice: u32 = self.0.query_row(twice, [], |row| row.get(0)).unwrap();
        assert_eq!(twice, 0, "L1");
        // Every state has its entry in the history, written in the same transaction.
        let bare = "SELECT count(*) FROM ledger_attempts a WHERE NOT EXISTS (
             SELECT 1 FROM ledger_history h WHERE h.marketplace = a.marketplace
             AND h.posting = a.posting AND h.attempt = a.id AND h.event = a.event)";
        let bare: u32 = self.0.query_row(bare, [], |row| row.get(0)).unwrap();
        assert_eq!(bare, 0, "L7");
    }

    /// L2: what was acknowledged is there, and has not gone back.
    fn expect_kept(&self, acknowledged: &HashMap<(String, String), String>) {
        let find = "SELECT state FROM ledger_attempts WHERE id = ?1 AND posting = ?2";
        let mut find = self.0.prepare(find).unwrap();
        for ((posting, id), step) in acknowledged {
            let state: String = find.query_row([id, posting], |row| row.get(0)).unwrap();
            let kept = match step.as_str() {
                "reserved" => true,
                "started" => matches!(state.as_str(), "started" | "unknown" | "placed"),
                _ => state == "placed",
            };
            assert!(kept, "{posting} {id} was {step} and is {state}");
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_or_written_is_a_matter_of_permission() {
    let folder = tempfile::tempdir().unwrap();
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    // For root nothing is forbidden, so a child asks as nobody; it may have to be brought along.
    let program = folder.path().join("program");
    std::fs::copy(me(), &program).unwrap();
    chmod(folder.path(), 0o755);
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let open = |file: &Path| {
        let mut command = command(&program, "open", file);
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        said(&command.output().unwrap().stdout)
    };
    let file = folder.path().join("ledger.db");
    let platform = bidlock_platform::system().unwrap();
    drop(Ledger::open_sqlite(&file, &platform).unwrap());
    chmod(&file, 0o000);
    assert_eq!(open(&file), ["permission"], "unreadable");
    chmod(&file, 0o444);
    assert_eq!(open(&file), ["permission"], "read-only");
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    chmod(&locked, 0o555);
    assert_eq!(open(&locked.join("ledger.db")), ["permission"], "no file may be made there");
    assert!(!locked.join("ledger.db").exists(), "nothing was made");
}
