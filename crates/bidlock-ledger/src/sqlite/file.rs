use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bidlock_core::{Moment, Refusal};
use rusqlite::{Connection, MAIN_DB, OpenFlags, OptionalExtension as _, params};

use super::fault::Fault;
use super::folders::Folders;
use super::patience::Patience;
use super::rows::sql_time;

/// The schema's steps: the file with number N leads from version N - 1 to N.
const MIGRATIONS: [&str; 2] =
    [include_str!("schema/0001_start.sql"), include_str!("schema/0002_archive.sql")];

/// The version that this code reads and writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The oldest version whose programs may use a ledger of this one as it is.
const COMPATIBLE_FROM: i64 = 2;

/// Statements kept prepared: more than there are.
const STATEMENTS: usize = 64;

/// Whether a ledger of this version is there, or something that opening it will tell of. Nothing
/// is made or changed.
pub(super) fn is_there(path: &Path, patience: &Patience) -> Result<bool, Fault> {
    match path.metadata() {
        Ok(found) if found.is_file() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        _ => return Ok(true),
    }
    let deadline = patience.deadline();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = patience.insist(deadline, || Connection::open_with_flags(path, flags))?;
    if patience.insist(deadline, || db.is_readonly(MAIN_DB))? {
        return Ok(true);
    }
    Ok(patience.insist(deadline, || Found::read(&db))?.usable()?.is_none())
}

/// Makes the file where it is missing, and brings its schema up to date. Tells the version that
/// was there; 0 where it was made.
pub(super) fn open_for_writing(
    path: &Path,
    patience: &Patience,
) -> Result<(Connection, Identity, u32), Fault> {
    let deadline = patience.deadline();
    let folders = create(path).map_err(|error| unusable(error, path))?;
    let connection = connect(path, patience, deadline)?;
    patience.insist(deadline, || connection.pragma_update(None, "synchronous", "FULL"))?;
    let from = migrate(&connection, patience, deadline)?;
    let identity = Identity::of(path).map_err(Fault::io)?;
    folders.keep();
    Ok((connection, identity, from))
}

/// Opens a file that is there, for reading only.
pub(super) fn open_for_reading(path: &Path, patience: &Patience) -> Result<Connection, Fault> {
    let deadline = patience.deadline();
    let connection = connect(path, patience, deadline)?;
    patience.insist(deadline, || connection.pragma_update(None, "query_only", true))?;
    Ok(connection)
}

/// Makes an empty file for its owner alone, and the folders above it. The path is absolute.
fn create(path: &Path) -> io::Result<Folders> {
    match path.metadata() {
        Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => return Ok(Folders::default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let folders = Folders::make(folder)?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => {
            // Closing it would drop the locks that other connections of this process have on
            // the file by now. One descriptor in a file's life is the price.
            // Source: SQLite, «How To Corrupt», §2.2.
            std::mem::forget(file);
            // A power cut must not take the name away from what was acknowledged (L2).
            let above = folders.made().first().and_then(|top| top.parent());
            let made = folders.made().iter().map(PathBuf::as_path);
            made.chain(above.or(Some(folder))).try_for_each(keep_names)?;
            Ok(folders)
        }
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(folders),
        Err(error) => Err(error),
    }
}

/// Why the path cannot be used, with the way out where the path itself is wrong.
fn unusable(error: io::Error, path: &Path) -> Fault {
    let why = match error.kind() {
        io::ErrorKind::IsADirectory => {
            format!("{} is a folder; name a file in it", path.display())
        }
        io::ErrorKind::NotADirectory => {
            let above = path.ancestors().skip(1);
            let file = above.filter(|it| it.exists() && !it.is_dir()).last().unwrap_or(path);
            format!("{} is a file, not a folder; name a file in a folder", file.display())
        }
        _ => return Fault::io(error),
    };
    Fault::Refused(Refusal::WrongType(why))
}

/// Puts the names in a folder on disk, where the file system knows how.
fn keep_names(folder: &Path) -> io::Result<()> {
    match File::open(folder).and_then(|opened| opened.sync_all()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        // A folder that one may write into but not list.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        done => done,
    }
}

fn connect(path: &Path, patience: &Patience, deadline: Moment) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = patience.insist(deadline, || Connection::open_with_flags(path, flags))?;
    // Other processes are waited for here, with a deadline of ours and without convoys.
    patience.insist(deadline, || connection.busy_timeout(Duration::ZERO))?;
    let read_only = patience.insist(deadline, || connection.is_readonly(MAIN_DB))?;
    if read_only {
        let why = "the file may be read but not written".to_owned();
        return Err(Fault::Refused(Refusal::Permission(why)));
    }
    let mode: String = patience.insist(deadline, || {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
    })?;
    if mode != "wal" {
        let why = format!("the file system has no write-ahead log, but {mode} only");
        return Err(Fault::Refused(Refusal::Other(why)));
    }
    patience.insist(deadline, || connection.pragma_update(None, "trusted_schema", false))?;
    // Without it the commit would not look for a pass that was left behind.
    patience.insist(deadline, || connection.pragma_update(None, "foreign_keys", true))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Brings the schema up to date, and tells from which version; looks first without the write lock.
fn migrate(connection: &Connection, patience: &Patience, deadline: Moment) -> Result<u32, Fault> {
    let found = patience.insist(deadline, || Found::read(connection))?;
    if found.usable()?.is_none() {
        return Ok(found.number());
    }
    patience.insist(deadline, || connection.execute_batch("BEGIN IMMEDIATE"))?;
    let stepped = step_up(connection, patience);
    if stepped.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(Fault::before_commit)?;
    }
    stepped
}

