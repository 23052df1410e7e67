use std::fmt::{self, Display};

use bidlock_core::{Endpoint, InvalidValue, Key, Refusal, Source, WallTime};

use crate::state::State;
use crate::values::AttemptId;

/// What was being done when the ledger failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Op {
    /// Opening the ledger.
    Open,
    /// Asking whether to bid.
    ShouldBid,
    /// Making an attempt.
    Reserve,
    /// Letting a submission begin.
    Start,
    /// Letting an attempt in doubt be sent again.
    Resend,
    /// Keeping an outcome.
    Record,
    /// Ending a doubt by hand.
    Resolve,
    /// Noting that a bid was taken back.
    Withdraw,
    /// Letting a posting be tried again.
    Reopen,
    /// Reading attempts and history.
    Read,
    /// Writing or reading the audit.
    Audit,
    /// Asking who the ledger is, and accepting what it is.
    Standing,
    /// Reading the whole ledger, for another one.
    Export,
    /// Taking in what another ledger knew.
    Import,
    /// Removing what is over for long.
    Prune,
    /// Asking the store how it is.
    Ping,
}

impl Op {
    /// The operation's name, as logs and metrics say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::ShouldBid => "should_bid",
            Self::Reserve => "reserve",
            Self::Start => "start",
            Self::Resend => "resend",
            Self::Record => "record",
            Self::Resolve => "resolve",
            Self::Withdraw => "withdraw",
            Self::Reopen => "reopen",
            Self::Read => "read",
            Self::Audit => "audit",
            Self::Standing => "standing",
            Self::Export => "export",
            Self::Import => "import",
            Self::Prune => "prune",
            Self::Ping => "ping",
        }
    }
}

impl Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The ledger as a whole.
    Ledger,
    /// A posting.
    Posting(Key),
    /// An attempt.
    Attempt(AttemptId),
}

impl Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger => f.write_str("ledger"),
            Self::Posting(key) => {
                if !key.marketplace().is_empty() {
                    write!(f, "{} ", key.marketplace())?;
                }
                f.write_str(&key.posting())
            }
            Self::Attempt(id) => write!(f, "attempt {id}"),
        }
    }
}

/// What stands against a step of an attempt, and the way out of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Obstacle {
    /// An outcome came for an attempt that has not started.
    #[error("it has not started; start it first, or record that nothing was sent")]
    NotStarted,
    /// A doubt was to be ended where nothing was sent.
    #[error("nothing was sent; a later attempt takes its place by itself")]
    OnlyReserved,
    /// A doubt was to be ended while the submission may still run.
    #[error("its submission is under way")]
    UnderWay,
    /// A doubt was to be ended before the send-by and the visibility lag were over.
    #[error("it may still be sent, or not show yet at the marketplace")]
    TooEarly,
    /// The process that may still send is alive.
    #[error("{sender}, which may still send it, is alive; stop that process first")]
    SenderAlive {
        /// The process, as `host:pid`.
        sender: String,
    },
    /// The process that may still send cannot be looked up from here.
    #[error(
        "{sender}, which may still send it, cannot be seen from here; make sure on that host \
         that it has ended, then say so"
    )]
    SenderUnseen {
        /// The process, as `host:pid`.
        sender: String,
    },
    /// There is no doubt to end.
    #[error("its outcome is known; there is nothing to resolve")]
    Known,
    /// The operator looked at another attempt than the one that is open.
    #[error("another attempt is open now: {open}")]
    OtherAttempt {
        /// The open one.
        open: AttemptId,
    },
    /// The posting has had several attempts, and the operator did not say which one is meant.
    #[error("the posting has had several attempts; say which one is meant (open is {open})")]
    AttemptNotNamed {
        /// The open one.
        open: AttemptId,
    },
    /// Every attempt of the posting is abandoned.
    #[error("no attempt is open; the last one, {last}, is abandoned")]
    NoneOpen {
        /// The last one.
        last: AttemptId,
    },
    /// A bid was to be withdrawn that was never placed.
    #[error("only a placed bid can be withdrawn")]
    NotPlaced,
    /// A placed bid was to be reopened.
    #[error("the bid is placed; withdraw it first")]
    StillPlaced,
    /// A posting in doubt was to be reopened.
    #[error("nobody can tell how it went; resolve it first")]
    InDoubt,
    /// A posting was to be reopened that somebody bids on.
    #[error("somebody is at it; wait for the outcome")]
    InProgress,
}

