//! The old table, row by row. Nothing in here waits; what is written takes effect with the commit
//! of the transaction around it.

use std::time::Duration;

use bidlock_core::{FencingToken, Ttl, WallTime};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{CLOCK_MARGIN, MARK, Place, Seen};

/// The rows of one table.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    connection: &'a Connection,
    sql: &'a Statements,
    /// Seconds since 1970, as the old workers count.
    now: f64,
}

/// All that is ever said to the old table: nothing of its schema or settings is changed.
#[derive(Debug)]
pub(super) struct Statements {
    find: String,
    all: String,
    insert: String,
    replace: String,
    move_on: String,
    extend: String,
    delete: String,
}

impl Statements {
    /// For a table whose name was checked before.
    pub(super) fn of(table: &str) -> Self {
        let columns = "CAST(lock_key AS TEXT), CAST(id AS TEXT), CAST(holder_id AS TEXT), \
                       acquired_at, expires_at";
        Self {
            find: format!("SELECT {columns} FROM \"{table}\" WHERE lock_key = ?1"),
            all: format!("SELECT {columns} FROM \"{table}\""),
            insert: format!(
                "INSERT INTO \"{table}\" (lock_key, id, holder_id, acquired_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5)"
            ),
            replace: format!(
                "UPDATE \"{table}\" SET id = ?2, holder_id = ?3, acquired_at = ?4, expires_at = ?5
                 WHERE lock_key = ?1"
            ),
            move_on: format!(
                "UPDATE \"{table}\" SET id = ?3, expires_at = max(expires_at, ?4)
                 WHERE lock_key = ?1 AND holder_id = ?2"
            ),
            extend: format!(
                "UPDATE \"{table}\" SET expires_at = max(expires_at, ?3)
                 WHERE lock_key = ?1 AND holder_id = ?2"
            ),
            delete: format!("DELETE FROM \"{table}\" WHERE lock_key = ?1 AND holder_id = ?2"),
        }
    }
}

/// A row as it is.
#[derive(Debug)]
struct Found {
    lock_key: String,
    id: String,
    holder: String,
    since: Option<f64>,
    /// `None` for one that has no end, because it is no number.
    ends: Option<f64>,
}

impl Found {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let text = |index| row.get::<_, Option<String>>(index).map(Option::unwrap_or_default);
        let number = |index| {
            Ok::<_, rusqlite::Error>(match row.get_ref(index)? {
                ValueRef::Real(seconds) => Some(seconds),
                #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
                ValueRef::Integer(seconds) => Some(seconds as f64),
                _ => None,
            })
        };
        Ok(Self {
            lock_key: text(0)?,
            id: text(1)?,
            holder: text(2)?,
            since: number(3)?,
            ends: number(4)?,
        })
    }

    /// The token of the lease whose row it is; `None` for an old worker's.
    fn token(&self) -> Option<u64> {
        if !self.holder.starts_with(MARK) {
            return None;
        }
        self.id.strip_prefix(self.holder.as_str())?.strip_prefix(':')?.parse().ok()
    }

    fn is_over(&self, now: f64) -> bool {
        self.ends.is_some_and(|ends| ends + CLOCK_MARGIN.as_secs_f64() <= now)
    }

    fn seen(self, now: f64) -> Seen {
        let left = self.ends.map(|ends| ends + CLOCK_MARGIN.as_secs_f64() - now);
        let remaining = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
        let (lock_key, holder, since) = (self.lock_key, self.holder, self.since);
        Seen { lock_key, holder, since, remaining: remaining.unwrap_or_default() }
    }
}

impl<'a> Rows<'a> {
    pub(super) fn new(connection: &'a Connection, sql: &'a Statements, now: WallTime) -> Self {
        Self { connection, sql, now: Duration::from_micros(now.as_micros()).as_secs_f64() }
    }

