//! What bidders tell of themselves, one line of JSON for each step.

use std::io::Write as _;
use std::sync::Mutex;

use bidlock_history::Call;
use serde::{Deserialize, Serialize};

use crate::time;

/// One line: when it was written, and what had happened by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Microseconds since boot.
    pub(crate) at: u64,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// A step of a bidder. Moments are microseconds since boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// It takes postings from now on.
    Ready { pid: u32 },
    /// It may believe in a lease from one moment until another.
    Granted { posting: String, lease: String, token: u64, from: u64, until: u64 },
    /// The same lease, believed in for longer.
    Extended { lease: String, until: u64 },
    /// It believes in the lease no longer.
    Ended { lease: String },
    /// What is known of one of its calls to the lock store; nothing when it had no effect. The
    /// last word on a number counts.
    Called { posting: String, number: u64, call: Option<Call> },
    /// The ledger has the attempt.
    Reserved { posting: String, attempt: String },
    /// The ledger let the attempt begin.
    Started { attempt: String },
    /// The ledger let the attempt be sent again.
    Resent { attempt: String },
    /// The next thing is the first byte of a submission.
    Sending { posting: String, attempt: String },
    /// What came back: a status, or why there is none.
    Answered { attempt: String, answer: String },
    /// The outcome is kept.
    Recorded { attempt: String, state: String },
    /// The outcome came after its attempt was closed.
    Late { attempt: String },
    /// The ledger, or the design's own memory, says that there is nothing to do.
    Not { posting: String, verdict: String },
    /// A store gave no answer, or somebody else had the lock.
    Failed { posting: String, why: String },
    /// It kills itself now, by plan.
    Crash { posting: String, point: String },
    /// It ends because it was told to, with nothing left to do.
    Done,
}

impl Event {
    /// The attempt that it is about, unless somebody sends that again.
    pub(crate) fn attempt(&self) -> Option<&str> {
        match self {
            Self::Reserved { attempt, .. }
            | Self::Started { attempt }
            | Self::Sending { attempt, .. }
            | Self::Answered { attempt, .. }
            | Self::Recorded { attempt, .. }
            | Self::Late { attempt } => Some(attempt),
            _ => None,
        }
    }

    /// Whether it says that a bid is placed.
    pub(crate) fn is_placed(&self) -> bool {
        matches!(self, Self::Recorded { state, .. } if state == "placed")
    }
}

/// Where a bidder writes: one write for each line, which no `kill -9` can take back.
#[derive(Debug, Default)]
pub(crate) struct Log {
    writing: Mutex<()>,
}

impl Log {
    pub(crate) fn say(&self, event: Event) {
        let line = Line { at: time::boot(), event };
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        let _one_at_a_time = self.writing.lock();
        let mut out = std::io::stdout().lock();
        if out.write_all(&text).and_then(|()| out.flush()).is_err() {
            // Nobody reads any more: the run is over, and so is this process.
            std::process::exit(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        let event = Event::Granted {
            posting: "p1".into(),
            lease: "h:1:00".into(),
            token: 1 << 51,
            from: 5,
            until: 9,
        };
        let line = Line { at: 7, event };
        let text = serde_json::to_string(&line).unwrap();
        assert!(text.starts_with(r#"{"at":7,"event":"granted","posting":"p1""#), "{text}");
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
