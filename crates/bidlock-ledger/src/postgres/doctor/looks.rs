//! What the doctor asks the server, and what the answers mean.

use std::time::Duration;

use bidlock_core::{Finding, WallTime};
use tokio_postgres::types::Type;

use super::SCHEMA;
use crate::postgres::config::PostgresConfig;
use crate::postgres::fault::Done;
use crate::postgres::pool::Session;
use crate::postgres::rows::{text, value};
use crate::postgres::schema::{Found, VERSION};

/// A clock that is further off than this makes people misread times.
const CLOCK_MAX: Duration = Duration::from_secs(1);

/// What any role may ask of any server.
pub(super) struct Looks {
    version: String,
    role: String,
    in_recovery: bool,
    now_us: i64,
    pub(super) address: Option<String>,
    pub(super) tls: Option<String>,
    settings: Settings,
    standbys: i64,
    /// The server's process.
    pub(super) pid: i32,
}

/// The settings that durability rests on.
struct Settings {
    fsync: bool,
    full_page_writes: bool,
    synchronous_commit: String,
    synchronous_standbys: String,
    isolation: String,
    read_only: bool,
}

const LOOKS: &str = "SELECT current_setting('server_version'), current_user::text,
         pg_is_in_recovery(), (extract(epoch FROM clock_timestamp()) * 1000000)::int8,
         inet_server_addr()::text, (SELECT s.version FROM pg_stat_ssl s
             WHERE s.pid = pg_backend_pid() AND s.ssl),
         current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
         current_setting('synchronous_commit'), current_setting('synchronous_standby_names'),
         current_setting('default_transaction_isolation'),
         current_setting('default_transaction_read_only') = 'on',
         (SELECT count(*) FROM pg_stat_replication), pg_backend_pid()";

impl Looks {
    pub(super) async fn take(session: &Session) -> Done<Self> {
        let client = session.client();
        let row = client.query_typed_one(LOOKS, &[]).await?;
        Ok(Self {
            version: value(&row, 0)?,
            role: value(&row, 1)?,
            in_recovery: value(&row, 2)?,
            now_us: value(&row, 3)?,
            address: value(&row, 4)?,
            tls: value(&row, 5)?,
            settings: Settings {
                fsync: value(&row, 6)?,
                full_page_writes: value(&row, 7)?,
                synchronous_commit: value(&row, 8)?,
                synchronous_standbys: value(&row, 9)?,
                isolation: value(&row, 10)?,
                read_only: value(&row, 11)?,
            },
            standbys: value(&row, 12)?,
            pid: value(&row, 13)?,
        })
    }

    pub(super) fn reach(&self, endpoint: &str) -> Finding {
        let found = format!("{endpoint} answers: PostgreSQL {}, as {}", self.version, self.role);
        Finding::good(super::REACH, found)
    }

    pub(super) fn version(&self) -> Finding {
        // Older ones are refused before anything is asked.
        Finding::good("version", format!("PostgreSQL {} is 13 or later", self.version))
    }

    /// Compares the clocks; half of the round trip is nobody's fault.
    pub(super) fn clock(&self, now: WallTime, latency: Duration) -> Finding {
        let server = WallTime::from_micros(u64::try_from(self.now_us).unwrap_or_default());
        let apart = now.since(server).max(server.since(now));
        let found = format!("the server's clock is {}ms away", apart.as_millis());
        if apart <= CLOCK_MAX + latency {
            return Finding::good("clock", found);
        }
        let why = "send-by times and ages are by the clocks of the bidders, which have to agree";
        Finding::warning("clock", found, why, "let a time service keep both: chronyd or timesyncd")
    }

    /// Whether what is acknowledged is kept.
    pub(super) fn durability(&self) -> Vec<Finding> {
        let settings = &self.settings;
        let mut findings = vec![if settings.fsync {
            Finding::good("fsync", "what is committed is put on disk")
        } else {
            let why = "a power cut forgets bids that were started, and they are bid on again";
            Finding::failure("fsync", "fsync is off", why, "ALTER SYSTEM SET fsync = on; reload")
        }];
        if !settings.full_page_writes {
            let why = "a power cut can tear pages, and with them the ledger";
            let mend = "ALTER SYSTEM SET full_page_writes = on; reload, unless the file system \
                        writes pages whole";
            findings.push(Finding::warning("fsync", "full_page_writes is off", why, mend));
        }
        findings.push(if settings.synchronous_commit == "off" {
            Finding::good("commit", "synchronous_commit is off, and the ledger overrides it")
        } else {
            let found = format!("synchronous_commit is {}", settings.synchronous_commit);
            Finding::good("commit", found)
        });
        findings.push(self.failover());
        findings
    }

