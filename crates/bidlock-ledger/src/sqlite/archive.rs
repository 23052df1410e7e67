//! The ledger as a whole, in its file.

use std::collections::HashSet;

use async_trait::async_trait;
use bidlock_core::{Key, Prefix, WallTime};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{self, sql, sql_time};
use super::step::{Done, expect_one};
use super::worker::Wanted;
use super::{SqliteStore, about, admit, operate};
use crate::Result;
use crate::archive::{
    Admitted, Archive, Dossier, KeptAttempt, Pruned, Standing, every_state, prune_note,
};
use crate::error::{Op, Subject};
use crate::requests::OperatorNote;
use crate::state::State;
use crate::types::AuditEntry;

#[async_trait]
impl Archive for SqliteStore {
    async fn standing(&self) -> Result<Standing> {
        self.reader.read(standing).await.map_err(self.explain(Op::Standing, Subject::Ledger))
    }

    async fn counts(&self, now: WallTime) -> Result<Vec<(State, u64)>> {
        let work = move |db: &_| counts(db, now);
        self.reader.read(work).await.map_err(self.explain(Op::Read, Subject::Ledger))
    }

    async fn dossiers(&self, after: Option<&(String, String)>, limit: u32) -> Result<Vec<Dossier>> {
        let after = after.cloned();
        let work = move |db: &_| dossiers(db, after.as_ref(), limit);
        self.reader.read(work).await.map_err(self.explain(Op::Export, Subject::Ledger))
    }

    async fn admit(&self, dossier: &Dossier) -> Result<Admitted> {
        let (subject, endpoint) = (subject_of(dossier), self.endpoint.clone());
        let (given, named) = (dossier.clone(), subject.clone());
        let work = move |db: &_| admit::admit(db, &given, &named, &endpoint);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Import, subject))
    }

    async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>> {
        let work = move |db: &_| audit_forward(db, after, limit);
        self.reader.read(work).await.map_err(self.explain(Op::Export, Subject::Ledger))
    }

    async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted> {
        let entry = entry.clone();
        let work = move |db: &_| admit::admit_audit(db, &entry);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Import, Subject::Ledger))
    }

    async fn prune(&self, before: WallTime, limit: u32, now: WallTime) -> Result<Pruned> {
        // Looked for without the write lock, and looked at again with it.
        let look = move |db: &_| over_before(db, before, limit);
        let found = self.reader.read(look).await;
        let found = found.map_err(self.explain(Op::Prune, Subject::Ledger))?;
        let more = found.len() >= limit as usize;
        let work = move |db: &_| prune(db, &found, before, now);
        let attempts = self.writer.write(Wanted::Always, work).await;
        let attempts = attempts.map_err(self.explain(Op::Prune, Subject::Ledger))?;
        Ok(Pruned { attempts, more })
    }

    async fn accept(&self, note: &OperatorNote, now: WallTime) -> Result<()> {
        let note = note.clone();
        let work = move |db: &_| accept(db, &note, now);
        let done = self.writer.write(Wanted::Always, work).await;
        done.map_err(self.explain(Op::Standing, Subject::Ledger))
    }
}

/// The posting of a dossier, as errors name it.
fn subject_of(dossier: &Dossier) -> Subject {
    let prefix = Prefix::default();
    let text = format!("{}:{}:{}", prefix.as_str(), dossier.marketplace, dossier.posting_encoded);
    Key::parse(&prefix, &text).map_or(Subject::Ledger, |key| about(&key))
}

/// Does something that bidding may not, with the pass that the triggers ask for. A transaction
/// that leaves it behind cannot commit.
pub(super) fn with_pass<T>(db: &Connection, what: &str, act: impl FnOnce() -> Done<T>) -> Done<T> {
    let give = "INSERT INTO ledger_pass (one, what) VALUES (1, ?1)";
    expect_one(db.prepare_cached(give)?.execute([what])?)?;
    // What fails takes the pass back with all else.
    let done = act()?;
    expect_one(db.prepare_cached("DELETE FROM ledger_pass")?.execute([])?)?;
    Ok(done)
}

