//! Measures bidlock beside the least that the same store could do: rounds of each in turn, so
//! that a machine that is busy with other things spoils both; medians and spread are printed.
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

mod ledger;
mod lock;
mod round;

use std::time::Duration;

use anyhow::{Result, bail};

use round::{Bench, Table};

const USAGE: &str = "usage: bidlock-bench [--quick] [NAME …]";

fn main() -> Result<()> {
    let mut quick = false;
    let mut names = Vec::new();
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--quick" => quick = true,
            flag if flag.starts_with('-') => bail!("{flag}: unknown option; {USAGE}"),
            name => names.push(name.to_owned()),
        }
    }
    let (rounds, length) = if quick { (5, 300) } else { (15, 1_000) };
    let length = Duration::from_millis(length);
    let benches: Vec<Bench> = lock::benches().into_iter().chain(ledger::benches()).collect();
    if let Some(name) = names.iter().find(|name| !benches.iter().any(|b| b.name == **name)) {
        let known: Vec<_> = benches.iter().map(|b| b.name).collect();
        bail!("{name}: no such benchmark; there are {}", known.join(", "));
    }
    println!("{rounds} rounds of {length:?} each, in turn; operations per second");
    let mut table = Table::default();
    for bench in benches.iter().filter(|b| names.is_empty() || names.iter().any(|n| n == b.name)) {
        table.run(bench, rounds, length)?;
    }
    Ok(())
}
