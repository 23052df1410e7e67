use bidlock_core::{FencingToken, Key, Prefix, ProcessMark, WallTime};
use rusqlite::types::Type;
use rusqlite::{Row, ToSql};

use crate::state::{Event, State};
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry};

/// The columns that [`attempt`] reads.
pub(super) const ATTEMPT: &str = "id, marketplace, posting, state, event, token, holder, process, \
     seen_at_us, reserved_at_us, started_at_us, send_by_us, decided_at_us, reference, payload, \
     reason, token_seen";

/// An attempt as the file has it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// With its state as stored.
    pub(super) info: AttemptInfo,
    /// The highest token that has met it.
    pub(super) token_seen: u64,
}

impl Stored {
    /// The highest token that has met it.
    pub(super) const fn token_seen(&self) -> FencingToken {
        FencingToken::new(self.token_seen)
    }

    /// The attempt as everybody reads it (L5).
    pub(super) fn read_at(self, now: WallTime) -> AttemptInfo {
        let state = self.info.state.read_at(now, self.info.send_by);
        AttemptInfo { state, ..self.info }
    }
}

pub(super) fn attempt(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let (marketplace, posting_encoded): (String, String) = (row.get(1)?, row.get(2)?);
    let info = AttemptInfo {
        id: parsed(row, 0, |text| text.parse().ok())?,
        posting: decoded(&marketplace, &posting_encoded),
        marketplace,
        posting_encoded,
        state: parsed(row, 3, State::from_name)?,
        event: parsed(row, 4, Event::from_name)?,
        token: FencingToken::new(number(row, 5)?),
        holder: row.get(6)?,
        process: ProcessMark::new(row.get::<_, String>(7)?),
        seen_at: time(row, 8)?,
        reserved_at: WallTime::from_micros(number(row, 9)?),
        started_at: time(row, 10)?,
        send_by: time(row, 11)?,
        decided_at: time(row, 12)?,
        reference: row.get(13)?,
        payload: parsed_opt(row, 14, |text| text.parse().ok())?,
        reason: row.get(15)?,
    };
    Ok(Stored { info, token_seen: number(row, 16)? })
}

/// The columns that [`history`] reads.
pub(super) const HISTORY: &str = "seq, at_us, attempt, event, token, actor, detail";

pub(super) fn history(row: &Row<'_>) -> rusqlite::Result<HistoryEntry> {
    Ok(HistoryEntry {
        seq: number(row, 0)?,
        at: WallTime::from_micros(number(row, 1)?),
        attempt: parsed(row, 2, |text| text.parse().ok())?,
        event: parsed(row, 3, Event::from_name)?,
        token: number_opt(row, 4)?.map(FencingToken::new),
        by: row.get(5)?,
        detail: row.get(6)?,
    })
}

/// The columns that [`audit`] reads.
pub(super) const AUDIT: &str =
    "seq, at_us, actor, act, marketplace, posting, attempt, token, because";

pub(super) fn audit(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let marketplace: Option<String> = row.get(4)?;
    let encoded: Option<String> = row.get(5)?;
    let posting = encoded.map(|e| decoded(marketplace.as_deref().unwrap_or_default(), &e));
    Ok(AuditEntry {
        seq: number(row, 0)?,
        at: WallTime::from_micros(number(row, 1)?),
        actor: row.get(2)?,
        act: row.get(3)?,
        marketplace,
        posting,
        attempt: parsed_opt(row, 6, |text| text.parse().ok())?,
        token: number_opt(row, 7)?.map(FencingToken::new),
        because: row.get(8)?,
    })
}

/// A number that SQL can keep; none of ours is beyond it.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn sql_time(time: WallTime) -> i64 {
    sql(time.as_micros())
}

/// Parameters that are put together at run time.
pub(super) type Values = Vec<Box<dyn ToSql>>;

/// What people call the posting; its encoding where that is not one of ours.
fn decoded(marketplace: &str, encoded: &str) -> String {
    let prefix = Prefix::default();
    let text = format!("{}:{marketplace}:{encoded}", prefix.as_str());
    Key::parse(&prefix, &text).map_or_else(|_| encoded.to_owned(), |key| key.posting())
}

pub(super) fn number(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    number_opt(row, at)?.ok_or(rusqlite::Error::InvalidColumnType(
        at,
        "number".to_owned(),
        Type::Null,
    ))
}

fn number_opt(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    let stored: Option<i64> = row.get(at)?;
    stored
        .map(|n| u64::try_from(n).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, n)))
        .transpose()
}

pub(super) fn time(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<WallTime>> {
    Ok(number_opt(row, at)?.map(WallTime::from_micros))
}

pub(super) fn parsed<T>(
    row: &Row<'_>,
    at: usize,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text: String = row.get(at)?;
    read(&text).ok_or_else(|| unreadable(at, &text))
}

fn parsed_opt<T>(
    row: &Row<'_>,
    at: usize,
    read: impl FnOnce(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(at)?;
    text.map(|text| read(&text).ok_or_else(|| unreadable(at, &text))).transpose()
}

fn unreadable(at: usize, text: &str) -> rusqlite::Error {
    let why = format!("column {at} reads {text:?}, which this program does not know");
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, why.into())
}
