//! Runs seeds, and tells how they went.

use std::io::Write as _;

use crate::coverage::Coverage;
use crate::plan::Plan;
use crate::redis::{Kind, Server};
use crate::world::{Outcome, World};

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// How many seeds.
    pub seeds: u64,
    /// The first of them.
    pub from: u64,
    /// Whether to print everything that happens.
    pub trace: bool,
}

/// Runs a seed.
fn run(server: &mut Server, seed: u64, keeps: bool) -> Outcome {
    World::new(Plan::new(seed), server, bidlock_redis::Scripts::default(), keeps).run()
}

/// Runs all seeds; returns how many rules were broken.
///
/// # Errors
/// When there is no interpreter, or nobody reads what is printed.
pub fn main(options: &Options) -> Result<u64, Box<dyn std::error::Error>> {
    let mut server = Server::new(Kind::Redis70)?;
    let mut out = std::io::stdout().lock();
    let mut coverage = Coverage::default();
    let (mut events, mut micros, mut violations) = (0, 0, 0);
    for seed in options.from..options.from + options.seeds {
        let done = run(&mut server, seed, options.trace);
        events += done.events;
        micros += done.virtual_us;
        coverage.add(&done.coverage);
        for line in &done.lines {
            writeln!(out, "{line}")?;
        }
        if options.trace {
            writeln!(out, "hash {:016x}", done.hash)?;
        }
        if let Some(violation) = done.violation {
            violations += 1;
            writeln!(out, "seed {seed}: {}: {}", violation.invariant, violation.what)?;
        }
    }
    for (what, count) in coverage.all() {
        writeln!(out, "{count:>9}  {what}")?;
    }
    // In hundredths of an hour, which is what is shown.
    let (hours, rest) = (micros / 36_000_000 / 100, micros / 36_000_000 % 100);
    let seeds = options.seeds;
    writeln!(
        out,
        "{seeds} seeds, {hours}.{rest:02} virtual hours, {events} events, {violations} violations"
    )?;
    Ok(violations)
}
