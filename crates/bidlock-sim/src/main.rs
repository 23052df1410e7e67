//! The simulator's command: see `cargo xtask sim`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut options = bidlock_sim::Options { seeds: 1, ..Default::default() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        match arg.as_str() {
            "--seeds" => options.seeds = number(),
            "--from" | "--seed" => options.from = number(),
            "--trace" => options.trace = true,
            _ => return ExitCode::from(2),
        }
    }
    match bidlock_sim::main(&options) {
        Ok(0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
