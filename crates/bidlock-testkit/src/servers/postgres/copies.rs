//! Standbys, and copies of all kinds.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{MAINTENANCE, Postgres, SOON, cluster, run};
use crate::{temp_dir, wait_until};

impl Postgres {
    /// Makes a second server that follows this one, with asynchronous replication.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub fn start_standby(&self) -> Self {
        let folder = temp_dir();
        self.account.owns(folder.path()).expect("its folder can be given to it");
        let mut copy = self.tool("pg_basebackup");
        copy.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf"]);
        copy.arg("--pgdata").arg(folder.path().join("data"));
        run(&mut copy);
        Self::launch_in(folder, self.account, self.options.clone())
    }

    /// Makes a standby a primary, and returns when it is.
    ///
    /// # Panics
    /// When it does not become one.
    pub fn promote(&self) {
        self.sql(MAINTENANCE, "SELECT pg_promote(true, 60)");
        let is_primary = || self.text(MAINTENANCE, "SELECT pg_is_in_recovery()") == "f";
        wait_until("it is a primary", SOON, is_primary);
    }

    /// Waits until a standby has all that this server has.
    ///
    /// # Panics
    /// When it does not get there.
    pub fn wait_for(&self, standby: &Self) {
        let here = self.text(MAINTENANCE, "SELECT pg_current_wal_lsn()");
        let query = format!("SELECT pg_last_wal_replay_lsn() >= '{here}'");
        let caught_up = || standby.text(MAINTENANCE, &query) == "t";
        wait_until("the standby has caught up", SOON, caught_up);
    }

    /// Copies the data as it lies there, while the server does not run, and starts a second
    /// server on the copy.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub fn start_copy(&self) -> Self {
        let folder = temp_dir();
        self.account.owns(folder.path()).expect("its folder can be given to it");
        cluster::copy(&self.account, &self.folder().join("data"), &folder.path().join("data"));
        Self::launch_in(folder, self.account, self.options.clone())
    }

    /// Writes a database into a file by `pg_dump`, in its own format.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn dump(&self, database: &str) -> PathBuf {
        let file = self.folder().join(format!("{database}.dump"));
        let mut dump = self.tool("pg_dump");
        dump.args(["--format=custom", "--file"]).arg(&file).arg(database);
        run(&mut dump);
        file
    }

    /// Reads a file of [`Postgres::dump`] into an empty database.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn restore(&self, file: &Path, database: &str) {
        let mut restore = self.tool("pg_restore");
        restore.args(["--exit-on-error", "--dbname", database]).arg(file);
        run(&mut restore);
    }

    /// A program that asks this server.
    fn tool(&self, program: &str) -> Command {
        let mut command = self.account.command(program);
        command.args(["--no-password", "--username=postgres", "--host"]).arg(self.folder());
        command.arg(format!("--port={}", self.port));
        command
    }
}
