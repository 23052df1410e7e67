//! Opening the old file, and seeing that it is what it has to be. Nothing in it is changed.

use std::path::{Path, PathBuf};

use bidlock_core::{Platform, Refusal};
use nix::unistd::{AccessFlags, eaccess};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::is_table_name;
use super::rows::Statements;
use crate::failure::{Failure, Stage, a_folder, refusal_of_io};
use crate::{busy, open};

/// The columns that the older system has, and bidlock fills.
const COLUMNS: [&str; 5] = ["id", "lock_key", "holder_id", "acquired_at", "expires_at"];

/// An open old file.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) sql: Statements,
    pub(super) path: PathBuf,
    /// Device and inode: another file under the same name has other locks in it.
    pub(super) identity: (u64, u64),
}

/// Opens the file, which has to be there with its table. Waits up to 10 s for others.
pub(super) fn open(path: &Path, table: &str, platform: &Platform) -> Result<Opened, Failure> {
    busy::wait_until(platform, platform.clock.now() + open::OPEN_WITHIN);
    usable(path).map_err(Failure::Refused)?;
    let failed = |error: rusqlite::Error| Failure::read(&error, path, Stage::Before);
    // It is not made where it is missing, and its journal mode stays as it is.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let identity = open::identity(path)
        .map_err(|error| Failure::Refused(refusal_of_io(&error, path, "open")))?;
    connection.busy_handler(Some(busy::on_busy)).map_err(failed)?;
    if let Some(why) = unfit(&connection, table).map_err(failed)? {
        let why = format!("{}: {why}", path.display());
        return Err(Failure::Refused(Refusal::WrongType(why)));
    }
    let mode: String =
        connection.query_row("PRAGMA journal_mode", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        // SQLite makes its journal beside the file for each change.
        let folder = path.parent().unwrap_or(path);
        eaccess(folder, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| {
            Failure::Refused(refusal_of_io(&error.into(), path, "make a journal beside"))
        })?;
    }
    Ok(Opened { connection, sql: Statements::of(table), path: path.to_owned(), identity })
}

fn usable(path: &Path) -> Result<(), Refusal> {
    if path.is_dir() {
        return Err(a_folder(path));
    }
    match eaccess(path, AccessFlags::R_OK | AccessFlags::W_OK) {
        Ok(()) => Ok(()),
        Err(nix::Error::ENOENT) => Err(Refusal::WrongType(format!(
            "{} is not there; it is the old system's database and has to exist",
            path.display()
        ))),
        Err(error) => Err(refusal_of_io(&error.into(), path, "read and write")),
    }
}

/// What is wrong with the table.
fn unfit(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    if !is_table_name(table) {
        return Ok(Some(format!("{table:?} is no name of a table")));
    }
    let kind = "SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    let kind: Option<String> = connection.query_row(kind, [table], |row| row.get(0)).optional()?;
    match kind.as_deref() {
        Some("table") => {}
        Some(other) => return Ok(Some(format!("{table} is no table but a {other}"))),
        None => return Ok(Some(format!("there is no table {table}"))),
    }
    if let Some(why) = unfit_columns(connection, table)? {
        return Ok(Some(why));
    }
    let unique = "SELECT EXISTS (
        SELECT 1 FROM pragma_index_list(?1) AS l
        WHERE l.\"unique\" = 1 AND l.partial = 0
          AND (SELECT count(*) FROM pragma_index_info(l.name)) = 1
          AND (SELECT lower(name) FROM pragma_index_info(l.name)) = 'lock_key')";
    let unique: bool = connection.query_row(unique, [table], |row| row.get(0))?;
    let why = "lock_key is not unique there, so it keeps nobody out";
    Ok((!unique).then(|| format!("{table}: {why}")))
}

fn unfit_columns(connection: &Connection, table: &str) -> rusqlite::Result<Option<String>> {
    let mut missing: Vec<&str> = COLUMNS.to_vec();
    let sql = "SELECT name, upper(type), \"notnull\" AND dflt_value IS NULL
               FROM pragma_table_info(?1)";
    let mut statement = connection.prepare(sql)?;
    let mut columns = statement.query([table])?;
    while let Some(column) = columns.next()? {
        let (name, kind): (String, String) = (column.get(0)?, column.get(1)?);
        let known = COLUMNS.iter().find(|known| known.eq_ignore_ascii_case(&name));
        let Some(known) = known else {
            if column.get(2)? {
                let why = "has to be filled, and bidlock does not know with what";
                return Ok(Some(format!("{table}: the column {name} {why}")));
            }
            continue;
        };
        missing.retain(|column| column != known);
        // Source: SQLite, «Datatypes», §3.1: numbers in such a column become texts.
        let is_text = ["CHAR", "CLOB", "TEXT"].iter().any(|text| kind.contains(text));
        if is_text && known.ends_with("_at") {
            let why = "keeps texts, where seconds since 1970 are needed";
            return Ok(Some(format!("{table}: the column {name} {why}")));
        }
    }
    Ok((!missing.is_empty()).then(|| format!("{table} has no column {}", missing.join(", "))))
}
