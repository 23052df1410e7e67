use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bidlock::ledger::Ledger;

use super::format::{AuditLine, End, Head, Line, PostingLine, VERSION};
use super::progress::Progress;
use crate::args::ExportArgs;
use crate::cmd::context::Context;
use crate::exit::{Failure, code};
use crate::output::time;

/// So many postings are in memory at a time.
const PAGE: u32 = 200;

/// Writes all of the ledger as JSON Lines.
pub(super) async fn run(args: &ExportArgs, context: &Context) -> Result<u8, Failure> {
    let Some(file) = &args.file else {
        let ledger = context.ledger_to_read().await?;
        let mut out = BufWriter::new(io::stdout().lock());
        let end = write(&ledger, &mut out, context).await;
        let end = end.and_then(|end| Ok(out.flush().map(|()| end)?));
        told(end.map_err(|failure| of_place(failure, "standard output"))?, None, context);
        return Ok(0);
    };
    check_place(file, args.overwrite)?;
    let ledger = context.ledger_to_read().await?;
    let part = part_of(file);
    let written = to_file(&ledger, &part, file, context).await;
    if written.is_err() {
        // Half an export is worth nothing; that it cannot be removed is told by the other error.
        fs::remove_file(&part).unwrap_or_default();
    }
    told(written?, Some(file), context);
    Ok(0)
}

/// Refuses a place where something lies that is not to be replaced: another file by a slip, or
/// what is no file at all, which a rename would put out of the way.
fn check_place(file: &Path, overwrite: bool) -> Result<(), Failure> {
    let Ok(there) = file.metadata().or_else(|_| file.symlink_metadata()) else { return Ok(()) };
    let refuse = |why: &str, hint: &str| {
        let message = format!("{} {why}", file.display());
        Err(Failure::new(code::USAGE, "exists", message).hint(hint))
    };
    if !there.is_file() {
        let hint = "nothing was written; name a file, or leave it out for standard output";
        return refuse("is no regular file", hint);
    }
    if !overwrite {
        let hint = "nothing was written; name another file, or add --overwrite";
        return refuse("is there already", hint);
    }
    Ok(())
}

fn part_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

async fn to_file(
    ledger: &Ledger,
    part: &Path,
    file: &Path,
    context: &Context,
) -> Result<End, Failure> {
    let failed = |e: io::Error| {
        let message = format!("{}: {e}", file.display());
        let no_folder = e.kind() == io::ErrorKind::NotFound;
        let failure =
            Failure { message, ..Failure::from(e) }.hint("name a file that can be written");
        if no_folder {
            Failure { code: code::USAGE, kind: "not_found", ..failure }
        } else {
            failure
        }
    };
    // Whoever reads it knows who bids on what.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut out = BufWriter::new(options.open(part).map_err(failed)?);
    let end = write(ledger, &mut out, context).await;
    let end = end.map_err(|failure| of_place(failure, &file.display().to_string()))?;
    let out = out.into_inner().map_err(|e| failed(e.into_error()))?;
    out.sync_all().map_err(failed)?;
    fs::rename(part, file).map_err(failed)?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new(".")));
    // The name is to outlive a power cut as well.
    folder.and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(end)
}

async fn write(ledger: &Ledger, out: &mut impl Write, context: &Context) -> Result<End, Failure> {
    let standing = ledger.standing().await?;
    let total: u64 = ledger.counts().await?.iter().map(|(_, count)| count).sum();
    let mut progress = Progress::new(context, total, "attempts");
    line(
        out,
        &Head {
            bidlock_ledger: VERSION,
            id: standing.id.to_string(),
            exported_at: time::rfc3339(context.now()),
            pruned_before_us: standing.pruned_before.map(bidlock::WallTime::as_micros),
        },
    )?;
    let (mut end, mut attempts, mut after) = (End::default(), 0, None);
    loop {
        let page = ledger.dossiers(after.as_ref(), PAGE).await?;
        for dossier in &page {
            line(out, &Line::Posting(PostingLine::from(dossier)))?;
            attempts += dossier.attempts.len() as u64;
        }
        end.postings += page.len() as u64;
        progress.at(attempts);
        let last = page.last().map(|last| (last.marketplace.clone(), last.posting_encoded.clone()));
        if page.len() < PAGE as usize {
            break;
        }
        after = last;
    }
    let mut after = None;
    loop {
        let page = ledger.audit_forward(after, PAGE).await?;
        for entry in &page {
            line(out, &Line::Audit(AuditLine::from(entry)))?;
        }
        end.audit += page.len() as u64;
        if page.len() < PAGE as usize {
            break;
        }
        after = page.last().map(|last| last.seq);
    }
    line(out, &Line::End(end))?;
    Ok(end)
}

/// A failure of writing, with the place that could not be written.
fn of_place(failure: Failure, place: &str) -> Failure {
    if failure.kind != "system" {
        return failure;
    }
    let message = format!("{place}: {}", failure.message);
    Failure { message, ..failure }.hint("half an export is worth nothing: make room, and repeat it")
}

fn line(out: &mut impl Write, line: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_vec(line).map_err(io::Error::from)?;
    text.push(b'\n');
    Ok(out.write_all(&text)?)
}

fn told(end: End, file: Option<&Path>, context: &Context) {
    let to = file.map(|file| format!(" to {}", file.display())).unwrap_or_default();
    let End { postings, audit } = end;
    context.output.say(&format!("exported {postings} postings and {audit} lines of the audit{to}"));
}
