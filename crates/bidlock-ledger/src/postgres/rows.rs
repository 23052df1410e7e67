use bidlock_core::{FencingToken, Key, Prefix, ProcessMark, Refusal, WallTime};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};

use super::fault::{Done, Fail};
use crate::state::{Event, State};
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry};

/// The columns that [`attempt`] reads, in its order.
const ATTEMPT: [&str; 17] = [
    "id::text",
    "marketplace",
    "posting",
    "state",
    "event",
    "token",
    "holder",
    "process",
    "seen_at_us",
    "reserved_at_us",
    "started_at_us",
    "send_by_us",
    "decided_at_us",
    "reference",
    "payload",
    "reason",
    "token_seen",
];

/// The columns of an attempt, each of `source`, such as `a` or `(f.it)`.
pub(super) fn attempt_columns(source: &str) -> String {
    ATTEMPT.map(|column| format!("{source}.{column}")).join(", ")
}

/// An attempt as the database has it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// With its state as stored.
    pub(super) info: AttemptInfo,
    token_seen: u64,
}

impl Stored {
    pub(super) const fn new(info: AttemptInfo, token_seen: u64) -> Self {
        Self { info, token_seen }
    }

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

/// Reads an attempt whose columns begin at `from`.
pub(super) fn attempt(row: &Row, from: usize) -> Done<Stored> {
    let (marketplace, posting_encoded): (String, String) =
        (value(row, from + 1)?, value(row, from + 2)?);
    let info = AttemptInfo {
        id: parsed(row, from, |text| text.parse().ok())?,
        posting: decoded(&marketplace, &posting_encoded),
        marketplace,
        posting_encoded,
        state: parsed(row, from + 3, State::from_name)?,
        event: parsed(row, from + 4, Event::from_name)?,
        token: FencingToken::new(number(row, from + 5)?),
        holder: value(row, from + 6)?,
        process: ProcessMark::new(value::<String>(row, from + 7)?),
        seen_at: time(row, from + 8)?,
        reserved_at: WallTime::from_micros(number(row, from + 9)?),
        started_at: time(row, from + 10)?,
        send_by: time(row, from + 11)?,
        decided_at: time(row, from + 12)?,
        reference: value(row, from + 13)?,
        payload: parsed_opt(row, from + 14, |text| text.parse().ok())?,
        reason: value(row, from + 15)?,
    };
    Ok(Stored { info, token_seen: number(row, from + 16)? })
}

/// The columns that [`history`] reads.
pub(super) const HISTORY: &str = "seq, at_us, attempt::text, event, token, actor, detail";

pub(super) fn history(row: &Row) -> Done<HistoryEntry> {
    Ok(HistoryEntry {
        seq: number(row, 0)?,
        at: WallTime::from_micros(number(row, 1)?),
        attempt: parsed(row, 2, |text| text.parse().ok())?,
        event: parsed(row, 3, Event::from_name)?,
        token: number_opt(row, 4)?.map(FencingToken::new),
        by: value(row, 5)?,
        detail: value(row, 6)?,
    })
}

/// The columns that [`audit`] reads.
pub(super) const AUDIT: &str =
    "seq, at_us, actor, act, marketplace, posting, attempt::text, token, because";

pub(super) fn audit(row: &Row) -> Done<AuditEntry> {
    let marketplace: Option<String> = value(row, 4)?;
    let encoded: Option<String> = value(row, 5)?;
    let posting = encoded.map(|e| decoded(marketplace.as_deref().unwrap_or_default(), &e));
    Ok(AuditEntry {
        seq: number(row, 0)?,
        at: WallTime::from_micros(number(row, 1)?),
        actor: value(row, 2)?,
        act: value(row, 3)?,
        marketplace,
        posting,
        attempt: parsed_opt(row, 6, |text| text.parse().ok())?,
        token: number_opt(row, 7)?.map(FencingToken::new),
        because: value(row, 8)?,
    })
}

/// A number that SQL can keep; none of ours is beyond it.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn sql_time(time: WallTime) -> i64 {
    sql(time.as_micros())
}

/// What people call the posting; its encoding where that is not one of ours.
pub(super) fn decoded(marketplace: &str, encoded: &str) -> String {
    let prefix = Prefix::default();
    let text = format!("{}:{marketplace}:{encoded}", prefix.as_str());
    Key::parse(&prefix, &text).map_or_else(|_| encoded.to_owned(), |key| key.posting())
}

/// One column of a type that it has by its definition.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Done<T> {
    row.try_get(at).map_err(|error| garbled(format!("column {at} cannot be read: {error}")))
}

pub(super) fn number(row: &Row, at: usize) -> Done<u64> {
    number_opt(row, at)?.ok_or_else(|| garbled(format!("column {at} is empty")))
}

pub(super) fn number_opt(row: &Row, at: usize) -> Done<Option<u64>> {
    let stored: Option<i64> = value(row, at)?;
    let read = |n| u64::try_from(n).map_err(|_| garbled(format!("column {at} is {n}")));
    stored.map(read).transpose()
}

pub(super) fn time(row: &Row, at: usize) -> Done<Option<WallTime>> {
    Ok(number_opt(row, at)?.map(WallTime::from_micros))
}

pub(super) fn parsed<T>(row: &Row, at: usize, read: impl FnOnce(&str) -> Option<T>) -> Done<T> {
    let text: &str = value(row, at)?;
    read(text).ok_or_else(|| unreadable(at, text))
}

fn parsed_opt<T>(row: &Row, at: usize, read: impl FnOnce(&str) -> Option<T>) -> Done<Option<T>> {
    let text: Option<&str> = value(row, at)?;
    text.map(|text| read(text).ok_or_else(|| unreadable(at, text))).transpose()
}

fn unreadable(at: usize, text: &str) -> Fail {
    garbled(format!("column {at} reads {text:?}, which this program does not know"))
}

pub(super) fn garbled(why: String) -> Fail {
    Fail::Refused(Refusal::Corrupt(why))
}

/// A value of a statement, with its type, so that no statement has to be prepared.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A text, or none.
pub(super) fn text(value: &(impl ToSql + Sync)) -> Param<'_> {
    (value, Type::TEXT)
}

/// A number of 64 bits, or none.
pub(super) fn int8(value: &(impl ToSql + Sync)) -> Param<'_> {
    (value, Type::INT8)
}
