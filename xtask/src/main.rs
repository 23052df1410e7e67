//! The project's own tasks: `cargo xtask test`, `cargo xtask tidy`, `cargo xtask tools`,
//! `cargo xtask soak [NAME]`, `cargo xtask bench [--quick] [NAME …]`,
//! `cargo xtask chaos [--seed N] [--minutes M] [--scenario NAME] [--json]`,
//! `cargo xtask sim --seeds N [--from S] [--mutant NAME] [--json]`,
//! `cargo xtask model [--json | --mutants]`, `cargo xtask mutants`.

mod bench;
mod chaos;
mod checks;
mod examples;
mod metadata;
mod model;
mod mutants;
mod python;
mod run;
mod sim;
mod smoke;
mod soak;
mod stages;
mod tests_stage;
mod tidy;
mod tools;

use std::io::Write as _;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask TASK

  test         everything that a change has to pass; ends with `N passed, N failed`
  tidy         house rules that neither compiler nor linter knows
  tools        installs what the tests need and the machine lacks
  python       the Python package alone, as in `test`
  soak [NAME]  the tests that run scaled down in `test`, at full size; `chaos`: an hour of it
  model […]    the protocols as state spaces; --json, or --mutants
  mutants      searches for every planted mistake, and writes docs/verification.md's tables
  bench […]    what docs/performance.md shows; --quick, or the names of some
  chaos […]    a fleet of bidders under faults; --seed N, --minutes M, --scenario NAME, --json
  sim […]      the code in a simulated world; --seeds N, --from S, --mutant NAME,
               --list-mutants, --json, --seed N --trace";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["test"] => stages::test(),
        ["tidy"] => tidy::task(),
        ["tools"] => tools::task(),
        ["mutants"] => mutants::task(),
        ["python"] => python::task(),
        ["model", ref options @ ..] => model::task(options),
        ["bench", ref options @ ..] => bench::task(options),
        ["chaos", ref options @ ..] => chaos::task(options),
        ["sim", ref options @ ..] => sim::task(options),
        ["soak"] => soak::task(None),
        ["soak", "chaos"] => chaos::long(),
        ["soak", name] => soak::task(Some(name)),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line at once, also into a pipe. A reader that went away is no reason to stop.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}
