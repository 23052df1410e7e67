//! The lines of an export. Times are microseconds since 1970: nothing of them is lost.

use bidlock::ledger::{AttemptInfo, AuditEntry, Dossier, HistoryEntry, KeptAttempt};
use bidlock::{FencingToken, InvalidValue, Key, ProcessMark, WallTime};
use serde::{Deserialize, Serialize};

/// The version of the format that is written, and the newest that is read.
pub(super) const VERSION: u64 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The format's version.
    pub(super) bidlock_ledger: u64,
    /// Which ledger it was.
    pub(super) id: String,
    /// When the export began, for people.
    pub(super) exported_at: String,
    /// The horizon of its last prune.
    pub(super) pruned_before_us: Option<u64>,
}

/// Any other line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Posting(PostingLine),
    Audit(AuditLine),
    End(End),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PostingLine {
    /// Empty for a named key.
    marketplace: String,
    /// As people write it.
    posting: String,
    attempts: Vec<AttemptLine>,
    history: Vec<HistoryLine>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AttemptLine {
    attempt: String,
    state: String,
    event: String,
    token: u64,
    token_seen: u64,
    holder: String,
    process: String,
    seen_at_us: Option<u64>,
    reserved_at_us: u64,
    started_at_us: Option<u64>,
    send_by_us: Option<u64>,
    decided_at_us: Option<u64>,
    reference: Option<String>,
    payload: Option<String>,
    reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryLine {
    at_us: u64,
    attempt: String,
    event: String,
    token: Option<u64>,
    by: String,
    detail: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditLine {
    at_us: u64,
    actor: String,
    act: String,
    marketplace: Option<String>,
    posting: Option<String>,
    attempt: Option<String>,
    token: Option<u64>,
    because: String,
}

/// The last line: without it, a part of the file is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) postings: u64,
    pub(super) audit: u64,
}

fn micros(at: Option<WallTime>) -> Option<u64> {
    at.map(WallTime::as_micros)
}

fn time(micros: Option<u64>) -> Option<WallTime> {
    micros.map(WallTime::from_micros)
}

impl From<&Dossier> for PostingLine {
    fn from(dossier: &Dossier) -> Self {
        let posting = dossier.attempts.first().map(|kept| kept.info.posting.clone());
        Self {
            marketplace: dossier.marketplace.clone(),
            posting: posting.unwrap_or_else(|| dossier.posting_encoded.clone()),
            attempts: dossier.attempts.iter().map(AttemptLine::from).collect(),
            history: dossier.history.iter().map(HistoryLine::from).collect(),
        }
    }
}

impl From<&KeptAttempt> for AttemptLine {
    fn from(kept: &KeptAttempt) -> Self {
        let info = &kept.info;
        Self {
            attempt: info.id.to_string(),
            state: info.state.as_str().to_owned(),
            event: info.event.as_str().to_owned(),
            token: info.token.get(),
            token_seen: kept.token_seen.get(),
            holder: info.holder.clone(),
            process: info.process.as_str().to_owned(),
            seen_at_us: micros(info.seen_at),
            reserved_at_us: info.reserved_at.as_micros(),
            started_at_us: micros(info.started_at),
            send_by_us: micros(info.send_by),
            decided_at_us: micros(info.decided_at),
            reference: info.reference.clone(),
            payload: info.payload.map(|payload| payload.to_string()),
            reason: info.reason.clone(),
        }
    }
}

impl From<&HistoryEntry> for HistoryLine {
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            at_us: entry.at.as_micros(),
            attempt: entry.attempt.to_string(),
            event: entry.event.as_str().to_owned(),
            token: entry.token.map(FencingToken::get),
            by: entry.by.clone(),
            detail: entry.detail.clone(),
        }
    }
}

