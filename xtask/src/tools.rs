//! Installs what the other stages need and the machine lacks.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::run::{Project, must};
use crate::stages::{Found, LIMIT};

/// Programs that the tests call, and the Debian package that has each.
const PROGRAMS: &[(&str, &str)] = &[
    ("cc", "gcc"),             // SQLite is compiled from its C source
    ("kill", "procps"),        // a command over its limit is killed with its descendants
    ("script", "bsdutils"),    // gives a child a terminal
    ("setsid", "util-linux"),  // gives a child a session
    ("prlimit", "util-linux"), // gives a child a file size that it cannot exceed
];

/// Parts of the Rust toolchain, and the cargo command that each brings.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

pub(crate) fn stage(project: &Project) -> Result<Found> {
    for (command, component) in COMPONENTS {
        if must(project, project.cargo(&format!("{command} --version")), LIMIT).is_err() {
            let mut rustup = project.command("rustup");
            rustup.args(["component", "add", component]);
            must(project, rustup, LIMIT).with_context(|| format!("installing {component}"))?;
        }
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let packages = missing(PROGRAMS, &path);
    if !packages.is_empty() {
        install(project, &packages)?;
        let still = missing(PROGRAMS, &path);
        if !still.is_empty() {
            bail!("installed, but their programs are not in PATH: {still:?}");
        }
    }
    Ok(Found::good())
}

/// The packages of programs that are in no folder of `path`, each once.
fn missing<'a>(programs: &[(&str, &'a str)], path: &str) -> Vec<&'a str> {
    let found = |program: &str| path.split(':').any(|dir| Path::new(dir).join(program).is_file());
    let mut packages: Vec<&str> = programs
        .iter()
        .filter(|(program, _)| !found(program))
        .map(|(_, package)| *package)
        .collect();
    packages.sort_unstable();
    packages.dedup();
    packages
}

fn install(project: &Project, packages: &[&str]) -> Result<()> {
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
    fn only_packages_of_missing_programs_are_named_and_each_once() {
        let programs = [("sh", "dash"), ("no-such-program", "b"), ("nor-this", "b"), ("nor", "a")];
        assert_eq!(missing(&programs, "/usr/bin:/bin"), ["a", "b"]);
        assert_eq!(missing(&programs[..1], "/usr/bin:/bin"), [""; 0]);
    }
}
