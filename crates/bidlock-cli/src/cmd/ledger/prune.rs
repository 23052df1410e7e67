use std::time::Duration;

use bidlock::WallTime;
use bidlock::ledger::{AuditAct, Dossier, Ledger, State};
use serde_json::json;

use super::progress::Progress;
use crate::args::{PruneArgs, duration};
use crate::cmd::context::Context;
use crate::exit::{Failure, code};
use crate::output::time;

/// What is younger may still come by a second way: a queue that delivers again, a backlog that is
/// read anew after a weekend.
const YOUNGEST: Duration = Duration::from_hours(24 * 7);
/// So many postings are removed by one transaction.
const BATCH: u32 = 500;

/// Forgets postings that were over long ago (L10).
pub(super) async fn run(args: PruneArgs, context: &Context) -> Result<u8, Failure> {
    let age = duration::show(args.older_than);
    if args.older_than < YOUNGEST && args.because.is_none() {
        let least = duration::show(YOUNGEST);
        let message = format!("--older-than {age}: less than {least} needs a reason");
        return Err(Failure::new(code::USAGE, "too_young", message).hint(
            "a posting that is forgotten may be bid on again: say with --because why no bidder \
             can see it any more; nothing was changed",
        ));
    }
    let before = WallTime::from_micros(
        context
            .now()
            .as_micros()
            .saturating_sub(u64::try_from(args.older_than.as_micros()).unwrap_or(u64::MAX)),
    );
    context.say_default_ledger();
    let ledger = context.ledger_to_read().await?;
    if !args.yes {
        return count(&ledger, before, context).await;
    }
    let because = args.because.unwrap_or_else(|| format!("older than {age}"));
    let note = context.note(because);
    // What is done is audited by the store; who wanted it, here.
    let act =
        AuditAct { act: "prune_asked".to_owned(), key: None, attempt: None, token: None, note };
    ledger.audit_append(&act).await?;
    let mut removed = 0;
    let mut progress = Progress::new(context, 0, "attempts removed");
    loop {
        let pruned = ledger.prune(before, BATCH).await?;
        removed += pruned.attempts;
        progress.at(removed);
        if !pruned.more {
            break;
        }
    }
    tell(removed, before, true, context)
}

/// Counts what would be removed.
async fn count(ledger: &Ledger, before: WallTime, context: &Context) -> Result<u8, Failure> {
    let (mut found, mut after, mut looked) = (0, None, 0);
    let mut progress = Progress::new(context, 0, "postings looked at");
    loop {
        let page = ledger.dossiers(after.as_ref(), BATCH).await?;
        looked += page.len() as u64;
        progress.at(looked);
        let over = page.iter().filter(|dossier| is_over(dossier, before));
        found += over.map(|dossier| dossier.attempts.len() as u64).sum::<u64>();
        if page.len() < BATCH as usize {
            break;
        }
        after = page.last().map(|last| (last.marketplace.clone(), last.posting_encoded.clone()));
    }
    tell(found, before, false, context)
}

/// Whether a prune with this horizon would remove it.
fn is_over(dossier: &Dossier, before: WallTime) -> bool {
    let settled = |state: State| state.is_decided() || state == State::Abandoned;
    dossier.attempts.iter().all(|kept| settled(kept.info.state))
        && dossier.history.iter().all(|entry| entry.at < before)
}

fn tell(attempts: u64, before: WallTime, done: bool, context: &Context) -> Result<u8, Failure> {
    let at = time::rfc3339(before);
    if context.output.json {
        context.output.object(&json!({ "attempts": attempts, "before": at, "removed": done }))?;
    }
    if done {
        context.output.say(&format!(
            "removed {attempts} attempts; a posting that was seen before {at} is stale now"
        ));
    } else {
        context.output.say(&format!(
            "{attempts} attempts at postings that were over before {at} would be removed; --yes \
             removes them"
        ));
    }
    Ok(0)
}
