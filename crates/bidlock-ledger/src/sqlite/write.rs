//! What each operation does to the file, inside a transaction that has the write lock.

use bidlock_core::{Endpoint, FencingToken, InvalidValue, Key, WallTime};
use rusqlite::{Connection, params};

use super::archive::horizon;
use super::read::{by_id, latest};
use super::rows::{Stored, sql, sql_time};
use super::step::{Done, Line, Step, advance, append, append_once, expect_one, found, restate};
use super::worker::Fail;
use crate::error::{LedgerError, Obstacle, Op, Subject};
use crate::requests::{Outcome, ResendRequest, ReserveRequest, StartRequest};
use crate::state::{Event, RecordStep, Standing, State, record_step};
use crate::types::{AttemptInfo, Recorded, Reservation, Start, Verdict};
use crate::values::AttemptId;

/// Makes an attempt, or says what stands against it.
pub(super) fn reserve(
    db: &Connection,
    key: &Key,
    request: &ReserveRequest,
    now: WallTime,
) -> Done<Reservation> {
    let mut only_reserved = None;
    if let Some(latest) = latest(db, key)? {
        let seen = latest.token_seen;
        let state = latest.info.state.read_at(now, latest.info.send_by);
        let mine = latest.info.id == request.attempt;
        match state {
            // A repeat after a lost answer.
            State::Reserved if mine => return Ok(Reservation::Reserved(latest.info)),
            State::Placed | State::Refused | State::Withdrawn | State::Unknown => {
                return Ok(not(latest, now));
            }
            // L3
            _ if request.token.get() < seen => {
                return Ok(Reservation::TokenTooLow { seen: FencingToken::new(seen) });
            }
            State::Reserved if request.token.get() > seen => {
                only_reserved = Some(latest);
            }
            State::Started if request.token.get() > seen && !mine => {
                doubt(db, &latest, request, now)?;
                return Ok(not(by_id(db, &latest.info.id)?.unwrap_or(latest), now));
            }
            State::Reserved | State::Started => return Ok(not(latest, now)),
            State::Abandoned => {}
        }
    }
    if let Some(stale) = stale(db, request, now)? {
        return Ok(stale);
    }
    if let Some(old) = only_reserved {
        take_over(db, &old, request, now)?;
    }
    insert(db, key, request, now)
}

/// L10: what was known of a posting that was seen before the horizon may be forgotten.
fn stale(db: &Connection, request: &ReserveRequest, now: WallTime) -> Done<Option<Reservation>> {
    let Some(seen_at) = request.seen_at else { return Ok(None) };
    let forgotten = horizon(db)?.is_some_and(|horizon| seen_at < horizon);
    let age = now.since(seen_at);
    Ok(forgotten.then_some(Reservation::Not(Verdict::Stale { age })))
}

fn not(latest: Stored, now: WallTime) -> Reservation {
    Reservation::Not(Verdict::of(latest.read_at(now)).unwrap_or(Verdict::Yes))
}

/// Closes an attempt that never started, for a higher token.
fn take_over(db: &Connection, old: &Stored, by: &ReserveRequest, now: WallTime) -> Done<()> {
    let sql_text = "UPDATE ledger_attempts
         SET state = 'abandoned', event = ?1, token_seen = ?2, decided_at_us = ?3, reason = NULL
         WHERE id = ?4 AND state = 'reserved' AND token_seen < ?2";
    let event = Event::TakenOver;
    let values =
        params![event.as_str(), sql(by.token.get()), sql_time(now), old.info.id.to_string()];
    expect_one(db.prepare_cached(sql_text)?.execute(values)?)?;
    let detail = format!("by attempt {}", by.attempt);
    append(
        db,
        &old.info,
        Line { event, token: Some(by.token), by: &by.holder, at: now },
        Some(&detail),
    )
}

/// Writes that nobody can tell how a started attempt went (L5).
fn doubt(db: &Connection, old: &Stored, by: &ReserveRequest, now: WallTime) -> Done<()> {
    let sql_text = "UPDATE ledger_attempts
         SET state = 'unknown', event = ?1, token_seen = ?2, decided_at_us = ?3, reason = ?4
         WHERE id = ?5 AND state = 'started' AND token_seen < ?2";
    let reason = format!("a higher token met it before its send-by, with {}", by.holder);
    let event = Event::Doubted;
    let values = params![
        event.as_str(),
        sql(by.token.get()),
        sql_time(now),
        crate::values::fit_line(&reason, crate::limits::REASON_BYTES_MAX),
        old.info.id.to_string()
    ];
    expect_one(db.prepare_cached(sql_text)?.execute(values)?)?;
    append(db, &old.info, Line { event, token: Some(by.token), by: &by.holder, at: now }, None)
}

