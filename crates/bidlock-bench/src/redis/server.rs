//! A server of the bench's own, and what is asked of it beside what is measured.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, io::tcp::TcpSettings};
use tempfile::TempDir;

/// How often another free port is tried when somebody else took the last one.
const PORTS_TRIED_MAX: u32 = 20;

/// A program that the bench can run on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Redis62,
    Redis70,
    Valkey9,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Result<Self> {
        let all = [Self::Redis62, Self::Redis70, Self::Valkey9];
        let known = all.into_iter().find(|kind| kind.name() == name);
        known.with_context(|| format!("--server {name}: redis62, redis70 or valkey9"))
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Redis62 => "redis62",
            Self::Redis70 => "redis70",
            Self::Valkey9 => "valkey9",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Self::Redis62 => tools().join("redis62/redis-server"),
            Self::Redis70 => "redis-server".into(),
            Self::Valkey9 => tools().join("valkey9/valkey-server"),
        }
    }
}

/// Where `cargo xtask tools` puts what no Debian package has.
pub(super) fn tools() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |folder| root.join(folder));
    target.join("tools")
}

/// A server without persistence; gone when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    /// Read up to where it was ready; kept open, because it may say more.
    _log: BufReader<ChildStdout>,
    _folder: TempDir,
}

impl Server {
    pub(crate) fn start(kind: Kind) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for _ in 0..PORTS_TRIED_MAX {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            let mut command = Command::new(kind.program());
            command.current_dir(folder.path()).env_clear().arg("--dir").arg(folder.path());
            command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", ""]);
            command.args(["--appendonly", "no", "--daemonize", "no"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            let spawned = command.spawn();
            let mut child = spawned.with_context(|| {
                format!("starting {}; `cargo xtask tools` installs it", kind.program().display())
            })?;
            let mut log = BufReader::new(child.stdout.take().context("its output is piped")?);
            let mut said = String::new();
            // The line of another's port ends the process, and with it the output.
            while log.read_line(&mut said)? > 0 {
                if said.ends_with("eady to accept connections\n")
                    || said.contains("eady to accept connections tcp")
                {
                    return Ok(Self { child, port, _log: log, _folder: folder });
                }
            }
            child.wait()?;
            ensure!(said.contains("Address already in use"), "{} says {said}", kind.name());
        }
        bail!("no free port in {PORTS_TRIED_MAX} attempts")
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// A client that sends at once.
    pub(crate) fn client(&self) -> Result<Client> {
        let address = ConnectionAddr::Tcp("127.0.0.1".to_owned(), self.port);
        let info = address.into_connection_info()?;
        Ok(Client::open(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))?)
    }

    /// Runs one command on a connection of its own.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Result<T> {
        let (name, arguments) = words.split_first().context("a command has a name")?;
        let mut connection = self.client()?.get_connection()?;
        Ok(redis::cmd(name).arg(arguments).query(&mut connection)?)
    }

    /// Removes all keys.
    pub(crate) fn empty(&self) -> Result<()> {
        self.ask(&["FLUSHALL", "SYNC"])
    }

    pub(crate) fn used_memory(&self) -> Result<f64> {
        let all: String = self.ask(&["INFO", "memory"])?;
        let value = all.lines().find_map(|line| line.strip_prefix("used_memory:"));
        Ok(value.context("INFO tells of memory")?.trim().parse()?)
    }

    /// Counts commands from zero again.
    pub(crate) fn reset_stats(&self) -> Result<()> {
        self.ask(&["CONFIG", "RESETSTAT"])
    }

    /// Calls, and microseconds in all, of each command, those within scripts as well.
    pub(crate) fn stats(&self) -> Result<HashMap<String, (f64, f64)>> {
        let all: String = self.ask(&["INFO", "commandstats"])?;
        let read = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (calls, rest) = rest.split_once(",usec=")?;
            let micros = rest.split(',').next()?;
            Some((name.to_owned(), (calls.parse().ok()?, micros.parse().ok()?)))
        };
        Ok(all.lines().filter_map(read).collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, and keeps nothing.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