    fn failover(&self) -> Finding {
        let check = "failover";
        if self.in_recovery {
            let why = "a standby takes no bids";
            return Finding::failure(check, "the server is in recovery", why, "name the primary");
        }
        let named = !self.settings.synchronous_standbys.is_empty();
        let waits = !matches!(self.settings.synchronous_commit.as_str(), "off" | "local");
        match (self.standbys, named && waits) {
            (0, _) => Finding::good(check, "no standby is connected, as far as this role sees"),
            (number, true) => {
                Finding::good(check, format!("{number} standbys; commits wait for those named"))
            }
            (number, false) => Finding::warning(
                check,
                format!("{number} standbys follow, and no commit waits for them"),
                "a failover can forget the last bids; the ledger then gives nothing out until \
                 somebody accepts it",
                "name them: ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; reload",
            ),
        }
    }

    /// How sessions begin.
    pub(super) fn sessions(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.settings.read_only {
            let why = "no bid can be made or recorded";
            let mend = "ALTER ROLE … RESET default_transaction_read_only, or of the database";
            findings.push(Finding::failure("sessions", "transactions are read-only", why, mend));
        }
        findings.push(if self.settings.isolation == "read committed" {
            Finding::good("sessions", "transactions are read committed")
        } else {
            let found = format!(
                "transactions are {} by default; the ledger asks for its own",
                self.settings.isolation
            );
            let why = "each bid then takes three round trips more";
            let mend = "ALTER ROLE … SET default_transaction_isolation = 'read committed'";
            Finding::warning("sessions", found, why, mend)
        });
        findings
    }
}

/// What a schema's version means.
pub(super) fn judged(found: Found) -> Finding {
    let version = found.version;
    if found.version < VERSION {
        let said = format!("the ledger's schema has version {version}, and {VERSION} is due");
        let why = "the next bid brings it up to date, if its role may";
        let mend = "bidlock ledger migrate, as the role that owns the schema";
        return Finding::warning(SCHEMA, said, why, mend);
    }
    if found.compatible_from > VERSION {
        let said = format!("the ledger's schema has version {version}, and is not understood");
        let why = "it was made by a newer bidlock";
        return Finding::failure(SCHEMA, said, why, "use the newer bidlock here, too");
    }
    Finding::good(SCHEMA, format!("version {version}, ledger {}", found.id))
}

/// Whether an address is of this machine; the mask that PostgreSQL adds does not matter.
pub(super) fn is_local(address: &str) -> bool {
    address.starts_with("127.") || address.starts_with("::1")
}

/// What can be asked where there is a ledger.
pub(super) struct Inside {
    missing: Vec<String>,
    writes: bool,
    broken: Vec<String>,
    changed: Option<String>,
    knows_cluster: bool,
}

/// The rights that bidding needs, each as PostgreSQL names it.
const RIGHTS: &str = "SELECT r.what FROM (VALUES
         ('SELECT on attempts', has_table_privilege($1 || '.attempts', 'SELECT')),
         ('INSERT on attempts', has_table_privilege($1 || '.attempts', 'INSERT')),
         ('UPDATE on attempts', has_table_privilege($1 || '.attempts', 'UPDATE')),
         ('SELECT on history', has_table_privilege($1 || '.history', 'SELECT')),
         ('INSERT on history', has_table_privilege($1 || '.history', 'INSERT')),
         ('SELECT on audit', has_table_privilege($1 || '.audit', 'SELECT')),
         ('INSERT on audit', has_table_privilege($1 || '.audit', 'INSERT')),
         ('SELECT on meta', has_table_privilege($1 || '.meta', 'SELECT')),
         ('USAGE on the sequences', has_sequence_privilege($1 || '.attempts_seq', 'USAGE')
             AND has_sequence_privilege($1 || '.history_seq', 'USAGE')
             AND has_sequence_privilege($1 || '.audit_seq', 'USAGE'))
     ) AS r (what, given) WHERE NOT r.given";

