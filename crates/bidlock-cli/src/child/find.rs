use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Where commands are looked for when PATH is not set. Source: `execvp(3)`.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Why a command cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotRun {
    /// No command was given.
    #[error("the command is empty")]
    Empty,
    /// There is no such command.
    #[error("{command}: command not found")]
    NotFound {
        /// As it was typed.
        command: String,
    },
    /// There is such a file, but it is not a program that this user may run.
    #[error("{}: cannot be run: {why}", path.display())]
    NotRunnable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        why: io::Error,
    },
}

impl CannotRun {
    /// The exit code that shells use for it.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            Self::Empty | Self::NotFound { .. } => 127,
            Self::NotRunnable { .. } => 126,
        }
    }

    /// Sorts the system's answer to an attempt to run a file.
    pub(super) fn from_spawn(program: &Path, why: io::Error) -> Self {
        if why.kind() == io::ErrorKind::NotFound && !program.exists() {
            Self::NotFound { command: program.display().to_string() }
        } else {
            // With ENOENT for a file that is there, the interpreter of its first line is missing.
            Self::NotRunnable { path: program.to_owned(), why }
        }
    }
}

/// Finds the file that a command means, before anything is reserved for it.
///
/// # Errors
/// [`CannotRun`] when there is none, or none that may be run.
pub(crate) fn find_command(command: &OsStr) -> Result<PathBuf, CannotRun> {
    let search = env::var_os("PATH").unwrap_or_else(|| PATH_DEFAULT.into());
    find_in(command, &search)
}

fn find_in(command: &OsStr, search: &OsStr) -> Result<PathBuf, CannotRun> {
    if command.is_empty() {
        return Err(CannotRun::Empty);
    }
    let not_found = || CannotRun::NotFound { command: command.to_string_lossy().into_owned() };
    if command.as_bytes().contains(&b'/') {
        let path = PathBuf::from(command);
        return match runnable(&path) {
            Ok(()) => Ok(path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(not_found()),
            Err(why) => Err(CannotRun::NotRunnable { path, why }),
        };
    }
    let mut barred = None;
    for folder in env::split_paths(search) {
        // An empty part of PATH means the current folder.
        let path = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        let path = path.join(command);
        match runnable(&path) {
            Ok(()) => return Ok(path),
            Err(why) if why.kind() == io::ErrorKind::PermissionDenied && path.is_file() => {
                barred.get_or_insert(CannotRun::NotRunnable { path, why });
            }
            Err(_) => {}
        }
    }
    Err(barred.unwrap_or_else(not_found))
}

fn runnable(path: &Path) -> io::Result<()> {
    if std::fs::metadata(path)?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    access(path, AccessFlags::X_OK).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("send");
        fs::write(&script, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let path = env::join_paths([Path::new("/nonexistent"), folder.path()]).unwrap();
        assert_eq!(find_in(OsStr::new("send"), &path).unwrap(), script);
        assert_eq!(find_in(script.as_os_str(), OsStr::new("")).unwrap(), script);
        assert!(find_command(OsStr::new("sh")).unwrap().is_absolute());
    }

    #[test]
    fn what_is_missing_is_127_and_what_cannot_be_run_is_126() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        fs::write(&plain, "text").unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        let path = folder.path().as_os_str();
        for (command, code) in [
            (OsStr::new(""), 127),
            (OsStr::new("no-such-command"), 127),
            (OsStr::new("/no/such/command"), 127),
            (OsStr::new("plain"), 126),
            (plain.as_os_str(), 126),
            (path, 126),
        ] {
            let refused = find_in(command, path).unwrap_err();
            assert_eq!(refused.code(), code, "{refused}");
        }
    }
}
