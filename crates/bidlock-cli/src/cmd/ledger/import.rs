use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use bidlock::WallTime;
use bidlock::ledger::{Admitted, AuditAct, Dossier, Ledger, LedgerError};
use serde_json::json;
use tokio::task::JoinSet;

use super::format::{End, Head};
use super::progress::Progress;
use super::reader::{Checked, Reader};
use crate::args::ImportArgs;
use crate::cmd::context::Context;
use crate::exit::{Failure, code};

/// So many postings are taken in at a time: stores write them down together.
const AT_ONCE: usize = 128;

const UNCHANGED: &str = "nothing was changed; export again, and keep the file as it was written";
const RESUME: &str = "what stands before it is in the ledger; correct it, and run the same again";

/// What an import came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Taken {
    postings: u64,
    postings_known: u64,
    audit: u64,
    audit_known: u64,
}

/// Takes in what another ledger has exported.
pub(super) async fn run(args: &ImportArgs, context: &Context) -> Result<u8, Failure> {
    let Some(file) = &args.file else {
        return from(io::stdin().lock(), "standard input", 0, args.dry_run, context).await;
    };
    let name = file.display().to_string();
    // All of it is looked at first, so that a bad file changes nothing.
    let end = check(open(file)?, &name, UNCHANGED, context)?;
    if args.dry_run {
        sound(&end, context)?;
        return Ok(0);
    }
    from(open(file)?, &name, end.postings, false, context).await
}

fn open(file: &Path) -> Result<BufReader<File>, Failure> {
    let refuse = |why: String| {
        let message = format!("{}: {why}", file.display());
        Failure::new(code::USAGE, "bad_export", message)
            .hint("name a file that `bidlock ledger export` has written")
    };
    let opened = File::open(file).map_err(|e| refuse(e.to_string()))?;
    let regular = opened.metadata().map_err(|e| refuse(e.to_string()))?.is_file();
    if !regular {
        let why = "it is read twice, and has to be a regular file; pipe it into standard input";
        return Err(refuse(why.to_owned()));
    }
    Ok(BufReader::new(opened))
}

/// Reads all of it, and changes nothing.
fn check(
    input: impl BufRead,
    name: &str,
    hint: &'static str,
    context: &Context,
) -> Result<End, Failure> {
    let (mut reader, _) = Reader::open(input, name.to_owned(), hint)?;
    let mut progress = Progress::new(context, 0, "postings checked");
    while reader.next()?.is_some() {
        progress.at(reader.seen().postings);
    }
    Ok(reader.seen())
}

fn sound(end: &End, context: &Context) -> Result<(), Failure> {
    let End { postings, audit } = end;
    if context.output.json {
        context.output.object(&json!({ "postings": postings, "audit": audit, "dry_run": true }))?;
    }
    context.output.say(&format!(
        "sound: {postings} postings and {audit} lines of the audit; nothing was changed"
    ));
    Ok(())
}

/// Takes in all of it, as it is read.
async fn from(
    input: impl BufRead,
    name: &str,
    total: u64,
    dry_run: bool,
    context: &Context,
) -> Result<u8, Failure> {
    if dry_run {
        sound(&check(input, name, UNCHANGED, context)?, context)?;
        return Ok(0);
    }
    let (mut reader, head) = Reader::open(input, name.to_owned(), UNCHANGED)?;
    let ledger = context.ledger().await?;
    keep_horizon(&ledger, &head, context).await?;
    reader.hint(RESUME);
    let mut taken = Taken::default();
    let mut progress = Progress::new(context, total, "postings");
    let mut together = Vec::new();
    loop {
        let next = reader.next();
        // What stands before a line that is bad is taken in.
        let flush = !matches!(next, Ok(Some(Checked::Posting(_)))) || together.len() >= AT_ONCE;
        if flush && !together.is_empty() {
            admit(&ledger, std::mem::take(&mut together), &reader, &mut taken).await?;
            progress.at(taken.postings + taken.postings_known);
        }
        match next? {
            Some(Checked::Posting(dossier)) => together.push((reader.number(), dossier)),
            // In the order of the file: only that says what came first.
            Some(Checked::Audit(entry)) => match ledger.admit_audit(&entry).await {
                Ok(Admitted::Taken) => taken.audit += 1,
                Ok(Admitted::Known) => taken.audit_known += 1,
                Err(error) => return Err(at_line(&reader, reader.number(), error)),
            },
            None => break,
        }
    }
    finish(&ledger, &head, taken, context).await
}

