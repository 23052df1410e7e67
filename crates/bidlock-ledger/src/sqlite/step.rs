//! One step of an attempt, and the line of history that goes with it.

use bidlock_core::{Endpoint, FencingToken, Key, WallTime};
use rusqlite::{Connection, params};

use super::read::{by_id, latest, open_attempt};
use super::rows::{Stored, sql, sql_time};
use super::worker::Fail;
use crate::error::{LedgerError, Obstacle, Op, Subject};
use crate::state::{Event, State};
use crate::types::AttemptInfo;
use crate::values::AttemptId;

/// What work in a transaction comes to.
pub(super) type Done<T> = Result<T, Fail>;

/// One step of the state machine.
#[derive(Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) next: State,
    pub(super) event: Event,
    pub(super) reference: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
}

/// Moves an attempt on from the state that was read, and from no other (L4).
pub(super) fn advance(
    db: &Connection,
    from: &AttemptInfo,
    step: Step<'_>,
    now: WallTime,
) -> Done<()> {
    let sql_text = "UPDATE ledger_attempts
         SET state = ?1, event = ?2, decided_at_us = ?3, reference = ?4, reason = ?5
         WHERE id = ?6 AND state = ?7";
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        step.next.as_str(),
        step.event.as_str(),
        sql_time(now),
        step.reference,
        step.reason,
        from.id.to_string(),
        from.state.as_str(),
    ])?)
}

/// Puts the submitter's own «unknown» in the place of a guess; the state stays.
pub(super) fn restate(
    db: &Connection,
    of: &AttemptInfo,
    event: Event,
    reason: Option<&str>,
    now: WallTime,
) -> Done<()> {
    let sql_text = "UPDATE ledger_attempts SET event = ?1, decided_at_us = ?2, reason = ?3
         WHERE id = ?4 AND state = 'unknown' AND event = ?5";
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        event.as_str(),
        sql_time(now),
        reason,
        of.id.to_string(),
        of.event.as_str(),
    ])?)
}

/// What a history entry says besides its attempt.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) event: Event,
    pub(super) token: Option<FencingToken>,
    pub(super) by: &'a str,
    pub(super) at: WallTime,
}

/// Appends to the history (L7).
pub(super) fn append(
    db: &Connection,
    info: &AttemptInfo,
    line: Line<'_>,
    detail: Option<&str>,
) -> Done<()> {
    let sql_text = "INSERT INTO ledger_history
             (at_us, marketplace, posting, attempt, event, token, actor, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        sql_time(line.at),
        info.marketplace,
        info.posting_encoded,
        info.id.to_string(),
        line.event.as_str(),
        line.token.map(|token| sql(token.get())),
        line.by,
        detail,
    ])?)
}

/// Appends what a caller may repeat after a lost answer.
pub(super) fn append_once(
    db: &Connection,
    info: &AttemptInfo,
    line: Line<'_>,
    detail: Option<&str>,
) -> Done<()> {
    let sql_text = "SELECT 1 FROM ledger_history WHERE marketplace = ?1 AND posting = ?2
         AND attempt = ?3 AND event = ?4 AND detail IS ?5";
    let id = info.id.to_string();
    let known = db.prepare_cached(sql_text)?.exists(params![
        info.marketplace,
        info.posting_encoded,
        id,
        line.event.as_str(),
        detail
    ])?;
    if known { Ok(()) } else { append(db, info, line, detail) }
}

pub(super) fn found(db: &Connection, id: &AttemptId, op: Op, endpoint: &Endpoint) -> Done<Stored> {
    by_id(db, id)?.ok_or_else(|| {
        let (subject, endpoint) = (Subject::Attempt(*id), endpoint.clone());
        Fail::Call(LedgerError::NotFound { op, subject, endpoint })
    })
}

pub(super) fn found_open(db: &Connection, key: &Key, op: Op, endpoint: &Endpoint) -> Done<Stored> {
    if let Some(open) = open_attempt(db, key)? {
        return Ok(open);
    }
    let subject = Subject::Posting(key.clone());
    Err(Fail::Call(match latest(db, key)? {
        None => LedgerError::NotFound { op, subject, endpoint: endpoint.clone() },
        Some(Stored { info, .. }) => {
            let (state, why) = (info.state, Obstacle::NoneOpen { last: info.id });
            LedgerError::NotAllowed { op, subject, state, why, until: None }
        }
    }))
}

/// The database decides whether a conditional statement took effect.
pub(super) fn expect_one(changed: usize) -> Done<()> {
    if changed == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(changed).into()) }
}
