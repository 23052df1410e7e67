//! What operators do by hand; each act is noted in the audit, in the same transaction.

use std::time::Duration;

use bidlock_core::{Endpoint, Key, WallTime};
use rusqlite::{Connection, params};

use super::rows::{Stored, sql, sql_time};
use super::step::{Done, Line, Step, advance, append, expect_one, found, found_open};
use super::worker::Fail;
use crate::error::{LedgerError, Op, Subject};
use crate::requests::{AuditAct, OperatorNote, Resolution};
use crate::state::{Event, State};
use crate::types::AttemptInfo;
use crate::values::AttemptId;

/// Ends a doubt on an operator's word, once its time has come (L6).
pub(super) fn resolve(
    db: &Connection,
    id: &AttemptId,
    resolution: &Resolution,
    note: &OperatorNote,
    lag: Duration,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<AttemptInfo> {
    let stored = found(db, id, Op::Resolve, endpoint)?;
    let state = stored.info.state.read_at(now, stored.info.send_by);
    let until = stored.info.send_by.map(|send_by| send_by + lag).filter(|until| *until > now);
    let refuse = |why, until| {
        let subject = Subject::Attempt(*id);
        Err(Fail::Call(LedgerError::NotAllowed { op: Op::Resolve, subject, state, why, until }))
    };
    match (state, until) {
        (State::Unknown, None) => {}
        (State::Unknown, until) => {
            return refuse("it may still be sent, or not show yet at the marketplace", until);
        }
        (State::Started, until) => return refuse("its submission is under way", until),
        (State::Reserved, _) => {
            return refuse("nothing was sent; a later attempt takes its place by itself", None);
        }
        _ => return refuse("its outcome is known; there is nothing to resolve", None),
    }
    let event = Event::of_resolution(resolution);
    let act = match resolution {
        Resolution::Placed { .. } => "resolve_placed",
        Resolution::Refused => "resolve_refused",
        Resolution::NotSent => "resolve_not_sent",
    };
    let reason = matches!(resolution, Resolution::Refused | Resolution::NotSent)
        .then_some(note.because.as_str());
    let reference = resolution.reference();
    let step = Step { next: resolution.state(), event, reference, reason };
    advance(db, &stored.info, step, now)?;
    by_hand(db, &stored.info, event, act, note, now)?;
    Ok(found(db, id, Op::Resolve, endpoint)?.read_at(now))
}

/// Notes that a placed bid was taken back.
pub(super) fn withdraw(
    db: &Connection,
    key: &Key,
    note: &OperatorNote,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<AttemptInfo> {
    let stored = found_open(db, key, Op::Withdraw, endpoint)?;
    if stored.info.state != State::Placed {
        let why = "only a placed bid can be withdrawn";
        return not_allowed(Op::Withdraw, key, stored, why, now);
    }
    let info = &stored.info;
    let step = Step {
        next: State::Withdrawn,
        event: Event::Withdrawn,
        reference: info.reference.as_deref(),
        reason: Some(&note.because),
    };
    advance(db, info, step, now)?;
    by_hand(db, info, Event::Withdrawn, "withdraw", note, now)?;
    Ok(found(db, &info.id, Op::Withdraw, endpoint)?.read_at(now))
}

/// Lets a posting be tried again.
pub(super) fn reopen(
    db: &Connection,
    key: &Key,
    note: &OperatorNote,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<AttemptInfo> {
    let stored = found_open(db, key, Op::Reopen, endpoint)?;
    let why = match stored.info.state.read_at(now, stored.info.send_by) {
        State::Refused | State::Withdrawn => None,
        State::Placed => Some("the bid is placed; withdraw it first"),
        State::Unknown => Some("nobody can tell how it went; resolve it first"),
        _ => Some("somebody is at it; wait for the outcome"),
    };
    if let Some(why) = why {
        return not_allowed(Op::Reopen, key, stored, why, now);
    }
    let info = &stored.info;
    let step = Step {
        next: State::Abandoned,
        event: Event::Reopened,
        reference: info.reference.as_deref(),
        reason: Some(&note.because),
    };
    advance(db, info, step, now)?;
    by_hand(db, info, Event::Reopened, "reopen", note, now)?;
    Ok(found(db, &info.id, Op::Reopen, endpoint)?.read_at(now))
}

/// Appends to the audit (L7).
pub(super) fn audit_append(db: &Connection, act: &AuditAct, now: WallTime) -> Done<()> {
    let attempt = act.attempt.map(|id| id.to_string());
    expect_one(db.prepare_cached(AUDIT)?.execute(params![
        sql_time(now),
        act.note.actor,
        act.act,
        act.key.as_ref().map(Key::marketplace),
        act.key.as_ref().map(Key::posting_encoded),
        attempt,
        act.token.map(|token| sql(token.get())),
        act.note.because,
    ])?)
}

const AUDIT: &str = "INSERT INTO ledger_audit
         (at_us, actor, act, marketplace, posting, attempt, token, because)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Notes an operator's act in the history and in the audit.
fn by_hand(
    db: &Connection,
    info: &AttemptInfo,
    event: Event,
    act: &str,
    note: &OperatorNote,
    now: WallTime,
) -> Done<()> {
    let line = Line { event, token: None, by: &note.actor, at: now };
    append(db, info, line, Some(&note.because))?;
    expect_one(db.prepare_cached(AUDIT)?.execute(params![
        sql_time(now),
        note.actor,
        act,
        info.marketplace,
        info.posting_encoded,
        info.id.to_string(),
        None::<i64>,
        note.because,
    ])?)
}

fn not_allowed<T>(op: Op, key: &Key, stored: Stored, why: &'static str, now: WallTime) -> Done<T> {
    let subject = Subject::Posting(key.clone());
    let state = stored.read_at(now).state;
    Err(Fail::Call(LedgerError::NotAllowed { op, subject, state, why, until: None }))
}