/// What the other ledger has forgotten on purpose stays forgotten here: a posting that was seen
/// before then may have been bid on (L10).
async fn keep_horizon(ledger: &Ledger, head: &Head, context: &Context) -> Result<(), Failure> {
    let Some(theirs) = head.pruned_before_us.map(WallTime::from_micros) else { return Ok(()) };
    if ledger.standing().await?.pruned_before.is_some_and(|ours| ours >= theirs) {
        return Ok(());
    }
    let empty = ledger.counts().await?.iter().all(|(_, count)| *count == 0);
    if empty {
        ledger.prune(theirs, 1).await?;
        return Ok(());
    }
    let at = crate::output::time::rfc3339(theirs);
    context.output.say(&format!(
        "warning: the other ledger has forgotten what was over before {at}, and this one does not \
         know of it: bid on nothing that was seen before then"
    ));
    Ok(())
}

/// Takes in postings together; fails with the first line of them that is not taken.
async fn admit<R: BufRead>(
    ledger: &Ledger,
    postings: Vec<(u64, Box<Dossier>)>,
    reader: &Reader<R>,
    taken: &mut Taken,
) -> Result<(), Failure> {
    let mut under_way = JoinSet::new();
    for (number, dossier) in postings {
        let ledger = ledger.clone();
        under_way.spawn(async move { (number, ledger.admit(&dossier).await) });
    }
    let mut failed: Option<(u64, LedgerError)> = None;
    while let Some(done) = under_way.join_next().await {
        let (number, admitted) = done.map_err(io::Error::from)?;
        match admitted {
            Ok(Admitted::Taken) => taken.postings += 1,
            Ok(Admitted::Known) => taken.postings_known += 1,
            Err(error) => {
                if failed.as_ref().is_none_or(|(first, _)| number < *first) {
                    failed = Some((number, error));
                }
            }
        }
    }
    failed.map_or(Ok(()), |(number, error)| Err(at_line(reader, number, error)))
}

/// What the ledger said about a line.
fn at_line<R: BufRead>(reader: &Reader<R>, number: u64, error: LedgerError) -> Failure {
    let mut failure = Failure::from(error);
    failure.message = format!("{}, line {number}: {}", reader.name(), failure.message);
    failure.hint = match failure.kind {
        "differs" => Some(
            "that posting was left as it is; look at both ledgers with `bidlock bids`, take the \
             line out of a copy of the file where this ledger is right, and import that"
                .to_owned(),
        ),
        _ => Some(RESUME.to_owned()),
    };
    failure
}

async fn finish(
    ledger: &Ledger,
    head: &Head,
    taken: Taken,
    context: &Context,
) -> Result<u8, Failure> {
    let Taken { postings, postings_known, audit, audit_known } = taken;
    if postings + audit > 0 {
        let because = format!("{postings} postings, {audit} lines of the audit of {}", head.id);
        let note = context.note(because);
        let act =
            AuditAct { act: "import".to_owned(), key: None, attempt: None, token: None, note };
        ledger.audit_append(&act).await?;
    }
    if context.output.json {
        context.output.object(&json!({
            "from": head.id,
            "postings": postings,
            "postings_known": postings_known,
            "audit": audit,
            "audit_known": audit_known,
        }))?;
    }
    context.output.say(&format!(
        "imported {postings} postings and {audit} lines of the audit; {postings_known} and \
         {audit_known} were known"
    ));
    Ok(0)
}
