//! Commands with a time limit, whose output is kept for the case that they fail.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Where the project lies, and where tasks may leave files.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Project {
    /// Finds the project by the folder that this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.parent().context("xtask lies in the project's folder")?.to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |dir| root.join(dir));
        Ok(Self { root, target })
    }

    /// Makes an empty folder that belongs to one step.
    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.target.join("xtask").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("emptying {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Prepares a command in the project's root that sees nothing of the user's own deployment.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy().into_owned();
            if known.starts_with("BIDLOCK_") || known.starts_with("REDIS_") {
                command.env_remove(name);
            }
        }
        command.env("XDG_STATE_HOME", self.target.join("xtask").join("state"));
        command
    }

    /// Prepares a call of the cargo that runs this program.
    pub(crate) fn cargo(&self, args: &str) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.args(args.split_whitespace());
        command
    }
}

/// How a command ended, and what it said on both streams.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Runs a command to its end, or to the limit: then it and all that it started are killed.
pub(crate) fn run(project: &Project, mut command: Command, limit: Duration) -> Result<Ended> {
    // Several may run at once.
    static LOGS: AtomicU32 = AtomicU32::new(0);
    let folder = project.target.join("xtask");
    fs::create_dir_all(&folder)?;
    let number = LOGS.fetch_add(1, Ordering::Relaxed);
    let log = folder.join(format!("{}-{number}.log", std::process::id()));
    let written = create(&log)?;
    command.stdout(written.try_clone()?).stderr(written);
    let status = wait(command, limit);
    let output = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    fs::remove_file(&log)?;
    match status {
        Ok(status) => Ok(Ended { status, output }),
        Err(error) => bail!("{output}\n{error:#}"),
    }
}

pub(crate) fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

/// Waits for a command's end, or for the limit: then it and all that it started are killed.
pub(crate) fn wait(mut command: Command, limit: Duration) -> Result<ExitStatus> {
    let shown = show(&command);
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    let pid = child.id();
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || done.send(child.wait()));
    if let Ok(status) = ended.recv_timeout(limit) {
        return status.with_context(|| format!("waiting for {shown}"));
    }
    kill_tree(pid);
    bail!("{shown}: killed after {} s", limit.as_secs())
}

/// Runs a command that has to succeed; its whole output is the error when it does not.
pub(crate) fn must(project: &Project, command: Command, limit: Duration) -> Result<String> {
    let shown = show(&command);
    let ended = run(project, command, limit)?;
    if ended.status.success() {
        return Ok(ended.output);
    }
    bail!("{}\n{shown}: {}", ended.output, ended.status)
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Kills a process and its descendants, the oldest first, so that none starts another.
fn kill_tree(pid: u32) {
    let children = children(pid);
    let mut kill = Command::new("kill");
    // A process that has ended by itself is what was wanted.
    drop(kill.args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status());
    for child in children {
        kill_tree(child);
    }
}

/// The processes that any thread of a process has started.
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    lists
        .flat_map(|l| l.split_whitespace().filter_map(|c| c.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Measures how long something took.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a build tool has no simulated time")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Project::find().unwrap().command("sh");
        command.args(["-c", script]);
        command
    }

    /// Every test has its own log: they run at once in one process.
    fn project(name: &str) -> Project {
        let found = Project::find().unwrap();
        Project { target: found.empty_folder(name).unwrap(), ..found }
    }

    #[test]
    fn a_failing_command_is_an_error_with_its_output() {
        let project = project("run-fails");
        let limit = Duration::from_secs(20);
        let error = must(&project, shell("echo out; echo err >&2; exit 3"), limit).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("out\nerr\n") && text.contains("exit status: 3"), "{text}");
        assert_eq!(must(&project, shell("echo fine"), limit).unwrap(), "fine\n");
    }

    #[test]
    fn a_command_over_its_limit_is_killed_with_what_it_started() {
        let project = project("run-hangs");
        // The pipe ends for its reader when the last process that could write to it is gone.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = shell("exec 3>&0; sleep 60 & wait");
        command.stdin(writer);
        let watch = Stopwatch::start();
        let error = run(&project, command, Duration::from_millis(300)).unwrap_err();
        assert!(error.to_string().contains("killed after"), "{error}");
        reader.read_to_end(&mut Vec::new()).unwrap();
        assert!(watch.seconds() < 50.0, "the child ended by itself");
    }

    #[test]
    fn a_command_sees_no_settings_of_the_user() {
        let command = shell("true");
        let state = command.get_envs().find(|(name, _)| *name == "XDG_STATE_HOME");
        assert!(state.is_some_and(|(_, value)| value.is_some()));
        let kept = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("REDIS_");
        assert!(!command.get_envs().any(|(name, value)| kept(name) && value.is_some()));
    }
}
