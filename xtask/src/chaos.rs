//! `cargo xtask chaos`: a fleet under faults, and the figures of `docs/one-bid.md`.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::run::{self, Project};
use crate::say;
use crate::stages::{Counts, Found, LIMIT};

/// How many seeds `cargo xtask test` tries: two minutes of them.
const SEEDS: u32 = 4;
/// What a run ends with in which nothing was wrong, and a control not caught yet.
const TOO_SHORT: i32 = 3;
const CONTROLS: [&str; 3] = ["set-nx", "set-nx-query", "sqlite-row"];

/// Builds the run for release and hands it the rest of the command line; what is built is told
/// on stderr, so that stdout is the run's alone.
pub(crate) fn task(options: &[&str]) -> Result<bool> {
    let project = Project::find()?;
    let mut command = chaos(&project);
    command.args(options).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    Ok(command.status().context("starting cargo")?.success())
}

/// `cargo xtask soak chaos`: the run that `docs/one-bid.md` records.
pub(crate) fn long() -> Result<bool> {
    task(&["--minutes", "60"])
}

fn chaos(project: &Project) -> Command {
    project.cargo("run --release --quiet --package bidlock-chaos -- run")
}

/// A short run for each of some fresh seeds, with the binary that its own tests were built with:
/// what takes time in it are servers and waits. What a control has to show, it has to show in all
/// of them together: half a minute may hold too few faults.
pub(crate) fn stage(project: &Project) -> Result<Found> {
    let binary = project.target.join("debug/bidlock-chaos");
    ensure!(binary.is_file(), "{}: the tests have not built it", binary.display());
    let mut duplicates = BTreeMap::new();
    for _ in 0..SEEDS {
        let seed = RandomState::new().build_hasher().finish() % 1_000_000_000;
        say(&format!("chaos: --seed {seed} --minutes 0.5"));
        let mut command = project.command(&binary);
        command.args(["run", "--seed", &seed.to_string(), "--minutes", "0.5", "--json"]);
        let ended = run::run(project, command, LIMIT)?;
        let good = ended.status.success() || ended.status.code() == Some(TOO_SHORT);
        ensure!(good, "{}\n--seed {seed}: {}", ended.output, ended.status);
        count(&ended.output, &mut duplicates)?;
    }
    for control in CONTROLS {
        let found = duplicates.get(control).copied().unwrap_or(0);
        ensure!(found > 0, "{control}: no duplicates in {SEEDS} runs; the run catches nothing");
    }
    Ok(Found { counts: Counts { passed: SEEDS, failed: 0 }, output: String::new() })
}

/// Adds up the duplicates of each design.
fn count(output: &str, duplicates: &mut BTreeMap<String, u64>) -> Result<()> {
    let mut designs = 0;
    for line in output.lines().filter(|line| line.starts_with('{')) {
        let verdict: Value = serde_json::from_str(line).context("a line of --json")?;
        let design = verdict["design"].as_str().context("a design")?;
        let found = verdict["duplicates"].as_u64().context("its duplicates")?;
        *duplicates.entry(design.to_owned()).or_default() += found;
        designs += 1;
    }
    ensure!(designs == CONTROLS.len() + 1, "{designs} designs in:\n{output}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_added_up_over_the_seeds() {
        let line = |design: &str, n| format!("{{\"design\":\"{design}\",\"duplicates\":{n}}}\n");
        let output = |n| {
            let lines: String = CONTROLS.iter().map(|control| line(control, n)).collect();
            format!("chaos: beside it\n{}{lines}", line("bidlock", 0))
        };
        let mut sums = BTreeMap::new();
        count(&output(3), &mut sums).unwrap();
        count(&output(4), &mut sums).unwrap();
        assert_eq!((sums["set-nx"], sums["bidlock"]), (7, 0));
        assert!(count("chaos: it died", &mut sums).is_err());
        assert!(count(&line("bidlock", 0), &mut sums).is_err(), "the controls are missing");
    }
}
