//! The older system's table, as that system made and used it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bidlock_testkit::temp_dir;
use rusqlite::{Connection, params};
use tempfile::TempDir;

pub(crate) const TABLE: &str = "distributed_locks";
pub(crate) const SCHEMA: &str = "CREATE TABLE distributed_locks (
    id TEXT PRIMARY KEY, lock_key TEXT UNIQUE NOT NULL, holder_id TEXT NOT NULL,
    acquired_at REAL NOT NULL, expires_at REAL NOT NULL)";

/// A file of the older system.
#[derive(Debug)]
pub(crate) struct OldFile {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

impl OldFile {
    pub(crate) fn new() -> Self {
        Self::with(SCHEMA)
    }

    pub(crate) fn with(schema: &str) -> Self {
        let folder = temp_dir();
        let path = folder.path().join("old.db");
        Connection::open(&path).unwrap().execute_batch(schema).unwrap();
        Self { path, _folder: folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("sqlite://{}?table={TABLE}", self.path.display())
    }

    pub(crate) fn connection(&self) -> Connection {
        connection(&self.path)
    }

    /// What an old worker does to take a lock; whether it has it.
    pub(crate) fn takes(&self, posting: &str, now: f64, seconds: f64) -> bool {
        let connection = self.connection();
        connection.execute("DELETE FROM distributed_locks WHERE expires_at < ?1", [now]).unwrap();
        let insert = "INSERT INTO distributed_locks VALUES (?1, ?2, 'old-worker', ?3, ?4)";
        let lock_key = format!("bid:lock:upwork:{posting}");
        let args = params![format!("id-{posting}"), lock_key, now, now + seconds];
        connection.execute(insert, args).is_ok()
    }

    /// What an old worker does to give a lock back.
    pub(crate) fn releases(&self, posting: &str) {
        let delete = "DELETE FROM distributed_locks WHERE lock_key = ?1 AND holder_id = ?2";
        let lock_key = format!("bid:lock:upwork:{posting}");
        self.connection().execute(delete, params![lock_key, "old-worker"]).unwrap();
    }

    /// Holder and end of each row, by its key.
    pub(crate) fn rows(&self) -> Vec<(String, String, f64)> {
        let connection = self.connection();
        let sql = "SELECT lock_key, holder_id, expires_at FROM distributed_locks ORDER BY 1";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// What must never change: the schema and the journal mode.
    pub(crate) fn form(&self) -> (String, String) {
        let connection = self.connection();
        let schema = "SELECT group_concat(name || coalesce(sql, '')) FROM sqlite_schema";
        let schema = connection.query_row(schema, [], |row| row.get(0)).unwrap();
        let mode = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap();
        (schema, mode)
    }
}

pub(crate) fn connection(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(Duration::from_secs(10)).unwrap();
    connection
}
