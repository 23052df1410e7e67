//! A primary of Redis or Valkey and its replica, and what can happen to them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use bidlock_testkit::servers::{Direction, Proxy, Server, ServerKind, ServerOptions};

/// Two servers, one of which follows the other over a way that can be cut.
#[derive(Debug)]
pub(crate) struct RedisSite {
    servers: [Server; 2],
    /// The way to each server for the one that follows it.
    links: [Proxy; 2],
    primary: AtomicUsize,
}

/// Where servers keep their data, below their folders.
const DATA: [&str; 3] = ["appendonlydir", "appendonly.aof", "dump.rdb"];

impl RedisSite {
    pub(super) fn start(kind: ServerKind) -> Self {
        let options = || {
            // A transfer with a length of its own passes the proxy as it comes.
            let args = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"];
            ServerOptions::new().append_only(true).clock(true).args(args)
        };
        let servers = [(); 2].map(|()| Server::start_with(kind, options()));
        let links = [0, 1].map(|number| Proxy::to(servers[number].address()));
        let site = Self { servers, links, primary: AtomicUsize::new(0) };
        site.follow();
        site
    }

    fn at(&self) -> usize {
        self.primary.load(Ordering::SeqCst)
    }

    fn server(&self) -> &Server {
        &self.servers[self.at()]
    }

    fn other(&self) -> &Server {
        &self.servers[1 - self.at()]
    }

    /// Which program it is.
    pub(crate) const fn name(&self) -> &'static str {
        self.servers[0].kind().name()
    }

    /// Where the primary is.
    pub(crate) fn primary(&self) -> SocketAddr {
        self.server().address()
    }

    /// Makes the other server follow the primary.
    fn follow(&self) {
        let port = self.links[self.at()].port().to_string();
        self.other().command(&["REPLICAOF", "127.0.0.1", &port]);
    }

    pub(crate) fn kill(&self) {
        self.server().kill();
    }

    /// Starts the killed primary again, with its data.
    pub(crate) fn restart(&self) {
        self.server().restart();
    }

    /// Starts the killed primary again, without its data.
    pub(crate) fn restart_empty(&self) -> Result<()> {
        remove(self.server().folder())?;
        self.server().restart();
        Ok(())
    }

    /// Keeps a copy of what the primary has on disk.
    pub(crate) fn snapshot(&self) -> Result<()> {
        let folder = self.server().folder();
        let kept = folder.join("kept");
        if kept.exists() {
            fs::remove_dir_all(&kept)?;
        }
        copy(folder, &kept)
    }

    /// Starts the killed primary again with what [`RedisSite::snapshot`] kept.
    pub(crate) fn restart_from_snapshot(&self) -> Result<()> {
        let folder = self.server().folder();
        remove(folder)?;
        copy(&folder.join("kept"), folder)?;
        self.server().restart();
        Ok(())
    }

    pub(crate) fn flush(&self) {
        self.server().command(&["FLUSHALL"]);
    }

    /// Cuts the replica off, or joins it again.
    pub(crate) fn cut_replica(&self, cut: bool) {
        let link = &self.links[self.at()];
        if cut {
            link.black_hole(Direction::Both);
        } else {
            link.heal();
            link.cut();
        }
    }

    /// Kills the primary and puts the replica in its place, which knows nothing of what was
    /// written since it was cut off; the old one follows it from then on, without its data.
    pub(crate) fn promote(&self) {
        let old = self.at();
        self.servers[old].kill();
        self.servers[1 - old].command(&["REPLICAOF", "NO", "ONE"]);
        self.primary.store(1 - old, Ordering::SeqCst);
        self.links[old].heal();
        self.links[old].cut();
    }

    /// Starts what was the primary before [`RedisSite::promote`], as a replica.
    pub(crate) fn rejoin(&self) -> Result<()> {
        remove(self.other().folder())?;
        self.other().restart();
        self.follow();
        Ok(())
    }

    /// Steps the wall clocks of both.
    pub(crate) fn step(&self, micros: i64) {
        self.servers.iter().for_each(|server| server.step_clock(micros));
    }

    /// Keys that are left under the prefix of locks.
    pub(crate) fn locks(&self) -> Vec<String> {
        let keys = self.server().text(&["KEYS", "bid_lock:*"]);
        // The counter of tokens stays.
        let is_lock = |key: &&str| !key.is_empty() && !key.contains('#');
        keys.lines().filter(is_lock).map(ToOwned::to_owned).collect()
    }
}

fn remove(folder: &Path) -> Result<()> {
    for name in DATA {
        let path = folder.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("removing a server's data");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies the data of a server from one folder to another.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for name in DATA {
        let (source, target) = (from.join(name), to.join(name));
        if source.is_file() {
            fs::copy(&source, &target)?;
        } else if source.is_dir() {
            fs::create_dir_all(&target)?;
            for file in fs::read_dir(&source)? {
                let file = file?;
                // A file that a rewrite has just replaced is not needed.
                let _gone = fs::copy(file.path(), target.join(file.file_name()));
            }
        }
    }
    Ok(())
}