    /// The lock of an old worker, where one is in the way.
    pub(super) fn look(&self, lock_key: &str) -> rusqlite::Result<Option<Seen>> {
        let found = self.find(lock_key)?;
        let foreign = |found: &Found| found.token().is_none() && !found.is_over(self.now);
        Ok(found.filter(foreign).map(|found| found.seen(self.now)))
    }

    /// Whether the place has its row.
    pub(super) fn has(&self, place: &Place) -> rusqlite::Result<bool> {
        Ok(self.find(&place.lock_key)?.is_some_and(|found| found.holder == place.holder))
    }

    /// All locks that have not ended, those of bidlock with their tokens.
    pub(super) fn all(&self) -> rusqlite::Result<Vec<(Seen, Option<u64>)>> {
        let mut statement = self.connection.prepare_cached(&self.sql.all)?;
        let rows = statement.query_map([], Found::read)?;
        let live = rows.filter(|row| row.as_ref().map_or(true, |found| !found.is_over(self.now)));
        live.map(|row| {
            let found = row?;
            let token = found.token();
            Ok((found.seen(self.now), token))
        })
        .collect()
    }

    /// Makes the row the lease's, which has the key in the new store under this token; answers
    /// whose it is, where it cannot be the lease's.
    pub(super) fn take(
        &self,
        place: &Place,
        token: FencingToken,
        ttl: Ttl,
    ) -> rusqlite::Result<Option<Seen>> {
        let id = |token: u64| format!("{}:{token}", place.holder);
        let (token, ends) = (token.get(), self.ends(ttl));
        let found = self.find(&place.lock_key)?;
        if let Some(own) = found.as_ref().filter(|found| found.holder == place.holder) {
            // I8: the same lease again.
            let id = id(own.token().map_or(token, |known| known.max(token)));
            let args = params![place.lock_key, place.holder, id, ends];
            self.connection.prepare_cached(&self.sql.move_on)?.execute(args)?;
            return Ok(None);
        }
        let args = params![place.lock_key, id(token), place.holder, self.now, ends];
        let sql = match found {
            None => &self.sql.insert,
            // I16: who has the key in the new store follows on whoever had it there before.
            Some(found) if found.token().is_some_and(|before| before < token) => &self.sql.replace,
            Some(found) if found.is_over(self.now) => &self.sql.replace,
            Some(found) => return Ok(Some(found.seen(self.now))),
        };
        self.connection.prepare_cached(sql)?.execute(args)?;
        Ok(None)
    }

    /// Moves the end of the lease's row; tells whether it is there. It is never made anew (I5).
    pub(super) fn extend(&self, place: &Place, ttl: Ttl) -> rusqlite::Result<bool> {
        let args = params![place.lock_key, place.holder, self.ends(ttl)];
        Ok(self.connection.prepare_cached(&self.sql.extend)?.execute(args)? > 0)
    }

    /// Deletes the lease's row; tells whether it was there.
    pub(super) fn leave(&self, place: &Place) -> rusqlite::Result<bool> {
        let args = params![place.lock_key, place.holder];
        Ok(self.connection.prepare_cached(&self.sql.delete)?.execute(args)? > 0)
    }

    /// Deletes the row of the lease with this very token; tells whether it was there (I12).
    pub(super) fn free(&self, lock_key: &str, token: FencingToken) -> rusqlite::Result<bool> {
        match self.find(lock_key)? {
            Some(found) if found.token() == Some(token.get()) => {
                let args = params![lock_key, found.holder];
                Ok(self.connection.prepare_cached(&self.sql.delete)?.execute(args)? > 0)
            }
            _ => Ok(false),
        }
    }

    /// When a row ends that is to outlive its lease, whose time began before now.
    fn ends(&self, ttl: Ttl) -> f64 {
        self.now + (ttl.get() + CLOCK_MARGIN).as_secs_f64()
    }

    fn find(&self, lock_key: &str) -> rusqlite::Result<Option<Found>> {
        let mut statement = self.connection.prepare_cached(&self.sql.find)?;
        statement.query_row([lock_key], Found::read).optional()
    }
}
