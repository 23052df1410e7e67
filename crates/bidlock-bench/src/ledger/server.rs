//! A PostgreSQL server of the bench's own, which puts on disk what it commits.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::geteuid;
use tempfile::TempDir;

/// A server; gone when dropped.
#[derive(Debug)]
pub(super) struct Server {
    port: u16,
    folder: TempDir,
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        if let Some((user, group)) = account() {
            chown(folder.path(), Some(user), Some(group))?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self { port, folder };
        let mut init = program("initdb")?;
        init.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        run(init.arg("--pgdata").arg(server.data()))?;
        let folder = server.folder.path().display();
        let options = format!(
            "-p {port} -h 127.0.0.1 -k {folder} -c fsync=on -c shared_buffers=128MB \
             -c max_wal_size=4GB"
        );
        let mut start = program("pg_ctl")?;
        start.arg("--pgdata").arg(server.data()).arg("--options").arg(options);
        run(start.arg("--log").arg(server.folder.path().join("log")).args(["--wait", "start"]))?;
        Ok(server)
    }

    pub(super) fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut stop) = program("pg_ctl") {
            let stop = stop.arg("--pgdata").arg(self.data());
            // Its folder goes, whatever it has to say.
            drop(run(stop.args(["--mode=immediate", "stop"])));
        }
    }
}

/// User and group `postgres` where this process is root, as which PostgreSQL does not run.
fn account() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"))?;
    let mut fields = line.split(':').skip(1);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A program of PostgreSQL, where Debian has those of its newest version.
fn program(name: &str) -> Result<Command> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<PathBuf> =
        versions.map(|version| version.path().join("bin").join(name)).collect();
    programs.sort();
    let path = programs.into_iter().rfind(|path| path.is_file());
    let path = path.context("PostgreSQL is not installed; `cargo xtask tools` installs it")?;
    let mut command = Command::new(path);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin");
    command.current_dir(Path::new("/"));
    if let Some((user, group)) = account() {
        command.uid(user).gid(group);
    }
    Ok(command)
}

fn run(command: &mut Command) -> Result<()> {
    // Not piped: the server would keep the pipe.
    let devnull = std::process::Stdio::null;
    let status = command.stdin(devnull()).stdout(devnull()).stderr(devnull()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
