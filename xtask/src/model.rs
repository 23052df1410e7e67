//! `cargo xtask model`: the protocols as state spaces, looked at to the last state.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::run::{Project, run};
use crate::stages::{Counts, Found, LIMIT};

const COMMAND: &str = "run --release --quiet --package bidlock-model --";

/// Builds the models for release and hands them the rest of the command line.
pub(crate) fn task(options: &[&str]) -> Result<bool> {
    let project = Project::find()?;
    let mut command = project.cargo(COMMAND);
    command.args(options).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    Ok(command.status().context("starting cargo")?.success())
}

/// Checks every model: one line each.
pub(crate) fn stage(project: &Project) -> Result<Found> {
    let ended = run(project, project.cargo(COMMAND), LIMIT)?;
    Ok(Found::of(ended, count))
}

/// Models that were looked at to the end, and properties that do not hold.
fn count(output: &str) -> Counts {
    let is_model = |line: &&str| line.contains(" states, depth ");
    let is_broken = |line: &&str| line.contains("does not hold") || line.contains("never reached");
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let failed = number(output.lines().filter(is_broken).count());
    let passed = number(output.lines().filter(is_model).count()).saturating_sub(failed);
    Counts { passed, failed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_hold_are_counted_and_those_that_do_not() {
        let output = "\
   246249 states, depth 40,   4.8 s  lock: crash
   135641 states, depth 39,  23.2 s  lock: loss
    «P2 one holder» does not hold after
      Tick
2 models, 381890 states, 28.0 s, 1 broken
";
        assert_eq!(count(output), Counts { passed: 1, failed: 1 });
        assert_eq!(count(""), Counts::default());
    }
}
