use std::time::Duration;

use bidlock_core::{FencingToken, InvalidValue, Key, Liveness, ProcessMark, WallTime};

use crate::state::State;
use crate::types::AttemptInfo;
use crate::values::{AttemptId, Fingerprint, check_line, fit_line, limits};

/// How fresh the sighting of a posting is, and has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// When the posting was seen; `None` when the caller cannot say, which is never stale.
    pub seen_at: Option<WallTime>,
    /// How long ago that may be.
    pub max_age: Duration,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { seen_at: None, max_age: limits::MAX_AGE_DEFAULT }
    }
}

impl Freshness {
    /// The age of a sighting that is too old.
    #[must_use]
    pub fn stale_at(&self, now: WallTime) -> Option<Duration> {
        let age = now.since(self.seen_at?);
        (age > self.max_age).then_some(age)
    }
}

/// Asks for an attempt at a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The attempt's identity, picked before the first call and kept over repeats.
    pub attempt: AttemptId,
    /// The token of the caller's lease.
    pub token: FencingToken,
    /// Who asks, for people: the display text of a [`Holder`](bidlock_core::Holder).
    pub holder: String,
    /// The process that would send.
    pub process: ProcessMark,
    /// When the posting was seen, where the caller knows it.
    pub seen_at: Option<WallTime>,
}

/// Asks to let the submission of an attempt begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartRequest {
    /// The token of the caller's lease.
    pub token: FencingToken,
    /// Nothing is sent from this time on: later than now, by at most
    /// [`limits::SEND_BY_MAX`](crate::limits::SEND_BY_MAX).
    pub send_by: WallTime,
    /// What is to be sent.
    pub payload: Option<Fingerprint>,
}

/// Asks to send an attempt in doubt again under its own id, at a marketplace that takes the id
/// for an idempotency key (L11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResendRequest {
    /// The token of the caller's lease: higher than any that the attempt has seen.
    pub token: FencingToken,
    /// Nothing is sent from this time on: later than now, by at most
    /// [`limits::SEND_BY_MAX`](crate::limits::SEND_BY_MAX).
    pub send_by: WallTime,
    /// What is to be sent: the same as at the first start.
    pub payload: Fingerprint,
    /// For how long after the first start the marketplace knows the id, up to
    /// [`limits::RETENTION_MAX`](crate::limits::RETENTION_MAX). The new send-by lies within it.
    pub retention: Duration,
    /// Who asks, for people: the display text of a [`Holder`](bidlock_core::Holder).
    pub holder: String,
    /// The process that would send.
    pub process: ProcessMark,
}

impl ResendRequest {
    /// Whether an attempt, with its state as stored, may be sent again at `now`. That the token
    /// is higher than any that it has seen is asked for besides (L11).
    #[doc(hidden)]
    #[must_use]
    pub fn suits(&self, info: &AttemptInfo, now: WallTime) -> bool {
        let in_doubt = matches!(info.state, State::Started | State::Unknown);
        in_doubt
            && info.payload == Some(self.payload)
            && info.send_by.is_some_and(|send_by| send_by <= now && send_by < self.send_by)
            && info.started_at.is_some_and(|started| self.send_by <= started + self.retention)
    }
}

/// How a submission went, in the submitter's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The marketplace has taken the bid.
    Placed {
        /// Its name for the bid, up to 512 bytes.
        reference: Option<String>,
    },
    /// The marketplace has refused the bid.
    Refused {
        /// Why, up to 1,024 bytes.
        reason: Option<String>,
    },
    /// Nothing was sent; never to be said of a submitter that was signalled (L4).
    NotSent {
        /// Why, up to 1,024 bytes.
        reason: Option<String>,
    },
    /// The submitter says itself that it cannot tell, and that it sends nothing any more.
    Unknown {
        /// Why, up to 1,024 bytes.
        reason: Option<String>,
    },
    /// The submitter was left alone by its caller, dropped or cut off, and has said nothing:
    /// nobody can tell how it went, or whether it still runs.
    GivenUp {
        /// Why, up to 1,024 bytes.
        reason: Option<String>,
    },
}

impl Outcome {
    /// The state that the outcome leads to.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Placed { .. } => State::Placed,
            Self::Refused { .. } => State::Refused,
            Self::NotSent { .. } => State::Abandoned,
            Self::Unknown { .. } | Self::GivenUp { .. } => State::Unknown,
        }
    }

    /// The marketplace's reference, where there is one.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Placed { reference } => reference.as_deref(),
            _ => None,
        }
    }

    /// The reason, where there is one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Placed { .. } => None,
            Self::Refused { reason }
            | Self::NotSent { reason }
            | Self::Unknown { reason }
            | Self::GivenUp { reason } => reason.as_deref(),
        }
    }

    /// Makes texts that came from elsewhere fit: unseen characters become spaces, long ones are
    /// cut. An outcome is worth more than the exact words that came with it.
    #[must_use]
    pub fn fitted(self) -> Self {
        let reason =
            |text: Option<String>| text.and_then(|t| fit_line(&t, limits::REASON_BYTES_MAX));
        match self {
            Self::Placed { reference } => Self::Placed {
                reference: reference.and_then(|t| fit_line(&t, limits::REFERENCE_BYTES_MAX)),
            },
            Self::Refused { reason: text } => Self::Refused { reason: reason(text) },
            Self::NotSent { reason: text } => Self::NotSent { reason: reason(text) },
            Self::Unknown { reason: text } => Self::Unknown { reason: reason(text) },
            Self::GivenUp { reason: text } => Self::GivenUp { reason: reason(text) },
        }
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        if let Some(reference) = self.reference() {
            check_line("reference", reference, limits::REFERENCE_BYTES_MAX)?;
        }
        self.reason().map_or(Ok(()), |r| check_line("reason", r, limits::REASON_BYTES_MAX))
    }
}

