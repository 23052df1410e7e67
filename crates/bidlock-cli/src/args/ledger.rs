//! What can be done with a ledger as a whole.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};

use super::duration;

pub(super) const LEDGER_HELP: &str = "\
Examples:
  bidlock ledger status
  bidlock ledger export backup.jsonl
  bidlock ledger import backup.jsonl --ledger-url postgres://bids@db/bids
  bidlock ledger prune --older-than 90d --yes";

const EXPORT_HELP: &str = "\
JSON Lines: a head, one line per posting with all its attempts and history, the audit, and an end.
Nothing is locked meanwhile: what bidders write behind the place where the export reads is not in
it. Stop them first where that matters; a later export can be imported over an earlier one.
FILE.part is written, and becomes FILE when it is complete and on disk.

Examples:
  bidlock ledger export backup.jsonl
  bidlock ledger export | zstd > backup.jsonl.zst";

const IMPORT_HELP: &str = "\
A FILE is read twice: all of it is checked before anything is changed. What comes on standard input
can only be checked line by line. Postings that are known already stay as they are, so an import
that was interrupted is simply run again, and a later export can be imported over an earlier one. A
posting of which both know different things is refused with its line; the rest of the file is not
read then.

Examples:
  bidlock ledger import backup.jsonl --dry-run
  zstdcat backup.jsonl.zst | bidlock ledger import";

const PRUNE_HELP: &str = "\
Removes postings whose every attempt is decided or abandoned, and was so for that long; never one
that is reserved, started or in doubt. From then on the ledger answers «stale» for postings that
were seen before that time (--seen-at). A bidder that does not say when it saw a posting could bid
again on one that was forgotten: choose a time after which no marketplace shows a posting any more.
Without --yes nothing is changed: what would be removed is counted.

Examples:
  bidlock ledger prune
  bidlock ledger prune --older-than 180d --yes";

/// Ten years: a ledger may be kept for longer than any lock or sighting matters.
const OLDEST: Duration = Duration::from_hours(24 * 3_653);

const ACCEPT_HELP: &str = "\
A ledger that was restored from an older copy has forgotten bids, and gives nothing out. Bring them
back first: import the newest export, ask the marketplaces, or make bids known by
`bidlock bid MARKETPLACE POSTING -- true` once accepted and before any bidder starts. See
docs/operations.md.";

#[derive(Debug, Clone, Args)]
pub(crate) struct LedgerArgs {
    #[command(subcommand)]
    pub(crate) command: LedgerCommand,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Make the ledger's schema, or bring it up to date
    Migrate,
    /// Show which ledger it is, what is in it, and what stands against it
    Status,
    /// Write all of the ledger as JSON Lines
    #[command(after_help = EXPORT_HELP)]
    Export(ExportArgs),
    /// Take in what another ledger has exported
    #[command(after_help = IMPORT_HELP)]
    Import(ImportArgs),
    /// Forget postings that were over long ago
    #[command(after_help = PRUNE_HELP)]
    Prune(PruneArgs),
    /// Accept a ledger that was restored from an older copy: bids may begin again
    #[command(after_help = ACCEPT_HELP)]
    Accept(AcceptArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ExportArgs {
    /// Where to; standard output without it
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Replace FILE where it is there already
    #[arg(long, requires = "file")]
    pub(crate) overwrite: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArgs {
    /// Where from; standard input without it
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Check the whole of it, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PruneArgs {
    /// How long ago a posting's last step was made, at least: 1s to 3653d
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "90d",
        allow_hyphen_values = true,
        value_parser = parse_older_than
    )]
    pub(crate) older_than: Duration,
    /// Only count what would be removed; so it is without --yes
    #[arg(long, conflicts_with = "yes")]
    pub(crate) dry_run: bool,
    /// Remove it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Why less than 7d are enough; it is kept
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) because: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AcceptArgs {
    /// How you know that every bid is known again; it is kept
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) because: String,
}

fn parse_older_than(text: &str) -> Result<Duration, String> {
    duration::parse_between(text, Duration::from_secs(1), OLDEST)
}
