//! What the command line asks for.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::scenario::{Design, Scenario};
use crate::time;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) length: Duration,
    pub(crate) scenario: Scenario,
    pub(crate) designs: Vec<Design>,
    /// How dense postings and faults are, in percent of what is usual.
    pub(crate) pace: u64,
    pub(crate) json: bool,
    pub(crate) keep: Option<PathBuf>,
}

/// A fleet of bidders under faults, and the same for designs of old, which must be caught.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos", no_binary_name = true)]
struct Args {
    /// Decides faults, postings and the marketplace; without it, a fresh one
    #[arg(long, value_name = "N", value_parser = seed)]
    seed: Option<u64>,
    /// How long all of it takes, without building
    #[arg(long, value_name = "M", default_value = "10", value_parser = minutes)]
    minutes: Duration,
    /// One kind of trouble
    #[arg(long, value_name = "NAME", default_value = "mixed", value_parser = scenario())]
    scenario: Scenario,
    /// One design only
    #[arg(long, value_name = "NAME", value_parser = design())]
    design: Option<Design>,
    /// How dense postings and faults are
    #[arg(long, value_name = "P", default_value = "1", value_parser = pace)]
    pace: u64,
    /// One JSON object for each design, and nothing else on stdout
    #[arg(long)]
    json: bool,
    /// Leaves what everybody wrote in that folder
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

impl Options {
    /// Reads the words after the command's name.
    ///
    /// # Errors
    /// Says which option is wrong, its value, and what it may be; or is the help that was asked
    /// for.
    pub(crate) fn read(words: &[String]) -> Result<Self, clap::Error> {
        let args = Args::try_parse_from(words)?;
        Ok(Self {
            seed: args.seed.unwrap_or_else(|| time::wall() % 1_000_000_000),
            length: args.minutes,
            scenario: args.scenario,
            designs: args.design.map_or_else(|| Design::ALL.to_vec(), |design| vec![design]),
            pace: args.pace,
            json: args.json,
            keep: args.keep,
        })
    }
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "give a whole number, at least 0".to_owned())
}

/// A number from `least` to `most`.
fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("give a number from {least} to {most}"))
}

fn minutes(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_secs_f64(between(text, 0.25, 1_440.0)? * 60.0))
}

fn pace(text: &str) -> Result<u64, String> {
    let pace = between(text, 0.5, 4.0)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "50 to 400")]
    Ok((pace * 100.0).round() as u64)
}

fn scenario() -> impl TypedValueParser<Value = Scenario> {
    let names = PossibleValuesParser::new(Scenario::ALL.iter().map(|one| one.name()));
    names.try_map(|name| Scenario::named(&name).ok_or("no such scenario"))
}

fn design() -> impl TypedValueParser<Value = Design> {
    let names = PossibleValuesParser::new(Design::ALL.iter().map(|one| one.name()));
    names.try_map(|name| Design::named(&name).ok_or("no such design"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options, String> {
        let words: Vec<_> = line.split_whitespace().map(ToOwned::to_owned).collect();
        Options::read(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_issues_own_words_are_understood() {
        let options = read("--seed 7 --minutes 0.5 --scenario redis-empty --json").unwrap();
        assert_eq!((options.seed, options.length), (7, Duration::from_secs(30)));
        assert_eq!((options.scenario, options.json), (Scenario::RedisEmpty, true));
        assert_eq!(options.designs, Design::ALL);
        assert_eq!(read("--pace 1.6").unwrap().pace, 160);
        assert_eq!(read("--design set-nx").unwrap().designs, [Design::SetNx]);
        let plain = read("").unwrap();
        assert_eq!(plain.pace, 100);
        assert_eq!((plain.scenario, plain.length), (Scenario::Mixed, Duration::from_mins(10)));
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_it_may_be() {
        for (line, said) in [
            ("--seed", "a value is required for '--seed <N>'"),
            ("--seed x", "'x' for '--seed <N>': give a whole number, at least 0"),
            ("--minutes 0", "'0' for '--minutes <M>': give a number from 0.25 to 1440"),
            ("--minutes soon", "'soon' for '--minutes <M>': give a number from 0.25 to 1440"),
            ("--scenario fire", "'fire' for '--scenario <NAME>'"),
            ("--scenario fire", "redis-empty"),
            ("--design best", "set-nx-query"),
            ("--pace 9", "'9' for '--pace <P>': give a number from 0.5 to 4"),
            ("now", "unexpected argument 'now' found"),
        ] {
            let error = read(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
