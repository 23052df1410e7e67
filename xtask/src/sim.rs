//! `cargo xtask sim`: bidlock's own code in a simulated world, seed after seed.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::run::{Project, must, run};
use crate::say;
use crate::stages::{Counts, Found, LIMIT};

/// How long the stage of `cargo xtask test` simulates.
const SECONDS: u32 = 120;
/// How many seeds it runs twice.
const TWICE: u32 = 100;
/// What has noticed each mistake, and at which seed.
const TABLE: &str = "docs/verification.md";

fn simulator(project: &Project) -> Command {
    project.cargo("run --release --quiet --package bidlock-sim --")
}

/// Builds the simulator for release and hands it the rest of the command line.
pub(crate) fn task(options: &[&str]) -> Result<bool> {
    let project = Project::find()?;
    let mut command = simulator(&project);
    command.args(options).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    Ok(command.status().context("starting cargo")?.success())
}

/// Each known mistake at the seed that showed it, two minutes of seeds that nobody has run before,
/// and some of them twice.
pub(crate) fn stage(project: &Project) -> Result<Found> {
    // As good a source as any: std's own, which differs with each process.
    let from = RandomState::new().build_hasher().finish() % 1_000_000_000;
    say(&format!("sim: seeds from {from}"));
    must(project, project.cargo("build --release --quiet --package bidlock-sim"), LIMIT)?;
    let mut known = simulator(project);
    known.args(["--known-mutants", TABLE]);
    let known = must(project, known, LIMIT)?;
    say(&format!("sim: {}", known.trim_end()));
    let mut fresh = simulator(project);
    fresh.args(["--seconds", &SECONDS.to_string(), "--from", &from.to_string()]);
    let fresh = run(project, fresh, LIMIT)?;
    let summary = fresh.output.lines().last().unwrap_or_default().to_owned();
    if !fresh.status.success() {
        bail!("{}", fresh.output);
    }
    say(&format!("sim: {summary}"));
    let twice = || {
        let mut command = simulator(project);
        command.args(["--json", "--seeds", &TWICE.to_string(), "--from", &from.to_string()]);
        must(project, command, LIMIT)
    };
    if twice()? != twice()? {
        bail!("{TWICE} seeds from {from} ran another way the second time");
    }
    Ok(Found { counts: Counts { passed: 3, failed: 0 }, output: String::new() })
}
