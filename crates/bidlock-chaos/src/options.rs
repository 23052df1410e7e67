//! What the command line asks for.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::scenario::{Design, Scenario};
use crate::time;

pub(crate) const USAGE: &str = "\
usage: cargo xtask chaos [--seed N] [--minutes M] [--scenario NAME] [--design NAME] [--pace P]
                         [--json] [--keep FOLDER]

  --seed N         decides faults, postings and the marketplace; without it, a fresh one
  --minutes M      how long all of it takes, without building; 10 by default, 0.5 at least
  --scenario NAME  one kind of trouble; all kinds, which is `mixed`, by default
  --design NAME    one design only: bidlock, set-nx, set-nx-query, sqlite-row
  --pace P         how dense postings and faults are: 1 by default, from 0.5 to 4
  --json           one JSON object for each design, and nothing else on stdout
  --keep FOLDER    leaves what everybody wrote in that folder";

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
    pub(crate) keep: Option<std::path::PathBuf>,
}

impl Options {
    pub(crate) fn read(words: &[String]) -> Result<Self> {
        let mut options = Self {
            seed: time::wall() % 1_000_000_000,
            length: Duration::from_mins(10),
            scenario: Scenario::Mixed,
            designs: Design::ALL.to_vec(),
            pace: 100,
            json: false,
            keep: None,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} without a value"));
            match word.as_str() {
                "--seed" => options.seed = value()?.parse().context("--seed: a number")?,
                "--minutes" => options.length = minutes(value()?)?,
                "--scenario" => options.scenario = scenario(value()?)?,
                "--design" => options.designs = vec![design(value()?)?],
                "--pace" => options.pace = pace(value()?)?,
                "--keep" => options.keep = Some(value()?.into()),
                "--json" => options.json = true,
                other => bail!("{other}: unknown option\n{USAGE}"),
            }
        }
        Ok(options)
    }
}

fn minutes(text: &str) -> Result<Duration> {
    let minutes: f64 = text.parse().context("--minutes: a number such as 10 or 0.5")?;
    ensure!((0.25..=1_440.0).contains(&minutes), "--minutes {text}: from 0.25 to 1440");
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

fn pace(text: &str) -> Result<u64> {
    let pace: f64 = text.parse().context("--pace: a number such as 1 or 1.6")?;
    ensure!((0.5..=4.0).contains(&pace), "--pace {text}: from 0.5 to 4");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "50 to 400")]
    Ok((pace * 100.0).round() as u64)
}

fn scenario(name: &str) -> Result<Scenario> {
    let known = || Scenario::ALL.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    Scenario::named(name)
        .with_context(|| format!("{name}: no such scenario; there are {}", known()))
}

fn design(name: &str) -> Result<Design> {
    Design::named(name).with_context(|| format!("{name}: no such design\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Options> {
        Options::read(&line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_issues_own_words_are_understood() {
        let options = read("--seed 7 --minutes 0.5 --scenario redis-empty --json").unwrap();
        assert_eq!((options.seed, options.length), (7, Duration::from_secs(30)));
        assert_eq!((options.scenario, options.json), (Scenario::RedisEmpty, true));
        assert_eq!(options.designs, Design::ALL);
        assert_eq!(read("--pace 1.6").unwrap().pace, 160);
        let plain = read("").unwrap();
        assert_eq!(plain.pace, 100);
        assert_eq!((plain.scenario, plain.length), (Scenario::Mixed, Duration::from_mins(10)));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let bad = ["--seed", "--seed x", "--minutes 0", "--scenario fire", "--pace 9", "now"];
        for line in bad {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
