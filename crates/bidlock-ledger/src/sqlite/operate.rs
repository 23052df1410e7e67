//! What operators do by hand; each act is noted in the audit, in the same transaction.

use bidlock_core::{Endpoint, Key, WallTime};
use rusqlite::{Connection, params};

use super::rows::{Stored, sql, sql_time};
use super::step::{Done, Line, Step, advance, append, expect_one, found, found_open};
use super::worker::Fail;
use super::write::was_resent;
use crate::doubt::{Case, Hindered};
use crate::error::{LedgerError, Obstacle, Op, Subject};
use crate::requests::{AuditAct, OperatorNote, Resolution, ResolveRequest, SeenSender};
use crate::state::{Event, State};
use crate::types::AttemptInfo;

/// Ends a doubt on an operator's word, where L6 allows it.
pub(super) fn resolve(
    db: &Connection,
    key: &Key,
    request: &ResolveRequest,
    seen: Option<SeenSender>,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<AttemptInfo> {
    let (op, note) = (Op::Resolve, &request.note);
    if let Some(named) = &request.attempt {
        let (marketplace, posting) = (key.marketplace(), key.posting_encoded());
        let named_info = found(db, named, op, endpoint)?.info;
        if (&*named_info.marketplace, &*named_info.posting_encoded) != (marketplace, posting) {
            let (subject, endpoint) = (Subject::Attempt(*named), endpoint.clone());
            return Err(Fail::Call(LedgerError::NotFound { op, subject, endpoint }));
        }
    }
    let stored = found_open(db, key, op, endpoint)?;
    let info = &stored.info;
    let (only, resent) = (is_only(db, info)?, was_resent(db, info)?);
    let case = Case { open: info, only, resent, seen, now };
    if let Err(Hindered { why, until }) = case.may_resolve(request) {
        let state = info.state.read_at(now, info.send_by);
        let subject = Subject::Posting(key.clone());
        return Err(Fail::Call(LedgerError::NotAllowed { op, subject, state, why, until }));
    }
    let resolution = &request.resolution;
    let event = Event::of_resolution(resolution);
    let act = match resolution {
        Resolution::Placed { .. } => "resolve_placed",
        Resolution::Refused => "resolve_refused",
        Resolution::NotSent { sender_is_gone: false } => "resolve_not_sent",
        Resolution::NotSent { sender_is_gone: true } => "resolve_not_sent_sender_is_gone",
    };
    let is_reason = matches!(resolution, Resolution::Refused | Resolution::NotSent { .. });
    let reason = is_reason.then_some(note.because.as_str());
    let step = Step { next: resolution.state(), event, reference: resolution.reference(), reason };
    advance(db, info, step, now)?;
    by_hand(db, info, event, act, note, now)?;
    Ok(found(db, &info.id, op, endpoint)?.read_at(now))
}

/// Whether a posting has had no other attempt.
fn is_only(db: &Connection, info: &AttemptInfo) -> Done<bool> {
    let sql_text = "SELECT 1 FROM ledger_attempts
         WHERE marketplace = ?1 AND posting = ?2 AND id <> ?3 LIMIT 1";
    let id = info.id.to_string();
    let others = params![info.marketplace, info.posting_encoded, id];
    Ok(!db.prepare_cached(sql_text)?.exists(others)?)
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
        return not_allowed(Op::Withdraw, key, stored, Obstacle::NotPlaced, now);
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
        State::Placed => Some(Obstacle::StillPlaced),
        State::Unknown => Some(Obstacle::InDoubt),
        _ => Some(Obstacle::InProgress),
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

pub(super) const AUDIT: &str = "INSERT INTO ledger_audit
         (at_us, actor, act, marketplace, posting, attempt, token, because)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// Notes in the audit what was done to the ledger as a whole.
pub(super) fn note_of_ledger(
    db: &Connection,
    act: &str,
    note: &OperatorNote,
    now: WallTime,
) -> Done<()> {
    let (act, note) = (act.to_owned(), note.clone());
    audit_append(db, &AuditAct { act, key: None, attempt: None, token: None, note }, now)
}

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

fn not_allowed<T>(op: Op, key: &Key, stored: Stored, why: Obstacle, now: WallTime) -> Done<T> {
    let subject = Subject::Posting(key.clone());
    let state = stored.read_at(now).state;
    Err(Fail::Call(LedgerError::NotAllowed { op, subject, state, why, until: None }))
}
