//! What can be said on the command line.

mod commands;
pub(crate) mod duration;
mod keyed;
mod ledger;
mod lists;
mod operator;
mod reconcile;
mod store;

use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::path::PathBuf;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

pub(crate) use commands::{
    AcquireArgs, BidArgs, Command, LeaseArgs, LockArgs, RenewArgs, Target, Wait,
};
pub(crate) use ledger::{AcceptArgs, ExportArgs, ImportArgs, LedgerArgs, LedgerCommand, PruneArgs};
pub(crate) use lists::{BidsArgs, LocksArgs, StateName};
pub(crate) use operator::{
    AuditArgs, ReopenArgs, ResolveArgs, RevokeArgs, WithdrawArgs, visibility_lag,
};
pub(crate) use reconcile::ReconcileArgs;
pub(crate) use store::{BenchArgs, CleanupArgs, DoctorArgs};

/// The exit codes, as `bidlock help exit-codes` and the man page print them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done (bid: placed by this call)
    2  the command line is wrong
   10  already decided: placed, refused or withdrawn before; nothing was done
   11  in doubt: an outcome is unknown; look with `bidlock bids`, end it with `bidlock resolve`,
       or let `bidlock reconcile` ask the marketplace
   12  the command says that the marketplace refused
   13  the command says that nothing was sent; a later call may try again
   14  stale: the posting was seen longer ago than --max-age, or before the horizon of the last
       `bidlock ledger prune`; nothing was done
   69  a store cannot be reached, or the ledger was restored from an older copy and gives nothing
       out: see `bidlock ledger status`
   75  busy: somebody else held the key for the whole wait
   76  the lease was lost: the command was stopped (lock), or nothing was sent (bid);
       the lease or token that was named holds nothing (renew, release, revoke)
   77  a store denies permission
   78  the configuration is wrong, or doctor found that the store's settings will harm locks
  126  the command cannot be run; nothing was sent
  127  the command is not found; nothing was sent
128+n  signal n ended the command (lock), or ended bidlock before the command ran
`bidlock lock` passes the command's own exit code through; -E changes its 75. `bidlock doctor`
fails with the code that other commands end with on the same store (69, 77), or with 78 where they
still work; `bidlock health` with that of the first store which gave no answer.";

const AFTER_HELP: &str = "\
Examples:
  bidlock bid upwork job_123 -- ./send-bid.sh     bid once, whoever else sees the posting
  bidlock lock --key nightly-report -- make all   run a command under a lock
  bidlock bids upwork job_123                     show what was done about a posting
  bidlock resolve upwork job_123 --placed REF --because 'seen on the site'

`bidlock help COMMAND` shows more; `bidlock help exit-codes` lists the exit codes.";

/// Makes sure that a posting is bid on at most once, and that a job runs in one place at a time.
#[derive(Debug, Parser)]
#[command(name = "bidlock", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Global {
    #[arg(
        long,
        global = true,
        value_name = "URL",
        display_order = 900,
        help = "Lock store: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, \
                unix:///SOCKET, sqlite:///PATH or sqlite:RELATIVE [env: BIDLOCK_URL, REDIS_URL, \
                REDIS_HOST]"
    )]
    pub(crate) url: Option<UrlText>,
    #[arg(
        long,
        global = true,
        value_name = "URL",
        display_order = 900,
        help = "Ledger: postgres://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE], sqlite:///PATH or \
                sqlite:RELATIVE [env: BIDLOCK_LEDGER_URL]"
    )]
    pub(crate) ledger_url: Option<UrlText>,
    #[arg(
        long,
        global = true,
        value_name = "TEXT",
        display_order = 900,
        help = "Text before every key [env: BIDLOCK_PREFIX] [default: bid_lock]"
    )]
    pub(crate) prefix: Option<String>,
    #[arg(
        long,
        global = true,
        value_name = "URL",
        display_order = 900,
        help = "Lock table of an older system, held as well while its last workers are left: \
                sqlite:///PATH?table=NAME [env: BIDLOCK_ALSO]"
    )]
    pub(crate) also: Option<UrlText>,
    #[arg(
        long,
        global = true,
        display_order = 900,
        help = "The ledger is on this machine only, though several machines share the lock store, \
                and that is meant [env: BIDLOCK_LOCAL_LEDGER]"
    )]
    pub(crate) local_ledger: bool,
    /// Read settings from this file instead of ./.env
    #[arg(long, global = true, value_name = "PATH", display_order = 900)]
    pub(crate) env_file: Option<PathBuf>,
    /// Do not read ./.env
    #[arg(long, global = true, conflicts_with = "env_file", display_order = 900)]
    pub(crate) no_env_file: bool,
    /// Write one JSON object per line, errors included
    #[arg(long, global = true, display_order = 901)]
    pub(crate) json: bool,
    /// Say nothing on stderr but what did not go well
    #[arg(short, long, global = true, display_order = 901)]
    pub(crate) quiet: bool,
    /// Log to stderr; twice for more
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        conflicts_with = "quiet",
        display_order = 901
    )]
    pub(crate) verbose: u8,
    /// When to use colours
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", display_order = 901)]
    pub(crate) color: Color,
}

/// A URL as it was typed: its password is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UrlText(String);

impl UrlText {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for UrlText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl Debug for UrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&bidlock::masked(&self.0), f)
    }
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl Global {
    /// What counts before the command line could be read.
    pub(crate) const fn bare(json: bool, color: Color) -> Self {
        Self {
            url: None,
            ledger_url: None,
            prefix: None,
            also: None,
            local_ledger: false,
            env_file: None,
            no_env_file: false,
            json,
            quiet: false,
            verbose: 0,
            color,
        }
    }
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// Clap's own error, which also carries `--help` and `--version`.
    pub(crate) fn read(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let mut definition = Self::command();
        let (arguments, keyed) = keyed::separate(&definition, arguments);
        let matches = definition.try_get_matches_from_mut(arguments)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(|e| e.format(&mut definition))?;
        if let Command::Lock(lock) = &mut cli.command {
            lock.settle(keyed).map_err(|why| {
                let lock = definition.find_subcommand("lock").cloned();
                let mut place = lock.unwrap_or(definition);
                place.error(clap::error::ErrorKind::ArgumentConflict, why)
            })?;
        }
        Ok(cli)
    }
}

#[cfg(test)]
mod tests;
