//! Looks at a ledger's file for what could lose or repeat a bid.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bidlock_core::{Diagnose, Finding, Moment, Platform, Refusal, Ttl};
use nix::sys::statfs::{FsType, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::endpoint_of;
use super::fault::Fault;
use super::file::{Found, VERSION};
use super::patience::Patience;
use crate::error::{LedgerError, Op, Subject};

/// Looks at an SQLite ledger for what could lose or repeat a bid. Nothing is opened before it is
/// asked to look, and nothing is changed by it.
#[derive(Debug)]
pub struct SqliteDoctor {
    path: PathBuf,
    platform: Platform,
}

const REACH: &str = "reach";
const SCHEMA: &str = "schema";
const RESTORE: &str = "restore a backup, bidlock ledger import the newest export, or ask the \
                       marketplaces what it has forgotten, then bidlock ledger accept --because \
                       TEXT";
/// With less room than this, soon no bid can be recorded.
const ROOM_MIN: u64 = 64 << 20;

impl SqliteDoctor {
    /// Makes a doctor for the ledger in a file.
    #[must_use]
    pub fn new(path: &Path, platform: &Platform) -> Self {
        Self { path: path.to_owned(), platform: platform.clone() }
    }
}

#[async_trait]
impl Diagnose for SqliteDoctor {
    async fn diagnose(&self, _ttl: Ttl) -> Vec<Finding> {
        let (path, patience) = (self.path.clone(), Patience::new(&self.platform));
        let (answer, looked) = oneshot::channel();
        let look = move || drop(answer.send(look(&path, &patience)));
        let started = std::thread::Builder::new().name("bidlock-doctor".to_owned()).spawn(look);
        let fault = match (started, looked.await) {
            (Ok(_), Ok(findings)) => return findings,
            (Err(error), _) => Fault::io(error),
            (Ok(_), Err(gone)) => Fault::io(std::io::Error::other(gone)),
        };
        vec![unreached(&self.path, fault)]
    }

    fn rights(&self) -> Option<String> {
        None
    }
}

fn look(path: &Path, patience: &Patience) -> Vec<Finding> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = path.display();
    let mut findings = match path.metadata() {
        Ok(_) => match inside(&path, patience) {
            Ok(findings) => findings,
            Err(fault) => vec![unreached(&path, fault)],
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let why = "a file that was there before has taken its bids along";
            let mend = "nothing, where no bid was made yet: the first one makes it; else restore \
                        the file";
            vec![Finding::warning(REACH, format!("{shown} is not there"), why, mend)]
        }
        Err(error) => vec![unreached(&path, Fault::io(error))],
    };
    let there = path.ancestors().find(|above| above.exists()).unwrap_or(Path::new("/"));
    findings.extend(room(there));
    findings.extend(line(there));
    findings
}

/// What the file itself says.
fn inside(path: &Path, patience: &Patience) -> Result<Vec<Finding>, Fault> {
    let deadline = patience.deadline();
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = || Connection::open_with_flags(path, flags);
    let db = patience.insist(deadline, opened)?;
    let ask = |pragma: &str| -> Result<String, Fault> {
        let query = || db.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0));
        patience.insist(deadline, query)
    };
    let mode = ask("journal_mode")?;
    let found = patience.insist(deadline, || Found::read(&db))?;
    let mut findings = vec![writable(path, &db, patience, deadline)?];
    findings.push(if mode == "wal" {
        Finding::good("commit", "write-ahead log; each bid is on disk before its answer (FULL)")
    } else {
        let said = format!("the journal is {mode}; the next bid makes it a write-ahead log");
        Finding::good("commit", said)
    });
    findings.push(schema(found));
    let checked = ask("quick_check(1)")?;
    findings.push(if checked == "ok" {
        Finding::good("damage", "none is seen")
    } else {
        let why = "what was done may be forgotten";
        Finding::failure("damage", checked, why, RESTORE)
    });
    Ok(findings)
}

fn writable(
    path: &Path,
    db: &Connection,
    patience: &Patience,
    deadline: Moment,
) -> Result<Finding, Fault> {
    let read_only = patience.insist(deadline, || db.is_readonly(rusqlite::MAIN_DB))?;
    if read_only {
        let why = "the file may be read but not written".to_owned();
        return Err(Fault::Refused(Refusal::Permission(why)));
    }
    patience.insist(deadline, || db.execute_batch("BEGIN IMMEDIATE"))?;
    patience.insist(deadline, || db.execute_batch("ROLLBACK"))?;
    let found = format!("{} can be written: SQLite {}", path.display(), rusqlite::version());
    Ok(Finding::good(REACH, found))
}