fn step_up(connection: &Connection, patience: &Patience) -> Result<u32, Fault> {
    let steps = || {
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS ledger_schema (
                one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL) STRICT;
             INSERT OR IGNORE INTO ledger_schema VALUES (1, 0);",
        )?;
        Found::read(connection)
    };
    // Another process may have been here since the look without the lock.
    let found = steps().map_err(Fault::before_commit)?;
    let Some(from) = found.usable()? else {
        connection.execute_batch("COMMIT").map_err(Fault::at_commit)?;
        return Ok(found.number());
    };
    for migration in &MIGRATIONS[from..] {
        connection.execute_batch(migration).map_err(Fault::before_commit)?;
    }
    let finish = || {
        connection.execute(
            "INSERT INTO ledger_meta (one, id, created_at_us, compatible_from)
             SELECT 1, ?1, ?2, ?3 WHERE NOT EXISTS (SELECT 1 FROM ledger_meta)",
            params![patience.ledger_id().to_string(), sql_time(patience.wall()), COMPATIBLE_FROM],
        )?;
        connection.execute("UPDATE ledger_meta SET compatible_from = ?1", [COMPATIBLE_FROM])?;
        let version = i64::try_from(VERSION).unwrap_or(0);
        connection.execute("UPDATE ledger_schema SET version = ?1", [version])
    };
    finish().map_err(Fault::before_commit)?;
    connection.execute_batch("COMMIT").map_err(Fault::at_commit)?;
    Ok(found.number())
}

/// What the file says of its schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// Its version; 0 when there is none.
    pub(super) version: i64,
    /// The oldest version whose programs may use it, where it says so.
    compatible_from: Option<i64>,
}

impl Found {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let there = |name: &str| {
            let sql_text = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
            connection.query_row(sql_text, [name], |_| Ok(())).optional()
        };
        let number = |sql_text: &str| {
            connection.query_row(sql_text, [], |row| row.get::<_, i64>(0)).optional()
        };
        if there("ledger_schema")?.is_none() {
            return Ok(Self { version: 0, compatible_from: None });
        }
        let version = number("SELECT version FROM ledger_schema")?.unwrap_or_default();
        let compatible_from = match there("ledger_meta")? {
            Some(()) => number("SELECT compatible_from FROM ledger_meta")?,
            None => None,
        };
        Ok(Self { version, compatible_from })
    }

    fn number(self) -> u32 {
        u32::try_from(self.version).unwrap_or_default()
    }

    /// The version to step up from; none when the schema is to be used as it is. Refuses a
    /// schema that this code would misread.
    pub(super) fn usable(self) -> Result<Option<usize>, Fault> {
        let Self { version, compatible_from } = self;
        match usize::try_from(version) {
            Ok(version) if version < VERSION => Ok(Some(version)),
            Ok(version) if version == VERSION => Ok(None),
            Ok(_)
                if compatible_from.is_some_and(|from| {
                    usize::try_from(from).is_ok_and(|from| from <= VERSION)
                }) =>
            {
                Ok(None)
            }
            Ok(version) => {
                let why = format!("its ledger has version {version}, this program knows {VERSION}");
                Err(Fault::Refused(Refusal::Newer(why)))
            }
            Err(_) => {
                let why = format!("its ledger has version {version}");
                Err(Fault::Refused(Refusal::Corrupt(why)))
            }
        }
    }
}

/// Which file a path led to when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(path: &Path) -> io::Result<Self> {
        let found = path.metadata()?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }

    /// Refuses to go on when the path no longer leads to the file: what was written there would
    /// be forgotten, and another process would bid again.
    pub(super) fn check(self, path: &Path) -> Result<(), Fault> {
        match Self::of(path) {
            Ok(found) if found == self => Ok(()),
            Ok(_) => Err(moved("was replaced by another one")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(moved("was removed")),
            Err(error) => Err(Fault::io(error)),
        }
    }
}

fn moved(how: &str) -> Fault {
    Fault::Refused(Refusal::Corrupt(format!("the file {how} while it was open")))
}
