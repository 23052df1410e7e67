//! What a listing shows. Reads only.

use bidlock_core::{FencingToken, Key, LockInfo, LockQuery, Moment, Prefix, limits};
use rusqlite::{Connection, Row, params};

use crate::store::{STALE_AFTER, World, duration, holder, micros, unsigned};

/// Live grants from one key on and before another, with the number of those who wait for each.
const LIST: &str = "SELECT key, lease, token, ends_us, state, label, granted_us,
        (SELECT count(*) FROM lock_waiters AS w
         WHERE w.key = k.key AND w.boot = ?3 AND w.deadline_us > ?4
           AND w.seen_us > ?4 - CASE WHEN w.process = ?5 THEN ?6 ELSE ?7 END)
    FROM lock_keys AS k
    WHERE key >= ?1 AND key < ?2 AND boot = ?3 AND ends_us > ?4
    ORDER BY key LIMIT ?8";

/// One page of live locks, in key order.
pub(crate) fn list(
    connection: &Connection,
    world: &World,
    query: &LockQuery,
    now: Moment,
) -> rusqlite::Result<Vec<LockInfo>> {
    let prefix = query.prefix.as_str();
    // A colon follows the prefix in every key, and the next ASCII character is a semicolon.
    let first = format!("{prefix}:");
    let end = format!("{prefix};");
    let from = query.after.as_ref().map_or_else(String::new, next_text).max(first);
    let limit = query.limit.min(limits::PAGE_MAX);
    read(connection, world, &query.prefix, [&from, &end], limit, now)
}

/// One live lock.
pub(crate) fn inspect(
    connection: &Connection,
    world: &World,
    key: &Key,
    now: Moment,
) -> rusqlite::Result<Option<LockInfo>> {
    let Ok(prefix) = Prefix::new(key.prefix()) else { return Ok(None) };
    let found = read(connection, world, &prefix, [key.as_str(), &next_text(key)], 1, now)?;
    Ok(found.into_iter().next())
}

/// The first text after a key: no text lies between the two.
fn next_text(key: &Key) -> String {
    format!("{key}\0")
}

fn read(
    connection: &Connection,
    world: &World,
    prefix: &Prefix,
    [from, end]: [&str; 2],
    limit: u32,
    now: Moment,
) -> rusqlite::Result<Vec<LockInfo>> {
    let now_us = micros(now.since_boot());
    let mut statement = connection.prepare_cached(LIST)?;
    let rows = statement.query_map(
        params![
            from,
            end,
            world.boot,
            now_us,
            world.process.as_str(),
            micros(limits::WAITER_LEASE),
            micros(STALE_AFTER),
            limit
        ],
        |row| info(row, prefix, now_us),
    )?;
    rows.filter_map(Result::transpose).collect()
}

/// Reads a row; `None` for one that no bidlock wrote.
fn info(row: &Row<'_>, prefix: &Prefix, now_us: i64) -> rusqlite::Result<Option<LockInfo>> {
    let text: String = row.get(0)?;
    let Ok(key) = Key::parse(prefix, &text) else { return Ok(None) };
    let (lease, label): (String, Option<String>) = (row.get(1)?, row.get(5)?);
    Ok(Some(LockInfo {
        key,
        holder: holder(&lease, label.as_deref()),
        token: Some(FencingToken::new(unsigned(row.get(2)?))),
        age: Some(duration(now_us - row.get::<_, i64>(6)?)),
        remaining: duration(row.get::<_, i64>(3)? - now_us),
        waiters: row.get(7)?,
        revoked: row.get::<_, i64>(4)? == 2,
    }))
}
