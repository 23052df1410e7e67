use bidlock::ledger::AuditAct;
use bidlock::{FencingToken, Key, Revocation};
use serde_json::json;

use super::context::Context;
use crate::args::RevokeArgs;
use crate::exit::{Failure, code};
use crate::output::time;

/// Takes a lock from the holder that was seen, and from no other (I12).
pub(crate) async fn run(args: RevokeArgs, context: &Context) -> Result<u8, Failure> {
    let key = Key::parse(&context.config.prefix.value, &args.key)?;
    let token = FencingToken::new(args.token);
    // Opened first: what cannot be audited is not done.
    let ledger = context.ledger().await?;
    let locker = context.locker().await?;
    let Some(revoker) = locker.revoker() else {
        let message = format!("{} cannot revoke", locker.endpoint());
        return Err(Failure::new(code::CONFIG, "unsupported", message));
    };
    let done = revoker.revoke(&key, token, args.now).await?;
    let (what, told) = match done {
        Revocation::Freed => ("revoke_now", format!("{key} is free now")),
        Revocation::Marked { remaining } => {
            let rest = time::age(remaining);
            ("revoke", format!("{key}: the holder is told; it is free in {rest} at most"))
        }
        Revocation::NotHeld { current } => {
            let now = match current {
                Some(current) => format!("it has token {} now", current.get()),
                None => "it is free".to_owned(),
            };
            let message = format!("{key} is not held with token {token}: {now}");
            return Err(Failure::new(code::DECIDED, "not_held", message)
                .hint("nothing was changed; see `bidlock locks`"));
        }
    };
    let act = AuditAct {
        act: what.to_owned(),
        key: Some(key.clone()),
        attempt: None,
        token: Some(token),
        note: context.note(args.because),
    };
    ledger.audit_append(&act).await.map_err(|error| {
        let under = Failure::from(error);
        let message = format!("{told}, but the audit did not take it: {}", under.message);
        Failure { message, ..under }
    })?;
    if context.output.json {
        context.output.object(&json!({"key": key.as_str(), "token": token.get(), "act": what}))?;
    }
    context.output.say(&told);
    Ok(0)
}
