//! Rounds, medians and ratios.

use std::time::Duration;

use anyhow::Result;

/// One way to do a thing: how often it is done in the time that it is given.
pub(crate) type Run = Box<dyn FnMut(Duration) -> Result<f64>>;

/// Something to measure, and what it is measured against.
pub(crate) struct Bench {
    pub(crate) name: &'static str,
    /// What the ratio should be, where somebody has asked for one.
    pub(crate) aim: Option<f64>,
    /// Makes the floor and what is measured, each on files of its own.
    pub(crate) make: fn() -> Result<(Run, Run)>,
}

/// Prints a row for each bench.
#[derive(Default)]
pub(crate) struct Table {
    head_is_out: bool,
}

impl Table {
    /// Measures both in turn, after one round of each that does not count.
    pub(crate) fn run(&mut self, bench: &Bench, rounds: usize, length: Duration) -> Result<()> {
        if !self.head_is_out {
            println!(
                "{:<24} {:>10} {:>10} {:>22} {:>6}",
                "", "floor", "bidlock", "ratio (min … max)", "aim"
            );
            self.head_is_out = true;
        }
        let (mut floor, mut ours) = (bench.make)()?;
        floor(length / 4)?;
        ours(length / 4)?;
        let (mut floors, mut ourses, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (a, b) = (floor(length)?, ours(length)?);
            floors.push(a);
            ourses.push(b);
            ratios.push(b / a);
        }
        let aim = bench.aim.map(|aim| format!("{aim:.2}")).unwrap_or_default();
        let ratio = median(&mut ratios);
        println!(
            "{:<24} {:>10.0} {:>10.0} {:>6.2} ({:.2} … {:.2}) {:>6}",
            bench.name,
            median(&mut floors),
            median(&mut ourses),
            ratio,
            ratios[0],
            ratios[ratios.len() - 1],
            aim
        );
        Ok(())
    }
}

/// Sorts, and takes the middle one.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
