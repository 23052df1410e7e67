mod senders;

use bidlock::ledger::{AttemptInfo, AuditQuery, Freshness, Resolution, limits};
use serde_json::json;

use super::attempts::attempt_json;
use super::context::Context;
use crate::args::{AuditArgs, ReopenArgs, ResolveArgs, WithdrawArgs};
use crate::exit::{Failure, code};
use crate::output::{Table, time};

/// Ends the doubt about an attempt.
pub(crate) async fn resolve(args: ResolveArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    let resolution = match args.placed {
        Some(reference) => Resolution::Placed { reference: Some(reference) },
        None if args.refused => Resolution::Refused,
        None => Resolution::NotSent,
    };
    let ledger = context.ledger().await?;
    let verdict = ledger.should_bid(&key, &Freshness::default()).await?;
    // The command may outlive a bidlock that was killed, and would still send (L6).
    if let Some(attempt) = verdict.attempt()
        && let Some(pid) = senders::find(&attempt.id.to_string())
    {
        let message = format!("process {pid} may still send attempt {}", attempt.id);
        return Err(Failure::new(code::IN_DOUBT, "sender_alive", message)
            .hint(format!("look what it does and end it (`kill {pid}`), then resolve")));
    }
    let note = context.note(args.because);
    let done = ledger.resolve(&key, &resolution, &note, args.visibility_lag).await?;
    show(&done, "resolved", context)
}

/// Notes that a placed bid was withdrawn.
pub(crate) async fn withdraw(args: WithdrawArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    let ledger = context.ledger().await?;
    let done = ledger.withdraw(&key, &context.note(args.because)).await?;
    show(&done, "noted", context)
}

/// Lets a posting be bid on again.
pub(crate) async fn reopen(args: ReopenArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    let ledger = context.ledger().await?;
    let done = ledger.reopen(&key, &context.note(args.because)).await?;
    show(&done, "reopened", context)
}

fn show(attempt: &AttemptInfo, done: &str, context: &Context) -> Result<u8, Failure> {
    if context.output.json {
        context.output.object(&attempt_json(attempt))?;
    }
    let (marketplace, posting) = (&attempt.marketplace, &attempt.posting);
    let state = attempt.state;
    context
        .output
        .say(&format!("{done}: {marketplace} {posting}, attempt {} is {state} now", attempt.id));
    Ok(0)
}

/// Shows who overruled what, and why.
pub(crate) async fn audit(args: AuditArgs, context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let ledger = context.ledger().await?;
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let missing = args.limit.saturating_sub(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        let query = AuditQuery { key: None, after, limit: missing.min(limits::PAGE_MAX) };
        let page = ledger.audit(&query).await?;
        let full = page.len() == query.limit as usize;
        after = page.last().map(|entry| entry.seq);
        entries.extend(page);
        if !full || entries.len() >= args.limit as usize {
            break;
        }
    }
    let mut table = Table::new(&["TIME", "ACTOR", "ACT", "POSTING", "ATTEMPT", "TOKEN", "BECAUSE"]);
    let dash = || "-".to_owned();
    for entry in &entries {
        let token = entry.token.map(bidlock::FencingToken::get);
        if context.output.json {
            context.output.object(&json!({
                "seq": entry.seq,
                "at": time::rfc3339(entry.at),
                "actor": entry.actor,
                "act": entry.act,
                "marketplace": entry.marketplace,
                "posting": entry.posting,
                "attempt": entry.attempt.map(|id| id.to_string()),
                "token": token,
                "because": entry.because,
            }))?;
        }
        let what = [&entry.marketplace, &entry.posting].into_iter().flatten();
        let what: Vec<&str> = what.map(String::as_str).filter(|text| !text.is_empty()).collect();
        table.row(vec![
            time::rfc3339(entry.at).into(),
            entry.actor.clone().into(),
            entry.act.clone().into(),
            what.join(" ").into(),
            entry.attempt.map_or_else(dash, |id| id.to_string()).into(),
            token.map_or_else(dash, |token| token.to_string()).into(),
            entry.because.clone().into(),
        ]);
    }
    if entries.is_empty() {
        context.output.say("nothing was overruled");
    } else if !context.output.json {
        context.output.table(&table)?;
    }
    Ok(0)
}