pub(super) const STANDING: &str = "SELECT id, pruned_before_us, accepted_at_us,
         (SELECT version FROM ledger_schema WHERE one = 1)
     FROM ledger_meta WHERE one = 1";

fn standing(db: &Connection) -> Done<Standing> {
    Ok(db.prepare_cached(STANDING)?.query_row([], |row| {
        Ok(Standing {
            id: rows::parsed(row, 0, |text| text.parse().ok())?,
            pruned_before: rows::time(row, 1)?,
            accepted_at: rows::time(row, 2)?,
            schema: row.get(3)?,
            changed: None,
        })
    })?)
}

pub(super) const HORIZON: &str = "SELECT pruned_before_us FROM ledger_meta WHERE one = 1";

/// The horizon of the last prune (L10).
pub(super) fn horizon(db: &Connection) -> Done<Option<WallTime>> {
    let found = db.prepare_cached(HORIZON)?.query_row([], |row| rows::time(row, 0));
    Ok(found.optional()?.flatten())
}

fn counts(db: &Connection, now: WallTime) -> Done<Vec<(State, u64)>> {
    // Only the few that are started are looked at one by one (L5).
    let sql_text = "SELECT state, count(*) FROM ledger_attempts
             WHERE state <> 'started' GROUP BY state
         UNION ALL SELECT CASE WHEN send_by_us <= ?1 THEN 'unknown' ELSE state END, count(*)
             FROM ledger_attempts WHERE state = 'started' GROUP BY 1";
    let mut statement = db.prepare_cached(sql_text)?;
    let counted = statement.query_map([sql_time(now)], |row| {
        Ok((rows::parsed(row, 0, State::from_name)?, rows::number(row, 1)?))
    })?;
    Ok(every_state(counted.collect::<rusqlite::Result<Vec<_>>>()?))
}

pub(super) const POSTINGS: &str = "SELECT DISTINCT marketplace, posting FROM ledger_attempts
     WHERE (marketplace, posting) > (?1, ?2) ORDER BY marketplace, posting LIMIT ?3";

