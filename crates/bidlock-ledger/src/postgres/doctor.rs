//! Looks at a ledger's database for what could lose or repeat a bid.

mod inside;
mod looks;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{Diagnose, Finding, Platform, Refusal, Ttl};

use self::inside::Inside;
use self::looks::Looks;
use super::config::{PostgresConfig, TlsMode};
use super::desk::Wanted;
use super::pool::{Manner, Session, Way};
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
            findings.extend(looks.durability());
            findings.extend(looks.sessions());
            match schema::find(session, &config.schema).await? {
                None => findings.push(no_schema(&config)),
                Some(found) => {
                    findings.push(looks::judged(found));
                    if found.compatible_from <= VERSION && found.version >= VERSION {
                        let inside = Inside::take(session, &config).await?;
                        findings.extend(inside.findings(&config));
                    }
                }
            }
            Ok((findings, looks.pid, session.way().clone()))
        };
        let looked = store.desk.call(Wanted::Always, Manner::READ, work).await;
        let (mut findings, pid, way) = looked.map_err(store.explain(Op::Ping, Subject::Ledger))?;
        let pooled = self.is_pooled(pid).await?;
        let found = if pooled { "a pooler stands in between" } else { "none is seen" };
        findings.push(Finding::good("pooler", found));
        findings.push(secrecy(&way, &self.config.tls, pooled));
        Ok(findings)
    }

    /// Whether a pooler stands in between: two connections of ours share one of the server's.
    async fn is_pooled(&self, pid: i32) -> Result<bool, LedgerError> {
        let second = PostgresStore::start(&self.config, &self.platform)?;
        let work = async |session: &mut Session| Ok(Looks::take(session).await?.pid);
        let other = second.desk.call(Wanted::Always, Manner::READ, work).await;
        Ok(other.map_err(second.explain(Op::Ping, Subject::Ledger))? == pid)
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

/// Judges our own connection: what the server says of its own is that of the pooler, where one
/// stands in between.
fn secrecy(way: &Way, mode: &TlsMode, pooled: bool) -> Finding {
    let check = "tls";
    let behind =
        if pooled { "; the pooler's own way to the server is not seen from here" } else { "" };
    let is_local = way.host == "localhost"
        || way.host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match (&way.tls, mode) {
        _ if way.host.starts_with('/') => {
            Finding::good(check, format!("none, over a socket of this machine{behind}"))
        }
        (Some(version), TlsMode::VerifyFull(_)) => {
            let found = format!("{version}, with the server's certificate verified{behind}");
            Finding::good(check, found)
        }
        (Some(version), _) => Finding::warning(
            check,
            format!("{version}, but the server's certificate is not verified{behind}"),
            "whoever stands in between can read and change what is sent",
            "add sslmode=verify-full, and sslrootcert=FILE for a CA of your own, to the URL",
        ),
        (None, _) if is_local => Finding::good(check, format!("none, on this machine{behind}")),
        (None, _) => Finding::warning(
            check,
            format!("none: what is sent can be read and changed on its way{behind}"),
            "with the password, anybody can bid and record",
            "switch TLS on in the server (ssl=on), or in the pooler, and add sslmode=verify-full \
             to the URL",
        ),
    }
}

fn no_schema(config: &PostgresConfig) -> Finding {
    let found = format!("there is no ledger in the schema {}", config.schema());
    let why = "the first bid makes it, if its role may";
    Finding::warning(SCHEMA, found, why, "bidlock ledger migrate, as a role that may create it")
}

#[cfg(test)]
mod tests {
    use bidlock_core::Severity;

    use super::*;

    #[test]
    fn our_own_way_is_judged_and_nothing_is_said_of_what_lies_behind_a_pooler() {
        let way = |host: &str, tls: Option<&str>| Way {
            host: host.to_owned(),
            tls: tls.map(str::to_owned),
        };
        let verified = TlsMode::VerifyFull(None);
        for (host, tls, mode, expected) in [
            ("/run/postgresql", None, &TlsMode::Prefer, Severity::Good),
            ("127.0.0.1", None, &TlsMode::Prefer, Severity::Good),
            ("::1", None, &TlsMode::Disable, Severity::Good),
            ("localhost", None, &TlsMode::Prefer, Severity::Good),
            ("10.0.0.7", None, &TlsMode::Prefer, Severity::Warning),
            ("db.example", None, &TlsMode::Disable, Severity::Warning),
            ("db.example", Some("TLSv1.3"), &TlsMode::Prefer, Severity::Warning),
            ("127.0.0.1", Some("TLSv1.3"), &TlsMode::Require, Severity::Warning),
            ("db.example", Some("TLSv1.3"), &verified, Severity::Good),
        ] {
            for pooled in [false, true] {
                let finding = secrecy(&way(host, tls), mode, pooled);
                assert_eq!(finding.severity, expected, "{finding:?}");
                assert_eq!(finding.found.contains("not seen from here"), pooled, "{finding:?}");
                assert_eq!(finding.found.contains("TLSv1.3"), tls.is_some(), "{finding:?}");
            }
        }
    }
}
