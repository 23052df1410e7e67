//! Taking in what another ledger knows.

use bidlock_core::{Endpoint, Key, WallTime};
use rusqlite::{Connection, params};

use super::archive::{dossier, with_pass};
use super::operate::AUDIT;
use super::read::by_id;
use super::rows::{sql, sql_time};
use super::step::{Done, expect_one};
use super::worker::Fail;
use crate::archive::{Admitted, Comparison, Dossier, KeptAttempt, compare};
use crate::error::{LedgerError, Op, Subject};
use crate::types::{AuditEntry, HistoryEntry};

/// Takes a posting in, whole or not at all.
pub(super) fn admit(
    db: &Connection,
    given: &Dossier,
    subject: &Subject,
    endpoint: &Endpoint,
) -> Done<Admitted> {
    let differs = |why: String| {
        let (subject, endpoint) = (subject.clone(), endpoint.clone());
        Err(Fail::Call(LedgerError::Differs { op: Op::Import, subject, endpoint, why }))
    };
    let here = dossier(db, given.marketplace.clone(), given.posting_encoded.clone())?;
    match compare(&here, given) {
        Comparison::Same => return Ok(Admitted::Known),
        Comparison::Extends => {}
        Comparison::Differs(why) => return differs(why),
    }
    let fresh = &given.attempts[here.attempts.len()..];
    for kept in fresh {
        if by_id(db, &kept.info.id)?.is_some() {
            return differs(format!("attempt {} is one at another posting", kept.info.id));
        }
    }
    with_pass(db, "import", || {
        for (ours, theirs) in here.attempts.iter().zip(&given.attempts) {
            if ours != theirs {
                bring_up(db, theirs)?;
            }
        }
        fresh.iter().try_for_each(|kept| insert(db, kept))?;
        let told = &given.history[here.history.len()..];
        told.iter().try_for_each(|entry| tell(db, given, entry))
    })?;
    Ok(Admitted::Taken)
}

/// Puts in an attempt as the other ledger has it.
fn insert(db: &Connection, kept: &KeptAttempt) -> Done<()> {
    let sql_text = "INSERT INTO ledger_attempts
             (id, marketplace, posting, state, event, token, token_seen, holder, process,
              seen_at_us, reserved_at_us, started_at_us, send_by_us, decided_at_us, reference,
              payload, reason)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";
    let info = &kept.info;
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        info.id.to_string(),
        info.marketplace,
        info.posting_encoded,
        info.state.as_str(),
        info.event.as_str(),
        sql(info.token.get()),
        sql(kept.token_seen.get()),
        info.holder,
        info.process.as_str(),
        info.seen_at.map(sql_time),
        sql_time(info.reserved_at),
        info.started_at.map(sql_time),
        info.send_by.map(sql_time),
        info.decided_at.map(sql_time),
        info.reference,
        info.payload.map(|print| print.to_string()),
        info.reason,
    ])?)
}

/// Brings an attempt to the later moment that the other ledger has it at.
fn bring_up(db: &Connection, kept: &KeptAttempt) -> Done<()> {
    let sql_text = "UPDATE ledger_attempts
         SET state = ?2, event = ?3, token = ?4, token_seen = ?5, holder = ?6, process = ?7,
             started_at_us = ?8, send_by_us = ?9, decided_at_us = ?10, reference = ?11,
             payload = ?12, reason = ?13
         WHERE id = ?1";
    let info = &kept.info;
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        info.id.to_string(),
        info.state.as_str(),
        info.event.as_str(),
        sql(info.token.get()),
        sql(kept.token_seen.get()),
        info.holder,
        info.process.as_str(),
        info.started_at.map(sql_time),
        info.send_by.map(sql_time),
        info.decided_at.map(sql_time),
        info.reference,
        info.payload.map(|print| print.to_string()),
        info.reason,
    ])?)
}

/// Appends a line of the other ledger's history (L7).
fn tell(db: &Connection, of: &Dossier, entry: &HistoryEntry) -> Done<()> {
    let sql_text = "INSERT INTO ledger_history
             (at_us, marketplace, posting, attempt, event, token, actor, detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    expect_one(db.prepare_cached(sql_text)?.execute(params![
        sql_time(entry.at),
        of.marketplace,
        of.posting_encoded,
        entry.attempt.to_string(),
        entry.event.as_str(),
        entry.token.map(|token| sql(token.get())),
        entry.by,
        entry.detail,
    ])?)
}

/// Takes an entry of another audit in, unless the same one is here.
pub(super) fn admit_audit(db: &Connection, entry: &AuditEntry) -> Done<Admitted> {
    let posting = match &entry.posting {
        Some(posting) => {
            let key = Key::named(posting).map_err(|bad| Fail::Call(bad.into()))?;
            Some(key.posting_encoded().to_owned())
        }
        None => None,
    };
    let at: WallTime = entry.at;
    let values = params![
        sql_time(at),
        entry.actor,
        entry.act,
        entry.marketplace,
        posting,
        entry.attempt.map(|id| id.to_string()),
        entry.token.map(|token| sql(token.get())),
        entry.because,
    ];
    let same = "SELECT 1 FROM ledger_audit
         WHERE at_us = ?1 AND actor = ?2 AND act = ?3 AND marketplace IS ?4 AND posting IS ?5
             AND attempt IS ?6 AND token IS ?7 AND because = ?8";
    if db.prepare_cached(same)?.exists(values)? {
        return Ok(Admitted::Known);
    }
    expect_one(db.prepare_cached(AUDIT)?.execute(values)?)?;
    Ok(Admitted::Taken)
}
