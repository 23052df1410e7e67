//! What each question asks of the file. None of them needs the write lock.

use bidlock_core::{Endpoint, Key, WallTime};
use rusqlite::{Connection, OptionalExtension as _, ToSql, params, params_from_iter};

use super::rows::{self, Stored, Values, sql, sql_time};
use super::step::Done;
use super::worker::Fail;
use crate::error::{LedgerError, Op, Subject};
use crate::requests::{AuditQuery, BidQuery};
use crate::state::State;
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry};
use crate::values::AttemptId;

pub(super) fn open_sql() -> String {
    format!(
        "SELECT {} FROM ledger_attempts
         WHERE marketplace = ?1 AND posting = ?2 AND state <> 'abandoned'",
        rows::ATTEMPT
    )
}

/// The attempt of a posting that is not abandoned: one look-up in L1's own index.
pub(super) fn open_attempt(db: &Connection, key: &Key) -> Done<Option<Stored>> {
    Ok(db
        .prepare_cached(&open_sql())?
        .query_row([key.marketplace(), key.posting_encoded()], rows::attempt)
        .optional()?)
}

/// One look-up: the newest attempt has the highest token, and only it can be open.
const LATEST: &str = "SELECT {columns} FROM ledger_attempts
     WHERE marketplace = ?1 AND posting = ?2 ORDER BY token_seen DESC, seq DESC LIMIT 1";

pub(super) fn latest_sql() -> String {
    LATEST.replace("{columns}", rows::ATTEMPT)
}

/// The newest attempt of a posting, open or not.
pub(super) fn latest(db: &Connection, key: &Key) -> Done<Option<Stored>> {
    Ok(db
        .prepare_cached(&latest_sql())?
        .query_row([key.marketplace(), key.posting_encoded()], rows::attempt)
        .optional()?)
}

pub(super) fn by_id(db: &Connection, id: &AttemptId) -> Done<Option<Stored>> {
    let sql_text = format!("SELECT {} FROM ledger_attempts WHERE id = ?1", rows::ATTEMPT);
    Ok(db.prepare_cached(&sql_text)?.query_row([id.to_string()], rows::attempt).optional()?)
}

pub(super) fn history(db: &Connection, key: &Key) -> Done<Vec<HistoryEntry>> {
    let sql_text = format!(
        "SELECT {} FROM ledger_history WHERE marketplace = ?1 AND posting = ?2 ORDER BY seq",
        rows::HISTORY
    );
    let mut statement = db.prepare_cached(&sql_text)?;
    let found = statement.query_map([key.marketplace(), key.posting_encoded()], rows::history)?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}

/// One page, newest first, by the number that every attempt has.
pub(super) fn bids(
    db: &Connection,
    query: &BidQuery,
    now: WallTime,
    endpoint: &Endpoint,
) -> Done<Vec<AttemptInfo>> {
    let before = query.after.map(|id| number_of(db, &id, endpoint)).transpose()?;
    let posting = query.posting_encoded().map_err(|bad| Fail::Call(bad.into()))?;
    let (sql_text, values) = bids_sql(query, posting, before, now);
    let mut statement = db.prepare_cached(&sql_text)?;
    let found = statement.query_map(
        params_from_iter(values.iter().map(AsRef::<dyn ToSql>::as_ref)),
        rows::attempt,
    )?;
    found.map(|stored| Ok(stored?.read_at(now))).collect()
}

/// The statement of one page, with the index's own column for each filter.
pub(super) fn bids_sql(
    query: &BidQuery,
    posting: Option<String>,
    before: Option<i64>,
    now: WallTime,
) -> (String, Values) {
    let mut conditions = vec!["seq < ?1"];
    let mut values: Values = vec![Box::new(before.unwrap_or(i64::MAX)), Box::new(query.limit)];
    let state = match query.state {
        None => None,
        // As everybody reads them (L5).
        Some(State::Unknown) => {
            values.push(Box::new(sql_time(now)));
            Some("(state = 'unknown' OR (state = 'started' AND send_by_us <= ?3))".to_owned())
        }
        Some(State::Started) => {
            values.push(Box::new(sql_time(now)));
            Some("state = 'started' AND send_by_us > ?3".to_owned())
        }
        Some(state) => {
            values.push(Box::new(state.as_str()));
            Some("state = ?3".to_owned())
        }
    };
    conditions.extend(state.as_deref());
    let mut named = Vec::new();
    for (column, value) in [("marketplace", query.marketplace.clone()), ("posting", posting)] {
        if let Some(value) = value {
            values.push(Box::new(value));
            named.push(format!("{column} = ?{}", values.len()));
        }
    }
    conditions.extend(named.iter().map(String::as_str));
    let sql_text = format!(
        "SELECT {} FROM ledger_attempts WHERE {} ORDER BY seq DESC LIMIT ?2",
        rows::ATTEMPT,
        conditions.join(" AND ")
    );
    (sql_text, values)
}

fn number_of(db: &Connection, id: &AttemptId, endpoint: &Endpoint) -> Done<i64> {
    let sql_text = "SELECT seq FROM ledger_attempts WHERE id = ?1";
    let found = db.prepare_cached(sql_text)?.query_row([id.to_string()], |row| row.get(0));
    found.optional()?.ok_or_else(|| {
        let (op, subject) = (Op::Read, Subject::Attempt(*id));
        Fail::Call(LedgerError::NotFound { op, subject, endpoint: endpoint.clone() })
    })
}

/// One page of the audit, newest first.
pub(super) fn audit(db: &Connection, query: &AuditQuery) -> Done<Vec<AuditEntry>> {
    let before = query.after.map_or(i64::MAX, sql);
    let page = |filter: &str| {
        format!(
            "SELECT {} FROM ledger_audit WHERE seq < ?1 {filter} ORDER BY seq DESC LIMIT ?2",
            rows::AUDIT
        )
    };
    let Some(key) = &query.key else {
        let mut statement = db.prepare_cached(&page(""))?;
        let found = statement.query_map(params![before, query.limit], rows::audit)?;
        return Ok(found.collect::<rusqlite::Result<_>>()?);
    };
    let mut statement = db.prepare_cached(&page("AND marketplace = ?3 AND posting = ?4"))?;
    let values = params![before, query.limit, key.marketplace(), key.posting_encoded()];
    Ok(statement.query_map(values, rows::audit)?.collect::<rusqlite::Result<_>>()?)
}
