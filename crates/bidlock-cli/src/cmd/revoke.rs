use bidlock::ledger::{AuditAct, Ledger};
use bidlock::{FencingToken, Key, Locker, Revocation};
use serde_json::json;

use super::context::Context;
use crate::args::RevokeArgs;
use crate::exit::{Failure, code};
use crate::output::time;

/// Takes a lock from the holder that was seen, and from no other (I12).
pub(crate) async fn run(args: RevokeArgs, context: &Context) -> Result<u8, Failure> {
    let key = Key::parse(&context.config.prefix.value, &args.key)?;
    let token = FencingToken::new(args.token);
    context.say_default();
    // Opened first: what cannot be audited is not done.
    let ledger = context.ledger().await?;
    let locker = context.locker().await?;
    let Some(revoker) = locker.revoker() else {
        let message = format!("{} cannot revoke", locker.endpoint());
        return Err(Failure::new(code::CONFIG, "unsupported", message));
    };
    // The audit has the act before it is done, and its result after: an act without a result is
    // one of which nobody knows whether it took effect.
    let asked = if args.now { "revoke_now" } else { "revoke" };
    let mut act = AuditAct {
        act: asked.to_owned(),
        key: Some(key.clone()),
        attempt: None,
        token: Some(token),
        note: context.note(args.because),
    };
    ledger.audit_append(&act).await?;
    let done = revoker.revoke(&key, token, args.now).await?;
    let (result, remaining, told) = match done {
        Revocation::Freed => ("revoked_freed", None, format!("{key} is free now")),
        Revocation::Marked { remaining } => {
            let rest = time::age(remaining);
            let told = format!("{key}: the holder is told; it is free in {rest} at most");
            ("revoked_marked", Some(remaining), told)
        }
        Revocation::NotHeld { current } => {
            let (now, hint) = match current {
                Some(current) => (format!("it has token {} now", current.get()), SEE.to_owned()),
                None => without_a_lease(&locker, &key).await,
            };
            let told = format!("{key} is not held with token {token}: {now}");
            "revoke_not_held".clone_into(&mut act.act);
            keep_result(&ledger, &act, &told).await?;
            return Err(Failure::new(code::LOST, "not_held", told).hint(hint));
        }
    };
    result.clone_into(&mut act.act);
    keep_result(&ledger, &act, &told).await?;
    if context.output.json {
        let remaining = remaining.map(|rest| u64::try_from(rest.as_millis()).unwrap_or(u64::MAX));
        context.output.object(&json!({
            "key": key.as_str(),
            "token": token.get(),
            "act": asked,
            "remaining_ms": remaining,
        }))?;
    }
    context.output.say(&told);
    Ok(0)
}

const SEE: &str = "nothing was changed; see `bidlock locks`";

/// What is known of a key that has no lease's token, and what to do about it.
async fn without_a_lease(locker: &Locker, key: &Key) -> (String, String) {
    let none = "no lease of bidlock holds it".to_owned();
    let Some(browse) = locker.browse() else { return (none, SEE.to_owned()) };
    match browse.inspect(key).await {
        Ok(Some(lock)) if lock.holder.is_foreign() => (
            format!("{none}; a {} does", lock.holder),
            format!(
                "nothing was changed: bidlock never takes a foreign lock; its owner ends it with \
                 DEL {key}"
            ),
        ),
        // Who holds it is told as far as it is known: the revocation itself was answered.
        _ => (none, SEE.to_owned()),
    }
}

async fn keep_result(ledger: &Ledger, act: &AuditAct, told: &str) -> Result<(), Failure> {
    ledger.audit_append(act).await.map_err(|error| {
        let under = Failure::from(error);
        let message = format!("{told}, but the audit did not take that: {}", under.message);
        Failure { message, hint: Some("see `bidlock locks`".to_owned()), ..under }
    })
}