impl From<&AuditEntry> for AuditLine {
    fn from(entry: &AuditEntry) -> Self {
        Self {
            at_us: entry.at.as_micros(),
            actor: entry.actor.clone(),
            act: entry.act.clone(),
            marketplace: entry.marketplace.clone(),
            posting: entry.posting.clone(),
            attempt: entry.attempt.map(|id| id.to_string()),
            token: entry.token.map(FencingToken::get),
            because: entry.because.clone(),
        }
    }
}

impl PostingLine {
    /// What a ledger knows of a posting, where a ledger can have written this.
    pub(super) fn read(self) -> Result<Dossier, InvalidValue> {
        let key = if self.marketplace.is_empty() {
            Key::named(&self.posting)?
        } else {
            Key::new(&self.marketplace, &self.posting)?
        };
        if key.posting() != self.posting {
            let why = "not written as a ledger does (in NFC)";
            return Err(InvalidValue::new("posting id", &self.posting, why));
        }
        let attempts = self.attempts.into_iter().map(|attempt| attempt.read(&key));
        let history = self.history.into_iter().enumerate().map(|(at, line)| line.read(at));
        let dossier = Dossier {
            marketplace: key.marketplace().to_owned(),
            posting_encoded: key.posting_encoded().to_owned(),
            attempts: attempts.collect::<Result<_, _>>()?,
            history: history.collect::<Result<_, _>>()?,
        };
        dossier.check()?;
        Ok(dossier)
    }
}

impl AttemptLine {
    fn read(self, key: &Key) -> Result<KeptAttempt, InvalidValue> {
        let info = AttemptInfo {
            id: self.attempt.parse()?,
            marketplace: key.marketplace().to_owned(),
            posting: key.posting(),
            posting_encoded: key.posting_encoded().to_owned(),
            state: named("state", &self.state, bidlock::ledger::State::from_name)?,
            event: named("event", &self.event, bidlock::ledger::Event::from_name)?,
            token: token(self.token)?,
            holder: self.holder,
            process: ProcessMark::new(self.process),
            seen_at: time(self.seen_at_us),
            reserved_at: WallTime::from_micros(self.reserved_at_us),
            started_at: time(self.started_at_us),
            send_by: time(self.send_by_us),
            decided_at: time(self.decided_at_us),
            reference: self.reference,
            payload: self.payload.map(|text| text.parse()).transpose()?,
            reason: self.reason,
        };
        Ok(KeptAttempt { info, token_seen: token(self.token_seen)? })
    }
}

impl HistoryLine {
    fn read(self, at: usize) -> Result<HistoryEntry, InvalidValue> {
        Ok(HistoryEntry {
            // Only their order counts: each ledger gives numbers of its own.
            seq: at as u64 + 1,
            at: WallTime::from_micros(self.at_us),
            attempt: self.attempt.parse()?,
            event: named("event", &self.event, bidlock::ledger::Event::from_name)?,
            token: self.token.map(token).transpose()?,
            by: self.by,
            detail: self.detail,
        })
    }
}

impl AuditLine {
    /// What a ledger has kept in its audit, where a ledger can have written this.
    pub(super) fn read(self) -> Result<AuditEntry, InvalidValue> {
        let entry = AuditEntry {
            seq: 0,
            at: WallTime::from_micros(self.at_us),
            actor: self.actor,
            act: self.act,
            marketplace: self.marketplace,
            posting: self.posting,
            attempt: self.attempt.map(|text| text.parse()).transpose()?,
            token: self.token.map(token).transpose()?,
            because: self.because,
        };
        entry.check()?;
        Ok(entry)
    }
}

fn named<T>(
    what: &'static str,
    text: &str,
    from_name: impl FnOnce(&str) -> Option<T>,
) -> Result<T, InvalidValue> {
    from_name(text).ok_or_else(|| InvalidValue::new(what, text, "this bidlock knows none such"))
}

fn token(number: u64) -> Result<FencingToken, InvalidValue> {
    if number <= bidlock::limits::TOKEN_MAX {
        return Ok(FencingToken::new(number));
    }
    Err(InvalidValue::new("token", number, "no store grants a token above 2^52"))
}
