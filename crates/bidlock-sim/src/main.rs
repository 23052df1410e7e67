//! The simulator's command: see `cargo xtask sim`.

use std::io::Write as _;
use std::process::ExitCode;

use bidlock_sim::{Failed, Options};

const USAGE: &str = "\
usage: bidlock-sim --seeds N | --seconds N [--from S] [--mutant NAME] [--json] [--coverage]
       bidlock-sim --seed N --trace [--mutant NAME]
       bidlock-sim --list-mutants
       bidlock-sim --all-mutants [--from S]";

enum Task {
    Run(Options),
    List,
    Mutants(u64),
}

fn main() -> ExitCode {
    let done = match read(std::env::args().skip(1)) {
        None => {
            say(USAGE);
            return ExitCode::from(2);
        }
        Some(Task::Run(options)) => bidlock_sim::main(&options),
        Some(Task::List) => bidlock_sim::list_mutants().map(|()| 0),
        Some(Task::Mutants(from)) => bidlock_sim::all_mutants(from),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            say(&explained(&error));
            ExitCode::from(2)
        }
    }
}

fn explained(error: &Failed) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn say(line: &str) {
    let _gone = writeln!(std::io::stderr(), "{line}");
}

fn read(mut args: impl Iterator<Item = String>) -> Option<Task> {
    let mut options = Options { seeds: 1, from: 1, ..Options::default() };
    let (mut list, mut mutants) = (false, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => options.seeds = args.next()?.parse().ok()?,
            "--from" | "--seed" => options.from = args.next()?.parse().ok()?,
            "--seconds" => options.seconds = Some(args.next()?.parse().ok()?),
            "--mutant" => options.mutant = Some(args.next()?),
            "--trace" => options.trace = true,
            "--json" => options.json = true,
            "--coverage" => options.coverage = true,
            "--list-mutants" => list = true,
            "--all-mutants" => mutants = true,
            _ => return None,
        }
    }
    Some(match (list, mutants) {
        (true, _) => Task::List,
        (_, true) => Task::Mutants(options.from),
        _ => Task::Run(options),
    })
}
