//! The stage that builds and runs every example of the library.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::run::{Project, must};
use crate::stages::{Counts, Found, LIMIT};

/// An example shows one task, and is over soon.
const EXAMPLE_LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn stage(project: &Project) -> Result<Found> {
    let names = names(&project.root.join("crates/bidlock/examples"))?;
    // The same packages and features as in the tests, so that nothing is built twice.
    must(project, project.cargo("build --workspace --all-features --examples"), LIMIT)?;
    let mut counts = Counts::default();
    let mut output = String::new();
    for name in names {
        let folder = project.empty_folder(&format!("example-{name}"))?;
        let mut example = project.command(project.target.join("debug/examples").join(&name));
        example.current_dir(&folder).env("HOME", &folder).env("XDG_STATE_HOME", &folder);
        match must(project, example, EXAMPLE_LIMIT) {
            Ok(_) => counts.passed += 1,
            Err(error) => {
                counts.failed += 1;
                writeln!(output, "example {name}: {error:#}")?;
            }
        }
    }
    Ok(Found { counts, output })
}

fn names(folder: &std::path::Path) -> Result<Vec<String>> {
    let files =
        std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths: Vec<PathBuf> = files.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    let mut names: Vec<String> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("no example in {}", folder.display());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_examples_is_a_failure_and_no_skip() {
        let project = Project::find().unwrap();
        let folder = project.empty_folder("examples-none").unwrap();
        assert!(names(&folder).is_err());
        std::fs::write(folder.join("b.rs"), "").unwrap();
        std::fs::write(folder.join("a.rs"), "").unwrap();
        std::fs::write(folder.join("notes.md"), "").unwrap();
        assert_eq!(names(&folder).unwrap(), ["a", "b"]);
    }
}
