//! What can be asked about a lock store.

use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::commands::parse_ttl;

pub(super) const DOCTOR_HELP: &str = "\
Each finding is good, a warning (it works, and may fail on a bad night) or a failure (it does not
work, or will fail). The ledger is looked at where it is named, or where a bid has made it. Programs
get a line each, with tabs between: severity, check (that of a ledger begins with «ledger»), what
was found, why it matters, and what mends it.

Exit codes: 0 no failure (--strict: no warning either); 69 and 77 as any command ends that needs the
store; 78 when the store works, but its settings or what lies in it will harm locks.

Examples:
  bidlock doctor --ttl 30s --strict      before a deployment with short leases
  bidlock doctor --acl                   the users that bidlock needs, and no right more";

pub(super) const CLEANUP_HELP: &str = "\
Without --yes nothing is changed. What is done is kept in the audit, before and after. A live lease
is never removed: `bidlock revoke` takes a lock from its holder. What another client left is listed
and left alone: its owner deletes it.

Examples:
  bidlock cleanup
  bidlock cleanup --yes --because 'somebody ran PERSIST on our locks'";

pub(super) const BENCH_HELP: &str = "\
Four measurements of --seconds each, the last of 2s at most: cycles of acquire and release by one
task and by --tasks tasks, each on a key of its own; hand-overs from a release to the next of 8
waiters, between two connections; how often a waiter asks the store while nothing changes.

The keys have a random name under the prefix, so nobody else's lock is touched, and all are given
back; those of a bench that was interrupted end by themselves within 10s.

Example:
  bidlock bench --url redis://localhost:6379/0 --seconds 5 --tasks 100 --json";

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// The shortest TTL that will be used: round trips are judged against it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        allow_hyphen_values = true,
        value_parser = parse_ttl
    )]
    pub(crate) ttl: Duration,
    /// Fail on warnings too
    #[arg(long)]
    pub(crate) strict: bool,
    /// Print the least rights that locks need, and a ledger on a server, and contact nothing
    #[arg(long, conflicts_with_all = ["strict", "ttl"])]
    pub(crate) acl: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CleanupArgs {
    /// Do what REMEDY says about each
    #[arg(long, requires = "because")]
    pub(crate) yes: bool,
    /// Why; it is kept
    #[arg(
        long,
        value_name = "TEXT",
        requires = "yes",
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) because: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// How long each measurement takes, 1 to 60
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=60)
    )]
    pub(crate) seconds: u16,
    /// How many tasks take locks at the same time, 1 to 1000
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=1_000)
    )]
    pub(crate) tasks: u16,
}
