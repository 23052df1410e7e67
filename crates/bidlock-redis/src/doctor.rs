//! Looks at a server for what could harm locks (R28).

pub(crate) mod cli;
mod contents;
mod entry;
mod info;
mod line;
mod reach;
mod settings;
mod timing;

use std::error::Error as _;

use async_trait::async_trait;
use bidlock_core::{BackendError, Diagnose, Finding, Platform, Prefix, Severity, Ttl};

use tokio::sync::oneshot;

use self::cli::Cli;
use self::info::Info;
use self::line::{Line, Trouble};
use crate::config::Config;
use crate::failure;
use crate::resp::Value;
use crate::rights;
use crate::store::Redis;

/// Looks at a Redis or Valkey server for what could harm locks.
///
/// It has connections of its own, and only while it looks. Nothing is changed but by the probe
/// that any client runs when it starts, which takes back what it writes.
///
/// A user that has no more rights than locks need may not see settings (`CONFIG GET`). What was
/// not seen for that reason (`timeout`, `tcp-keepalive`, `appendfsync`) is no warning, or the very
/// user that [`acl`](crate::acl) makes would never be judged well; the text begins with «not
/// seen», which is no praise. Look once as an administrator, after each change of the settings.
#[derive(Debug, Clone)]
pub struct Doctor {
    config: Config,
    prefix: Prefix,
    platform: Platform,
}

impl Doctor {
    /// Contacts nothing before it is asked to look.
    #[must_use]
    pub fn new(config: &Config, prefix: &Prefix, platform: &Platform) -> Self {
        Self { config: config.clone(), prefix: prefix.clone(), platform: platform.clone() }
    }

    async fn look(&self, ttl: Ttl, findings: &mut Vec<Finding>) -> Result<(), Finding> {
        let mut line = reach::open(self).await?;
        let entered = entry::enter(self, &mut line, findings).await?;
        findings.push(entry::role(self, &mut line, &entered).await?);
        findings.push(entry::scripts(self, &mut line).await?);
        let info = self.info(&mut line).await?;
        findings.push(entry::server(&entered, info.as_ref()));
        self.rights(&mut line, info.as_ref(), findings).await?;
        if let Some(info) = &info {
            settings::judge(self, &mut line, &entered, info, findings).await?;
        }
        settings::connections(self, &mut line, &entered, info.as_ref(), findings).await?;
        findings.extend(timing::clock(self, &mut line).await?);
        findings.push(timing::round_trips(self, &mut line, ttl).await?);
        self.contents(&mut line, info.as_ref(), findings).await
    }

    /// The commands for this server that mends are made of.
    fn cli(&self, info: Option<&Info>) -> Cli {
        Cli::to(&self.config).told(info)
    }

    /// What the server says of itself; nothing where this user may not ask.
    async fn info(&self, line: &mut Line) -> Result<Option<Info>, Finding> {
        let answer = line.ask(&[b"INFO"]).await;
        let answer = answer.map_err(|trouble| self.broken_off("server", &trouble))?;
        Ok(answer.text().map(Info::read))
    }

    async fn rights(
        &self,
        line: &mut Line,
        info: Option<&Info>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Finding> {
        let client = format!("{:012x}", self.platform.rng.next_u64() >> 16);
        let probes = rights::Probes::of_operators(&self.prefix, &client);
        let mut verdict = rights::Verdict::default();
        for (n, command) in probes.commands().enumerate() {
            let answer = line.ask(&command).await;
            let answer = answer.map_err(|trouble| self.broken_off("rights", &trouble))?;
            probes.judge(n, &answer, &mut verdict);
        }
        findings.push(entry::rights(self, &client, &mut verdict).await?);
        findings.extend(entry::writes(&self.cli(info), &verdict));
        Ok(())
    }

    /// Opens the store as any client does, and looks at what lies under the prefix.
    async fn contents(
        &self,
        line: &mut Line,
        info: Option<&Info>,
        findings: &mut Vec<Finding>,
    ) -> Result<(), Finding> {
        let explained = findings.iter().any(|finding| finding.severity == Severity::Failure);
        match Redis::connect(&self.config, &self.prefix, &self.platform).await {
            Ok(store) => contents::judge(self, &store, line, info, findings).await,
            Err(_) if explained => {}
            Err(error) => findings.push(Finding::failure(
                "start",
                told(&error),
                "no lock can be taken, renewed or released",
                format!("bidlock --url '{}' health shows whether it goes on", self.config),
            )),
        }
        Ok(())
    }

    /// The connection ended in the middle of it.
    fn broken_off(&self, check: &'static str, trouble: &Trouble) -> Finding {
        Finding::failure(
            check,
            format!("{}: {trouble}", self.config),
            "a connection that ends again and again gives no lock, and renews none",
            format!("look again: bidlock --url '{}' doctor", self.config),
        )
    }

    /// A server that answers, but does not do what it is asked just now.
    fn not_ready(&self, check: &'static str, text: &str) -> Finding {
        let found = format!("the server is not ready: {}", failure::refusal(text));
        let why = "until it goes on, no lock is taken or renewed, and every lease that ends \
                   meanwhile is lost";
        // A server that is busy names the command that ends it, unless it is a module's.
        let ends = ["SCRIPT", "FUNCTION"]
            .into_iter()
            .find(|what| text.starts_with("BUSY ") && text.contains(&format!("{what} KILL")));
        let mend = match ends {
            Some(what) => self.cli(None).run(&[what, "KILL"]),
            None => format!("wait until it is ready: bidlock --url '{}' health", self.config),
        };
        Finding::failure(check, found, why, mend)
    }
}

#[async_trait]
impl Diagnose for Doctor {
    async fn diagnose(&self, ttl: Ttl) -> Vec<Finding> {
        let (tell, told) = oneshot::channel();
        let doctor = self.clone();
        // In the background, where connections are at home whatever the caller's runtime is.
        self.platform.spawn.spawn(Box::pin(async move {
            let mut findings = Vec::new();
            if let Err(last) = doctor.look(ttl, &mut findings).await {
                findings.push(last);
            }
            // Whoever asked may have gone.
            drop(tell.send(findings));
        }));
        let ended = Trouble::Failed("the background thread ended".to_owned());
        told.await.unwrap_or_else(|_| vec![self.broken_off("connection", &ended)])
    }

    fn rights(&self) -> Option<String> {
        // `default` is everybody who names no user: what takes its rights takes theirs.
        let named = self.config.user.as_deref().filter(|user| *user != "default");
        let user = named.unwrap_or("bidlock");
        let words = rights::acl(user, "PASSWORD", &[&self.prefix], self.config.database);
        Some(rights::line(&words))
    }
}

/// An error with what lies under it, in one line.
fn told(error: &BackendError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(under) = source {
        text = format!("{text}: {under}");
        source = under.source();
    }
    text
}

/// The text of an error answer.
fn refused(answer: &Value) -> Option<&str> {
    match answer {
        // What was not understood is not repeated: a password may be among it.
        Value::Error(text) => text.split(", with args beginning").next(),
        _ => None,
    }
}

fn is_not_ready(text: &str) -> bool {
    ["BUSY ", "LOADING ", "MASTERDOWN "].iter().any(|word| text.starts_with(word))
}
