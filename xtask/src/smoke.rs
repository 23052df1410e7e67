//! The stage that types what README tells a new user to type first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::run::{Project, create, must, wait};
use crate::stages::{Counts, Found, LIMIT};

/// README's first command, word for word.
const FIRST_COMMAND: &str = r#"cargo run --release -- bid upwork job_123 -- echo "bid sent""#;

pub(crate) fn stage(project: &Project) -> Result<Found> {
    let readme = project.root.join("README.md");
    let text = std::fs::read_to_string(&readme).context("reading README.md")?;
    ensure!(text.contains(FIRST_COMMAND), "README.md does not show `{FIRST_COMMAND}`");
    must(project, project.cargo("build --release"), LIMIT)?;

    let home = project.empty_folder("home")?;
    let first = first_command(project, &home)?;
    let second = first_command(project, &home)?;
    expect(&first, 0, "bid sent\n", "a first bid")?;
    expect(&second, 10, "", "the same bid again")?;
    Ok(Found { counts: Counts { passed: 3, failed: 0 }, output: String::new() })
}

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs it as a user who has never used bidlock: an empty home, no settings, no `.env`.
fn first_command(project: &Project, home: &Path) -> Result<Said> {
    let mut command = project.cargo("run --release --quiet --manifest-path");
    command.arg(project.root.join("Cargo.toml"));
    command.args(["--", "bid", "upwork", "job_123", "--", "echo", "bid sent"]);
    command.current_dir(home).env("HOME", home).env_remove("XDG_STATE_HOME");
    keep_toolchain(&mut command);
    let logs = project.empty_folder("first-command")?;
    let (stdout, stderr) = (logs.join("stdout"), logs.join("stderr"));
    command.stdout(create(&stdout)?).stderr(create(&stderr)?);
    let status = wait(command, LIMIT)?;
    let read = |path: PathBuf| std::fs::read_to_string(path).context("reading what it said");
    Ok(Said { code: status.code(), stdout: read(stdout)?, stderr: read(stderr)? })
}

/// Lets cargo and rustup find their files although the home is another one.
fn keep_toolchain(command: &mut Command) {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        if std::env::var_os(name).is_none() {
            command.env(name, home.join(folder));
        }
    }
}

fn expect(said: &Said, code: i32, stdout: &str, what: &str) -> Result<()> {
    let shown = format!("stdout:\n{}\nstderr:\n{}", said.stdout, said.stderr);
    ensure!(said.code == Some(code), "{what}: exit {:?}, not {code}\n{shown}", said.code);
    ensure!(said.stdout == stdout, "{what}: stdout is not {stdout:?}\n{shown}");
    ensure!(!said.stderr.is_empty(), "{what}: says nothing on stderr of what happened\n{shown}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_code_output_or_silence_is_a_failure() {
        let said = |code, stdout: &str, stderr: &str| Said {
            code: Some(code),
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        };
        assert!(expect(&said(0, "bid sent\n", "placed"), 0, "bid sent\n", "a").is_ok());
        for bad in [said(1, "bid sent\n", "x"), said(0, "", "x"), said(0, "bid sent\n", "")] {
            assert!(expect(&bad, 0, "bid sent\n", "a").is_err());
        }
    }
}