fn dossiers(db: &Connection, after: Option<&(String, String)>, limit: u32) -> Done<Vec<Dossier>> {
    let whole = db.unchecked_transaction()?;
    let (marketplace, posting) = after.map_or(("", ""), |(m, p)| (m.as_str(), p.as_str()));
    let names: Vec<(String, String)> = db
        .prepare_cached(POSTINGS)?
        .query_map(params![marketplace, posting, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let read = |(marketplace, posting)| dossier(db, marketplace, posting);
    let found = names.into_iter().map(read).collect::<Done<Vec<_>>>()?;
    whole.finish()?;
    Ok(found)
}

/// All that is known of one posting; without attempts when it is nothing.
pub(super) fn dossier(
    db: &Connection,
    marketplace: String,
    posting_encoded: String,
) -> Done<Dossier> {
    let its = [&marketplace, &posting_encoded];
    let sql_text = format!(
        "SELECT {} FROM ledger_attempts WHERE marketplace = ?1 AND posting = ?2 ORDER BY seq",
        rows::ATTEMPT
    );
    let mut statement = db.prepare_cached(&sql_text)?;
    let attempts = statement.query_map(its, |row| {
        let stored = rows::attempt(row)?;
        Ok(KeptAttempt { token_seen: stored.token_seen(), info: stored.info })
    })?;
    let attempts = attempts.collect::<rusqlite::Result<_>>()?;
    let sql_text = format!(
        "SELECT {} FROM ledger_history WHERE marketplace = ?1 AND posting = ?2 ORDER BY seq",
        rows::HISTORY
    );
    let mut statement = db.prepare_cached(&sql_text)?;
    let history = statement.query_map(its, rows::history)?.collect::<rusqlite::Result<_>>()?;
    Ok(Dossier { marketplace, posting_encoded, attempts, history })
}

fn audit_forward(db: &Connection, after: Option<u64>, limit: u32) -> Done<Vec<AuditEntry>> {
    let sql_text =
        format!("SELECT {} FROM ledger_audit WHERE seq > ?1 ORDER BY seq LIMIT ?2", rows::AUDIT);
    let mut statement = db.prepare_cached(&sql_text)?;
    let found = statement.query_map(params![after.map_or(-1, sql), limit], rows::audit)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// That a posting is over, and was before a moment (L10). The triggers say the same.
const IS_OVER: &str = "NOT EXISTS (SELECT 1 FROM ledger_attempts AS its
         WHERE its.marketplace = {m} AND its.posting = {p}
             AND (its.state IN ('reserved', 'started', 'unknown')
                 OR max(its.reserved_at_us, ifnull(its.started_at_us, 0),
                     ifnull(its.decided_at_us, 0)) >= ?1))
     AND NOT EXISTS (SELECT 1 FROM ledger_history AS its
         WHERE its.marketplace = {m} AND its.posting = {p} AND its.at_us >= ?1)";

pub(super) fn over_sql() -> String {
    format!(
        "SELECT one.marketplace, one.posting FROM ledger_attempts AS one
         WHERE one.reserved_at_us < ?1 AND {} ORDER BY one.reserved_at_us LIMIT ?2",
        IS_OVER.replace("{m}", "one.marketplace").replace("{p}", "one.posting")
    )
}

/// The oldest postings that are over, one name for each of their attempts.
fn over_before(db: &Connection, before: WallTime, limit: u32) -> Done<Vec<(String, String)>> {
    let mut statement = db.prepare_cached(&over_sql())?;
    let found = statement
        .query_map(params![sql_time(before), limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// Removes what is still over, raises the horizon, and notes it in the audit.
fn prune(
    db: &Connection,
    found: &[(String, String)],
    before: WallTime,
    now: WallTime,
) -> Done<u64> {
    let raise = "UPDATE ledger_meta SET pruned_before_us = ?1
         WHERE one = 1 AND ifnull(pruned_before_us < ?1, 1)";
    let raised = db.prepare_cached(raise)?.execute([sql_time(before)])? == 1;
    let is_over = format!("SELECT 1 WHERE {}", IS_OVER.replace("{m}", "?2").replace("{p}", "?3"));
    let postings: HashSet<_> = found.iter().collect();
    let (mut attempts, mut removed) = (0_usize, 0_usize);
    with_pass(db, "prune", || {
        for (marketplace, posting) in postings {
            let asked = params![sql_time(before), marketplace, posting];
            if !db.prepare_cached(&is_over)?.exists(asked)? {
                continue;
            }
            for table in ["ledger_history", "ledger_attempts"] {
                let sql_text =
                    format!("DELETE FROM {table} WHERE marketplace = ?1 AND posting = ?2");
                let gone = db.prepare_cached(&sql_text)?.execute([marketplace, posting])?;
                attempts += if table == "ledger_attempts" { gone } else { 0 };
            }
            removed += 1;
        }
        Ok(())
    })?;
    if raised || removed > 0 {
        let note = prune_note(before, now, removed, attempts as u64);
        operate::note_of_ledger(db, "prune", &note, now)?;
    }
    Ok(attempts as u64)
}

/// Keeps that a person has accepted the ledger as it is (L12).
fn accept(db: &Connection, note: &OperatorNote, now: WallTime) -> Done<()> {
    let sql_text = "UPDATE ledger_meta
         SET accepted_at_us = max(ifnull(accepted_at_us, 0), ?1) WHERE one = 1";
    expect_one(db.prepare_cached(sql_text)?.execute([sql_time(now)])?)?;
    operate::note_of_ledger(db, "accept", note, now)
}
