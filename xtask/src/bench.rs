//! `cargo xtask bench`: the figures of `docs/performance.md`.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::run::Project;

/// Builds the benchmarks for release and hands them the rest of the command line.
pub(crate) fn task(options: &[&str]) -> Result<bool> {
    let project = Project::find()?;
    let mut command = project.cargo("run --release --quiet --package bidlock-bench --");
    command.args(options).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    Ok(command.status().context("starting cargo")?.success())
}
