//! The stage of the Python package: its wheel and its source, its types, and its tests.

use std::fmt::Write as _;
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
/// Parts of the tests that run at the same time; all together are all tests.
const UNHURRIED: &[&[&str]] = &[
    &["-m", "unhurried", "tests/test_fleet.py"],
    &["-m", "unhurried", "--ignore", "tests/test_fleet.py"],
];
const REST: &[&[&str]] = &[
    &["-m", "not unhurried", "tests/test_async.py"],
    &["-m", "not unhurried", "--ignore", "tests/test_async.py"],
];
/// What a test asks that has a full size.
const FULL_SIZE: &str = "at_full_size()";

/// `cargo xtask python`: this stage alone.
pub(crate) fn task() -> Result<bool> {
    let found = stage(&Project::find()?)?;
    say(found.output.trim_end());
    say(&format!("{} passed, {} failed", found.counts.passed, found.counts.failed));
    Ok(found.counts.failed == 0)
}

/// The files with tests that run scaled down in the stage, at full size; what they say is shown as
/// it comes.
pub(crate) fn soak(project: &Project, switch: &str) -> Result<bool> {
    let (venv, _) = installed(project)?;
    let files = fs::read_dir(project.root.join(CRATE).join("tests"))?;
    let mut tests = pytest(project, &venv);
    tests.arg("-s").env(switch, "1");
    for file in files {
        let path = file?.path();
        let is_test = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("test_"));
        if is_test && path.is_file() && fs::read_to_string(&path)?.contains(FULL_SIZE) {
            tests.arg(path);
        }
    }
    Ok(tests.status().context("starting the tests")?.success())
}

pub(crate) fn stage(project: &Project) -> Result<Found> {
    let (venv, dist) = installed(project)?;
    // Tests that mostly wait, and stand a busy machine, run beside what keeps it busy.
    let (tested, checked) = std::thread::scope(|scope| {
        let tests = scope.spawn(|| together(project, &venv, UNHURRIED));
        let checked = checks(project, &venv, &dist);
        (tests.join().unwrap_or_else(|_| bail!("the thread of the tests panicked")), checked)
    });
    let mut found = tested?;
    match checked {
        Ok(passed) => found.counts.passed += passed,
        Err(error) => {
            found.counts.failed += 1;
            writeln!(found.output, "{error:#}")?;
        }
    }
    found.and(&together(project, &venv, REST)?);
    Ok(found)
}

/// The packages themselves, their types, and how they are installed; returns how many checks.
fn checks(project: &Project, venv: &Path, dist: &Path) -> Result<u32> {
    twine(project, venv, dist)?;
    // The building of the two is the first.
    Ok(2 + types(project, venv)? + clean(project, dist)?)
}

/// Builds the packages, and makes an environment that has the wheel and what its tests need.
fn installed(project: &Project) -> Result<(PathBuf, PathBuf)> {
    let venv = environment(project, "venv", &requirements(project)?)?;
    let dist = project.empty_folder("python-dist")?;
    let wheel = build_wheel(project, &venv, &dist)?;
    install(project, &venv, &wheel)?;
    Ok((venv, dist))
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

/// Checks the types: those of the package and its tests, the stubs against what runs, and that
/// nothing which users see of the installed package is without a type.
fn types(project: &Project, venv: &Path) -> Result<u32> {
    let here = project.root.join(CRATE);
    let checks: [(&str, &[&str]); 5] = [
        ("mypy", &["--strict", "python/bidlock"]),
        ("mypy", &["--strict", "tests"]),
        ("stubtest", &["bidlock._native"]),
        ("pyright", &["--pythonpath"]),
        ("pyright", &["--verifytypes", "bidlock", "--ignoreexternal", "--pythonpath"]),
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

/// Prepares to run tests against the installed wheel.
fn pytest(project: &Project, venv: &Path) -> Command {
    let mut tests = tool(project, venv, "python");
    tests.args(["-m", "pytest", "-p", "no:cacheprovider", "--durations", "10"]);
    tests.current_dir(project.root.join(CRATE));
    tests
}

/// Runs parts of the tests at the same time: they wait more than they work. What they measure is
/// in their output.
fn together(project: &Project, venv: &Path, parts: &[&[&str]]) -> Result<Found> {
    let part = |args: &[&str]| {
        let mut tests = pytest(project, venv);
        tests.arg("-s").args(args);
        Ok(Found::of(run(project, tests, LIMIT)?, count))
    };
    let mut all = Found { counts: Counts::default(), output: String::new() };
    std::thread::scope(|scope| {
        let part = &part;
        let running: Vec<_> = parts.iter().map(|args| scope.spawn(move || part(args))).collect();
        for one in running {
            all.and(&one.join().unwrap_or_else(|_| bail!("the thread of a test panicked"))?);
        }
        Ok(all)
    })
}

/// Installs wheel and source, one after the other, into an environment that has nothing, and
/// takes a lock there. Returns how many checks that were.
fn clean(project: &Project, dist: &Path) -> Result<u32> {
    let clean = environment(project, "clean", "")?;
    for end in [".whl", ".tar.gz"] {
        let mut pip = pip(project, &clean);
        pip.args(["--force-reinstall", "--no-cache-dir"]).arg(ending(dist, end)?);
        pip.env("MATURIN_PEP517_ARGS", format!("--profile {PROFILE}"));
        must(project, pip, LIMIT).with_context(|| format!("installing the {end}"))?;
        let mut python = tool(project, &clean, "python");
        python.args(["-c", FIRST_LOCK]).current_dir(dist);
        let said = must(project, python, Duration::from_mins(1))?;
        ensure!(said == "locked, counted, alone\n", "the installed {end} says {said:?}");
    }
    Ok(2)
}

/// A lock and its count in the metrics, and that nothing else was installed for them.
const FIRST_LOCK: &str = "\
import importlib.metadata as packages, bidlock, bidlock.compat
from bidlock import metrics, sync
with sync.connect('memory:').acquire('upwork', 'job_1') as lease:
    assert lease.token > 0
counted = {sample.name: sample.value for sample in metrics.samples()}
assert counted['bidlock_acquires_total'] == 1, counted
assert packages.version('bidlock') == bidlock.__version__ and not packages.requires('bidlock')
installed = {found.name for found in packages.distributions()}
assert installed <= {'bidlock', 'pip', 'setuptools', 'wheel'}, installed
print('locked, counted, alone')";

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
