//! The points of a bid at which a bidder kills itself, when the seed says so.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::draw::below;
use crate::event::{Event, Log};

/// Between which two steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// The lock is taken.
    Granted,
    /// The ledger has the attempt.
    Reserved,
    /// The attempt may begin.
    Started,
    /// The marketplace is connected; no byte was sent.
    Connected,
    /// Half of the request is sent.
    HalfSent,
    /// All of the request is sent.
    Sent,
    /// The answer is there.
    Answered,
    /// The outcome is kept.
    Recorded,
    /// The lock is given back.
    Released,
}

impl Point {
    const ALL: [Self; 9] = [
        Self::Granted,
        Self::Reserved,
        Self::Started,
        Self::Connected,
        Self::HalfSent,
        Self::Sent,
        Self::Answered,
        Self::Recorded,
        Self::Released,
    ];

    pub(super) fn drawn(drawn: u64) -> Self {
        let index = below(drawn, Self::ALL.len() as u64);
        Self::ALL[usize::try_from(index).unwrap_or(0)]
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Reserved => "reserved",
            Self::Started => "started",
            Self::Connected => "connected",
            Self::HalfSent => "half-sent",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Recorded => "recorded",
            Self::Released => "released",
        }
    }
}

/// What the code that runs on behalf of a posting has to know.
#[derive(Debug, Clone)]
pub(super) struct Task {
    pub(super) posting: String,
    pub(super) crash: Option<Point>,
}

tokio::task_local! {
    /// The task that runs.
    pub(super) static TASK: Task;
}

/// Dies here, if that is the task's fate.
pub(super) fn reach(log: &Log, point: Point) {
    let fate = TASK.try_with(|task| (task.crash == Some(point)).then(|| task.posting.clone()));
    if let Ok(Some(posting)) = fate {
        log.say(Event::Crash { posting, point: point.name().to_owned() });
        // A process can always kill itself; nothing runs after it.
        let _never = kill(Pid::this(), Signal::SIGKILL);
    }
}
