//! The simulator's command: see `cargo xtask sim`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bidlock_sim::{Failed, Options};
use clap::Parser;
use clap::builder::PossibleValuesParser;

/// Runs bidlock's own code in a simulated world, seed after seed.
#[derive(Debug, Parser)]
#[command(name = "bidlock-sim")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
struct Args {
    /// How many seeds to run
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "seconds")]
    seeds: Option<u64>,
    /// Begin no more seeds after so many seconds
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    seconds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "S", value_parser = whole, default_value_t = 1)]
    from: u64,
    /// One seed
    #[arg(long, value_name = "S", value_parser = whole,
        conflicts_with_all = ["from", "seeds", "seconds"])]
    seed: Option<u64>,
    /// Put a fault in, which some rule has to notice
    #[arg(long, value_name = "NAME", hide_possible_values = true,
        value_parser = PossibleValuesParser::new(bidlock_sim::mutant_names()))]
    mutant: Option<String>,
    /// Print all that happens
    #[arg(long, requires = "seed", conflicts_with_all = ["json", "coverage"])]
    trace: bool,
    /// Print a line of JSON for each seed
    #[arg(long)]
    json: bool,
    /// Print how often what was checked and what happened
    #[arg(long)]
    coverage: bool,
    /// Print the names of all faults
    #[arg(long, exclusive = true)]
    list_mutants: bool,
    /// Search for each fault, and print a table of what notices it
    #[arg(long, conflicts_with_all = ["seeds", "seconds", "seed", "mutant", "json", "coverage"])]
    all_mutants: bool,
    /// Look whether each fault is still noticed at the seed that a table in FILE has for it
    #[arg(long, value_name = "FILE", exclusive = true)]
    known_mutants: Option<PathBuf>,
}

fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "give a whole number, at least 0".to_owned())
}

fn at_least_one(text: &str) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| *number >= 1);
    number.ok_or_else(|| "give a whole number, at least 1".to_owned())
}

fn main() -> ExitCode {
    let done = run(Args::parse());
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _gone = writeln!(std::io::stderr(), "{}", explained(&error));
            ExitCode::from(2)
        }
    }
}

/// Does what was asked for; returns how much was wrong.
fn run(args: Args) -> Result<u64, Failed> {
    if args.list_mutants {
        return bidlock_sim::list_mutants().map(|()| 0);
    }
    if let Some(table) = args.known_mutants {
        return bidlock_sim::known_mutants(&table);
    }
    if args.all_mutants {
        return bidlock_sim::all_mutants(args.from);
    }
    bidlock_sim::main(&args.options())
}

impl Args {
    fn options(self) -> Options {
        Options {
            seeds: self.seeds.unwrap_or(1),
            from: self.seed.unwrap_or(self.from),
            seconds: self.seconds,
            mutant: self.mutant,
            trace: self.trace,
            json: self.json,
            coverage: self.coverage,
        }
    }
}

fn explained(error: &Failed) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, String> {
        let words = std::iter::once("bidlock-sim").chain(line.split_whitespace());
        Args::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn a_wrong_argument_is_named_with_its_value_and_what_it_may_be() {
        for (line, said) in [
            ("--seeds x", "invalid value 'x' for '--seeds <N>': give a whole number, at least 1"),
            ("--seeds 0", "invalid value '0' for '--seeds <N>': give a whole number, at least 1"),
            ("--from=-1", "invalid value '-1' for '--from <S>': give a whole number, at least 0"),
            ("--seconds", "a value is required for '--seconds <N>'"),
            ("--json --sed 3", "unexpected argument '--sed' found"),
            ("--mutant none", "invalid value 'none' for '--mutant <NAME>'"),
            ("--seeds 5 --seconds 7", "cannot be used with '--seconds <N>'"),
            ("--trace", "--seed <S>"),
            ("--all-mutants --seeds 4", "cannot be used with"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
        let error = read("--mutant none").unwrap_err();
        assert!(error.contains("release-without-compare"), "{error}");
    }

    #[test]
    fn a_run_takes_its_seeds_from_the_arguments() {
        let options = read("--seeds 7 --from 500 --json").unwrap().options();
        assert_eq!((options.seeds, options.from, options.json), (7, 500, true));
        let options = read("--seed 9 --trace").unwrap().options();
        assert_eq!((options.seeds, options.from, options.trace), (1, 9, true));
    }
}
