use std::time::Duration;

use bidlock_core::{FencingToken, ProcessMark, WallTime};

use crate::state::{Event, State};
use crate::values::{AttemptId, Fingerprint};

/// What the ledger knows of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptInfo {
    /// Its identity.
    pub id: AttemptId,
    /// The marketplace; empty for a named key.
    pub marketplace: String,
    /// The posting id or name, in NFC, for people.
    pub posting: String,
    /// The posting id or name as keys encode it.
    pub posting_encoded: String,
    /// How far it has come, as everybody reads it: started past its send-by is unknown (L5).
    pub state: State,
    /// The event that brought it there.
    pub event: Event,
    /// The token of the lease that reserved it, started it, or sent it again.
    pub token: FencingToken,
    /// Who reserved it, or sent it again, for people.
    pub holder: String,
    /// The process that would send.
    pub process: ProcessMark,
    /// When the posting was seen, where the caller knew it.
    pub seen_at: Option<WallTime>,
    /// When it was made.
    pub reserved_at: WallTime,
    /// When its submission was let begin.
    pub started_at: Option<WallTime>,
    /// From when on nothing is sent.
    pub send_by: Option<WallTime>,
    /// When its last step was made, other than reserve and start.
    pub decided_at: Option<WallTime>,
    /// The marketplace's name for the bid.
    pub reference: Option<String>,
    /// What was to be sent, fixed at the start (L9).
    pub payload: Option<Fingerprint>,
    /// The reason of its last step.
    pub reason: Option<String>,
}

/// Whether a posting should be bid on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing stands against it.
    Yes,
    /// The bid is placed.
    AlreadyPlaced(AttemptInfo),
    /// The marketplace has refused the bid.
    Refused(AttemptInfo),
    /// The bid was placed and taken back.
    Withdrawn(AttemptInfo),
    /// Somebody is at it. An attempt that is only reserved gives way to a higher token.
    InProgress(AttemptInfo),
    /// Nobody can tell how an attempt went: it has to be resolved first.
    InDoubt(AttemptInfo),
    /// The posting was seen longer ago than the caller allows, or before the horizon of the last
    /// prune, of which [`Ledger::standing`](crate::Ledger::standing) tells: what was known of it
    /// may be forgotten, and no longer allowance helps (L10). One that is seen again later is not.
    Stale {
        /// How long ago.
        age: Duration,
    },
}

impl Verdict {
    /// What an attempt means for everybody else; `None` when it stands against nothing.
    #[must_use]
    pub fn of(attempt: AttemptInfo) -> Option<Self> {
        Some(match attempt.state {
            State::Placed => Self::AlreadyPlaced(attempt),
            State::Refused => Self::Refused(attempt),
            State::Withdrawn => Self::Withdrawn(attempt),
            State::Reserved | State::Started => Self::InProgress(attempt),
            State::Unknown => Self::InDoubt(attempt),
            State::Abandoned => return None,
        })
    }

    /// The verdict's name, as metrics and JSON say it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::AlreadyPlaced(_) => "already_placed",
            Self::Refused(_) => "refused",
            Self::Withdrawn(_) => "withdrawn",
            Self::InProgress(_) => "in_progress",
            Self::InDoubt(_) => "in_doubt",
            Self::Stale { .. } => "stale",
        }
    }

    /// The attempt that stands against it.
    #[must_use]
    pub const fn attempt(&self) -> Option<&AttemptInfo> {
        match self {
            Self::AlreadyPlaced(attempt)
            | Self::Refused(attempt)
            | Self::Withdrawn(attempt)
            | Self::InProgress(attempt)
            | Self::InDoubt(attempt) => Some(attempt),
            Self::Yes | Self::Stale { .. } => None,
        }
    }
}

/// How a reservation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reservation {
    /// The attempt is made, now or by the same call before.
    Reserved(AttemptInfo),
    /// Another attempt stands against it, or what was known of the posting may be forgotten and
    /// it is [`Verdict::Stale`] (L10); never [`Verdict::Yes`].
    Not(Verdict),
    /// The posting has seen a higher token: the caller's lease is over. Nothing was changed (L3).
    TokenTooLow {
        /// The highest token so far.
        seen: FencingToken,
    },
}

/// How a start went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The submission may begin: answered once to a start (L2), and once for each token that
    /// sends the attempt again (L11). It is on disk.
    Yes(AttemptInfo),
    /// It may not: the attempt started before, is closed, has seen a higher token, or may not be
    /// sent again like this.
    No(AttemptInfo),
}

/// How the record of an outcome went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The attempt has this outcome now.
    Written(AttemptInfo),
    /// The attempt had this outcome already; nothing was changed.
    Already(AttemptInfo),
    /// The attempt was closed in another way before. The outcome is in its history, and a person
    /// has to look at it (L8).
    Late(AttemptInfo),
}

impl Recorded {
    /// The attempt as it is now.
    #[must_use]
    pub const fn attempt(&self) -> &AttemptInfo {
        match self {
            Self::Written(attempt) | Self::Already(attempt) | Self::Late(attempt) => attempt,
        }
    }
}

/// One line of a posting's history, never edited (L7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its number: later entries have higher ones.
    pub seq: u64,
    /// When it happened.
    pub at: WallTime,
    /// To which attempt.
    pub attempt: AttemptId,
    /// What happened.
    pub event: Event,
    /// With which token, where one was shown.
    pub token: Option<FencingToken>,
    /// By whom: a holder or an operator.
    pub by: String,
    /// The reference or the reason that came with it.
    pub detail: Option<String>,
}

/// One act by hand, never edited (L7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number: later entries have higher ones.
    pub seq: u64,
    /// When it was done.
    pub at: WallTime,
    /// By whom.
    pub actor: String,
    /// What was done, such as `resolve_placed` or `revoke`.
    pub act: String,
    /// The marketplace of the key; empty for a named key.
    pub marketplace: Option<String>,
    /// The posting id or name of the key, for people.
    pub posting: Option<String>,
    /// To which attempt.
    pub attempt: Option<AttemptId>,
    /// To which grant.
    pub token: Option<FencingToken>,
    /// Why.
    pub because: String,
}
