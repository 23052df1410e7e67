//! Runs a command as a good init would: it gets the terminal, its signals reach its whole process
//! group, and nothing of it is left running afterwards (R8, R22).

mod capture;
mod find;
mod group;
mod signals;
mod tee;
mod terminal;

use std::ffi::OsString;
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bidlock::{Clock, Moment};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub(crate) use capture::KEPT_BYTES_MAX;
pub(crate) use find::{CannotRun, find_command};
pub(crate) use signals::Signals;

use capture::Capture;
use group::{Group, LEFT_BEHIND_GRACE};
use signals::Heard;
use tee::Tee;
use terminal::Terminal;

/// How long a command has between being asked to stop and being killed.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// How long bidlock waits to be stopped itself, after it asked for that, before it takes it that
/// the system will not stop it.
const STOP_PATIENCE: Duration = Duration::from_millis(300);

/// What to run.
#[derive(Debug)]
pub(crate) struct Spec {
    /// The file, as [`find_command`] found it.
    pub(crate) program: PathBuf,
    /// The command as it was typed, with its own name first.
    pub(crate) words: Vec<OsString>,
    /// What it sees in its environment besides bidlock's own.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What it reads, and who reads it.
    pub(crate) talk: Talk,
    /// How long it has between being asked to stop and being killed.
    pub(crate) grace: Duration,
}

/// What a command reads, and who reads it.
#[derive(Debug)]
pub(crate) enum Talk {
    /// It has bidlock's own input and output.
    Through,
    /// The same, and its last line is kept.
    LastLine,
    /// It reads this, and what it says is kept and passed to nobody. The terminal stays with
    /// bidlock.
    Question(String),
}

/// Why bidlock stopped the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Bidlock was asked to stop by this signal.
    Signal(Signal),
    /// Its time was over.
    Deadline,
    /// The lease was lost, or would have been soon.
    Lease,
}

impl Why {
    /// The signal that asks the command to stop.
    const fn signal(self) -> Signal {
        match self {
            Self::Signal(signal) => signal,
            Self::Deadline | Self::Lease => Signal::SIGTERM,
        }
    }
}

/// How the command itself ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// By exiting with this code.
    Code(i32),
    /// By this signal.
    Signal(Signal),
}

impl Exit {
    /// The code that a shell would report: 128+n for signal n.
    pub(crate) fn code(self) -> u8 {
        let code = match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal as i32,
        };
        u8::try_from(code).unwrap_or(u8::MAX)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with {code}"),
            Self::Signal(signal) => write!(f, "was ended by {signal}"),
        }
    }
}

/// How it all went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// How the command itself ended.
    pub(crate) exit: Exit,
    /// Why bidlock had asked it to stop before that, if it had.
    pub(crate) stopped: Option<Why>,
    /// Its last line of output that was not empty, or its answer, if that was to be kept.
    pub(crate) kept: Option<String>,
}

/// A command that runs. Dropping it kills its whole process group.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    group: Group,
    terminal: Option<Terminal>,
    ear: Option<Ear>,
    clock: Arc<dyn Clock>,
    grace: Duration,
    /// Why and since when it is being stopped.
    stopping: Option<(Why, Moment)>,
    killed: bool,
    /// The system has told how the direct child ended.
    collected: bool,
    /// Nothing of the group is left that could be ended.
    over: bool,
}

/// Who listens to a command.
#[derive(Debug)]
enum Ear {
    Tee(Tee),
    Capture(Capture),
}

/// What the system says of the direct child.
enum Look {
    Running,
    Stopped(Signal),
    Ended(Exit),
}

/// What the outside wants of the child.
enum Wish {
    Stop(Why),
    Kill(Why),
    Look,
}

impl Child {
    /// Starts the command. [`Signals`] must be listening by then, or its end may go unseen.
    ///
    /// # Errors
    /// [`CannotRun`] when nothing was run.
    pub(crate) fn start(spec: &Spec, clock: Arc<dyn Clock>) -> Result<Self, CannotRun> {
        let (name, rest) = spec.words.split_first().ok_or(CannotRun::Empty)?;
        let mut command = Command::new(&spec.program);
        command.arg0(name).args(rest).process_group(0);
        command.envs(spec.environment.iter().map(|(name, value)| (name, value)));
        match &spec.talk {
            Talk::Through => {}
            Talk::LastLine => drop(command.stdout(Stdio::piped())),
            Talk::Question(_) => drop(command.stdin(Stdio::piped()).stdout(Stdio::piped())),
        }
        let mut child = command.spawn().map_err(|e| CannotRun::from_spawn(&spec.program, e))?;
        // The system's process numbers are positive and fit.
        let pid = Pid::from_raw(child.id().cast_signed());
        let asked = match &spec.talk {
            Talk::Question(text) => Some(text.clone()),
            Talk::Through | Talk::LastLine => None,
        };
        let terminal = if asked.is_some() { None } else { Terminal::find() };
        let ear = child.stdout.take().map(|output| match asked {
            Some(_) => Ear::Capture(Capture::start(output)),
            None => Ear::Tee(Tee::start(output)),
        });
        if let (Some(text), Some(input)) = (asked, child.stdin.take()) {
            capture::tell(input, text);
        }
        if let Some(terminal) = &terminal
            && terminal.is_for_the_child()
        {
            terminal.give(pid);
        }
        Ok(Self {
            pid,
            group: Group::new(pid),
            terminal,
            ear,
            clock,
            grace: spec.grace,
            stopping: None,
            killed: false,
            collected: false,
            over: false,
        })
    }

