//! The promises of the binary, tried end to end: real processes that are killed, stopped and
//! signalled, real files that are locked, damaged and full.
//!
//! `BIDLOCK_SOAK=1` runs everything at full size.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "seeds and sizes are shown with the output of a test")]

mod again;
mod bad_input;
mod bad_store;
mod bridge;
mod crash;
mod faults;
mod hundred;
mod init;
mod ledger;
mod looks;
mod main_job;
mod operator;
mod postgres;
mod reconcile;
mod redis;
mod scripts;
mod stop;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use bidlock_testkit::{Process, temp_dir, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Far longer than anything here takes on a busy machine; only failures wait so long.
pub(crate) const SOON: Duration = Duration::from_mins(1);

/// A user with an empty home, and nothing of the tester's own settings.
#[derive(Debug)]
pub(crate) struct User {
    home: TempDir,
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; 1000+n where signal n ended it.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl User {
    pub(crate) fn new() -> Self {
        Self { home: temp_dir() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// The file that is used where nothing names one.
    pub(crate) fn database(&self) -> PathBuf {
        self.path("state/bidlock/bidlock.db")
    }

    /// Where the last bids are remembered.
    pub(crate) fn marks(&self) -> PathBuf {
        self.path("state/bidlock/marks")
    }

    /// Any program in this user's home and environment.
    pub(crate) fn program(&self, name: impl AsRef<Path>) -> Command {
        let mut command = Command::new(name.as_ref());
        command.current_dir(self.home.path()).env_clear();
        command.env("HOME", self.home.path()).env("XDG_STATE_HOME", self.path("state"));
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command
    }

    /// What still runs of all that was started in this user's environment.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let mark = [b"HOME=", self.home.path().as_os_str().as_bytes()].concat();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        // A zombie has no environment.
        let ours = |pid: &i32| {
            std::fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark))
        };
        pids.filter(ours).collect()
    }

    /// `bidlock` with these words.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        // Who runs tests in the background of a script has them ignore SIGINT and SIGQUIT.
        let mut command = self.program("env");
        command.args(["--default-signal=HUP,INT,QUIT,TERM", env!("CARGO_BIN_EXE_bidlock")]);
        command.args(words);
        command
    }

    /// Starts `bidlock` with these words.
    pub(crate) fn start(&self, words: &[&str]) -> Process {
        Process::spawn(&mut self.command(words)).unwrap()
    }

    /// Starts `bidlock` and waits until its command has made this file.
    pub(crate) fn start_until(&self, file: &str, words: &[&str]) -> Process {
        let process = self.start(words);
        wait_until(&format!("{words:?} makes {file}"), SOON, || self.path(file).exists());
        process
    }

    /// Runs `bidlock` with these words to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        end(self.start(words))
    }

    /// Runs `bidlock`, which must succeed, and reads one JSON object per line of its output.
    pub(crate) fn json(&self, words: &[&str]) -> Vec<Value> {
        let ran = self.run(&[words, &["--json"]].concat());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
        objects(&ran.stdout)
    }

    /// The attempts of a posting, newest first.
    pub(crate) fn bids(&self, posting: &str) -> Vec<Value> {
        self.json(&["bids", "upwork", posting])
    }

    /// The states of a posting's attempts, newest first.
    pub(crate) fn states(&self, posting: &str) -> Vec<String> {
        self.bids(posting).iter().map(|bid| text(bid, "state")).collect()
    }

    /// Ends a doubt as soon as that is allowed.
    pub(crate) fn resolve(&self, posting: &str, outcome: &[&str]) -> Ran {
        let words = [&["resolve", "upwork", posting, "--because", "looked"], outcome].concat();
        let mut done = self.run(&words);
        // Each try is a process of its own, so this is no busy loop.
        wait_until("the send-by", SOON, || {
            let early = done.code == 11 && done.stderr.contains("allowed from");
            if early {
                done = self.run(&words);
            }
            !early
        });
        done
    }
}

impl Drop for User {
    /// A test that fails may leave commands of a killed `bidlock` behind.
    fn drop(&mut self) {
        for pid in self.processes() {
            // It may have ended meanwhile.
            let _gone_already = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Waits for the end of a process.
pub(crate) fn end(process: Process) -> Ran {
    end_within(process, SOON)
}

/// Waits longer for the end of a process that has much to do.
pub(crate) fn end_within(mut process: Process, patience: Duration) -> Ran {
    let status = process.wait(patience);
    Ran { code: code_of(status), stdout: process.stdout(), stderr: process.stderr() }
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or(status.signal().map(|signal| 1000 + signal)).unwrap()
}

/// Reads one JSON object per line.
pub(crate) fn objects(lines: &str) -> Vec<Value> {
    let object = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        assert!(value.is_object(), "{line}");
        value
    };
    lines.lines().map(object).collect()
}

/// A text field of an object.
pub(crate) fn text(object: &Value, field: &str) -> String {
    object[field].as_str().unwrap_or_else(|| panic!("no text {field} in {object}")).to_owned()
}

pub(crate) fn signal(process: &Process, signal: Signal) {
    kill(Pid::from_raw(process.id().cast_signed()), signal).unwrap();
}

/// The number that a script has left in a file.
pub(crate) fn pid_in(file: &Path) -> i32 {
    let number = || std::fs::read_to_string(file).ok()?.trim().parse().ok();
    wait_until(&format!("a number in {}", file.display()), SOON, || number().is_some());
    number().unwrap()
}

/// Whether a process runs; a zombie does not.
pub(crate) fn runs(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

/// A size of a test: the whole of it with `BIDLOCK_SOAK=1`, else a part.
pub(crate) fn scaled(full: usize, divisor: usize) -> usize {
    if std::env::var_os("BIDLOCK_SOAK").is_some_and(|value| value == "1") {
        println!("full size: {full}");
        return full;
    }
    println!("scaled 1:{divisor}");
    full / divisor
}

/// How long an undisturbed bid on a new posting takes here and now, in microseconds.
#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
pub(crate) fn measure(user: &User, posting: &str) -> u64 {
    let before = std::time::Instant::now();
    assert_eq!(user.run(&["bid", "upwork", posting, "true"]).code, 0);
    u64::try_from(before.elapsed().as_micros()).unwrap()
}

/// Waits this many microseconds, where a moment is drawn at random or a span is what is tried.
#[expect(clippy::disallowed_methods, reason = "there is no event at a random moment")]
pub(crate) fn pause(micros: u64) {
    std::thread::sleep(Duration::from_micros(micros));
}
