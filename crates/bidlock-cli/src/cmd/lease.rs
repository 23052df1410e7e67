use bidlock::{Label, LeaseId, Ownership, Renewal, Ttl};
use serde_json::json;

use super::context::{Context, interrupted, wait_of};
use crate::args::{AcquireArgs, LeaseArgs, RenewArgs};
use crate::child::Signals;
use crate::exit::{Failure, code};
use crate::output::time;

/// Takes a lock and leaves it to the caller: prints the lease id.
pub(crate) async fn acquire(args: AcquireArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.key_of(&args.target)?;
    let ttl = Ttl::new(args.hold.ttl)?;
    let label = args.hold.label.as_deref().map(Label::new).transpose()?;
    let mut signals = Signals::listen()?;
    context.say_default();
    context.config.lock.check_keeps_others_out()?;
    let locker = context.locker().await?;
    let mut acquire = locker.acquire(&key).wait(wait_of(args.hold.wait())).ttl(ttl).renew(false);
    if let Some(label) = label {
        acquire = acquire.holder_label(label);
    }
    let confirmed = async {
        let lease = acquire.await?;
        lease.confirm().await?;
        Ok::<_, bidlock::Error>(lease)
    };
    let held = tokio::select! {
        biased;
        lease = confirmed => lease.map_err(Failure::from),
        signal = signals.stop_asked() => Err(interrupted(signal)),
    };
    let lease = match held {
        Ok(lease) => lease,
        Err(failure) => {
            context.close(&locker).await;
            return Err(failure);
        }
    };
    let id = lease.id().expose();
    let written = if context.output.json {
        context.output.object(&json!({
            "key": lease.key().as_str(),
            "lease": id,
            "token": lease.token().get(),
            "ttl_ms": ttl.as_millis(),
        }))
    } else {
        context.output.data(&format!("{id}\n"))
    };
    if let Err(error) = written {
        // A lease that nobody has read about would hold the key for its whole TTL.
        drop(lease.release().await);
        return Err(error.into());
    }
    let (key, token) = (lease.key().clone(), lease.token());
    drop(lease.detach());
    let length = time::age(ttl.get());
    context.output.say(&format!("holding {key} for {length} with token {token}"));
    Ok(0)
}

/// Makes a lease live on.
pub(crate) async fn renew(args: RenewArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.key_of(&args.lease.target)?;
    let id: LeaseId = args.lease.lease.parse()?;
    let ttl = Ttl::new(args.ttl)?;
    let locker = context.locker().await?;
    let key = key.with_prefix(locker.prefix());
    let why = match locker.renew(&key, &id, ttl).await? {
        Renewal::Renewed => {
            if context.output.json {
                let object =
                    json!({"key": key.as_str(), "renewed": true, "ttl_ms": ttl.as_millis()});
                context.output.object(&object)?;
            }
            // I5: a lease that had more left keeps that.
            context
                .output
                .say(&format!("{key} is held for at least {} more", time::age(ttl.get())));
            return Ok(0);
        }
        Renewal::Expired => "it has ended, and nobody holds the key",
        Renewal::Taken => "somebody else holds the key",
        Renewal::Revoked => "an operator took the key: stop, then release it",
        Renewal::DataLost => "the store forgot its locks",
    };
    Err(Failure::new(code::LOST, "lost", format!("the lease of {key} is lost: {why}"))
        .hint("stop what it guards, then acquire again"))
}

/// Gives a lease back.
pub(crate) async fn release(args: LeaseArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.key_of(&args.target)?;
    let id: LeaseId = args.lease.parse()?;
    let locker = context.locker().await?;
    let key = key.with_prefix(locker.prefix());
    match locker.release(&key, &id).await? {
        Ownership::Ours => {
            if context.output.json {
                context.output.object(&json!({"key": key.as_str(), "released": true}))?;
            }
            context.output.say(&format!("released {key}"));
            Ok(0)
        }
        Ownership::NotOurs => {
            let message = format!("{key} was not held by this lease any more; nothing was changed");
            Err(Failure::new(code::LOST, "lost", message)
                .hint("it ended or was released before; see `bidlock locks`"))
        }
    }
}
