//! What an operator can say.

use std::time::Duration;

use bidlock::ledger::{AttemptId, limits};
use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};

use super::duration;

pub(super) const RESOLVE_HELP: &str = "\
Look at the marketplace first: --not-sent lets the posting be bid on again. It and --refused wait
until the send-by time and the visibility lag have passed and the sender's process is gone; a bid
that was found (--placed) is proof. Name the attempt that you looked at, as `bidlock bids` shows it.

Examples:
  bidlock resolve upwork job_123 --placed bid-987 --because 'seen on the site'
  bidlock resolve upwork job_123 --not-sent --attempt ID --because 'asked support: nothing there'";

#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("outcome").required(true))]
pub(crate) struct ResolveArgs {
    /// The marketplace
    pub(crate) marketplace: String,
    /// The posting's id
    pub(crate) posting: String,
    /// The bid is on the marketplace, under this reference
    #[arg(
        long,
        value_name = "REFERENCE",
        group = "outcome",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) placed: Option<String>,
    /// The marketplace refused the bid
    #[arg(long, group = "outcome")]
    pub(crate) refused: bool,
    /// Nothing reached the marketplace, and nothing will: the posting may be bid on again
    #[arg(long, group = "outcome")]
    pub(crate) not_sent: bool,
    /// The attempt you looked at; needed with --not-sent once a posting has had several
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(crate) attempt: Option<AttemptId>,
    /// You made sure that the process which was to send has ended, where bidlock cannot see it:
    /// on another machine, or in another container
    #[arg(long, requires = "not_sent")]
    pub(crate) sender_is_gone: bool,
    /// How you know; it is kept
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) because: String,
    #[arg(
        long,
        help = "How long after send-by a bid may still show up at the marketplace, up to 30d; \
                --refused and --not-sent wait for it [env: BIDLOCK_VISIBILITY_LAG] [default: 0]",
        value_name = "DURATION",
        allow_hyphen_values = true,
        value_parser = visibility_lag
    )]
    pub(crate) visibility_lag: Option<Duration>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct WithdrawArgs {
    /// The marketplace
    pub(crate) marketplace: String,
    /// The posting's id
    pub(crate) posting: String,
    /// Why; it is kept
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "withdrawn",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) because: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ReopenArgs {
    /// The marketplace
    pub(crate) marketplace: String,
    /// The posting's id
    pub(crate) posting: String,
    /// Why; it is kept
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) because: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RevokeArgs {
    /// The key, as `bidlock locks` shows it
    pub(crate) key: String,
    /// The token, as `bidlock locks` shows it: another holder is left alone
    #[arg(long, value_name = "NUMBER")]
    pub(crate) token: u64,
    /// Why; it is kept
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) because: String,
    /// Free the key at once, even if its holder still works
    #[arg(long)]
    pub(crate) now: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AuditArgs {
    /// At most this many, the newest
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=100_000)
    )]
    pub(crate) limit: u32,
}

/// Reads a marketplace's visibility lag.
pub(crate) fn visibility_lag(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::ZERO, limits::VISIBILITY_LAG_MAX)
}
