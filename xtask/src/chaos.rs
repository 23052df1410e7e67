//! `cargo xtask chaos`: a fleet under faults, and the figures of `docs/one-bid.md`.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::run::Project;

/// Builds the run for release and hands it the rest of the command line; what is built is told
/// on stderr, so that stdout is the run's alone.
pub(crate) fn task(options: &[&str]) -> Result<bool> {
    let project = Project::find()?;
    let mut command = project.cargo("run --release --quiet --package bidlock-chaos -- run");
    command.args(options).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    Ok(command.status().context("starting cargo")?.success())
}
