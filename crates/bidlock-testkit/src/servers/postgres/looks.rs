//! What tests ask a server beside the code under test.

use std::sync::atomic::Ordering;

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{MAINTENANCE, Postgres};
use crate::block_on;

impl Postgres {
    /// Makes a database that nobody else has, and returns its name.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn new_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql(MAINTENANCE, &format!("CREATE DATABASE {name}"));
        name
    }

    /// Runs statements, as the superuser; returns the rows of all of them, as text.
    ///
    /// # Panics
    /// When the server does not answer, or answers by an error.
    pub fn sql(&self, database: &str, statements: &str) -> Vec<Vec<Option<String>>> {
        self.try_sql(MAINTENANCE, database, statements)
            .unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Runs statements as a role.
    ///
    /// # Errors
    /// What the server, or the way to it, says.
    pub fn try_sql(
        &self,
        role: &str,
        database: &str,
        statements: &str,
    ) -> Result<Vec<Vec<Option<String>>>, String> {
        block_on(async {
            let (client, driven) = self.connect(role, database).await?;
            let asked = client.simple_query(statements).await;
            let rows = asked.map_err(|error| explained(&error))?.into_iter();
            let rows = rows.filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                }
                _ => None,
            });
            drop(client);
            // The goodbye is sent, so that the server has no reason to complain.
            drop(driven.await);
            Ok(rows.collect())
        })
    }

    /// Runs a query; its answer as text: a line for each row, with its values between bars.
    ///
    /// # Panics
    /// As [`Postgres::sql`].
    #[must_use]
    pub fn text(&self, database: &str, query: &str) -> String {
        let show = |row: Vec<Option<String>>| {
            row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>().join("|")
        };
        self.sql(database, query).into_iter().map(show).collect::<Vec<_>>().join("\n")
    }

    pub(super) async fn connect(
        &self,
        role: &str,
        database: &str,
    ) -> Result<(Client, tokio::task::JoinHandle<()>), String> {
        let mut config = tokio_postgres::Config::new();
        // A socket in the own folder is no other server's, which a port could be.
        config.host_path(self.folder()).port(self.port).user(role).dbname(database);
        let connected = config.connect(NoTls).await;
        let (client, connection) = connected.map_err(|error| explained(&error))?;
        // Its end is the end of the client, which says why.
        Ok((client, tokio::spawn(async move { drop(connection.await) })))
    }
}

/// The driver's words, with what lies below them.
pub(super) fn explained(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |below| format!("{error}: {below}"))
}
