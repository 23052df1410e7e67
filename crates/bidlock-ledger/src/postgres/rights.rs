use super::config::PostgresConfig;

/// What a role of a PostgreSQL ledger may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerRole {
    /// Bid, record, and do what operators do; not change the schema.
    Writer,
    /// Read everything, for reports; change nothing.
    Reader,
}

impl LedgerRole {
    /// The role's usual name.
    #[must_use]
    pub const fn default_name(self) -> &'static str {
        match self {
            Self::Writer => "bidlock_writer",
            Self::Reader => "bidlock_reader",
        }
    }
}

/// No role may write what the ledger keeps by itself: numbers, identity, version. History and
/// audit take no changes at all, and rows are removed by a prune only (L7, L10); that is kept by
/// triggers.
const WRITER: &str = "GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON {schema}.attempts TO {role};
GRANT SELECT, INSERT, DELETE ON {schema}.history TO {role};
GRANT SELECT, INSERT ON {schema}.audit TO {role};
GRANT SELECT, UPDATE (pruned_before_us, accepted_at_us, system_id, database_oid, timeline)
    ON {schema}.meta TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {role};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};
";

const READER: &str = "GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};
";

impl PostgresConfig {
    /// The statements that give a role what it needs and no more, to be run by the owner of the
    /// schema once it is made. The role itself is there: `CREATE ROLE … LOGIN PASSWORD …`.
    ///
    /// # Examples
    /// ```
    /// use bidlock_ledger::{LedgerRole, PostgresConfig};
    ///
    /// let config = PostgresConfig::from_url("postgres://h/bids")?;
    /// let sql = config.rights(LedgerRole::Reader, "reports");
    /// assert!(sql.contains("GRANT SELECT ON ALL TABLES IN SCHEMA \"bidlock\" TO \"reports\";"));
    /// # Ok::<(), bidlock_ledger::BadPostgresUrl>(())
    /// ```
    #[must_use]
    pub fn rights(&self, role: LedgerRole, name: &str) -> String {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        let text = match role {
            LedgerRole::Writer => WRITER,
            LedgerRole::Reader => READER,
        };
        self.schema.put_into(text).replace("{role}", &quoted)
    }
}
