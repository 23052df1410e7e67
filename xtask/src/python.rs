//! The stage of the Python package: its wheel and its source, its types, and its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::run::{Project, must, run};
use crate::stages::{Counts, Found, LIMIT};
use crate::{say, tools};

const CRATE: &str = "crates/bidlock-python";
const REQUIREMENTS: &str = "crates/bidlock-python/tests/requirements.txt";
/// What the wheel is built with, so that most of it is built already.
const PROFILE: &str = "dev";

/// `cargo xtask python`: this stage alone.
pub(crate) fn task() -> Result<bool> {
    let found = stage(&Project::find()?)?;
    say(found.output.trim_end());
    say(&format!("{} passed, {} failed", found.counts.passed, found.counts.failed));
    Ok(found.counts.failed == 0)
}

pub(crate) fn stage(project: &Project) -> Result<Found> {
    let venv = environment(project, "venv", &requirements(project)?)?;
    let mut counts = Counts::default();
    let dist = project.empty_folder("python-dist")?;
    let wheel = build_wheel(project, &venv, &dist)?;
    counts.passed += 1;
    install(project, &venv, &wheel)?;
    twine(project, &venv, &dist)?;
    counts.passed += 1;
    counts.passed += types(project, &venv)?;
    let (tests, mut output) = pytest(project, &venv, &[])?;
    counts.passed += tests.passed;
    counts.failed += tests.failed;
    if let Err(failed) = from_source(project, &dist) {
        counts.failed += 1;
        output = format!("{output}\n{failed:#}");
    } else {
        counts.passed += 1;
    }
    Ok(Found { counts, output })
}

/// The packages that tests need, by name and release.
fn requirements(project: &Project) -> Result<String> {
    fs::read_to_string(project.root.join(REQUIREMENTS)).context("reading the requirements")
}

/// Makes a virtual environment with these packages, unless it is there.
fn environment(project: &Project, name: &str, packages: &str) -> Result<PathBuf> {
    let folder = project.target.join("python").join(name);
    let note = folder.join("packages");
    if fs::read_to_string(&note).is_ok_and(|noted| noted == packages) {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let make = || {
        let mut make = project.command("python3");
        make.args(["-m", "venv"]).arg(&folder);
        make
    };
    if must(project, make(), LIMIT).is_err() {
        // Debian has a part of Python's own library in a package of its own.
        tools::install(project, &["python3-venv"])?;
        must(project, make(), LIMIT).context("making a virtual environment")?;
    }
    if !packages.is_empty() {
        let mut pip = pip(project, &folder);
        pip.arg("--requirement").arg(project.root.join(REQUIREMENTS));
        must(project, pip, LIMIT).context("installing what the tests need")?;
    }
    fs::write(note, packages)?;
    Ok(folder)
}

fn tool(project: &Project, venv: &Path, program: &str) -> Command {
    let bin = venv.join("bin");
    let mut command = project.command(bin.join(program));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(bin).chain(std::env::split_paths(&path));
    if let Ok(path) = std::env::join_paths(folders) {
        command.env("PATH", path);
    }
    command.env("VIRTUAL_ENV", venv).env("CARGO_TARGET_DIR", &project.target);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    command
}

fn pip(project: &Project, venv: &Path) -> Command {
    let mut pip = tool(project, venv, "python");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]);
    pip
}

/// Builds the wheel and the source distribution; returns the wheel.
fn build_wheel(project: &Project, venv: &Path, dist: &Path) -> Result<PathBuf> {
    let manifest = project.root.join(CRATE).join("Cargo.toml");
    let mut wheel = tool(project, venv, "maturin");
    wheel.args(["build", "--profile", PROFILE, "--strip", "--out"]).arg(dist);
    wheel.arg("--manifest-path").arg(&manifest);
    must(project, wheel, LIMIT).context("building the wheel")?;
    let mut source = tool(project, venv, "maturin");
    source.arg("sdist").arg("--out").arg(dist).arg("--manifest-path").arg(&manifest);
    must(project, source, LIMIT).context("packing the source")?;
    ending(dist, ".whl")
}

/// The one file of a folder with that ending.
fn ending(folder: &Path, end: &str) -> Result<PathBuf> {
    let files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let files: Vec<PathBuf> = files.collect::<Result<_>>()?;
    let fits = |path: &&PathBuf| path.to_string_lossy().ends_with(end);
    let found: Vec<&PathBuf> = files.iter().filter(fits).collect();
    let [file] = found[..] else { bail!("{} has {} of {end}", folder.display(), found.len()) };
    Ok(file.clone())
}

