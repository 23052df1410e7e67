use std::time::Duration;

use bidlock::{Browse, LockInfo, LockQuery, Locker, limits};
use serde_json::{Value, json};

use super::context::Context;
use crate::args::LocksArgs;
use crate::exit::{Failure, code};
use crate::output::{Cell, Table, time};

/// Clears the screen and goes to its top. Source: ECMA-48, ED and CUP.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Lists locks, once or again and again.
pub(crate) async fn run(args: LocksArgs, context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let locker = context.locker_to_read().await?;
    let Some(browse) = locker.browse() else {
        let message = format!("{} cannot list locks", locker.endpoint());
        return Err(Failure::new(code::CONFIG, "unsupported", message));
    };
    let mut failed: Option<Failure> = None;
    loop {
        let looked = all(&*browse, &locker, args.marketplace.as_deref()).await;
        let clock = context.clock();
        let locks = match looked {
            Ok(locks) => locks,
            Err(failure) if args.watch => {
                // It goes on until somebody ends it; the same failure is told once.
                if failed.as_ref().is_none_or(|told| told.kind != failure.kind) {
                    failure.report(&context.output);
                }
                failed = Some(failure);
                clock.sleep_until(clock.now() + args.every).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if failed.take().is_some() {
            context.output.say("the store answers again");
        }
        if args.watch && context.output.is_terminal() && !context.output.json {
            context.output.data(CLEAR)?;
        }
        show(&locks, context)?;
        if !args.watch {
            return Ok(0);
        }
        clock.sleep_until(clock.now() + args.every).await;
    }
}

/// Reads all pages.
async fn all(
    browse: &dyn Browse,
    locker: &Locker,
    marketplace: Option<&str>,
) -> Result<Vec<LockInfo>, Failure> {
    let mut query =
        LockQuery { prefix: locker.prefix().clone(), after: None, limit: limits::PAGE_MAX };
    let mut locks: Vec<LockInfo> = Vec::new();
    loop {
        let page = browse.list(&query).await?;
        let Some(last) = page.last() else { return Ok(locks) };
        let more = page.len() == limits::PAGE_MAX as usize;
        query.after = Some(last.key.clone());
        let wanted = |lock: &LockInfo| marketplace.is_none_or(|m| lock.key.marketplace() == m);
        locks.extend(page.into_iter().filter(wanted));
        if !more {
            return Ok(locks);
        }
    }
}

fn show(locks: &[LockInfo], context: &Context) -> Result<(), Failure> {
    if context.output.json {
        for lock in locks {
            context.output.object(&object(lock))?;
        }
        return Ok(());
    }
    let mut table = Table::new(&["KEY", "HOLDER", "TOKEN", "AGE", "REMAINING", "WAITERS"]);
    for lock in locks {
        let remaining = end(lock).map_or_else(|| "no end".to_owned(), time::age);
        table.row(vec![
            lock.key.as_str().into(),
            lock.holder.to_string().into(),
            lock.token.map_or_else(|| "-".to_owned(), |token| token.to_string()).into(),
            lock.age.map_or_else(|| "-".to_owned(), time::age).into(),
            if lock.revoked {
                Cell::colored(format!("{remaining} (revoked)"), "33")
            } else {
                remaining.into()
            },
            lock.waiters.to_string().into(),
        ]);
    }
    if locks.is_empty() {
        context.output.say("no locks");
    } else {
        context.output.table(&table)?;
    }
    Ok(())
}

/// When the lock ends unless it is renewed; `None` when nobody can tell, so that it has no end.
fn end(lock: &LockInfo) -> Option<Duration> {
    (!lock.remaining.is_zero()).then_some(lock.remaining)
}

fn object(lock: &LockInfo) -> Value {
    let millis = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    json!({
        "key": lock.key.as_str(),
        "marketplace": lock.key.marketplace(),
        "posting": lock.key.posting(),
        "holder": lock.holder.to_string(),
        "label": lock.holder.label(),
        "token": lock.token.map(bidlock::FencingToken::get),
        "age_ms": lock.age.map(millis),
        "remaining_ms": end(lock).map(millis),
        "waiters": lock.waiters,
        "revoked": lock.revoked,
    })
}
