//! What can be listed.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;

#[derive(Debug, Clone, Args)]
pub(crate) struct LocksArgs {
    /// Only locks of this marketplace
    #[arg(long, value_name = "NAME")]
    pub(crate) marketplace: Option<String>,
    /// Show the list again and again
    #[arg(long)]
    pub(crate) watch: bool,
    /// How often --watch looks
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1s",
        allow_hyphen_values = true,
        value_parser = parse_every
    )]
    pub(crate) every: Duration,
}

/// A state of an attempt, as filters name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    Reserved,
    Started,
    Placed,
    Refused,
    Unknown,
    Withdrawn,
    Abandoned,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BidsArgs {
    /// Only this marketplace
    pub(crate) marketplace: Option<String>,
    /// Only this posting; on a terminal with its history (elsewhere: --history)
    #[arg(requires = "marketplace")]
    pub(crate) posting: Option<String>,
    /// Only the history of the posting
    #[arg(long, requires = "posting", conflicts_with = "state")]
    pub(crate) history: bool,
    /// Only attempts in this state
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<StateName>,
    /// At most this many
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(crate) limit: u32,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,
}

fn parse_every(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_millis(100), Duration::from_hours(1))
}