/// What keeps the rules, and does not: indexes that are not valid, triggers that are off.
const BROKEN: &str = "SELECT 'the index ' || i.indexrelid::regclass || ' is not valid'
         FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
         WHERE c.relnamespace = to_regnamespace($1) AND NOT (i.indisvalid AND i.indisready)
     UNION ALL SELECT 'the trigger ' || t.tgname || ' is switched off'
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
         WHERE c.relnamespace = to_regnamespace($1) AND NOT t.tgisinternal AND t.tgenabled = 'D'
     UNION ALL SELECT 'the ' || n.kind || ' ' || n.name || ' is missing'
         FROM (VALUES ('index', 'attempts_open'), ('index', 'attempts_id'),
             ('trigger', 'attempts_insert'), ('trigger', 'attempts_update'),
             ('trigger', 'attempts_delete'), ('trigger', 'attempts_kept'),
             ('trigger', 'history_fixed'),
             ('trigger', 'history_delete'), ('trigger', 'history_kept'),
             ('trigger', 'audit_insert'), ('trigger', 'audit_fixed'),
             ('trigger', 'audit_kept'), ('trigger', 'meta_update'), ('trigger', 'meta_kept')
         ) AS n (kind, name)
         WHERE NOT EXISTS (SELECT FROM pg_class c WHERE n.kind = 'index'
                 AND c.relnamespace = to_regnamespace($1) AND c.relname = n.name)
             AND NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
                 WHERE n.kind = 'trigger' AND c.relnamespace = to_regnamespace($1)
                     AND t.tgname = n.name)";

impl Inside {
    pub(super) async fn take(session: &Session, config: &PostgresConfig) -> Done<Self> {
        let client = session.client();
        let schema = config.schema.put_into("{schema}");
        let words = async |statement: &str| -> Done<Vec<String>> {
            let found = client.query_typed(statement, &[text(&schema)]).await?;
            found.iter().map(|row| value(row, 0)).collect()
        };
        let missing = words(RIGHTS).await?;
        let writes = !missing.iter().any(|what| what.contains("INSERT"));
        let broken = words(BROKEN).await?;
        let asked = config.schema.put_into(
            "SELECT {schema}.changed_v1(NULL, $1), (SELECT p.system_id IS NOT NULL
                 FROM {schema}.place_v1() p)",
        );
        let trusts = [(&config.trusts_failover as _, Type::BOOL)];
        let row = client.query_typed_one(&asked, &trusts).await?;
        let (changed, knows_cluster) = (value(&row, 0)?, value(&row, 1)?);
        Ok(Self { missing, writes, broken, changed, knows_cluster })
    }

    pub(super) fn findings(&self, config: &PostgresConfig) -> Vec<Finding> {
        let mut findings = vec![self.rights()];
        findings.push(if self.broken.is_empty() {
            Finding::good("rules", "every index is valid and every trigger on")
        } else {
            let why = "the database does not keep the rules against a second bid";
            let mend = "restore the schema from a backup, or rebuild: REINDEX, ALTER TABLE … \
                        ENABLE TRIGGER ALL";
            Finding::failure("rules", self.broken.join("; "), why, mend)
        });
        findings.push(match &self.changed {
            Some(why) => Finding::failure(
                "copy",
                why.clone(),
                "bids that were made since may be forgotten, so nothing is given out",
                "bidlock ledger import FILE (the newest export), or ask the marketplaces what it \
                 has forgotten, then bidlock ledger accept --because TEXT",
            ),
            None if !self.knows_cluster => Finding::warning(
                "copy",
                "this role may not ask which cluster this is",
                "a copy in another cluster may not be noticed",
                "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role",
            ),
            None if config.trusts_failover => {
                Finding::good("copy", "it is where it was; a failover is trusted")
            }
            None => Finding::good("copy", "it is where it was"),
        });
        findings
    }

    fn rights(&self) -> Finding {
        if self.missing.is_empty() {
            return Finding::good("rights", "this role may bid and record");
        }
        let missing = format!("this role lacks {}", self.missing.join(", "));
        let mend = "bidlock doctor --acl prints the statements; run them as the schema's owner";
        if self.writes {
            Finding::warning("rights", missing, "some of what operators do is refused", mend)
        } else {
            Finding::failure("rights", missing, "no bid can be made or recorded", mend)
        }
    }
}
