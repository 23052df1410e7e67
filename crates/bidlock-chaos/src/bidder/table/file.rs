use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rusqlite::{Connection, OptionalExtension as _};

/// The table in an SQLite file.
pub(in crate::bidder) struct File(Arc<Mutex<Connection>>);

impl File {
    /// Opens it beside the ledger at `path`.
    pub(super) async fn open(path: &Path) -> Result<Self> {
        let path = path.with_extension("bids");
        let opened = tokio::task::spawn_blocking(move || open(&path)).await?;
        Ok(Self(Arc::new(Mutex::new(opened?))))
    }

    pub(super) async fn should_bid(&self, posting: &str) -> Result<bool> {
        let query = "SELECT 1 FROM bids WHERE posting = ?1";
        self.run(posting, move |file, posting| {
            let found = file.query_row(query, [posting], |_| Ok(())).optional()?;
            Ok(found.is_none())
        })
        .await
    }

    pub(super) async fn record(&self, posting: &str) -> Result<()> {
        let insert = "INSERT OR IGNORE INTO bids (posting) VALUES (?1)";
        self.run(posting, move |file, posting| file.execute(insert, [posting]).map(drop)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        posting: &str,
        work: impl FnOnce(&Connection, &str) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (file, posting) = (Arc::clone(&self.0), posting.to_owned());
        let done = tokio::task::spawn_blocking(move || {
            let file = file.lock().unwrap_or_else(PoisonError::into_inner);
            work(&file, &posting)
        });
        done.await?.context("the table of bids")
    }
}

fn open(path: &Path) -> Result<Connection> {
    let file = Connection::open(path)?;
    file.busy_timeout(Duration::from_secs(5))?;
    file.pragma_update(None, "journal_mode", "wal")?;
    file.execute("CREATE TABLE IF NOT EXISTS bids (posting TEXT PRIMARY KEY)", [])?;
    Ok(file)
}
