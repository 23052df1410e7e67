//! `cargo xtask test`: one stage after the other, each reported as it starts and as it ends.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::run::{Ended, Project, Stopwatch, must};
use crate::{chaos, checks, examples, model, python, say, sim, smoke, tests_stage, tidy, tools};

/// How many checks of a stage went well, and how many did not.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

impl Counts {
    /// A stage that is one check, and went well.
    pub(crate) const ONE: Self = Self { passed: 1, failed: 0 };

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What a stage found: its counts, and where it failed what people have to see.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) counts: Counts,
    pub(crate) output: String,
}

impl Found {
    /// A stage that is one check, and went well.
    pub(crate) const fn good() -> Self {
        Self { counts: Counts::ONE, output: String::new() }
    }

    /// Takes what another one found as well.
    pub(crate) fn and(&mut self, other: &Self) {
        self.counts.add(other.counts);
        self.output += &other.output;
    }

    /// What a command's output tells; one that failed without saying how often has failed once.
    pub(crate) fn of(ended: Ended, count: impl FnOnce(&str) -> Counts) -> Self {
        let mut counts = count(&ended.output);
        if !ended.status.success() && counts.failed == 0 {
            counts.failed = 1;
        }
        Self { counts, output: ended.output }
    }
}

type Stage = (&'static str, fn(&Project) -> Result<Found>);

/// The cheap stages come first, so that most mistakes show within a minute.
const STAGES: &[Stage] = &[
    ("tools", tools::stage),
    ("fmt", fmt),
    ("tidy", tidy::stage),
    ("duplicates", checks::duplicates),
    ("clippy", clippy),
    ("oldest Rust", checks::oldest_rust),
    ("docs", docs),
    ("tests", tests_stage::stage),
    ("sim", sim::stage),
    ("model", model::stage),
    ("examples", examples::stage),
    ("python", python::stage),
    ("first command", smoke::stage),
    ("chaos", chaos::stage),
];

/// No single command of a stage may take longer: a test that hangs is a failure.
pub(crate) const LIMIT: Duration = Duration::from_mins(15);

/// Runs all stages, whatever fails before; returns whether all went well.
pub(crate) fn test() -> Result<bool> {
    let project = Project::find()?;
    let total = run_all(&project, STAGES);
    say(&format!("{} passed, {} failed", total.passed, total.failed));
    Ok(total.failed == 0)
}

fn run_all(project: &Project, stages: &[Stage]) -> Counts {
    let mut total = Counts::default();
    for (name, stage) in stages {
        say(&format!("{name}: running"));
        let watch = Stopwatch::start();
        let found = stage(project).unwrap_or_else(|error| Found {
            counts: Counts { passed: 0, failed: 1 },
            output: format!("{error:#}"),
        });
        let seconds = watch.seconds();
        let Counts { passed, failed } = found.counts;
        if failed > 0 {
            say(found.output.trim_end());
            say(&format!("{name}: FAILED ({passed} passed, {failed} failed) in {seconds:.1} s"));
        } else {
            say(&format!("{name}: {passed} passed in {seconds:.1} s"));
        }
        total.add(found.counts);
    }
    total
}

fn fmt(project: &Project) -> Result<Found> {
    must(project, project.cargo("fmt --all --check"), LIMIT)?;
    Ok(Found::good())
}

fn clippy(project: &Project) -> Result<Found> {
    let args = "clippy --workspace --all-targets --all-features -- -D warnings";
    must(project, project.cargo(args), LIMIT)?;
    Ok(Found::good())
}

fn docs(project: &Project) -> Result<Found> {
    let mut doc = project.cargo("doc --workspace --no-deps --all-features");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    // Cargo's own warnings, such as two pages with one name, fail nothing by themselves.
    let output = must(project, doc, LIMIT)?;
    if output.lines().any(|line| line.starts_with("warning:")) {
        bail!("{output}");
    }
    Ok(Found::good())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stage_that_fails_stops_no_other_and_is_counted() {
        let project = Project::find().unwrap();
        let bad: fn(&Project) -> Result<Found> = |_| anyhow::bail!("as this test expects");
        let good: fn(&Project) -> Result<Found> =
            |_| Ok(Found { counts: Counts { passed: 7, failed: 0 }, output: String::new() });
        let total = run_all(&project, &[("a", good), ("b", bad), ("c", good)]);
        assert_eq!(total, Counts { passed: 14, failed: 1 });
    }
}
