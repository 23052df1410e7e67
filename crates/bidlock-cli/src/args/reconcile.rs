//! How marketplaces are asked about attempts in doubt.

use std::ffi::OsString;
use std::time::Duration;

use bidlock::ReconcileOptions;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::{duration, visibility_lag};

pub(super) const RECONCILE_HELP: &str = "\
The command is run for each attempt in doubt, and looks for it at the marketplace. It sees
BIDLOCK_ATTEMPT_ID, BIDLOCK_MARKETPLACE, BIDLOCK_POSTING and BIDLOCK_PAYLOAD, and reads the rest as
one JSON object: attempt, marketplace, posting, payload, started_at, send_by, reference, holder,
history. It answers with one line, and exits with 0:
  found REF            the marketplace has the bid: it becomes placed
  refused [REASON]     the marketplace refused it: it becomes refused, once its sender is gone
  not-found            nothing is there: this proves nothing, and changes nothing
  cannot-tell [WHY]    nor does this, or any other answer, exit code or signal
or with {\"answer\": \"found\", \"reference\": REF} and the like (reason, why).

The posting's lock is held while it runs, and not waited for: several machines may do this at once.

Examples:
  bidlock reconcile -- ./ask-upwork.sh
  bidlock reconcile --every 1m --marketplace upwork --reconcile-with 'curl -s … | jq -r …'
  bidlock reconcile --dry-run          what would be asked about

Exit codes: 0 nothing is in doubt any more, 11 something still is; 69, 77 and 78 as everywhere. With
--every it goes on until it is asked to stop, and ends with 0 then.";

#[derive(Debug, Clone, Args)]
pub(crate) struct ReconcileArgs {
    /// Ask with this line of shell, in place of COMMAND
    #[arg(long, value_name = "LINE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) reconcile_with: Option<String>,
    /// Ask again and again, with this pause between
    #[arg(
        long,
        value_name = "DURATION",
        allow_hyphen_values = true,
        conflicts_with = "dry_run",
        value_parser = parse_every
    )]
    pub(crate) every: Option<Duration>,
    /// Ask first so long after an attempt's send-by: its bid may take a while to show, up to 30d
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "1m",
        allow_hyphen_values = true,
        value_parser = visibility_lag
    )]
    pub(crate) visibility_delay: Duration,
    /// Only attempts at this marketplace
    #[arg(long, value_name = "NAME")]
    pub(crate) marketplace: Option<String>,
    /// Ask at most so many questions in one round, 1 to 10000
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = ReconcileOptions::LIMIT,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(ReconcileOptions::LIMIT_MAX))
    )]
    pub(crate) limit: u32,
    /// How long one answer may take; then the command is stopped
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        allow_hyphen_values = true,
        value_parser = parse_ask_timeout
    )]
    pub(crate) ask_timeout: Duration,
    /// List what would be asked about, and ask nothing
    #[arg(long, conflicts_with_all = ["reconcile_with", "command"])]
    pub(crate) dry_run: bool,
    /// The command that asks the marketplace
    #[arg(
        trailing_var_arg = true,
        value_name = "COMMAND",
        required_unless_present_any = ["reconcile_with", "dry_run"],
        conflicts_with = "reconcile_with"
    )]
    pub(crate) command: Vec<OsString>,
}

fn parse_every(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_millis(100), Duration::from_hours(24))
}

fn parse_ask_timeout(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_millis(100), Duration::from_hours(1))
}
