//! The ledger as a whole, in its database.

use std::collections::HashSet;

use bidlock_core::{Key, Prefix, WallTime};
use tokio_postgres::{GenericClient, Transaction};

use super::fault::Done;
use super::operate::{append_audit, expect_one};
use super::pool::Session;
use super::rows::{self, int8, sql, sql_time, text};
use super::statements::Statements;
use crate::archive::{Dossier, KeptAttempt, Standing, every_state, prune_note};
use crate::error::Subject;
use crate::requests::{AuditAct, OperatorNote};
use crate::state::State;
use crate::types::AuditEntry;

/// The posting of a dossier, as errors name it.
pub(super) fn subject_of(dossier: &Dossier) -> Subject {
    let prefix = Prefix::default();
    let text = format!("{}:{}:{}", prefix.as_str(), dossier.marketplace, dossier.posting_encoded);
    Key::parse(&prefix, &text).map_or(Subject::Ledger, Subject::Posting)
}

pub(super) async fn standing(
    session: &Session,
    sqls: &Statements,
    trusts_failover: bool,
) -> Done<Standing> {
    let statement = sqls.put(
        "SELECT m.id::text, m.version, m.pruned_before_us, m.accepted_at_us,
             {schema}.changed_v1(NULL, $1) FROM {schema}.meta m",
    );
    let trusts = [(&trusts_failover as _, tokio_postgres::types::Type::BOOL)];
    let row = session.client().query_typed_one(&statement, &trusts).await?;
    Ok(Standing {
        id: rows::parsed(&row, 0, |text| text.parse().ok())?,
        schema: u32::try_from(rows::value::<i32>(&row, 1)?).unwrap_or_default(),
        pruned_before: rows::time(&row, 2)?,
        accepted_at: rows::time(&row, 3)?,
        changed: rows::value(&row, 4)?,
    })
}

pub(super) async fn counts(
    session: &Session,
    sqls: &Statements,
    now: WallTime,
) -> Done<Vec<(State, u64)>> {
    // Only the few that are started are looked at one by one (L5).
    let statement = sqls.put(
        "SELECT state, count(*) FROM {schema}.attempts WHERE state <> 'started' GROUP BY state
         UNION ALL SELECT CASE WHEN send_by_us <= $1 THEN 'unknown' ELSE state END, count(*)
             FROM {schema}.attempts WHERE state = 'started' GROUP BY 1",
    );
    let now = sql_time(now);
    let counted = session.client().query_typed(&statement, &[int8(&now)]).await?;
    let read = |row| Ok((rows::parsed(row, 0, State::from_name)?, rows::number(row, 1)?));
    Ok(every_state(counted.iter().map(read).collect::<Done<Vec<_>>>()?))
}

/// One page of postings, all as of one instant.
pub(super) async fn dossiers(
    session: &mut Session,
    sqls: &Statements,
    after: Option<&(String, String)>,
    limit: u32,
) -> Done<Vec<Dossier>> {
    let names = sqls.put(
        "SELECT DISTINCT marketplace, posting FROM {schema}.attempts
         WHERE (marketplace, posting) > ($1, $2) ORDER BY marketplace, posting LIMIT $3",
    );
    let (marketplace, posting) = after.map_or(("", ""), |(m, p)| (m.as_str(), p.as_str()));
    let limit = i64::from(limit);
    let whole = session.begin_snapshot().await?;
    let page = [text(&marketplace), text(&posting), int8(&limit)];
    let mut found = Vec::new();
    for row in whole.query_typed(&names, &page).await? {
        found.push(dossier(&whole, sqls, rows::value(&row, 0)?, rows::value(&row, 1)?).await?);
    }
    whole.commit().await?;
    Ok(found)
}

/// All that is known of one posting; without attempts when it is nothing.
pub(super) async fn dossier(
    client: &impl GenericClient,
    sqls: &Statements,
    marketplace: String,
    posting_encoded: String,
) -> Done<Dossier> {
    let names = [text(&marketplace), text(&posting_encoded)];
    let statement = sqls.attempts("a.marketplace = $1 AND a.posting = $2 ORDER BY a.seq");
    let attempts = client.query_typed(&statement, &names).await?;
    let kept = |row| {
        let stored = rows::attempt(row, 0)?;
        Ok(KeptAttempt { token_seen: stored.token_seen(), info: stored.info })
    };
    let attempts = attempts.iter().map(kept).collect::<Done<Vec<_>>>()?;
    let history = client.query_typed(&sqls.history, &names).await?;
    let history = history.iter().map(rows::history).collect::<Done<Vec<_>>>()?;
    Ok(Dossier { marketplace, posting_encoded, attempts, history })
}

pub(super) async fn audit_forward(
    session: &Session,
    sqls: &Statements,
    after: Option<u64>,
    limit: u32,
) -> Done<Vec<AuditEntry>> {
    let (after, limit) = (after.map_or(-1, sql), i64::from(limit));
    let statement = sqls.audit("WHERE seq > $1 ORDER BY seq LIMIT $2");
    let found = session.client().query_typed(&statement, &[int8(&after), int8(&limit)]).await?;
    found.iter().map(rows::audit).collect()
}

