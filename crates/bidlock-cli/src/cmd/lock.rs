use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::time::Duration;

use bidlock::{Label, Lease, LossReason, Moment, Ttl};

use super::context::{Context, interrupted, wait_of};
use crate::args::LockArgs;
use crate::child::{Child, Ended, GRACE, Signals, Spec, Talk, Why, find_command};
use crate::exit::{Failure, code};

/// Runs a command while holding a lock, and passes its exit code through.
pub(crate) async fn run(args: LockArgs, context: &Context) -> Result<u8, Failure> {
    let (Some(target), Some(name)) = (&args.target, args.command.first()) else {
        return Err(Failure::new(code::USAGE, "usage", "the command is missing"));
    };
    let key = context.key_of(target)?;
    let ttl = Ttl::new(args.hold.ttl)?;
    let label = args.hold.label.as_deref().map(Label::new).transpose()?;
    let program = find_command(name)?;
    let mut signals = Signals::listen()?;
    context.say_default();
    context.config.lock.check_keeps_others_out()?;
    let locker = context.locker().await?;
    let mut acquire = locker.acquire(&key).wait(wait_of(args.hold.wait())).ttl(ttl);
    if let Some(label) = label {
        acquire = acquire.holder_label(label);
    }
    if let Some(max_hold) = args.max_hold {
        acquire = acquire.max_hold(max_hold);
    }
    let acquired = tokio::select! {
        biased;
        acquired = acquire => Ok(acquired),
        signal = signals.stop_asked() => Err(signal),
    };
    let done = match acquired {
        Err(signal) => Err(interrupted(signal)),
        Ok(Err(error)) => Err(busy(error.into(), args.conflict_exit_code)),
        Ok(Ok(lease)) => guard(lease, program, &args, &mut signals, context).await,
    };
    context.close(&locker).await;
    done
}

/// With the exit code that the caller wants for a lock that somebody else holds.
fn busy(mut failure: Failure, conflict_exit_code: u8) -> Failure {
    if failure.code == code::BUSY {
        failure.code = conflict_exit_code;
    }
    failure
}

/// Runs the command under the lease.
async fn guard(
    lease: Lease,
    program: std::path::PathBuf,
    args: &LockArgs,
    signals: &mut Signals,
    context: &Context,
) -> Result<u8, Failure> {
    // A lock that was handed over by a message, or a process that stood still: ask, then start.
    lease.confirm().await?;
    let clock = context.clock();
    let hold_until = args.max_hold.map(|max_hold| clock.now() + max_hold);
    let key = lease.key();
    let mut environment =
        vec![("BIDLOCK_KEY", key.to_string()), ("BIDLOCK_TOKEN", lease.token().to_string())];
    if !key.marketplace().is_empty() {
        environment.push(("BIDLOCK_MARKETPLACE", key.marketplace().to_owned()));
        environment.push(("BIDLOCK_POSTING", key.posting()));
    }
    let words = args.command.clone();
    let spec = Spec { program, words, environment, talk: Talk::Through, grace: GRACE };
    let child = match Child::start(&spec, context.clock()) {
        Ok(child) => child,
        Err(error) => {
            release(lease, context).await;
            return Err(error.into());
        }
    };
    let stop = endangered(&lease, hold_until, context);
    let ended = child.wait(signals, stop, gone(&lease, context)).await?;
    finish(lease, &ended, context).await
}

/// Gives the lock back, and decides the exit code.
async fn finish(lease: Lease, ended: &Ended, context: &Context) -> Result<u8, Failure> {
    if ended.stopped == Some(Why::Lease) {
        let (why, unreachable) = match lease.check() {
            Err(error) => {
                let reason = match &error {
                    bidlock::Error::Lost { reason, .. } => Some(*reason),
                    _ => None,
                };
                (error.to_string(), reason == Some(LossReason::Unreachable))
            }
            Ok(_) => (format!("{} could not be renewed in time", lease.key()), true),
        };
        // What is lost already is said below.
        match lease.release().await {
            Ok(()) | Err(bidlock::Error::Lost { .. }) => {}
            Err(error) => warn(&error, context),
        }
        let hint = if unreachable {
            "the store did not answer in time: see `bidlock doctor`"
        } else {
            "see `bidlock locks` for who holds it now"
        };
        let message = format!("{why}, on {}; the command was stopped", context.config.lock.value);
        return Err(Failure::new(code::LOST, "lost", message).hint(hint).retryable(true));
    }
    release(lease, context).await;
    Ok(ended.exit.code())
}

async fn release(lease: Lease, context: &Context) {
    if let Err(error) = lease.release().await {
        warn(&error, context);
    }
}

fn warn(error: &bidlock::Error, context: &Context) {
    context.output.say(&format!("warning: release of the lock: {error}"));
}

/// The lease's own end by its `max_hold` lies at most so long before the one counted here, which
/// is read after the store has answered.
const HOLD_SLACK: Duration = Duration::from_secs(6);

/// How long before the end of a lease that is not renewed the command is asked to stop.
fn lead(lease: &Lease) -> Duration {
    GRACE.min(lease.ttl().get() / 5)
}

/// Resolves when the lease is lost, or ends so soon that the command should stop now.
async fn endangered(lease: &Lease, hold_until: Option<Moment>, context: &Context) -> Why {
    let clock = context.clock();
    while let Ok(left) = lease.check() {
        // An end that was asked for is no danger: the store keeps the key for longer than that.
        let asked_for = hold_until.is_some_and(|end| end <= clock.now() + left + HOLD_SLACK);
        let lead = if asked_for { Duration::ZERO } else { lead(lease) };
        let spare = left.saturating_sub(lead);
        if spare.is_zero() {
            break;
        }
        tokio::select! {
            biased;
            _ = lease.lost() => break,
            () = clock.sleep_until(clock.now() + spare) => {}
        }
    }
    Why::Lease
}

/// Resolves when the command must not run for one more instant.
async fn gone(lease: &Lease, context: &Context) -> Why {
    let mut lost = pin!(lease.lost());
    let reason = poll_fn(|context| {
        // A bidlock that was stopped meanwhile finds the loss here, before its timers do: a check
        // that fails resolves `lost`.
        drop(lease.check());
        lost.as_mut().poll(context)
    })
    .await;
    if matches!(reason, LossReason::Revoked | LossReason::MaxHold) {
        // The store keeps the key for the lease that it promised, of which at least half is
        // left: the command may use it to stop.
        let clock = context.clock();
        let grace = GRACE.min(lease.ttl().get() / 2);
        clock.sleep_until(clock.now() + grace).await;
    }
    Why::Lease
}