/// Why the ledger gave no answer, or will not do what it was asked. That a posting was bid on
/// before is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// Never sent, or taken back whole; nothing changed.
    #[error("{op} {subject}: cannot reach {endpoint}")]
    Unreachable {
        /// What was being done.
        op: Op,
        /// To what.
        subject: Subject,
        /// At which store.
        endpoint: Endpoint,
        /// What the driver said.
        source: Source,
    },
    /// Sent without a usable answer; it may have taken effect.
    #[error("{op} {subject}: no answer from {endpoint}; read it back before anything is sent")]
    Unknown {
        /// What was being done.
        op: Op,
        /// To what.
        subject: Subject,
        /// At which store.
        endpoint: Endpoint,
        /// What the driver said.
        source: Source,
    },
    /// The store answered, and will not: rights, space, damage, a newer version.
    #[error("{op} {subject}: {endpoint} refuses: {reason}")]
    Refused {
        /// What was being done.
        op: Op,
        /// To what.
        subject: Subject,
        /// At which store.
        endpoint: Endpoint,
        /// Why.
        reason: Refusal,
    },
    /// The ledger has no such attempt, or the posting has none that is open.
    #[error("{op} {subject}: not in the ledger at {endpoint}")]
    NotFound {
        /// What was being done.
        op: Op,
        /// To what.
        subject: Subject,
        /// At which store.
        endpoint: Endpoint,
    },
    /// What was to be taken in is not what this ledger knows; nothing was changed.
    #[error("{op} {subject}: {endpoint} has something else: {why}")]
    Differs {
        /// What was being done.
        op: Op,
        /// To what.
        subject: Subject,
        /// At which store.
        endpoint: Endpoint,
        /// What is not the same.
        why: String,
    },
    /// The state machine has no such step; nothing was changed.
    #[error("{op} {subject}: not allowed while it is {state}: {why}")]
    NotAllowed {
        /// What was being done.
        op: Op,
        /// To what.
        subject: Subject,
        /// The attempt's state, as everybody reads it.
        state: State,
        /// Why, and the way out.
        why: Obstacle,
        /// When it will be allowed, where time alone stands against it.
        until: Option<WallTime>,
    },
    /// A value was refused before anything was done.
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
}

impl LedgerError {
    /// Whether the call may have taken effect all the same.
    #[must_use]
    pub const fn may_have_applied(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// Whether the store failed, or will not; not the call by itself.
    pub(crate) const fn is_of_the_store(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Unknown { .. } | Self::Refused { .. })
    }

    /// Whether asking again, after a pause, can help.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unknown { .. } => true,
            Self::Refused { reason, .. } => {
                matches!(reason, Refusal::NotReady(_) | Refusal::ReadOnly(_) | Refusal::Full(_))
            }
            Self::NotAllowed { until, .. } => until.is_some(),
            Self::NotFound { .. } | Self::Differs { .. } | Self::Invalid(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(reason: Refusal) -> LedgerError {
        let subject = Subject::Posting(Key::new("upwork", "job 1").unwrap());
        LedgerError::Refused {
            op: Op::Reserve,
            subject,
            endpoint: Endpoint::new("sqlite:///x"),
            reason,
        }
    }

    #[test]
    fn an_error_names_the_posting_the_store_and_the_reason() {
        let said = sample(Refusal::Full("no space".to_owned())).to_string();
        assert_eq!(said, "reserve upwork job 1: sqlite:///x refuses: full: no space");
    }

    #[test]
    fn only_what_was_sent_may_have_applied() {
        let endpoint = Endpoint::new("sqlite:///x");
        let (op, subject) = (Op::Start, Subject::Ledger);
        let unknown = LedgerError::Unknown {
            op,
            subject: subject.clone(),
            endpoint: endpoint.clone(),
            source: "cut".into(),
        };
        assert!(unknown.may_have_applied() && unknown.is_retryable());
        let unreachable = LedgerError::Unreachable { op, subject, endpoint, source: "gone".into() };
        assert!(!unreachable.may_have_applied() && unreachable.is_retryable());
        for (reason, again) in [
            (Refusal::Permission(String::new()), false),
            (Refusal::Corrupt(String::new()), false),
            (Refusal::Newer(String::new()), false),
            (Refusal::Full(String::new()), true),
            (Refusal::NotReady(String::new()), true),
        ] {
            let error = sample(reason);
            assert!(!error.may_have_applied());
            assert_eq!(error.is_retryable(), again, "{error}");
        }
    }
}
