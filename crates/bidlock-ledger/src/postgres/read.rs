//! What each question asks of the database: one statement each, at most two.

use bidlock_core::{Key, WallTime};
use tokio_postgres::types::{ToSql, Type};

use super::fault::{Done, Fail};
use super::pool::Session;
use super::rows::{self, Stored, int8, sql, sql_time, text};
use super::statements::Statements;
use crate::requests::{AuditQuery, BidQuery};
use crate::state::State;
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry};
use crate::values::AttemptId;

/// The attempt of a posting that is not abandoned: one look-up in L1's own index.
pub(super) async fn open_attempt(
    session: &Session,
    sqls: &Statements,
    key: &Key,
) -> Done<Option<Stored>> {
    let (marketplace, posting) = (key.marketplace(), key.posting_encoded());
    let names = [text(&marketplace), text(&posting)];
    let row = session.client().query_typed_opt(&sqls.open_attempt, &names).await?;
    row.map(|row| rows::attempt(&row, 0)).transpose()
}

pub(super) async fn by_id(
    session: &Session,
    sqls: &Statements,
    id: &AttemptId,
) -> Done<Option<Stored>> {
    let id = id.to_string();
    let row = session.client().query_typed_opt(&sqls.by_id, &[text(&id)]).await?;
    row.map(|row| rows::attempt(&row, 0)).transpose()
}

pub(super) async fn history(
    session: &Session,
    sqls: &Statements,
    key: &Key,
) -> Done<Vec<HistoryEntry>> {
    let (marketplace, posting) = (key.marketplace(), key.posting_encoded());
    let names = [text(&marketplace), text(&posting)];
    let found = session.client().query_typed(&sqls.history, &names).await?;
    found.iter().map(rows::history).collect()
}

/// One page, newest first, by the number that every attempt has.
pub(super) async fn bids(
    session: &Session,
    sqls: &Statements,
    query: &BidQuery,
    now: WallTime,
) -> Done<Vec<AttemptInfo>> {
    let mut before = i64::MAX;
    if let Some(after) = &query.after {
        let number = sqls.put("SELECT seq FROM {schema}.attempts WHERE id = $1::uuid");
        let id = after.to_string();
        let row = session.client().query_typed_opt(&number, &[text(&id)]).await?;
        before = rows::value(&row.ok_or(Fail::MissingAttempt(*after))?, 0)?;
    }
    let posting = query.posting_encoded().map_err(|bad| Fail::Call(bad.into()))?;
    let page = Page::of(query, posting, before, now);
    let values: Vec<_> =
        page.values.iter().map(|(value, kind)| (&**value as _, kind.clone())).collect();
    let found = session.client().query_typed(&sqls.attempts(&page.rest), &values).await?;
    found.iter().map(|row| Ok(rows::attempt(row, 0)?.read_at(now))).collect()
}

/// The conditions of one page, with the index's own column for each filter.
pub(super) struct Page {
    pub(super) rest: String,
    values: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
}

impl Page {
    pub(super) fn of(
        query: &BidQuery,
        posting: Option<String>,
        before: i64,
        now: WallTime,
    ) -> Self {
        let limit = i64::from(query.limit);
        let mut page = Self { rest: "a.seq < $1".to_owned(), values: Vec::new() };
        page.values.push((Box::new(before), Type::INT8));
        page.values.push((Box::new(limit), Type::INT8));
        match query.state {
            None => {}
            // As everybody reads them (L5).
            Some(State::Unknown) => page.and(
                "(a.state = 'unknown' OR (a.state = 'started' AND a.send_by_us <= $))",
                Box::new(sql_time(now)),
                Type::INT8,
            ),
            Some(State::Started) => page.and(
                "a.state = 'started' AND a.send_by_us > $",
                Box::new(sql_time(now)),
                Type::INT8,
            ),
            Some(state) => page.and("a.state = $", Box::new(state.as_str()), Type::TEXT),
        }
        if let Some(marketplace) = query.marketplace.clone() {
            page.and("a.marketplace = $", Box::new(marketplace), Type::TEXT);
        }
        if let Some(posting) = posting {
            page.and("a.posting = $", Box::new(posting), Type::TEXT);
        }
        page.rest.push_str(" ORDER BY a.seq DESC LIMIT $2");
        page
    }

    /// Adds a condition on one value, where `$` stands for it.
    fn and(&mut self, condition: &str, value: Box<dyn ToSql + Sync + Send>, kind: Type) {
        self.values.push((value, kind));
        let number = format!("${}", self.values.len());
        self.rest.push_str(" AND ");
        self.rest.push_str(&condition.replace('$', &number));
    }
}

/// One page of the audit, newest first.
pub(super) async fn audit(
    session: &Session,
    sqls: &Statements,
    query: &AuditQuery,
) -> Done<Vec<AuditEntry>> {
    let (before, limit) = (query.after.map_or(i64::MAX, sql), i64::from(query.limit));
    let client = session.client();
    let found = if let Some(key) = &query.key {
        let rest = "WHERE seq < $1 AND marketplace = $3 AND posting = $4
                    ORDER BY seq DESC LIMIT $2";
        let (marketplace, posting) = (key.marketplace(), key.posting_encoded());
        let values = [int8(&before), int8(&limit), text(&marketplace), text(&posting)];
        client.query_typed(&sqls.audit(rest), &values).await?
    } else {
        let rest = "WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
        client.query_typed(&sqls.audit(rest), &[int8(&before), int8(&limit)]).await?
    };
    found.iter().map(rows::audit).collect()
}

/// The server's version, and whether it takes no writes because it follows another one.
pub(super) async fn server(session: &Session) -> Done<(String, bool)> {
    let statement = "SELECT current_setting('server_version'), pg_is_in_recovery()";
    let row = session.client().query_typed_one(statement, &[]).await?;
    Ok((rows::value(&row, 0)?, rows::value(&row, 1)?))
}
