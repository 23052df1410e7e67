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
        Err(wrong) => {
            say(&format!("{wrong}\n{USAGE}"));
            return ExitCode::from(2);
        }
        Ok(Task::Run(options)) => bidlock_sim::main(&options),
        Ok(Task::List) => bidlock_sim::list_mutants().map(|()| 0),
        Ok(Task::Mutants(from)) => bidlock_sim::all_mutants(from),
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

/// Reads the command line; the error names the argument and what it may be.
fn read(args: impl IntoIterator<Item = String>) -> Result<Task, String> {
    let mut args = args.into_iter();
    let mut options = Options { seeds: 1, from: 1, ..Options::default() };
    let (mut list, mut mutants) = (false, false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => options.seeds = at_least(1, &arg, args.next())?,
            "--from" | "--seed" => options.from = at_least(0, &arg, args.next())?,
            "--seconds" => options.seconds = Some(at_least(1, &arg, args.next())?),
            "--mutant" => options.mutant = Some(value(&arg, args.next())?),
            "--trace" => options.trace = true,
            "--json" => options.json = true,
            "--coverage" => options.coverage = true,
            "--list-mutants" => list = true,
            "--all-mutants" => mutants = true,
            _ => return Err(format!("there is no argument {arg:?}")),
        }
    }
    Ok(match (list, mutants) {
        (true, _) => Task::List,
        (_, true) => Task::Mutants(options.from),
        _ => Task::Run(options),
    })
}

fn value(arg: &str, given: Option<String>) -> Result<String, String> {
    given.ok_or_else(|| format!("{arg}: the value is missing"))
}

fn at_least(least: u64, arg: &str, given: Option<String>) -> Result<u64, String> {
    let text = value(arg, given)?;
    let number = text.parse().ok().filter(|number| *number >= least);
    number.ok_or_else(|| format!("{arg} {text:?}: give a whole number, at least {least}"))
}

#[cfg(test)]
mod tests {
    use super::{Task, read};

    fn wrong(line: &str) -> String {
        read(line.split(' ').map(str::to_owned)).err().unwrap_or_else(|| panic!("{line} is taken"))
    }

    #[test]
    fn a_wrong_argument_is_named_with_its_value_and_what_it_may_be() {
        assert_eq!(wrong("--seeds x"), "--seeds \"x\": give a whole number, at least 1");
        assert_eq!(wrong("--seeds 0"), "--seeds \"0\": give a whole number, at least 1");
        assert_eq!(wrong("--from -1"), "--from \"-1\": give a whole number, at least 0");
        assert_eq!(wrong("--seeds 5 --seconds"), "--seconds: the value is missing");
        assert_eq!(wrong("--json --sed 3"), "there is no argument \"--sed\"");
    }

    #[test]
    fn a_run_takes_its_seeds_from_the_arguments() {
        let line = ["--seeds", "7", "--from", "500", "--json"].map(str::to_owned);
        let Ok(Task::Run(options)) = read(line) else { panic!("not taken as a run") };
        assert_eq!((options.seeds, options.from, options.json), (7, 500, true));
    }
}
