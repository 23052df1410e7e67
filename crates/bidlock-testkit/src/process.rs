use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A real process that does not outlive its test: dropping it kills it and its process group.
///
/// It reads nothing; what it writes is kept in files, so that it never waits for its reader. What
/// it starts in process groups of their own is not killed with it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: File,
    stderr: File,
}

impl Process {
    /// Starts a command in a process group of its own.
    ///
    /// # Errors
    /// The operating system's, such as [`io::ErrorKind::NotFound`].
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .process_group(0)
            .spawn()?;
        Ok(Self { child, stdout, stderr })
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process alone, as `kill -9` does.
    ///
    /// # Errors
    /// The operating system's.
    pub fn kill(&self) -> io::Result<()> {
        self.signal(Signal::SIGKILL)
    }

    /// Asks the process to end, as `kill` does.
    ///
    /// # Errors
    /// The operating system's.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Asks the process to end, as Ctrl-C does.
    ///
    /// # Errors
    /// The operating system's.
    pub fn interrupt(&self) -> io::Result<()> {
        self.signal(Signal::SIGINT)
    }

    /// Stops the process where it is, until [`Process::go_on`].
    ///
    /// # Errors
    /// The operating system's.
    pub fn stop(&self) -> io::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets a stopped process go on.
    ///
    /// # Errors
    /// The operating system's.
    pub fn go_on(&self) -> io::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// How the process ended, if it has.
    ///
    /// # Errors
    /// The operating system's.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for the end of the process.
    ///
    /// # Panics
    /// When it has not ended `within` this time; what it wrote is shown.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let until = now() + within;
        loop {
            match self.ended() {
                Ok(Some(status)) => return status,
                Ok(None) if now() < until => pause(),
                other => panic!(
                    "process {} has not ended within {within:?}: {other:?}\n{}{}",
                    self.id(),
                    self.stdout(),
                    self.stderr()
                ),
            }
        }
    }

    /// What the process wrote to its standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What the process wrote to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill(self.pid(), signal)?)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if let Ok(None) = self.child.try_wait() {
            let _gone_already = killpg(self.pid(), Signal::SIGKILL);
            drop(self.child.wait());
        }
    }
}

/// Reads without moving the place at which the process writes.
fn read(file: &File) -> String {
    let mut whole = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = file.read_at(&mut piece, whole.len() as u64) {
        whole.extend_from_slice(&piece[..length]);
    }
    String::from_utf8_lossy(&whole).into_owned()
}

/// Waits until a condition holds in the real world, which tells nobody when it does.
///
/// # Panics
/// When it does not hold `within` this time; `what` says in the message what was waited for.
pub fn wait_until(what: &str, within: Duration, mut condition: impl FnMut() -> bool) {
    let until = now() + within;
    while !condition() {
        assert!(now() < until, "not within {within:?}: {what}");
        pause();
    }
}

/// Makes an empty folder that is removed when the value is dropped.
///
/// # Panics
/// When there is no room for it.
#[must_use]
pub fn temp_dir() -> TempDir {
    #[expect(clippy::expect_used, reason = "a test cannot go on without its folder")]
    tempfile::Builder::new().prefix("bidlock-").tempdir().expect("a folder can be made")
}

#[expect(clippy::disallowed_methods, reason = "real processes run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "another process's state is no event here")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(line: &str) -> Process {
        Process::spawn(Command::new("sh").args(["-c", line])).unwrap()
    }

    fn runs(pid: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[test]
    fn what_a_process_writes_and_how_it_ends_is_kept() {
        let mut process = shell("echo out; echo err >&2; exit 7");
        assert_eq!(process.wait(SOON).code(), Some(7));
        assert_eq!((process.stdout().as_str(), process.stderr().as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn dropping_a_process_ends_it_and_its_children() {
        let process = shell("sleep 1000 & echo $!; wait");
        wait_until("the child's number", SOON, || process.stdout().ends_with('\n'));
        let child: u32 = process.stdout().trim().parse().unwrap();
        let id = process.id();
        assert!(runs(id) && runs(child));
        drop(process);
        wait_until("both are gone", SOON, || !runs(id) && !runs(child));
    }

    #[test]
    fn a_stopped_process_does_nothing_until_it_goes_on() {
        let mut process = shell("exec sleep 1000");
        process.kill().unwrap();
        assert_eq!(process.wait(SOON).code(), None, "killed by a signal");

        let mut process = shell("trap 'echo told; exit 3' TERM; echo ready; while :; do :; done");
        wait_until("it is ready", SOON, || process.stdout().contains("ready"));
        process.stop().unwrap();
        process.terminate().unwrap();
        assert_eq!(process.ended().unwrap(), None);
        assert!(!process.stdout().contains("told"));
        process.go_on().unwrap();
        assert_eq!(process.wait(SOON).code(), Some(3));
    }

    #[test]
    #[should_panic(expected = "not within 10ms: a miracle")]
    fn waiting_ends() {
        wait_until("a miracle", Duration::from_millis(10), || false);
    }
}
