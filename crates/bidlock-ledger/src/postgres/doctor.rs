//! Looks at a ledger's database for what could lose or repeat a bid.

mod looks;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{Diagnose, Finding, Platform, Refusal, Ttl};

use self::looks::Looks;
use super::config::{PostgresConfig, TlsMode};
use super::desk::Wanted;
use super::pool::{Manner, Session};
use super::rights::LedgerRole;
use super::schema::{self, VERSION};
use super::{Op, PostgresStore, Subject};
use crate::error::LedgerError;

/// Looks at a PostgreSQL ledger for what could lose or repeat a bid. Nothing is opened before it
/// is asked to look, and nothing is changed by it.
#[derive(Debug)]
pub struct PostgresDoctor {
    config: PostgresConfig,
    platform: Platform,
}

const REACH: &str = "reach";
const SCHEMA: &str = "schema";
const ANSWER_MAX: Duration = Duration::from_secs(1);

impl PostgresDoctor {
    /// Makes a doctor for the ledger that a configuration names.
    #[must_use]
    pub fn new(config: &PostgresConfig, platform: &Platform) -> Self {
        Self { config: config.clone(), platform: platform.clone() }
    }

    async fn look(&self) -> Result<Vec<Finding>, LedgerError> {
        let store = PostgresStore::start(&self.config, &self.platform)?;
        let clock = Arc::clone(&self.platform.clock);
        let (config, endpoint) = (self.config.clone(), self.config.to_string());
        let work = async move |session: &mut Session| {
            let asked = clock.now();
            let looks = Looks::take(session).await?;
            let latency = clock.now().since(asked);
            let mut findings = vec![looks.reach(&endpoint), looks.version()];
            findings.push(round_trip(latency));
            findings.push(looks.clock(clock.wall(), latency));
            findings.push(secrecy(&looks, &config.tls));
            findings.extend(looks.durability());
            findings.extend(looks.sessions());
            match schema::find(session, &config.schema).await? {
                None => findings.push(no_schema(&config)),
                Some(found) => {
                    findings.push(looks::judged(found));
                    if found.compatible_from <= VERSION && found.version >= VERSION {
                        let inside = looks::Inside::take(session, &config).await?;
                        findings.extend(inside.findings(&config));
                    }
                }
            }
            Ok((findings, looks.pid))
        };
        let looked = store.desk.call(Wanted::Always, Manner::READ, work).await;
        let (mut findings, pid) = looked.map_err(store.explain(Op::Ping, Subject::Ledger))?;
        findings.push(self.between(pid).await?);
        Ok(findings)
    }

    /// Whether a pooler stands in between: two connections of ours share one of the server's.
    async fn between(&self, pid: i32) -> Result<Finding, LedgerError> {
        let second = PostgresStore::start(&self.config, &self.platform)?;
        let work = async |session: &mut Session| Ok(Looks::take(session).await?.pid);
        let other = second.desk.call(Wanted::Always, Manner::READ, work).await;
        let other = other.map_err(second.explain(Op::Ping, Subject::Ledger))?;
        let found = if other == pid { "a pooler stands in between" } else { "none is seen" };
        Ok(Finding::good("pooler", found))
    }
}

#[async_trait]
impl Diagnose for PostgresDoctor {
    async fn diagnose(&self, _ttl: Ttl) -> Vec<Finding> {
        self.look().await.unwrap_or_else(|error| vec![unreached(&error)])
    }

    fn rights(&self) -> Option<String> {
        let text = |role: LedgerRole, what: &str| {
            format!("-- {what}\n{}", self.config.rights(role, role.default_name()))
        };
        let writer = text(LedgerRole::Writer, "For whoever bids, and for operators.");
        let reader = text(LedgerRole::Reader, "For reports.");
        Some(format!("{writer}\n{reader}"))
    }
}

fn unreached(error: &LedgerError) -> Finding {
    use std::error::Error as _;
    let source = error.source();
    let below = source.map(|below| format!(": {below}")).unwrap_or_default();
    let system = source.and_then(|below| below.downcast_ref::<std::io::Error>());
    let is_file = system.is_some_and(|below| below.kind() == std::io::ErrorKind::InvalidInput);
    let mend = match error {
        LedgerError::Refused { reason, .. } => match reason {
            Refusal::Permission(_) => {
                "check user and password in the URL; `bidlock doctor --acl` prints a role's rights"
            }
            Refusal::NotReady(said) if said.contains("too many") => {
                "raise the limit, lower ?pool= of the bidders, or put PgBouncer in between"
            }
            Refusal::NotReady(said) if said.contains("statement timeout") => {
                "ALTER ROLE … RESET statement_timeout, or of the database"
            }
            Refusal::NotReady(_) => "wait until the server has started, then look again",
            Refusal::Other(said) if said.contains("[3D000]") => {
                "make the database, or correct its name in the URL"
            }
            _ => "see the server's own words, and its log",
        },
        _ if is_file => "correct the file, or sslrootcert in the URL",
        _ if below.contains("certificate") => {
            "name the CA with sslrootcert=FILE, and the server by a name of its certificate"
        }
        _ => "check host and port in the URL, and that the server runs and listens there",
    };
    let why = "no bid can be made or recorded";
    Finding::failure(REACH, format!("{error}{below}"), why, mend)
}

/// A bid makes three of them, one after the other.
fn round_trip(latency: Duration) -> Finding {
    let found = format!("a question took {}us", latency.as_micros());
    if latency < ANSWER_MAX {
        return Finding::good("latency", found);
    }
    let why = "a bid makes three round trips";
    Finding::warning("latency", found, why, "put the bidders nearer to the database")
}

fn secrecy(looks: &Looks, mode: &TlsMode) -> Finding {
    let check = "tls";
    match (looks.address.as_deref(), looks.tls.as_deref(), mode) {
        (None, ..) => Finding::good(check, "the server is reached by a socket of this machine"),
        (_, Some(version), TlsMode::VerifyFull(_)) => {
            Finding::good(check, format!("{version}, with the server's certificate verified"))
        }
        (_, Some(version), _) => Finding::warning(
            check,
            format!("{version}, but the server's certificate is not verified"),
            "whoever stands in between can read and change what is sent",
            "add sslmode=verify-full, and sslrootcert=FILE for a CA of your own, to the URL",
        ),
        (Some(address), None, _) if looks::is_local(address) => {
            Finding::good(check, "none, on this machine")
        }
        (Some(_), None, _) => Finding::warning(
            check,
            "none: what is sent can be read and changed on its way",
            "with the password, anybody can bid and record",
            "switch TLS on in the server (ssl=on), and add sslmode=verify-full to the URL",
        ),
    }
}

fn no_schema(config: &PostgresConfig) -> Finding {
    let found = format!("there is no ledger in the schema {}", config.schema());
    let why = "the first bid makes it, if its role may";
    Finding::warning(SCHEMA, found, why, "bidlock ledger migrate, as a role that may create it")
}
