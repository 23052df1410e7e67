//! Taking in what another ledger knows.

use bidlock_core::Key;
use tokio_postgres::Transaction;

use super::archive::{dossier, give_pass};
use super::fault::{Done, Fail};
use super::operate::expect_one;
use super::pool::Session;
use super::rows::{self, int8, sql, sql_time, text};
use super::statements::Statements;
use crate::archive::{Admitted, Comparison, Dossier, KeptAttempt, compare};
use crate::types::{AuditEntry, HistoryEntry};

/// Takes a posting in, whole or not at all.
pub(super) async fn admit(
    session: &mut Session,
    sqls: &Statements,
    given: &Dossier,
) -> Done<Admitted> {
    let transaction = session.begin().await?;
    give_pass(&transaction, "import").await?;
    let names = [text(&given.marketplace), text(&given.posting_encoded)];
    transaction.query_typed(&sqls.lock_posting, &names).await?;
    // Nobody else moves what is here on meanwhile.
    let hold = sqls.put(
        "SELECT FROM {schema}.attempts WHERE marketplace = $1 AND posting = $2
         ORDER BY seq FOR UPDATE",
    );
    transaction.query_typed(&hold, &names).await?;
    let (marketplace, posting) = (given.marketplace.clone(), given.posting_encoded.clone());
    let here = dossier(&transaction, sqls, marketplace, posting).await?;
    match compare(&here, given) {
        Comparison::Same => return Ok(Admitted::Known),
        Comparison::Extends => {}
        Comparison::Differs(why) => return Err(Fail::Differs(why)),
    }
    for (ours, theirs) in here.attempts.iter().zip(&given.attempts) {
        if ours != theirs {
            write(&transaction, sqls, BRING_UP, theirs).await?;
        }
    }
    for kept in &given.attempts[here.attempts.len()..] {
        match write(&transaction, sqls, INSERT, kept).await {
            Err(fail) if fail.violates("attempts_id") => {
                let why = format!("attempt {} is one at another posting", kept.info.id);
                return Err(Fail::Differs(why));
            }
            done => done?,
        }
    }
    for entry in &given.history[here.history.len()..] {
        tell(&transaction, sqls, given, entry).await?;
    }
    transaction.commit().await?;
    Ok(Admitted::Taken)
}

/// Puts in an attempt as the other ledger has it.
const INSERT: &str = "INSERT INTO {schema}.attempts
         (id, marketplace, posting, state, event, token, token_seen, holder, process,
          seen_at_us, reserved_at_us, started_at_us, send_by_us, decided_at_us, reference,
          payload, reason)
     VALUES ($1::uuid, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// Brings an attempt to the later moment that the other ledger has it at.
const BRING_UP: &str = "UPDATE {schema}.attempts
     SET marketplace = $2, posting = $3, state = $4, event = $5, token = $6, token_seen = $7,
         holder = $8, process = $9, seen_at_us = $10, reserved_at_us = $11, started_at_us = $12,
         send_by_us = $13, decided_at_us = $14, reference = $15, payload = $16, reason = $17
     WHERE id = $1::uuid";

async fn write(
    transaction: &Transaction<'_>,
    sqls: &Statements,
    statement: &str,
    kept: &KeptAttempt,
) -> Done<()> {
    let info = &kept.info;
    let (id, state, event) = (info.id.to_string(), info.state.as_str(), info.event.as_str());
    let (token, token_seen) = (sql(info.token.get()), sql(kept.token_seen.get()));
    let process = info.process.as_str();
    let (seen_at, reserved_at) = (info.seen_at.map(sql_time), sql_time(info.reserved_at));
    let (started_at, send_by) = (info.started_at.map(sql_time), info.send_by.map(sql_time));
    let decided_at = info.decided_at.map(sql_time);
    let payload = info.payload.map(|print| print.to_string());
    let values = [
        text(&id),
        text(&info.marketplace),
        text(&info.posting_encoded),
        text(&state),
        text(&event),
        int8(&token),
        int8(&token_seen),
        text(&info.holder),
        text(&process),
        int8(&seen_at),
        int8(&reserved_at),
        int8(&started_at),
        int8(&send_by),
        int8(&decided_at),
        text(&info.reference),
        text(&payload),
        text(&info.reason),
    ];
    expect_one(transaction.execute_typed(&sqls.put(statement), &values).await?)
}

/// Appends a line of the other ledger's history (L7).
async fn tell(
    transaction: &Transaction<'_>,
    sqls: &Statements,
    of: &Dossier,
    entry: &HistoryEntry,
) -> Done<()> {
    let statement = sqls.put(
        "INSERT INTO {schema}.history
             (at_us, marketplace, posting, attempt, event, token, actor, detail)
         VALUES ($1, $2, $3, $4::uuid, $5, $6, $7, $8)",
    );
    let (at, attempt) = (sql_time(entry.at), entry.attempt.to_string());
    let (event, token) = (entry.event.as_str(), entry.token.map(|token| sql(token.get())));
    let values = [
        int8(&at),
        text(&of.marketplace),
        text(&of.posting_encoded),
        text(&attempt),
        text(&event),
        int8(&token),
        text(&entry.by),
        text(&entry.detail),
    ];
    expect_one(transaction.execute_typed(&statement, &values).await?)
}

/// Takes an entry of another audit in, unless the same one is here.
pub(super) async fn admit_audit(
    session: &mut Session,
    sqls: &Statements,
    entry: &AuditEntry,
) -> Done<Admitted> {
    let posting = entry.posting.as_deref().map(Key::named).transpose();
    let posting = posting.map_err(|bad| Fail::Call(bad.into()))?;
    let posting = posting.as_ref().map(Key::posting_encoded);
    let (at, attempt) = (sql_time(entry.at), entry.attempt.map(|id| id.to_string()));
    let token = entry.token.map(|token| sql(token.get()));
    let values = [
        int8(&at),
        text(&entry.actor),
        text(&entry.act),
        text(&entry.marketplace),
        text(&posting),
        text(&attempt),
        int8(&token),
        text(&entry.because),
    ];
    // Alone, so that two imports do not both take it in.
    let lock = sqls.put("SELECT {schema}.lock_audit()");
    let same = sqls.put(
        "SELECT EXISTS (SELECT FROM {schema}.audit
         WHERE at_us = $1 AND actor = $2 AND act = $3 AND marketplace IS NOT DISTINCT FROM $4
             AND posting IS NOT DISTINCT FROM $5 AND attempt IS NOT DISTINCT FROM $6::uuid
             AND token IS NOT DISTINCT FROM $7 AND because = $8)",
    );
    let insert = sqls.put(
        "INSERT INTO {schema}.audit
             (at_us, actor, act, marketplace, posting, attempt, token, because)
         VALUES ($1, $2, $3, $4, $5, $6::uuid, $7, $8)",
    );
    let transaction = session.begin().await?;
    give_pass(&transaction, "import").await?;
    transaction.query_typed(&lock, &[]).await?;
    let row = transaction.query_typed_one(&same, &values).await?;
    if rows::value::<bool>(&row, 0)? {
        return Ok(Admitted::Known);
    }
    expect_one(transaction.execute_typed(&insert, &values).await?)?;
    transaction.commit().await?;
    Ok(Admitted::Taken)
}
