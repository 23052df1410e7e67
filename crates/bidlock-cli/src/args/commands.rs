use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bidlock::limits;
use clap::{ArgGroup, Args, Subcommand};

use super::duration;
use super::ledger::{LEDGER_HELP, LedgerArgs};
use super::lists::{BidsArgs, LocksArgs};
use super::operator::{AuditArgs, RESOLVE_HELP, ReopenArgs, ResolveArgs, RevokeArgs, WithdrawArgs};
use super::reconcile::{RECONCILE_HELP, ReconcileArgs};
use super::store::{self, BenchArgs, CleanupArgs, DoctorArgs};
use crate::output::time::{self, Stamp};

/// The longest bound of `--max-age`, in days.
const MAX_AGE_LONGEST: Duration = duration::LONGEST;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bid on a posting: run the command that sends the bid, at most once
    #[command(after_help = BID_HELP)]
    Bid(BidArgs),
    /// Run a command while holding a lock
    #[command(after_help = LOCK_HELP, override_usage = LOCK_USAGE)]
    Lock(LockArgs),
    /// Take a lock and print its lease id, for scripts
    #[command(after_help = ACQUIRE_HELP)]
    Acquire(AcquireArgs),
    /// Make a lease that `acquire` printed live on
    Renew(RenewArgs),
    /// Give back a lease that `acquire` printed
    Release(LeaseArgs),
    /// List locks
    Locks(LocksArgs),
    /// List attempts to bid, or the history of one posting
    Bids(BidsArgs),
    /// End an attempt whose outcome is unknown
    #[command(after_help = RESOLVE_HELP)]
    Resolve(ResolveArgs),
    /// Ask the marketplace about attempts whose outcome is unknown, and settle what it knows
    #[command(after_help = RECONCILE_HELP)]
    Reconcile(ReconcileArgs),
    /// Note that a placed bid was withdrawn
    Withdraw(WithdrawArgs),
    /// Let a refused or withdrawn posting be bid on again
    Reopen(ReopenArgs),
    /// Take a lock from its holder
    Revoke(RevokeArgs),
    /// Show who overruled what, and why
    Audit(AuditArgs),
    /// Look after the ledger as a whole: its schema, copies of it, what it forgets
    #[command(
        after_help = LEDGER_HELP,
        disable_help_subcommand = true,
        arg_required_else_help = true
    )]
    Ledger(LedgerArgs),
    /// Check that the stores answer
    Health,
    /// Look at the stores for what could harm locks or the ledger, and say how to mend it
    #[command(after_help = store::DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// List what was left behind in the lock store, or clean it up
    #[command(after_help = store::CLEANUP_HELP)]
    Cleanup(CleanupArgs),
    /// Measure the lock store
    #[command(after_help = store::BENCH_HELP)]
    Bench(BenchArgs),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them
    Man {
        /// Write one page per command into this folder
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Explain a command, or `exit-codes`
    Help {
        /// A command, or `exit-codes`
        #[arg(num_args = 0..=2)]
        topic: Vec<String>,
    },
}

const BID_HELP: &str = "\
The command's exit code says how it went:
   0  placed                        65  the marketplace refused
  75  nothing was sent; try again   anything else, or a signal: unknown
When it is interrupted (Ctrl-C reaches the command, not bidlock), it exits with anything else: not
with 0, and not with 75, because a bid may be on its way.
It sees BIDLOCK_ATTEMPT_ID (send it as idempotency key), BIDLOCK_TOKEN, BIDLOCK_KEY,
BIDLOCK_MARKETPLACE, BIDLOCK_POSTING and BIDLOCK_SEND_BY: send nothing after it, the command's
process group is stopped then. BIDLOCK_SENT_AGAIN=1 when the attempt was in doubt (--honours-keys).

Examples:
  bidlock bid upwork job_123 -- ./send-bid.sh
  bidlock bid --wait 5s --seen-at 2026-11-23T08:00:00Z upwork job_123 ./send-bid.sh
  bidlock bid upwork job_123 --payload bid.json --reference-from-stdout -- ./send bid.json
  bidlock bid upwork job_123 --payload bid.json --honours-keys 24h -- ./send bid.json

Exit codes: 0 placed, 10 already decided, 11 in doubt, 12 refused, 13 not sent, 14 stale,
75 busy, 76 lease lost before the start; `bidlock help exit-codes` lists all.";

const LOCK_USAGE: &str = "bidlock lock [OPTIONS] MARKETPLACE POSTING [--] COMMAND...
       bidlock lock [OPTIONS] --key NAME [--] COMMAND...";

const LOCK_HELP: &str = "\
The command's exit code is passed through (128+n for signal n). It sees BIDLOCK_KEY and
BIDLOCK_TOKEN. It is stopped, with its whole process group, when the lock is lost (exit 76).
Only `kill -9` of bidlock leaves it running: the lock then ends with its TTL.

Examples:
  bidlock lock --key nightly-report -- make report
  bidlock lock -n -E 0 --key sync ./sync.sh       do nothing when it already runs
  bidlock lock upwork job_123 --ttl 30s -- ./edit-bid.sh";

const ACQUIRE_HELP: &str = "\
The lease id goes to stdout, the rest to stderr. Nobody renews the lease but you.

Example:
  lease=$(bidlock acquire --key deploy --ttl 10m) || exit
  ./deploy && bidlock release --key deploy --lease \"$lease\"";