    /// Waits until the command and all of its process group have ended.
    ///
    /// When `stop` resolves, or a signal asks bidlock itself to stop, the group is asked to stop
    /// and killed after the grace time. When `kill` resolves it is killed at once, whatever is
    /// left of it.
    ///
    /// # Errors
    /// The system's error when it says nothing of the child.
    pub(crate) async fn wait(
        mut self,
        signals: &mut Signals,
        stop: impl Future<Output = Why>,
        kill: impl Future<Output = Why>,
    ) -> io::Result<Ended> {
        let (mut stop, mut kill) = (pin!(stop), pin!(kill));
        let mut wish = Wish::Look;
        let exit = loop {
            // The look comes first: a command that has ended by itself was not stopped by us.
            match self.look()? {
                Look::Ended(exit) => break exit,
                Look::Stopped(signal) => {
                    if self.follow_into_stop(signal, signals).await {
                        self.go_on(kill.as_mut()).await;
                    }
                }
                Look::Running => {}
            }
            match wish {
                Wish::Stop(why) => self.ask_to_stop(why),
                Wish::Kill(why) => self.kill(why),
                Wish::Look => {}
            }
            let grace_end = self
                .stopping
                .filter(|_| !self.killed)
                .map(|(_, since)| self.clock.sleep_until(since + self.grace));
            wish = tokio::select! {
                biased;
                why = &mut kill, if !self.killed => Wish::Kill(why),
                heard = signals.heard() => match heard {
                    Heard::Stop(signal) => Wish::Stop(Why::Signal(signal)),
                    Heard::Child => Wish::Look,
                },
                why = &mut stop, if self.stopping.is_none() => Wish::Stop(why),
                why = after(grace_end, self.stopping) => Wish::Kill(why),
            };
        };
        self.collected = true;
        self.finish(exit, kill).await
    }

    /// Ends what is left of the group, and gives the terminal back.
    async fn finish(
        mut self,
        exit: Exit,
        kill: Pin<&mut impl Future<Output = Why>>,
    ) -> io::Result<Ended> {
        let until = match self.stopping {
            _ if self.killed => self.clock.now(),
            Some((_, since)) => since + self.grace,
            None => self.clock.now() + LEFT_BEHIND_GRACE.min(self.grace),
        };
        self.group.end(&*self.clock, until, self.killed, kill).await;
        self.over = true;
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.pid);
        }
        let kept = match self.ear.take() {
            None => None,
            Some(Ear::Tee(tee)) => tee.finish(&*self.clock).await,
            Some(Ear::Capture(capture)) => Some(capture.finish(&*self.clock).await),
        };
        Ok(Ended { exit, stopped: self.stopping.map(|(why, _)| why), kept })
    }

    fn look(&self) -> io::Result<Look> {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        loop {
            return match waitpid(self.pid, Some(flags)) {
                Ok(WaitStatus::Exited(_, code)) => Ok(Look::Ended(Exit::Code(code))),
                Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Look::Ended(Exit::Signal(signal))),
                Ok(WaitStatus::Stopped(_, signal)) => Ok(Look::Stopped(signal)),
                Ok(_) => Ok(Look::Running),
                Err(Errno::EINTR) => continue,
                Err(e) => Err(e.into()),
            };
        }
    }

    /// Asks the group to stop; a second wish is passed on, but does not lengthen the grace.
    fn ask_to_stop(&mut self, why: Why) {
        tracing::debug!(?why, pid = self.pid.as_raw(), "asking the command to stop");
        self.group.signal(why.signal());
        // A group that stands still hears nothing before it is continued.
        self.group.signal(Signal::SIGCONT);
        if self.stopping.is_none() {
            self.stopping = Some((why, self.clock.now()));
        }
    }

    fn kill(&mut self, why: Why) {
        tracing::debug!(?why, pid = self.pid.as_raw(), "killing the command");
        self.group.signal(Signal::SIGKILL);
        self.killed = true;
        if self.stopping.is_none() {
            self.stopping = Some((why, self.clock.now()));
        }
    }

    /// The command stands still. At a terminal the shell shall see that, so bidlock stops with
    /// it. Returns whether it is for bidlock to continue the command.
    async fn follow_into_stop(&self, signal: Signal, signals: &mut Signals) -> bool {
        let Some(terminal) = &self.terminal else { return false };
        if self.stopping.is_some() {
            return true;
        }
        let wants_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if !(wants_terminal && terminal.in_front()) {
            terminal.take_back(self.pid);
            signals.forget_continued();
            terminal.stop_ourselves();
            let patience = self.clock.sleep_until(self.clock.now() + STOP_PATIENCE);
            tokio::select! {
                biased;
                () = signals.continued() => {}
                () = patience => {}
            }
        }
        if terminal.in_front() {
            terminal.give(self.pid);
        }
        true
    }

    /// Continues the command, unless it must not run for one more instant: all its time may have
    /// passed while it stood still.
    async fn go_on(&mut self, mut kill: Pin<&mut impl Future<Output = Why>>) {
        if !self.killed
            && let Poll::Ready(why) =
                poll_fn(|context| Poll::Ready(kill.as_mut().poll(context))).await
        {
            self.kill(why);
            return;
        }
        self.group.signal(Signal::SIGCONT);
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.group.signal(Signal::SIGKILL);
        if !self.collected {
            let pid = self.pid;
            // What was killed ends soon, but not always at once; nobody else collects it.
            let collect = move || waitpid(pid, None).map_or((), drop);
            if let Err(e) = std::thread::Builder::new().name("collect".to_owned()).spawn(collect) {
                tracing::debug!(error = %e, "a killed command is not collected");
            }
        }
    }
}

/// Resolves at the end of the grace time; never, when there is none.
async fn after(end: Option<impl Future<Output = ()>>, stopping: Option<(Why, Moment)>) -> Why {
    match (end, stopping) {
        (Some(end), Some((why, _))) => {
            end.await;
            why
        }
        _ => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