fn schema(found: Found) -> Finding {
    let version = found.version;
    match found.usable() {
        Ok(None) => Finding::good(SCHEMA, format!("version {version}")),
        Ok(Some(0)) => Finding::good(SCHEMA, "none yet; the first bid makes it"),
        Ok(Some(_)) => {
            Finding::good(SCHEMA, format!("version {version}; the next bid makes it {VERSION}"))
        }
        Err(_) => {
            let said = format!("version {version}, and this program knows {VERSION}");
            let why = "it was made by a newer bidlock";
            Finding::failure(SCHEMA, said, why, "use the newer bidlock here, too")
        }
    }
}

fn room(folder: &Path) -> Option<Finding> {
    let stats = statvfs(folder).ok()?;
    let free = stats.blocks_available().saturating_mul(stats.fragment_size());
    let found = format!("{} MiB are free", free >> 20);
    if free >= ROOM_MIN {
        return Some(Finding::good("room", found));
    }
    let why = "on a full disk no bid can be made, and none that was made can be recorded";
    let mend = format!("df '{}' shows the disk: make room on it", folder.display());
    Some(Finding::warning("room", found, why, mend))
}

/// Whether the disk is this machine's own.
fn line(folder: &Path) -> Option<Finding> {
    const CIFS: FsType = FsType(0xff53_4d42);
    let kind = statfs(folder).ok()?.filesystem_type();
    if ![NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, CIFS].contains(&kind) {
        return None;
    }
    Some(Finding::failure(
        "disk",
        "the file lies on a network file system",
        "its locks and its log do not hold between machines, or after a lost connection",
        "use a disk of this machine, or a ledger on PostgreSQL: --ledger-url postgres://HOST/DB",
    ))
}

fn unreached(path: &Path, fault: Fault) -> Finding {
    let error = fault.about(Op::Open, Subject::Ledger, &endpoint_of(path));
    let shown = path.display();
    let mend = match &error {
        LedgerError::Refused { reason: Refusal::Permission(_) | Refusal::ReadOnly(_), .. } => {
            format!("chmod u+rw '{shown}', and u+rwx its folder, as its owner")
        }
        LedgerError::Refused { reason: Refusal::Full(_), .. } => {
            format!("df '{shown}' shows the disk: make room on it")
        }
        LedgerError::Refused { reason: Refusal::Corrupt(_), .. } => RESTORE.to_owned(),
        _ => format!("ls -l '{shown}' shows whether its folder and disk are there"),
    };
    let below = std::error::Error::source(&error);
    let below = below.map(|below| format!(": {below}")).unwrap_or_default();
    Finding::failure(REACH, format!("{error}{below}"), "no bid can be made or recorded", mend)
}

#[cfg(test)]
mod tests {
    use bidlock_core::Severity;

    use super::*;
    use crate::sqlite::SqliteStore;

    fn findings(path: &Path) -> Vec<Finding> {
        let platform = bidlock_testkit::test_platform().platform();
        bidlock_testkit::block_on(SqliteDoctor::new(path, &platform).diagnose(Ttl::default()))
    }

    fn severity(findings: &[Finding], check: &str) -> Severity {
        let found = findings.iter().find(|finding| finding.check == check);
        found.unwrap_or_else(|| panic!("{check} in {findings:?}")).severity
    }

    #[test]
    fn a_sound_file_is_well_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        assert_eq!(severity(&findings(&path), REACH), Severity::Warning, "it is not there");
        assert!(!path.exists());
        let platform = bidlock_testkit::test_platform().platform();
        drop(SqliteStore::open(&path, &platform).unwrap());
        for finding in findings(&path) {
            assert_eq!(finding.severity, Severity::Good, "{finding:?}");
        }
    }

    #[test]
    fn a_damaged_or_newer_file_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.db");
        std::fs::write(&path, "this is no database, however long one looks at it").unwrap();
        let found = findings(&path);
        assert_eq!(severity(&found, REACH), Severity::Failure);
        assert!(found[0].mend.contains("restore a backup"), "{found:?}");
        std::fs::remove_file(&path).unwrap();
        let platform = bidlock_testkit::test_platform().platform();
        drop(SqliteStore::open(&path, &platform).unwrap());
        let db = Connection::open(&path).unwrap();
        db.execute_batch(
            "UPDATE ledger_meta SET compatible_from = 99; UPDATE ledger_schema SET version = 99",
        )
        .unwrap();
        assert_eq!(severity(&findings(&path), SCHEMA), Severity::Failure);
    }
}
