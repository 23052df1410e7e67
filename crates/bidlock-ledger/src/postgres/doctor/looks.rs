//! What the doctor asks the server, and what the answers mean.

use std::time::Duration;

use bidlock_core::{Finding, WallTime};

use super::SCHEMA;
use crate::postgres::fault::Done;
use crate::postgres::pool::Session;
use crate::postgres::rows::value;
use crate::postgres::schema::{Found, VERSION};

/// A clock that is further off than this makes people misread times.
const CLOCK_MAX: Duration = Duration::from_secs(1);

/// What any role may ask of any server.
pub(super) struct Looks {
    version: String,
    role: String,
    in_recovery: bool,
    now_us: i64,
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
            settings: Settings {
                fsync: value(&row, 4)?,
                full_page_writes: value(&row, 5)?,
                synchronous_commit: value(&row, 6)?,
                synchronous_standbys: value(&row, 7)?,
                isolation: value(&row, 8)?,
                read_only: value(&row, 9)?,
            },
            standbys: value(&row, 10)?,
            pid: value(&row, 11)?,
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
