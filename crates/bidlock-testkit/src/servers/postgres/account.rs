use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;

/// Where Debian puts the programs of each version, and other systems those of PATH.
const DEBIAN: &str = "/usr/lib/postgresql";

/// Who runs the server: PostgreSQL and its pooler do not run as root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    /// User and group, where they are others than this process's own.
    ids: Option<(u32, u32)>,
}

impl Account {
    pub(super) fn find() -> Self {
        if !geteuid().is_root() {
            return Self { ids: None };
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let ids_of = |name: &str| {
            let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let mut fields = line.split(':').skip(1);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        let ids = ids_of("postgres").or_else(|| ids_of("nobody"));
        Self { ids: Some(ids.unwrap_or((65_534, 65_534))) }
    }

    /// A program of PostgreSQL, run by this account in a folder that exists for it.
    pub(super) fn command(self, program: &str) -> Command {
        let path = program_path(program).unwrap_or_else(|| {
            panic!("{program} is not installed; `cargo xtask tools` installs it")
        });
        let mut command = Command::new(path);
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir("/");
        if let Some((user, group)) = self.ids {
            command.uid(user).gid(group);
        }
        command
    }

    /// Makes a folder or file this account's.
    pub(super) fn owns(self, path: &Path) -> io::Result<()> {
        let Some((user, group)) = self.ids else { return Ok(()) };
        chown(path, Some(user), Some(group))
    }

    /// Makes a file one that nobody else reads.
    pub(super) fn keeps(self, path: &Path) -> io::Result<()> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        self.owns(path)
    }
}

/// Where a program lies: in PATH, or where Debian has those of its newest version.
fn program_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push("/usr/sbin".into());
    let versions = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    let mut versions: Vec<u32> =
        versions.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    versions.sort_unstable();
    // All programs of one version, before a link to one of another.
    let newest = versions.last().map(|version| Path::new(DEBIAN).join(format!("{version}/bin")));
    let all = newest.into_iter().chain(folders);
    all.map(|folder| folder.join(program)).find(|path| path.is_file())
}