fn install(project: &Project, venv: &Path, package: &Path) -> Result<()> {
    let mut pip = pip(project, venv);
    pip.args(["--force-reinstall", "--no-deps"]).arg(package);
    must(project, pip, LIMIT).context("installing the wheel")?;
    Ok(())
}

fn twine(project: &Project, venv: &Path, dist: &Path) -> Result<()> {
    let mut twine = tool(project, venv, "twine");
    twine.args(["check", "--strict"]);
    twine.args([ending(dist, ".whl")?, ending(dist, ".tar.gz")?]);
    must(project, twine, LIMIT)?;
    Ok(())
}

/// Checks the types: those of the package and its tests, and the stubs against what runs.
fn types(project: &Project, venv: &Path) -> Result<u32> {
    let here = project.root.join(CRATE);
    let checks: [(&str, &[&str]); 4] = [
        ("mypy", &["--strict", "python/bidlock"]),
        ("mypy", &["--strict", "tests"]),
        ("stubtest", &["bidlock._native"]),
        ("pyright", &["--pythonpath"]),
    ];
    for (program, args) in checks {
        let mut check = tool(project, venv, program);
        check.current_dir(&here).args(args);
        if program == "mypy" {
            check.arg("--cache-dir").arg(project.target.join("python/mypy"));
        }
        if program == "pyright" {
            check.arg(venv.join("bin/python"));
        }
        must(project, check, LIMIT).with_context(|| format!("{program} {}", args.join(" ")))?;
    }
    Ok(u32::try_from(checks.len()).unwrap_or_default())
}

/// Runs the tests against the installed wheel.
fn pytest(project: &Project, venv: &Path, more: &[&str]) -> Result<(Counts, String)> {
    let mut tests = tool(project, venv, "python");
    tests.args(["-m", "pytest", "-p", "no:cacheprovider", "--durations", "10"]).args(more);
    tests.current_dir(project.root.join(CRATE));
    let ended = run(project, tests, LIMIT)?;
    let mut counts = count(&ended.output);
    if !ended.status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok((counts, ended.output))
}

/// Installs the source into an environment that has nothing, and takes a lock there.
fn from_source(project: &Project, dist: &Path) -> Result<()> {
    let clean = environment(project, "clean", "")?;
    let mut pip = pip(project, &clean);
    pip.args(["--force-reinstall", "--no-cache-dir"]).arg(ending(dist, ".tar.gz")?);
    pip.env("MATURIN_PEP517_ARGS", format!("--profile {PROFILE}"));
    must(project, pip, LIMIT).context("building from the packed source")?;
    let mut python = tool(project, &clean, "python");
    let script = "from bidlock import sync\n\
                  with sync.connect('memory:').acquire('upwork', 'job_1') as lease:\n\
                  \x20   print(lease.token)";
    python.args(["-c", script]).current_dir(dist);
    let said = must(project, python, Duration::from_mins(1))?;
    ensure!(said.trim().parse::<u64>().is_ok(), "the package from source says {said:?}");
    Ok(())
}

/// Reads the last line of pytest. A test that was skipped is a test that did not pass.
fn count(output: &str) -> Counts {
    let mut counts = Counts::default();
    let summary =
        output.lines().rev().find(|line| line.contains(" in ") && line.contains("passed"));
    for part in summary.unwrap_or_default().split(',') {
        let mut words = part.trim_matches(['=', ' ']).split_whitespace();
        let (number, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let Ok(number) = number.parse::<u32>() else { continue };
        match kind {
            "passed" => counts.passed += number,
            "failed" | "error" | "errors" | "skipped" | "xfailed" | "xpassed" => {
                counts.failed += number;
            }
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_pytest_is_read() {
        let counts = |line: &str| count(&format!("1 passed in spirit\n{line}\n"));
        assert_eq!(counts("12 passed in 3.45s"), Counts { passed: 12, failed: 0 });
        assert_eq!(
            counts("2 failed, 36 passed, 1 skipped, 3 warnings, 1 error in 105.20s (0:01:45)"),
            Counts { passed: 36, failed: 4 }
        );
        assert_eq!(count(""), Counts::default());
    }

    #[test]
    fn one_file_of_a_kind_is_found_and_two_are_not() {
        let folder = Project::find().unwrap().empty_folder("python-ending").unwrap();
        fs::write(folder.join("a.whl"), "").unwrap();
        fs::write(folder.join("a.tar.gz"), "").unwrap();
        assert_eq!(ending(&folder, ".whl").unwrap(), folder.join("a.whl"));
        fs::write(folder.join("b.whl"), "").unwrap();
        assert!(ending(&folder, ".whl").is_err() && ending(&folder, ".zip").is_err());
    }
}
