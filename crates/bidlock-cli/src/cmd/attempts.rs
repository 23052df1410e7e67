use bidlock::WallTime;
use bidlock::ledger::{AttemptInfo, BidQuery, HistoryEntry, Ledger, State, limits};
use serde_json::{Value, json};

use super::context::Context;
use crate::args::{BidsArgs, StateName};
use crate::exit::Failure;
use crate::output::{Cell, Table, time};

/// Lists attempts, or the history of one posting.
pub(crate) async fn run(args: BidsArgs, context: &Context) -> Result<u8, Failure> {
    context.say_default_ledger();
    let ledger = context.ledger_to_read().await?;
    if !args.history {
        list(&ledger, &args, context).await?;
    }
    if let (Some(marketplace), Some(posting)) = (&args.marketplace, &args.posting) {
        // Programs get one kind of line at a time.
        if args.history || (context.output.is_terminal() && !context.output.json) {
            let history = ledger.history(&context.posting_key(marketplace, posting)?).await?;
            show_history(&history, marketplace, posting, context)?;
        }
    }
    Ok(0)
}

/// Shows page by page, and has no more than one in memory.
async fn list(ledger: &Ledger, args: &BidsArgs, context: &Context) -> Result<(), Failure> {
    let mut left = if args.all { u64::MAX } else { u64::from(args.limit) };
    let mut query = BidQuery {
        marketplace: args.marketplace.clone(),
        posting: args.posting.clone(),
        state: args.state.map(state),
        after: None,
        limit: limits::PAGE_MAX,
    };
    while left > 0 {
        query.limit = u32::try_from(left).unwrap_or(u32::MAX).min(limits::PAGE_MAX);
        let page = ledger.bids(&query).await?;
        if !page.is_empty() {
            show(&page, context)?;
        } else if query.after.is_none() && !context.output.json {
            context.output.say("no attempts");
        }
        if page.len() < query.limit as usize {
            break;
        }
        left -= page.len() as u64;
        query.after = page.last().map(|attempt| attempt.id);
    }
    Ok(())
}

const fn state(name: StateName) -> State {
    match name {
        StateName::Reserved => State::Reserved,
        StateName::Started => State::Started,
        StateName::Placed => State::Placed,
        StateName::Refused => State::Refused,
        StateName::Unknown => State::Unknown,
        StateName::Withdrawn => State::Withdrawn,
        StateName::Abandoned => State::Abandoned,
    }
}

fn show(attempts: &[AttemptInfo], context: &Context) -> Result<(), Failure> {
    if context.output.json {
        for attempt in attempts {
            context.output.object(&attempt_json(attempt))?;
        }
        return Ok(());
    }
    let table = if context.output.is_terminal() {
        for_people(attempts, context.now())
    } else {
        for_programs(attempts)
    };
    context.output.table(&table)?;
    Ok(())
}

fn for_programs(attempts: &[AttemptInfo]) -> Table {
    let mut table = Table::new(&[
        "MARKETPLACE",
        "POSTING",
        "STATE",
        "ATTEMPT",
        "TOKEN",
        "REFERENCE",
        "RESERVED",
        "HOLDER",
    ]);
    for attempt in attempts {
        table.row(vec![
            attempt.marketplace.clone().into(),
            attempt.posting.clone().into(),
            state_cell(attempt.state),
            attempt.id.to_string().into(),
            attempt.token.to_string().into(),
            attempt.reference.clone().unwrap_or_else(|| "-".to_owned()).into(),
            time::rfc3339(attempt.reserved_at).into(),
            attempt.holder.clone().into(),
        ]);
    }
    table
}

/// What decides comes first, in a width that a terminal has; the detail may run on.
fn for_people(attempts: &[AttemptInfo], now: WallTime) -> Table {
    let mut table = Table::new(&["MARKETPLACE", "POSTING", "STATE", "AGE", "ATTEMPT", "DETAIL"]);
    for attempt in attempts {
        table.row(vec![
            attempt.marketplace.clone().into(),
            attempt.posting.clone().into(),
            state_cell(attempt.state),
            time::age(now.since(attempt.reserved_at)).into(),
            attempt.id.to_string().into(),
            detail(attempt, now).into(),
        ]);
    }
    table
}

/// What there is to say of an attempt in this state; who is at it, where that is open.
fn detail(attempt: &AttemptInfo, now: WallTime) -> String {
    let holder = Some(format!("by {}", attempt.holder));
    let send_by = attempt.send_by.map(|at| format!("send-by {}", time::with_age(at, now)));
    let reason = attempt.reason.clone();
    let parts = match attempt.state {
        State::Placed => [attempt.reference.clone(), None, None],
        State::Unknown => [send_by, reason, holder],
        State::Reserved | State::Started => [send_by, holder, None],
        _ => [reason, None, None],
    };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn state_cell(state: State) -> Cell {
    let style = match state {
        State::Placed => "32",
        State::Unknown => "1;31",
        State::Refused | State::Withdrawn => "33",
        _ => "",
    };
    Cell::colored(state.as_str(), style)
}

fn show_history(
    history: &[HistoryEntry],
    marketplace: &str,
    posting: &str,
    context: &Context,
) -> Result<(), Failure> {
    let mut table = Table::new(&["TIME", "EVENT", "ATTEMPT", "TOKEN", "BY", "DETAIL"]);
    for entry in history {
        if context.output.json {
            let mut object = entry_json(entry);
            object["marketplace"] = marketplace.into();
            object["posting"] = posting.into();
            context.output.object(&object)?;
        }
        table.row(vec![
            time::rfc3339(entry.at).into(),
            entry.event.as_str().into(),
            entry.attempt.to_string().into(),
            entry.token.map_or_else(|| "-".to_owned(), |token| token.to_string()).into(),
            entry.by.clone().into(),
            entry.detail.clone().unwrap_or_else(|| "-".to_owned()).into(),
        ]);
    }
    if !context.output.json && !history.is_empty() {
        if context.output.is_terminal() {
            context.output.data("\n")?;
        }
        context.output.table(&table)?;
    }
    Ok(())
}

/// An attempt for programs.
pub(crate) fn attempt_json(attempt: &AttemptInfo) -> Value {
    json!({
        "marketplace": attempt.marketplace,
        "posting": attempt.posting,
        "attempt": attempt.id.to_string(),
        "state": attempt.state.as_str(),
        "token": attempt.token.get(),
        "reference": attempt.reference,
        "holder": attempt.holder,
        "reason": attempt.reason,
        "payload": attempt.payload.map(|payload| payload.to_string()),
        "seen_at": attempt.seen_at.map(time::rfc3339),
        "reserved_at": time::rfc3339(attempt.reserved_at),
        "started_at": attempt.started_at.map(time::rfc3339),
        "send_by": attempt.send_by.map(time::rfc3339),
        "decided_at": attempt.decided_at.map(time::rfc3339),
    })
}

/// An entry of a history for programs.
pub(crate) fn entry_json(entry: &HistoryEntry) -> Value {
    json!({
        "seq": entry.seq,
        "at": time::rfc3339(entry.at),
        "attempt": entry.attempt.to_string(),
        "event": entry.event.as_str(),
        "token": entry.token.map(bidlock::FencingToken::get),
        "by": entry.by,
        "detail": entry.detail,
    })
}