/// Puts the new attempt in, where the database finds nothing against it (L1, L3).
fn insert(
    db: &Connection,
    key: &Key,
    request: &ReserveRequest,
    now: WallTime,
) -> Done<Reservation> {
    let sql_text = "INSERT INTO ledger_attempts
             (id, marketplace, posting, state, event, token, token_seen, holder, process,
              seen_at_us, reserved_at_us)
         SELECT ?1, ?2, ?3, 'reserved', 'reserved', ?4, ?4, ?5, ?6, ?7, ?8
         WHERE NOT EXISTS (SELECT 1 FROM ledger_attempts WHERE id = ?1)
             AND NOT EXISTS (SELECT 1 FROM ledger_attempts
                 WHERE marketplace = ?2 AND posting = ?3 AND token_seen > ?4)";
    let id = request.attempt.to_string();
    let inserted = db.prepare_cached(sql_text)?.execute(params![
        id,
        key.marketplace(),
        key.posting_encoded(),
        sql(request.token.get()),
        request.holder,
        request.process.as_str(),
        request.seen_at.map(sql_time),
        sql_time(now),
    ])?;
    if inserted != 1 {
        let why = "used before; every attempt has an id of its own";
        return Err(Fail::Call(InvalidValue::new("attempt id", id, why).into()));
    }
    let made = by_id(db, &request.attempt)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let event = Event::Reserved;
    let line = Line { event, token: Some(request.token), by: &request.holder, at: now };
    append(db, &made.info, line, None)?;
    Ok(Reservation::Reserved(made.info))
}

/// Lets the submission begin, once (L2).
pub(super) fn start(
    db: &Connection,
    id: &AttemptId,
    request: &StartRequest,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<Start> {
    let sql_text = "UPDATE ledger_attempts
         SET state = 'started', event = 'started', token = ?2, token_seen = ?2,
             started_at_us = ?3, send_by_us = ?4, payload = ?5
         WHERE id = ?1 AND state = 'reserved' AND token_seen <= ?2";
    let changed = db.prepare_cached(sql_text)?.execute(params![
        id.to_string(),
        sql(request.token.get()),
        sql_time(now),
        sql_time(request.send_by),
        request.payload.map(|print| print.to_string()),
    ])?;
    let stored = found(db, id, Op::Start, endpoint)?;
    if changed != 1 {
        return Ok(Start::No(stored.read_at(now)));
    }
    let detail = stored.info.payload.map(|print| print.to_string());
    let by = stored.info.holder.clone();
    let line = Line { event: Event::Started, token: Some(request.token), by: &by, at: now };
    append(db, &stored.info, line, detail.as_deref())?;
    Ok(Start::Yes(stored.info))
}

/// Lets an attempt in doubt be sent again under its own id (L11).
pub(super) fn resend(
    db: &Connection,
    id: &AttemptId,
    request: &ResendRequest,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<Start> {
    let stored = found(db, id, Op::Resend, endpoint)?;
    if request.token.get() <= stored.token_seen || !request.suits(&stored.info, now) {
        return Ok(Start::No(stored.read_at(now)));
    }
    let sql_text = "UPDATE ledger_attempts
         SET state = 'unknown', event = ?2, token = ?3, token_seen = ?3, send_by_us = ?4,
             holder = ?5, process = ?6, decided_at_us = ?7, reason = NULL
         WHERE id = ?1 AND state IN ('started', 'unknown') AND token_seen < ?3";
    let event = Event::Resent;
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        id.to_string(),
        event.as_str(),
        sql(request.token.get()),
        sql_time(request.send_by),
        request.holder,
        request.process.as_str(),
        sql_time(now),
    ])?)?;
    let line = Line { event, token: Some(request.token), by: &request.holder, at: now };
    append(db, &stored.info, line, Some(&request.payload.to_string()))?;
    Ok(Start::Yes(found(db, id, Op::Resend, endpoint)?.info))
}

/// Whether an attempt was ever sent again (L11).
pub(super) fn was_resent(db: &Connection, info: &AttemptInfo) -> Done<bool> {
    if info.state != State::Unknown {
        return Ok(false);
    }
    let sql_text = "SELECT 1 FROM ledger_history
         WHERE marketplace = ?1 AND posting = ?2 AND attempt = ?3 AND event = 'resent'";
    let id = info.id.to_string();
    Ok(db.prepare_cached(sql_text)?.exists(params![info.marketplace, info.posting_encoded, id])?)
}

/// Keeps an outcome, by the attempt alone (L8).
pub(super) fn record(
    db: &Connection,
    id: &AttemptId,
    outcome: &Outcome,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<Recorded> {
    let stored = found(db, id, Op::Record, endpoint)?;
    let info = &stored.info;
    let standing = Standing {
        state: info.state,
        event: info.event,
        reference: info.reference.as_deref(),
        reason: info.reason.as_deref(),
        resent: was_resent(db, info)?,
    };
    let detail = outcome.reference().or_else(|| outcome.reason());
    let by = info.holder.as_str();
    match record_step(standing, outcome) {
        RecordStep::Already => Ok(Recorded::Already(stored.read_at(now))),
        RecordStep::NotStarted => Err(Fail::Call(LedgerError::NotAllowed {
            op: Op::Record,
            subject: Subject::Attempt(*id),
            state: info.state,
            why: Obstacle::NotStarted,
            until: None,
        })),
        RecordStep::Restate(event) => {
            restate(db, info, event, outcome.reason(), now)?;
            append(db, info, Line { event, token: None, by, at: now }, detail)?;
            Ok(Recorded::Written(found(db, id, Op::Record, endpoint)?.read_at(now)))
        }
        RecordStep::Late => {
            let line = Line { event: Event::of_late(outcome), token: None, by, at: now };
            append_once(db, info, line, detail)?;
            Ok(Recorded::Late(stored.read_at(now)))
        }
        RecordStep::Become(next) => {
            let event = Event::of_outcome(outcome);
            let step =
                Step { next, event, reference: outcome.reference(), reason: outcome.reason() };
            advance(db, info, step, now)?;
            append(db, info, Line { event, token: None, by, at: now }, detail)?;
            Ok(Recorded::Written(found(db, id, Op::Record, endpoint)?.read_at(now)))
        }
    }
}