/// What an operator has found out about an attempt in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolution {
    /// The marketplace has the bid.
    Placed {
        /// Its name for the bid, up to 512 bytes.
        reference: Option<String>,
    },
    /// The marketplace has refused the bid.
    Refused,
    /// Nothing was sent; the posting may be tried again.
    NotSent {
        /// Whether the operator vouches that the process which was to send has ended. Needed
        /// where that cannot be seen from here; it never overrules a process that is alive.
        sender_is_gone: bool,
    },
}

impl Resolution {
    /// The state that the finding leads to.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Placed { .. } => State::Placed,
            Self::Refused => State::Refused,
            Self::NotSent { .. } => State::Abandoned,
        }
    }

    /// The marketplace's reference, where there is one.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Placed { reference } => reference.as_deref(),
            Self::Refused | Self::NotSent { .. } => None,
        }
    }
}

/// Who does something by hand, and why; kept in the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorNote {
    /// Who, up to 128 bytes.
    pub actor: String,
    /// Why, up to 1,024 bytes.
    pub because: String,
}

impl OperatorNote {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        check_line("actor", &self.actor, limits::ACTOR_BYTES_MAX)?;
        check_line("reason", &self.because, limits::REASON_BYTES_MAX)
    }
}

/// Asks to end the doubt about a posting's attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolveRequest {
    /// The attempt that the operator looked at. Only [`Resolution::NotSent`] has to name it, and
    /// only at a posting that has had several: the same words said twice must not end the doubt
    /// about a later one.
    pub attempt: Option<AttemptId>,
    /// What was found out.
    pub resolution: Resolution,
    /// By whom, and how they know.
    pub note: OperatorNote,
    /// How long after its send-by a bid may still come to show at the marketplace, up to
    /// [`limits::VISIBILITY_LAG_MAX`](crate::limits::VISIBILITY_LAG_MAX).
    pub visibility_lag: Duration,
}

impl ResolveRequest {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        self.note.check()?;
        if let Some(reference) = self.resolution.reference() {
            check_line("reference", reference, limits::REFERENCE_BYTES_MAX)?;
        }
        if self.visibility_lag > limits::VISIBILITY_LAG_MAX {
            let why = "a visibility lag is at most 30 days";
            return Err(InvalidValue::new("visibility lag", shown(self.visibility_lag), why));
        }
        Ok(())
    }
}

/// A duration in its largest whole unit, as people write it.
fn shown(length: Duration) -> String {
    let millis = length.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{millis}ms"), |(unit, name)| format!("{}{name}", millis / unit))
}

/// What was found out about the process that was to send a posting's open attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenSender {
    /// The attempt that was looked at.
    pub attempt: AttemptId,
    /// Whether its process runs.
    pub liveness: Liveness,
}

/// Which attempts to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BidQuery {
    /// Only of this marketplace.
    pub marketplace: Option<String>,
    /// Only of this posting id, as people write it.
    pub posting: Option<String>,
    /// Only in this state, as everybody reads it.
    pub state: Option<State>,
    /// Only older ones than this: the last of the page before.
    pub after: Option<AttemptId>,
    /// At most this many: 1 to 1,000.
    pub limit: u32,
}

impl Default for BidQuery {
    fn default() -> Self {
        Self { marketplace: None, posting: None, state: None, after: None, limit: 100 }
    }
}

impl BidQuery {
    /// The posting as keys encode it.
    ///
    /// # Errors
    /// [`InvalidValue`] when it is no posting id.
    pub fn posting_encoded(&self) -> Result<Option<String>, InvalidValue> {
        let encode = |raw: &String| Ok(Key::named(raw)?.posting_encoded().to_owned());
        self.posting.as_ref().map(encode).transpose()
    }

    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        if let Some(marketplace) = self.marketplace.as_deref().filter(|m| !m.is_empty()) {
            Key::new(marketplace, "x")?;
        }
        self.posting_encoded()?;
        check_limit(self.limit)
    }
}

/// An act by hand that is to be kept, such as the revocation of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditAct {
    /// What was done: lower-case words joined by underscores, such as `revoke`.
    pub act: String,
    /// To which key.
    pub key: Option<Key>,
    /// To which attempt.
    pub attempt: Option<AttemptId>,
    /// To which grant.
    pub token: Option<FencingToken>,
    /// By whom, and why.
    pub note: OperatorNote,
}

impl AuditAct {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if self.act.is_empty()
            || self.act.len() > limits::ACT_BYTES_MAX
            || !self.act.bytes().all(fits)
        {
            let why = "an act is 1 to 64 characters of a-z, 0-9 and underscore";
            return Err(InvalidValue::new("act", self.act.escape_debug(), why));
        }
        self.note.check()
    }
}

/// Which audit entries to list, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only about this key's posting, whatever its prefix.
    pub key: Option<Key>,
    /// Only older ones than the entry with this number: the last of the page before.
    pub after: Option<u64>,
    /// At most this many: 1 to 1,000.
    pub limit: u32,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { key: None, after: None, limit: 100 }
    }
}

impl AuditQuery {
    pub(crate) fn check(&self) -> Result<(), InvalidValue> {
        check_limit(self.limit)
    }
}

pub(crate) fn check_limit(limit: u32) -> Result<(), InvalidValue> {
    if (1..=limits::PAGE_MAX).contains(&limit) {
        return Ok(());
    }
    Err(InvalidValue::new("limit", limit, "a page has 1 to 1000 entries"))
}
