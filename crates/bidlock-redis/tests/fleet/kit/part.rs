//! Processes: this test binary, started again with a part to play.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bidlock_testkit::servers::{Server, ServerKind, ServerOptions};
use bidlock_testkit::{Process, temp_dir, wait_until};
use tempfile::TempDir;

use super::SOON;
use super::log::{self, Interval};

const PART: &str = "BIDLOCK_TEST_PART";
const FOLDER: &str = "BIDLOCK_TEST_FOLDER";
const URL: &str = "BIDLOCK_TEST_URL";
const WORDS: &str = "BIDLOCK_TEST_WORDS";
/// The test that plays parts.
const ENTRY: &str = "a_process_plays_its_part";

/// What one process has to play.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    words: Vec<String>,
}

impl Part {
    /// The part of this process, when it was started to play one.
    pub(crate) fn own() -> Option<Self> {
        let name = env::var(PART).ok()?;
        let text = |name: &str| env::var(name).expect("what the part needs");
        let words = text(WORDS).split_whitespace().map(str::to_owned).collect();
        Some(Self { name, folder: text(FOLDER).into(), url: text(URL), words })
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, place: usize) -> T {
        self.words[place].parse().ok().expect("a number")
    }

    /// Waits until the test makes a file of this name.
    pub(crate) fn wait_for(&self, sign: &str) {
        wait_until(sign, SOON, || self.folder.join(sign).exists());
    }
}

/// A server, and the processes that share it and a folder.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) server: Server,
    folder: TempDir,
}

impl Fleet {
    pub(crate) fn new(kind: ServerKind) -> Self {
        Self::with(kind, ServerOptions::new())
    }

    pub(crate) fn with(kind: ServerKind, options: ServerOptions) -> Self {
        Self { server: Server::start_with(kind, options), folder: temp_dir() }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a process that plays a part.
    pub(crate) fn play(&self, part: &str, words: &[u64]) -> Process {
        let words: Vec<String> = words.iter().map(u64::to_string).collect();
        let exe = env::current_exe().expect("the test knows its own file");
        let mut command = Command::new(exe);
        command.args([ENTRY, "--exact", "--nocapture"]).env(PART, part).env(URL, self.server.url());
        command.env(FOLDER, self.folder()).env(WORDS, words.join(" "));
        Process::spawn(&mut command).expect("a process starts")
    }

    /// Gives all processes a sign.
    pub(crate) fn sign(&self, sign: &str) {
        fs::write(self.folder().join(sign), "").expect("a file can be made");
    }

    /// How often a lease was entered or left so far.
    pub(crate) fn lines(&self) -> u64 {
        log::lines(self.folder())
    }

    /// Waits until so many leases were entered and left.
    pub(crate) fn wait_for_cycles(&self, number: usize, processes: &mut [Process]) {
        wait_until(&format!("{number} cycles"), SOON, || {
            for process in processes.iter_mut() {
                let ended = process.ended().expect("its state can be read");
                let good = ended.is_none_or(|status| status.success());
                assert!(good, "{}{}", process.stdout(), process.stderr());
            }
            self.lines() >= 2 * number as u64
        });
    }

    /// Who held what when, after no two were found to have held a key at once.
    pub(crate) fn checked(&self) -> Vec<Interval> {
        let log = fs::read_to_string(self.folder().join("log")).expect("the log can be read");
        let all = log::intervals(&log);
        log::check(&all);
        all
    }
}

/// Waits until all processes have ended well.
pub(crate) fn all_end(processes: &mut [Process]) {
    for process in processes {
        let status = process.wait(SOON);
        assert!(status.success(), "{}{}", process.stdout(), process.stderr());
    }
}
