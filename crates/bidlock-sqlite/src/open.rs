//! Making the file, opening it, and bringing its tables to this version.

use std::ffi::c_int;
use std::fs::{self, OpenOptions};
use std::io;
use std::mem;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bidlock_core::{Backoff, Platform, Refusal};
use rusqlite::config::DbConfig;
use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use crate::Durability;
use crate::busy;
use crate::failure::{Failure, Stage, a_folder, is_busy, refusal_of_io};
use crate::folders::Folders;
use crate::store::micros;

/// How long opening may wait for others that open the same new file.
pub(crate) const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// How much of the log's length is kept for its next use.
const LOG_BYTES_KEPT: i64 = 8 << 20;
/// The version of the tables that this code reads and writes.
const VERSION: i64 = 1;
/// More than the number of different statements, so that none is prepared twice.
const STATEMENTS_MAX: usize = 64;

/// An open connection, and which file it is on.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    /// Device and inode: another file under the same name has other locks in it.
    pub(crate) identity: (u64, u64),
    /// How long the log was after the last commit of this connection, whoever wrote it.
    pub(crate) log_pages: Arc<AtomicU32>,
}

/// Device and inode of the file that now lies under `path`.
pub(crate) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

/// Opens the file, and makes it where it is missing. Waits up to [`OPEN_WITHIN`] for others that
/// do the same.
pub(crate) fn open(
    path: &Path,
    platform: &Platform,
    durability: Durability,
) -> Result<Opened, Failure> {
    let deadline = platform.clock.now() + OPEN_WITHIN;
    busy::wait_until(platform, deadline);
    let mut pauses = Backoff::new(Duration::from_millis(1), Duration::from_millis(50));
    let mut slept = Duration::ZERO;
    loop {
        let folders = make_file(path).map_err(Failure::Refused)?;
        let error = match attempt(path, platform, durability) {
            Ok(Ok(opened)) => {
                folders.keep();
                return Ok(opened);
            }
            Ok(Err(refusal)) => return Err(Failure::Refused(refusal)),
            Err(error) => error,
        };
        // The switch to WAL answers busy without asking the busy handler.
        let in_time = platform.clock.now() < deadline && slept < OPEN_WITHIN;
        if !(is_busy(&error) && in_time) {
            return Err(Failure::read(&error, path, Stage::Before));
        }
        let length = pauses.pause(platform.rng.as_ref());
        slept += length;
        busy::pause(length);
    }
}

/// SQLite would make the file with the rights that the umask leaves; the locks of one user are
/// nobody else's business, and whoever can write the file can take any key.
fn make_file(path: &Path) -> Result<Folders, Refusal> {
    if path.is_dir() {
        return Err(a_folder(path));
    }
    let mut folders = Folders::default();
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let made = create().or_else(|error| match (error.kind(), path.parent()) {
        (io::ErrorKind::NotFound, Some(parent)) => {
            folders = Folders::make(parent)?;
            create()
        }
        _ => Err(error),
    });
    match made {
        Ok(file) => {
            // Closing it would drop the locks that other connections of this process have on the
            // file by now: POSIX locks go with the first descriptor that is closed. One
            // descriptor for each file that is made stays open.
            // Source: SQLite, «How To Corrupt», §2.2.
            mem::forget(file);
            Ok(folders)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(folders),
        // What lies there may still be usable: a mount that takes no new files, for one.
        Err(_) if path.is_file() => Ok(folders),
        Err(error) => Err(refusal_of_io(&error, path, "create")),
    }
}

fn attempt(
    path: &Path,
    platform: &Platform,
    durability: Durability,
) -> rusqlite::Result<Result<Opened, Refusal>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    // Read after SQLite opened it: a file put there in between is found out by the next check.
    let identity = match identity(path) {
        Ok(identity) => identity,
        Err(error) => return Ok(Err(refusal_of_io(&error, path, "open"))),
    };
    connection.busy_handler(Some(busy::on_busy))?;
    // Without it, SQLite plans a statement anew whenever another value is bound to it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Ok(Err(Refusal::Other(format!(
            "{}: its file system cannot share memory between processes; name a file on a local \
             disk",
            path.display()
        ))));
    }
    // Holders end in a power cut whatever is on the disk, and the clock keeps tokens rising, so
    // by default no commit waits for the disk. Synchronous is a setting of this connection only.
    let synchronous = match durability {
        Durability::Processes => "NORMAL",
        Durability::PowerCut => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // A checkpoint waits for the disk: the thread makes it, never a caller's commit.
    let log_pages = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&log_pages);
    connection.wal_hook(Some(move |_: &mut Wal, pages: c_int| {
        counted.store(u32::try_from(pages).unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }))?;
    // A log that was much longer once is cut when it starts anew.
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    if let Err(refusal) = migrate(&connection, path)? {
        return Ok(Err(refusal));
    }
    sweep(&connection, platform)?;
    Ok(Ok(Opened { connection, identity, log_pages }))
}

fn migrate(connection: &Connection, path: &Path) -> rusqlite::Result<Result<(), Refusal>> {
    if version(connection)? == 0 {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        // Others may have been quicker.
        let made = match version(connection) {
            Ok(0) => connection.execute_batch(include_str!("schema.sql")),
            other => other.map(drop),
        };
        let ended = made.and_then(|()| connection.execute_batch("COMMIT"));
        if ended.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        ended?;
    }
    let found = version(connection)?;
    if found <= VERSION {
        return Ok(Ok(()));
    }
    Ok(Err(Refusal::Newer(format!(
        "{} has lock tables of version {found}, this bidlock knows {VERSION}; upgrade bidlock, or \
         name another file",
        path.display()
    ))))
}

/// The version of the tables in the file; 0 where there are none.
fn version(connection: &Connection) -> rusqlite::Result<i64> {
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'lock_version'";
    if connection.query_row(table, [], |_| Ok(())).optional()?.is_none() {
        return Ok(0);
    }
    connection.query_row("SELECT coalesce(max(version), 0) FROM lock_version", [], |row| row.get(0))
}

/// Removes what has ended, so that keys which nobody asks for again do not stay for ever (I10).
/// An ended grant means the same as none, so it does not matter when this happens.
fn sweep(connection: &Connection, platform: &Platform) -> rusqlite::Result<()> {
    let now = micros(platform.clock.now().since_boot());
    let args = params![platform.processes.boot_id(), now];
    let any: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM lock_keys WHERE key > '' AND (boot <> ?1 OR ends_us <= ?2))
             OR EXISTS (SELECT 1 FROM lock_waiters WHERE boot <> ?1 OR deadline_us <= ?2)
             OR EXISTS (SELECT 1 FROM lock_revoked WHERE boot <> ?1 OR ends_us <= ?2)",
        args,
        |row| row.get(0),
    )?;
    if any {
        let keys = "DELETE FROM lock_keys WHERE key > '' AND (boot <> ?1 OR ends_us <= ?2)";
        connection.execute(keys, args)?;
        let waiters = "DELETE FROM lock_waiters WHERE boot <> ?1 OR deadline_us <= ?2";
        connection.execute(waiters, args)?;
        let revoked = "DELETE FROM lock_revoked WHERE boot <> ?1 OR ends_us <= ?2";
        connection.execute(revoked, args)?;
    }
    Ok(())
}