/// What a lock is about: a posting, or a name.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Target {
    /// The marketplace, such as upwork
    #[arg(value_name = "MARKETPLACE", group = "what", requires = "posting")]
    pub(crate) marketplace: Option<String>,
    /// The posting's id on the marketplace
    #[arg(value_name = "POSTING")]
    pub(crate) posting: Option<String>,
    /// A name for something that is no posting, in place of MARKETPLACE POSTING
    #[arg(long, value_name = "NAME", group = "what", conflicts_with = "marketplace")]
    pub(crate) key: Option<String>,
}

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// At most this long; zero means one attempt.
    For(Duration),
    /// Without end.
    Forever,
}

/// How a lock is taken and held.
#[derive(Debug, Clone, Args)]
pub(crate) struct HoldArgs {
    /// How long to wait for the lock: 0 for one attempt, or `forever`
    #[arg(
        short,
        long,
        value_name = "DURATION",
        default_value = "10s",
        allow_hyphen_values = true,
        value_parser = parse_wait
    )]
    pub(crate) wait: Wait,
    /// Do not wait: the same as --wait 0
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
    /// How long the lock outlives its holder's last renewal, 100ms to 24h
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        allow_hyphen_values = true,
        value_parser = parse_ttl
    )]
    pub(crate) ttl: Duration,
    /// Why or for whom the lock is held, shown to others
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
}

impl HoldArgs {
    /// The wait that counts.
    pub(crate) const fn wait(&self) -> Wait {
        if self.no_wait { Wait::For(Duration::ZERO) } else { self.wait }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct BidArgs {
    /// The marketplace, such as upwork
    pub(crate) marketplace: String,
    /// The posting's id on the marketplace
    pub(crate) posting: String,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
    /// The command has this long to send the bid; then it is stopped
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "60s",
        allow_hyphen_values = true,
        value_parser = parse_submit_timeout
    )]
    pub(crate) submit_timeout: Duration,
    /// When the posting was seen, as RFC 3339 or seconds since 1970
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = time::parse
    )]
    pub(crate) seen_at: Option<Stamp>,
    /// Bid on nothing that was seen longer ago (--seen-at)
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "24h",
        allow_hyphen_values = true,
        value_parser = parse_max_age
    )]
    pub(crate) max_age: Duration,
    /// Keep the fingerprint of this file: what the bid says
    #[arg(long, value_name = "FILE")]
    pub(crate) payload: Option<PathBuf>,
    /// The marketplace honours the attempt's id as idempotency key, for so long: an attempt in
    /// doubt is sent again under its own id, with the same --payload
    #[arg(
        long,
        value_name = "DURATION",
        requires = "payload",
        allow_hyphen_values = true,
        value_parser = parse_retention
    )]
    pub(crate) honours_keys: Option<Duration>,
    /// Keep the command's last output line as the marketplace's reference
    #[arg(long)]
    pub(crate) reference_from_stdout: bool,
    /// The command that sends the bid
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LockArgs {
    /// The marketplace, such as upwork
    #[arg(value_name = "MARKETPLACE")]
    first: Option<OsString>,
    /// The posting's id on the marketplace
    #[arg(value_name = "POSTING")]
    second: Option<OsString>,
    /// A name for something that is no posting, in place of MARKETPLACE POSTING
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
    /// Stop the command when it has held the lock this long
    #[arg(
        long,
        value_name = "DURATION",
        allow_hyphen_values = true,
        value_parser = parse_max_hold
    )]
    pub(crate) max_hold: Option<Duration>,
    /// Exit with this instead of 75 when somebody else holds the lock
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 75)]
    pub(crate) conflict_exit_code: u8,
    /// The command
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
    /// What is locked, once [`LockArgs::settle`] has sorted the words.
    #[arg(skip)]
    pub(crate) target: Option<Target>,
}

impl LockArgs {
    /// Sorts the words into what is locked and the command.
    pub(super) fn settle(&mut self, keyed: bool) -> Result<(), String> {
        let (first, second) = (self.first.take(), self.second.take());
        let mut target = Target { marketplace: None, posting: None, key: self.key.take() };
        if target.key.is_some() {
            if !keyed && first.is_some() {
                return Err("--key NAME stands in place of MARKETPLACE POSTING, before the \
                            command"
                    .to_owned());
            }
            self.command.splice(0..0, first.into_iter().chain(second));
        } else {
            let text = |word: Option<OsString>, name: &str| match word.map(OsString::into_string) {
                Some(Ok(text)) => Ok(Some(text)),
                Some(Err(_)) => Err(format!("{name} is not UTF-8")),
                None => Err(format!("{name} is missing; name a posting, or --key NAME")),
            };
            target.marketplace = text(first, "MARKETPLACE")?;
            target.posting = text(second, "POSTING")?;
        }
        if self.command.is_empty() {
            return Err("the command is missing: bidlock lock … -- COMMAND".to_owned());
        }
        self.target = Some(target);
        Ok(())
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AcquireArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) hold: HoldArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LeaseArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// The lease id that `acquire` printed
    #[arg(long, value_name = "ID")]
    pub(crate) lease: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    pub(crate) lease: LeaseArgs,
    /// How long the lease shall live from now, 100ms to 24h
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "5m",
        allow_hyphen_values = true,
        value_parser = parse_ttl
    )]
    pub(crate) ttl: Duration,
}

fn parse_wait(text: &str) -> Result<Wait, String> {
    if text == "forever" {
        return Ok(Wait::Forever);
    }
    duration::parse(text).map(Wait::For).map_err(|why| format!("{why}, or forever"))
}

pub(super) fn parse_ttl(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, limits::TTL_MIN, limits::TTL_MAX)
}

fn parse_submit_timeout(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_millis(100), Duration::from_hours(24))
}

fn parse_retention(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_mins(1), bidlock::ledger::limits::RETENTION_MAX)
}

fn parse_max_hold(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_millis(100), duration::LONGEST)
}

fn parse_max_age(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_millis(1), MAX_AGE_LONGEST)
}
