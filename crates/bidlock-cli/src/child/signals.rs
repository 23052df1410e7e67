use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, Waker};

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

/// The signals that ask bidlock to stop.
const STOPS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// What a running command's keeper hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Bidlock is asked to stop.
    Stop(Signal),
    /// A child may have ended or stopped.
    Child,
}

/// The signals that bidlock acts on. From the moment it listens, none of them ends it.
#[derive(Debug)]
pub(crate) struct Signals {
    stops: Vec<(Signal, unix::Signal)>,
    child: unix::Signal,
    continued: unix::Signal,
}

impl Signals {
    /// Starts to listen. What was ignored when bidlock was started (`nohup`, a shell's `&`) stays
    /// ignored, for the command too.
    ///
    /// # Errors
    /// The system's error when it takes no handlers.
    pub(crate) fn listen() -> io::Result<Self> {
        let ignored = ignored();
        let mut stops = Vec::new();
        for signal in STOPS {
            if ignored & (1 << (signal as u32 - 1)) == 0 {
                stops.push((signal, unix::signal(SignalKind::from_raw(signal as i32))?));
            }
        }
        Ok(Self {
            stops,
            child: unix::signal(SignalKind::child())?,
            continued: unix::signal(SignalKind::from_raw(Signal::SIGCONT as i32))?,
        })
    }

    /// Resolves when bidlock is asked to stop.
    ///
    /// # Cancel safety
    /// No request is lost when the future is dropped.
    pub(crate) async fn stop_asked(&mut self) -> Signal {
        poll_fn(|context| self.poll_stop(context)).await
    }

    /// Resolves when bidlock is asked to stop, or a child may have ended or stopped.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(super) async fn heard(&mut self) -> Heard {
        poll_fn(|context| match self.poll_stop(context) {
            Poll::Ready(signal) => Poll::Ready(Heard::Stop(signal)),
            Poll::Pending => self.child.poll_recv(context).map(|_| Heard::Child),
        })
        .await
    }

    fn poll_stop(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        for (signal, stream) in &mut self.stops {
            if stream.poll_recv(context).is_ready() {
                return Poll::Ready(*signal);
            }
        }
        Poll::Pending
    }

    /// Resolves when bidlock itself was continued.
    pub(super) async fn continued(&mut self) {
        self.continued.recv().await;
    }

    /// Forgets that bidlock was continued before.
    pub(super) fn forget_continued(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        while self.continued.poll_recv(&mut context).is_ready() {}
    }
}

/// The signals that this process was started to ignore, one bit each.
/// Source: `proc_pid_status(5)`, `SigIgn`.
fn ignored() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}
