//! `cargo xtask soak`: tests that `cargo xtask test` runs scaled down, at their full size.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};

use crate::run::{Project, Stopwatch};
use crate::{python, say};

/// What a test reads to learn that it shall run at full size.
const SWITCH: &str = "BIDLOCK_SOAK";
/// The tests of the Python package, all together.
const PYTHON: &str = "python";

/// A test file that knows a full size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Soak {
    package: String,
    test: String,
}

/// Runs one of them, or all; returns whether all went well. Their output is shown as it comes:
/// the numbers in it are recorded by hand in `docs/verification.md`.
pub(crate) fn task(name: Option<&str>) -> Result<bool> {
    let project = Project::find()?;
    let all = find(&project.root.join("crates"))?;
    let chosen: Vec<_> = all.iter().filter(|s| name.is_none_or(|name| s.test == name)).collect();
    let with_python = name.is_none_or(|name| name == PYTHON);
    if chosen.is_empty() && !with_python {
        let names = all.iter().map(|soak| soak.test.as_str()).chain([PYTHON]);
        bail!("no such test; those with a full size: {}", names.collect::<Vec<_>>().join(", "));
    }
    let mut good = Vec::new();
    for soak in &chosen {
        good.push(one(&soak.test, || rust(&project, soak))?);
    }
    if with_python {
        good.push(one(PYTHON, || python::soak(&project, SWITCH))?);
    }
    let passed = good.iter().filter(|good| **good).count();
    say(&format!("{passed} passed, {} failed", good.len() - passed));
    Ok(passed == good.len())
}

fn one(name: &str, soak: impl FnOnce() -> Result<bool>) -> Result<bool> {
    say(&format!("{name}: running"));
    let watch = Stopwatch::start();
    let good = soak()?;
    let word = if good { "passed" } else { "FAILED" };
    say(&format!("{name}: {word} in {:.1} s", watch.seconds()));
    Ok(good)
}

fn rust(project: &Project, soak: &Soak) -> Result<bool> {
    let mut command = project.cargo("test --all-features");
    command.args(["--package", &soak.package, "--test", &soak.test]);
    command.args(["--", "--nocapture", "--test-threads=1"]);
    command.env(SWITCH, "1").stdout(Stdio::inherit()).stderr(Stdio::inherit());
    Ok(command.status().context("starting cargo")?.success())
}

/// Integration tests whose source, or that of a module in the folder beside it, names the switch.
fn find(crates: &Path) -> Result<Vec<Soak>> {
    let mut found = Vec::new();
    for package in std::fs::read_dir(crates)? {
        let package = package?;
        let tests = package.path().join("tests");
        if !tests.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&tests)? {
            let path = file?.path();
            let Some(test) = test_name(&path) else { continue };
            if mentions_switch(&path)? || mentions_switch(&tests.join(&test))? {
                let package = package.file_name().to_string_lossy().into_owned();
                found.push(Soak { package, test });
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The test binary that a path makes: `tests/NAME.rs` or `tests/NAME/main.rs`.
fn test_name(path: &Path) -> Option<String> {
    let is_file = path.extension().is_some_and(|e| e == "rs");
    let makes_test = is_file || path.join("main.rs").is_file();
    makes_test.then(|| path.file_stem()?.to_str().map(ToOwned::to_owned))?
}

fn mentions_switch(path: &Path) -> Result<bool> {
    if path.is_dir() {
        for inner in std::fs::read_dir(path)? {
            if mentions_switch(&inner?.path())? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    Ok(path.is_file() && String::from_utf8_lossy(&std::fs::read(path)?).contains(SWITCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_name_the_switch_are_found_in_files_and_folders() {
        let project = Project::find().unwrap();
        let crates = project.empty_folder("soak-sample").unwrap();
        let write = |path: &str, text: &str| {
            let path = crates.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/tests/crash.rs", "env(\"BIDLOCK_SOAK\")");
        write("a/tests/plain.rs", "nothing");
        write("a/tests/common/mod.rs", "BIDLOCK_SOAK");
        write("b/tests/many/main.rs", "mod inner;");
        write("b/tests/many/inner.rs", "BIDLOCK_SOAK");
        write("c/src/lib.rs", "BIDLOCK_SOAK");
        let soak = |package: &str, test: &str| Soak { package: package.into(), test: test.into() };
        assert_eq!(find(&crates).unwrap(), [soak("a", "crash"), soak("b", "many")]);
    }
}
