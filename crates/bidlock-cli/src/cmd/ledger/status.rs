use bidlock::WallTime;
use bidlock::ledger::{AttemptInfo, BidQuery, Ledger, Standing, State, limits};
use serde_json::{Value, json};

use crate::cmd::context::{Context, unread_mark};
use crate::exit::Failure;
use crate::output::{Cell, Table, time};

/// Shows which ledger it is, what is in it, and what stands against it.
pub(super) async fn run(context: &Context) -> Result<u8, Failure> {
    context.say_default_ledger();
    let ledger = context.ledger_to_read().await?;
    let standing = ledger.standing().await?;
    let counts = ledger.counts().await?;
    let doubt = oldest_doubt(&ledger).await?;
    let forgotten = ledger.forgotten().await?;
    let unread = ledger.marks_unreadable().await?;
    if let Some(why) = &unread {
        context.output.say(&unread_mark(why));
    }
    if context.output.json {
        let mut object = object(&ledger, &standing);
        object["counts"] =
            counts.iter().map(|(state, count)| (state.as_str(), *count)).collect::<Value>();
        object["oldest_doubt"] = doubt.as_ref().map(super::super::attempts::attempt_json).into();
        object["restored"] = forgotten.into();
        object["marks_unreadable"] = unread.into();
        context.output.object(&object)?;
        return Ok(0);
    }
    let mut table = Table::new(&["WHAT", "VALUE"]);
    let mut row = |what: &str, value: Cell| table.row(vec![what.into(), value]);
    let when = |at: Option<WallTime>| match at {
        Some(at) => time::with_age(at, context.now()),
        None => "never".to_owned(),
    };
    row("ledger", context.config.ledger.to_string().into());
    row("id", standing.id.to_string().into());
    row("schema", standing.schema.to_string().into());
    for (state, count) in &counts {
        let style = if *state == State::Unknown && *count > 0 { "1;31" } else { "" };
        row(state.as_str(), Cell::colored(count.to_string(), style));
    }
    let oldest = doubt.map_or_else(
        || "none".to_owned(),
        |info| {
            let at = info.started_at.unwrap_or(info.reserved_at);
            let when = time::with_age(at, context.now());
            format!("{} {}, {when}", info.marketplace, info.posting)
        },
    );
    row("oldest doubt", oldest.into());
    row("pruned before", when(standing.pruned_before).into());
    row("accepted", when(standing.accepted_at).into());
    let restored = forgotten.map_or_else(|| "no".into(), |why| Cell::colored(why, "1;31"));
    row("restored", restored);
    context.output.table(&table)?;
    Ok(0)
}

fn object(ledger: &Ledger, standing: &Standing) -> Value {
    json!({
        "endpoint": ledger.endpoint().to_string(),
        "id": standing.id.to_string(),
        "schema": standing.schema,
        "pruned_before": standing.pruned_before.map(time::rfc3339),
        "accepted_at": standing.accepted_at.map(time::rfc3339),
    })
}

/// The attempt whose outcome has been unknown for longest.
async fn oldest_doubt(ledger: &Ledger) -> Result<Option<AttemptInfo>, Failure> {
    let mut query =
        BidQuery { state: Some(State::Unknown), limit: limits::PAGE_MAX, ..BidQuery::default() };
    let mut oldest: Option<AttemptInfo> = None;
    loop {
        let page = ledger.bids(&query).await?;
        let full = page.len() == query.limit as usize;
        query.after = page.last().map(|last| last.id);
        let candidates = oldest.into_iter().chain(page);
        oldest = candidates.min_by_key(|info| info.started_at.unwrap_or(info.reserved_at));
        if !full {
            return Ok(oldest);
        }
    }
}
