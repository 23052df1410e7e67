use std::path::Path;
use std::sync::Arc;
use std::thread;

use bidlock_core::Platform;
use tokio::sync::oneshot;

use super::Ledger;
use crate::Result;
use crate::error::{LedgerError, Op, Subject};
use crate::sqlite::{SqliteStore, endpoint_of};

/// Ledgers in files.
impl Ledger {
    /// Opens a ledger in an SQLite file, made with access for its owner only where it is missing.
    ///
    /// Blocks for as long as another process changes the file's schema, up to 10 s; from async
    /// code use [`Ledger::connect_sqlite`].
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when the file may not be read and written, is not a database, is
    /// damaged, or was written by a newer version; [`LedgerError::Unreachable`] for what else the
    /// operating system says.
    pub fn open_sqlite(path: &Path, platform: &Platform) -> Result<Self> {
        Ok(Self::new(Arc::new(SqliteStore::open(path, platform)?), platform))
    }

    /// Opens a ledger in an SQLite file without blocking the caller's runtime.
    ///
    /// # Errors
    /// As [`Ledger::open_sqlite`].
    ///
    /// # Cancel safety
    /// The file may be made after the future was dropped, which harms nobody.
    pub async fn connect_sqlite(path: &Path, platform: &Platform) -> Result<Self> {
        aside(path, platform, Self::open_sqlite).await
    }

    /// Opens a ledger in an SQLite file where there is one of this version; makes and changes
    /// nothing.
    ///
    /// # Errors
    /// As [`Ledger::open_sqlite`].
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn find_sqlite(path: &Path, platform: &Platform) -> Result<Option<Self>> {
        let store = aside(path, platform, SqliteStore::find).await?;
        Ok(store.map(|store| Self::new(Arc::new(store), platform)))
    }

    /// Makes a ledger in an SQLite file, or brings it up to date. Tells the version of the schema
    /// that was there; none to the one caller that has made it.
    ///
    /// # Errors
    /// As [`Ledger::open_sqlite`].
    ///
    /// # Cancel safety
    /// The file may be made or changed after the future was dropped, which harms nobody.
    pub async fn migrate_sqlite(path: &Path, platform: &Platform) -> Result<Option<u32>> {
        let found = |path: &Path, platform: &Platform| {
            SqliteStore::open(path, platform).map(|store| store.found())
        };
        aside(path, platform, found).await
    }
}

/// Does on a thread of its own what would block the caller's runtime.
async fn aside<T: Send + 'static>(
    path: &Path,
    platform: &Platform,
    open: impl FnOnce(&Path, &Platform) -> Result<T> + Send + 'static,
) -> Result<T> {
    let failed = |source: std::io::Error| LedgerError::Unreachable {
        op: Op::Open,
        subject: Subject::Ledger,
        endpoint: endpoint_of(path),
        source: source.into(),
    };
    let (answer, opened) = oneshot::channel();
    let (owned, shared) = (path.to_owned(), platform.clone());
    thread::Builder::new()
        .name("bidlock-open".to_owned())
        // A caller that has gone wants no answer.
        .spawn(move || drop(answer.send(open(&owned, &shared))))
        .map_err(failed)?;
    opened.await.unwrap_or_else(|gone| Err(failed(std::io::Error::other(gone))))
}