/// That a posting is over, and was before a moment (L10). The triggers say the same.
const IS_OVER: &str = "NOT EXISTS (SELECT FROM {schema}.attempts its
         WHERE its.marketplace = {m} AND its.posting = {p}
             AND (its.state IN ('reserved', 'started', 'unknown')
                 OR greatest(its.reserved_at_us, its.started_at_us, its.decided_at_us) >= $1))
     AND NOT EXISTS (SELECT FROM {schema}.history its
         WHERE its.marketplace = {m} AND its.posting = {p} AND its.at_us >= $1)";

/// The oldest postings that are over, one name for each of their attempts.
pub(super) async fn over_before(
    session: &Session,
    sqls: &Statements,
    before: WallTime,
    limit: u32,
) -> Done<Vec<(String, String)>> {
    let is_over = IS_OVER.replace("{m}", "one.marketplace").replace("{p}", "one.posting");
    let statement = sqls.put(&format!(
        "SELECT one.marketplace, one.posting FROM {{schema}}.attempts one
         WHERE one.reserved_at_us < $1 AND {is_over} ORDER BY one.reserved_at_us LIMIT $2"
    ));
    let (before, limit) = (sql_time(before), i64::from(limit));
    let found = session.client().query_typed(&statement, &[int8(&before), int8(&limit)]).await?;
    found.iter().map(|row| Ok((rows::value(row, 0)?, rows::value(row, 1)?))).collect()
}

/// Lets the transaction do what bidding may not.
pub(super) async fn give_pass(transaction: &Transaction<'_>, what: &str) -> Done<()> {
    let statement =
        "SELECT set_config('bidlock.pass', $1, true), set_config('lock_timeout', '4s', true)";
    transaction.query_typed(statement, &[text(&what)]).await?;
    Ok(())
}

/// Removes what is still over, raises the horizon, and notes it in the audit.
pub(super) async fn prune(
    session: &mut Session,
    sqls: &Statements,
    found: &[(String, String)],
    before: WallTime,
    now: WallTime,
) -> Done<u64> {
    let horizon = sql_time(before);
    let transaction = session.begin().await?;
    give_pass(&transaction, "prune").await?;
    // Whoever bids meanwhile waits for nothing: the row is read as it was, or as it will be.
    let raise = sqls.put(
        "UPDATE {schema}.meta SET pruned_before_us = $1
         WHERE coalesce(pruned_before_us < $1, true)",
    );
    let raised = transaction.execute_typed(&raise, &[int8(&horizon)]).await? == 1;
    let is_over = IS_OVER.replace("{m}", "$2").replace("{p}", "$3");
    let is_over = sqls.put(&format!("SELECT {is_over}"));
    let mut postings: Vec<_> = found.iter().collect::<HashSet<_>>().into_iter().collect();
    // In one order, so that no two of these wait for each other.
    postings.sort();
    let (mut attempts, mut removed) = (0, 0_usize);
    for (marketplace, posting) in postings {
        let names = [text(marketplace), text(posting)];
        transaction.query_typed(&sqls.lock_posting, &names).await?;
        let asked = [int8(&horizon), text(marketplace), text(posting)];
        let row = transaction.query_typed_one(&is_over, &asked).await?;
        if !rows::value::<bool>(&row, 0)? {
            continue;
        }
        for table in ["history", "attempts"] {
            let delete = sqls.put(&format!(
                "DELETE FROM {{schema}}.{table} WHERE marketplace = $1 AND posting = $2"
            ));
            let gone = transaction.execute_typed(&delete, &names).await?;
            attempts += if table == "attempts" { gone } else { 0 };
        }
        removed += 1;
    }
    if raised || removed > 0 {
        let note = prune_note(before, now, removed, attempts);
        note_of_ledger(&transaction, sqls, "prune", &note, now).await?;
    }
    transaction.commit().await?;
    Ok(attempts)
}

/// Keeps that a person has accepted the ledger as it is, where it is (L12).
pub(super) async fn accept(
    session: &mut Session,
    sqls: &Statements,
    note: &OperatorNote,
    now: WallTime,
) -> Done<()> {
    let statement = sqls.put(
        "UPDATE {schema}.meta m
         SET accepted_at_us = greatest(m.accepted_at_us, $1), system_id = p.system_id,
             database_oid = p.database_oid, timeline = {schema}.timeline_v1()
         FROM {schema}.place_v1() p",
    );
    let at = sql_time(now);
    let transaction = session.begin().await?;
    expect_one(transaction.execute_typed(&statement, &[int8(&at)]).await?)?;
    note_of_ledger(&transaction, sqls, "accept", note, now).await?;
    Ok(transaction.commit().await?)
}

async fn note_of_ledger(
    transaction: &Transaction<'_>,
    sqls: &Statements,
    act: &str,
    note: &OperatorNote,
    now: WallTime,
) -> Done<()> {
    let (act, note) = (act.to_owned(), note.clone());
    let act = AuditAct { act, key: None, attempt: None, token: None, note };
    append_audit(transaction, sqls, &act, now).await
}
