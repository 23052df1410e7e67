use std::fmt::{self, Debug};
use std::sync::Arc;

use rusqlite::Connection;

/// How far a transaction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SqliteStep {
    /// It has changed a row, and not committed yet.
    Changed,
    /// It is about to commit.
    Commits,
}

/// Who is told of the steps of transactions.
#[derive(Clone)]
pub(super) struct Watcher(Arc<dyn Fn(SqliteStep) + Send + Sync>);

impl Watcher {
    pub(super) fn new(told: impl Fn(SqliteStep) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Tells of what a connection does.
    pub(super) fn watch(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let (changed, commits) = (self.clone(), self.clone());
        let change = move |_, _: &str, _: &str, _| (changed.0)(SqliteStep::Changed);
        connection.update_hook(Some(change))?;
        let commit = move || {
            (commits.0)(SqliteStep::Commits);
            // True would make a rollback of it.
            false
        };
        connection.commit_hook(Some(commit))
    }
}

impl Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}
