use bidlock::ledger::{
    AttemptInfo, AuditQuery, Freshness, LedgerError, Obstacle, Resolution, ResolveRequest, State,
    limits,
};
use serde_json::json;

use super::attempts::attempt_json;
use super::context::Context;
use super::senders;
use crate::args::{AuditArgs, ReopenArgs, ResolveArgs, WithdrawArgs, duration};
use crate::exit::{Failure, code};
use crate::output::{Table, time};

/// Ends the doubt about an attempt.
pub(crate) async fn resolve(args: ResolveArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    context.say_default_ledger();
    let resolution = match args.placed {
        Some(reference) => Resolution::Placed { reference: Some(reference) },
        None if args.refused => Resolution::Refused,
        None => Resolution::NotSent { sender_is_gone: args.sender_is_gone },
    };
    let ledger = context.ledger_to_read().await?;
    let verdict = ledger.should_bid(&key, &Freshness::default()).await?;
    let meant = |open: &&AttemptInfo| args.attempt.is_none_or(|id| id == open.id);
    if let Some(open) = verdict.attempt().filter(meant) {
        check_commands(open, &resolution)?;
    }
    let visibility_lag = args.visibility_lag.unwrap_or(context.config.visibility_lag);
    if matches!(resolution, Resolution::NotSent { .. }) {
        let lag = duration::show(visibility_lag);
        context.output.say(&format!(
            "note: visibility lag {lag} (set by --visibility-lag or BIDLOCK_VISIBILITY_LAG)"
        ));
        context.output.say(
            "note: commands that cleared BIDLOCK_ATTEMPT_ID from their environment, or run as \
             another user, cannot be seen",
        );
    }
    let note = context.note(args.because);
    let request = ResolveRequest { attempt: args.attempt, resolution, note, visibility_lag };
    let done = ledger.resolve(&key, &request).await.map_err(explain)?;
    show(&done, "resolved", context)
}

/// Looks for the command itself: it may outlive a bidlock that was killed, and still send (L6).
/// A bid that was found is proof, unless the attempt is under way and will tell by itself.
fn check_commands(open: &AttemptInfo, resolution: &Resolution) -> Result<(), Failure> {
    let found = matches!(resolution, Resolution::Placed { .. }) && open.state != State::Started;
    match senders::find(&open.id.to_string()) {
        Some(pid) if !found => {
            let message = format!("process {pid} may still send attempt {}", open.id);
            Err(Failure::new(code::IN_DOUBT, "sender_alive", message)
                .hint(format!("look what it does and end it (`kill {pid}`), then resolve")))
        }
        _ => Ok(()),
    }
}

/// Notes that a placed bid was withdrawn.
pub(crate) async fn withdraw(args: WithdrawArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    context.say_default_ledger();
    let ledger = context.ledger_to_read().await?;
    let done = ledger.withdraw(&key, &context.note(args.because)).await.map_err(explain)?;
    show(&done, "noted", context)
}

/// Lets a posting be bid on again.
pub(crate) async fn reopen(args: ReopenArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    context.say_default_ledger();
    let ledger = context.ledger_to_read().await?;
    let done = ledger.reopen(&key, &context.note(args.because)).await.map_err(explain)?;
    show(&done, "reopened", context)
}

/// Says the way out of what stands against an act by hand.
fn explain(error: LedgerError) -> Failure {
    let LedgerError::NotAllowed { why, state, .. } = &error else { return error.into() };
    let (kind, hint) = match why {
        Obstacle::UnderWay | Obstacle::TooEarly => (
            "too_early",
            "nothing was changed; wait, look at the marketplace again, then resolve".to_owned(),
        ),
        Obstacle::SenderAlive { sender } => (
            "sender_alive",
            format!("nothing was changed; end {sender}, look at the marketplace, then resolve"),
        ),
        Obstacle::SenderUnseen { .. } => (
            "sender_unseen",
            "nothing was changed; once it has ended there, and all that it started, add \
             --sender-is-gone"
                .to_owned(),
        ),
        Obstacle::OtherAttempt { open } => (
            "other_attempt",
            format!("nothing was changed; look at that one, then say --attempt {open}"),
        ),
        Obstacle::AttemptNotNamed { open } => {
            ("attempt_not_named", format!("say which: --attempt ID (the open one is {open})"))
        }
        Obstacle::OnlyReserved | Obstacle::NoneOpen { .. } => {
            ("not_allowed", "nothing was changed; the posting may be bid on".to_owned())
        }
        _ => ("not_allowed", "nothing was changed; see `bidlock bids`".to_owned()),
    };
    // Nothing is in doubt about what never started: the words were wrong.
    let usage = *state == State::Reserved || matches!(why, Obstacle::AttemptNotNamed { .. });
    let mut failure = Failure::from(error).hint(hint);
    failure.kind = kind;
    if usage {
        failure.code = code::USAGE;
    }
    failure
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
    context.say_default_ledger();
    let ledger = context.ledger_to_read().await?;
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
            if what.is_empty() { dash() } else { what.join(" ") }.into(),
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

#[cfg(test)]
mod tests {
    use bidlock::ledger::{AttemptId, Op, Subject};

    use super::*;

    fn explained(state: State, why: Obstacle) -> Failure {
        let (op, subject) = (Op::Resolve, Subject::Ledger);
        explain(LedgerError::NotAllowed { op, subject, state, why, until: None })
    }

    #[test]
    fn every_obstacle_has_its_code_and_its_way_out() {
        let open: AttemptId = "ffffffff-ffff-4fff-bfff-ffffffffffff".parse().unwrap();
        let sender = || "web-1:4711".to_owned();
        for (state, why, code, kind, way_out) in [
            (State::Started, Obstacle::UnderWay, 11, "too_early", "wait"),
            (State::Unknown, Obstacle::TooEarly, 11, "too_early", "wait"),
            (
                State::Unknown,
                Obstacle::SenderAlive { sender: sender() },
                11,
                "sender_alive",
                "end web-1:4711",
            ),
            (
                State::Unknown,
                Obstacle::SenderUnseen { sender: sender() },
                11,
                "sender_unseen",
                "--sender-is-gone",
            ),
            (
                State::Unknown,
                Obstacle::OtherAttempt { open },
                11,
                "other_attempt",
                "--attempt ffffffff",
            ),
            (State::Placed, Obstacle::OtherAttempt { open }, 10, "other_attempt", "look at"),
            (
                State::Unknown,
                Obstacle::AttemptNotNamed { open },
                2,
                "attempt_not_named",
                "the open one is ffffffff",
            ),
            (State::Reserved, Obstacle::OnlyReserved, 2, "not_allowed", "may be bid on"),
            (
                State::Abandoned,
                Obstacle::NoneOpen { last: open },
                2,
                "not_allowed",
                "may be bid on",
            ),
            (State::Placed, Obstacle::Known, 10, "not_allowed", "bidlock bids"),
            (State::Reserved, Obstacle::InProgress, 2, "not_allowed", "bidlock bids"),
            (State::Started, Obstacle::InProgress, 11, "not_allowed", "bidlock bids"),
        ] {
            let failure = explained(state, why.clone());
            assert_eq!((failure.code, failure.kind), (code, kind), "{why:?}");
            assert!(failure.hint.as_deref().unwrap().contains(way_out), "{failure:?}");
            assert!(failure.message.contains(&why.to_string()), "{failure:?}");
        }
    }
}
