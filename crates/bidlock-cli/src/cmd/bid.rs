mod report;

use std::fs::OpenOptions;
use std::future::{pending, poll_fn};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use bidlock::ledger::{Fingerprint, Ledger, Outcome, Verdict, limits};
use bidlock::{Begin, BidGuard, BidOptions, Clock, Label, Moment, OpenBid, Ttl, WallTime};
use nix::fcntl::OFlag;

use super::context::{Context, interrupted, unread_mark, wait_of};
use crate::args::BidArgs;
use crate::child::{Child, Ended, Exit, GRACE, Signals, Spec, Talk, Why, find_command};
use crate::exit::{Failure, code};
use crate::output::time;
use report::Report;

/// The exit code by which a command says that the marketplace refused.
const CHILD_REFUSED: i32 = 65;
/// The exit code by which a command says that nothing was sent.
const CHILD_NOT_SENT: i32 = 75;
/// The command is asked to stop so long before its send-by, at which it is killed.
const STOP_LEAD_MAX: Duration = Duration::from_secs(2);
/// The longest payload.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;

/// Runs the command that sends a bid, at most once for a posting.
pub(crate) async fn run(args: BidArgs, context: &Context) -> Result<u8, Failure> {
    let key = context.posting_key(&args.marketplace, &args.posting)?;
    context.config.lock.built()?;
    context.config.lock.check_keeps_others_out()?;
    context.config.ledger.built()?;
    context.config.check_bidding()?;
    let payload = args.payload.as_deref().map(fingerprint).transpose()?;
    let options = options(&args, payload, context.now())?;
    let Some(name) = args.command.first() else {
        return Err(Failure::new(code::USAGE, "usage", "the command is missing"));
    };
    let program = find_command(name)?;
    let mut signals = Signals::listen()?;
    let guard = BidGuard::new(context.locker().await?, context.ledger().await?);
    let begun = tokio::select! {
        biased;
        begun = guard.begin(&key, &options) => Ok(begun),
        signal = signals.stop_asked() => Err(signal),
    };
    let unread = guard.ledger().mark_unread();
    if let Some(why) = &unread {
        context.output.say(&unread_mark(why));
    }
    let done = match begun {
        Err(signal) => Err(interrupted(signal)),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(Begin::Not(verdict))) => {
            let horizon = horizon(&verdict, &args, guard.ledger()).await;
            let report = Report::of_verdict(&key, &verdict, horizon, context);
            Ok(report.with_note(why_not_again(&verdict, &args, payload, context)))
        }
        Ok(Ok(Begin::Started(bid))) => {
            let spec = spec(&args, program, &bid);
            submit(bid, &spec, &mut signals, args.submit_timeout, context).await
        }
    };
    context.close(guard.locker()).await;
    let report = done?.with_unread_mark(unread);
    report.show(context);
    Ok(report.code)
}

fn options(
    args: &BidArgs,
    payload: Option<Fingerprint>,
    now: WallTime,
) -> Result<BidOptions, Failure> {
    let mut options = BidOptions::default()
        .wait(wait_of(args.hold.wait()))
        .ttl(Ttl::new(args.hold.ttl)?)
        .submit_timeout(args.submit_timeout);
    if let Some(label) = &args.hold.label {
        options = options.holder_label(Label::new(label)?);
    }
    if let Some(seen_at) = args.seen_at {
        check_sighting(seen_at, now)?;
        options = options.seen(seen_at, args.max_age);
    }
    if let Some(payload) = payload {
        options = options.payload(payload);
    }
    if let Some(retention) = args.honours_keys {
        if retention <= args.submit_timeout {
            let message = "--honours-keys is not longer than --submit-timeout";
            return Err(Failure::new(code::USAGE, "invalid", message)
                .hint("nothing could ever be sent again within it; nothing was changed"));
        }
        options = options.honours_keys(retention);
    }
    Ok(options)
}

/// Why an attempt in doubt is not sent again, though the marketplace honours its key (L11).
fn why_not_again(
    verdict: &Verdict,
    args: &BidArgs,
    payload: Option<Fingerprint>,
    context: &Context,
) -> Option<String> {
    let (Verdict::InDoubt(info), Some(retention)) = (verdict, args.honours_keys) else {
        return None;
    };
    let (started, send_by) = (info.started_at?, info.send_by?);
    let why = if info.payload != payload {
        "--payload is not what that attempt was to send".to_owned()
    } else if send_by > context.now() {
        format!("it may still be sent until {}", time::rfc3339(send_by))
    } else if context.now() + args.submit_timeout > started + retention {
        let over = time::rfc3339(started + retention);
        format!("the marketplace may have forgotten its key by {over} (--honours-keys)")
    } else {
        return None;
    };
    Some(format!("it is not sent again: {why}"))
}

/// The horizon of the last prune, where a stale posting was seen before it: no `--max-age` helps
/// against that (L10).
async fn horizon(verdict: &Verdict, args: &BidArgs, ledger: &Ledger) -> Option<WallTime> {
    let (Verdict::Stale { .. }, Some(seen_at)) = (verdict, args.seen_at) else { return None };
    // It is stale in either case; a ledger that has gone since only cannot tell why.
    let standing = ledger.standing().await.ok()?;
    standing.pruned_before.filter(|horizon| seen_at < *horizon)
}

/// A posting that was seen in the future was seen by a clock that is wrong, here or there.
fn check_sighting(seen_at: WallTime, now: WallTime) -> Result<(), Failure> {
    let ahead = seen_at.since(now);
    if ahead <= limits::AHEAD_MAX {
        return Ok(());
    }
    let (at, ahead) = (time::rfc3339(seen_at), time::age(ahead));
    let most = time::age(limits::AHEAD_MAX);
    let message = format!("--seen-at {at} lies {ahead} in the future; at most {most} is allowed");
    Err(Failure::new(code::USAGE, "invalid", message)
        .hint("check the clocks of this machine and of the one that saw it; nothing was changed"))
}

/// What a bid says is read whole, so it is bounded; and only a file has an end for sure.
fn fingerprint(path: &Path) -> Result<Fingerprint, Failure> {
    let refuse = |why: String, hint: &str| {
        let message = format!("--payload {}: {why}", path.display());
        Failure::new(code::USAGE, "payload", message).hint(hint)
    };
    let unreadable = |e: std::io::Error| refuse(e.to_string(), "name a file that can be read");
    // A pipe without a writer is not waited for.
    let flags = OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(refuse("not a regular file".to_owned(), "name a file that holds the bid"));
    }
    let mut bytes = Vec::new();
    file.take(PAYLOAD_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > PAYLOAD_BYTES_MAX {
        let why = format!("longer than {} MiB", PAYLOAD_BYTES_MAX >> 20);
        return Err(refuse(why, "name the file that holds the bid's text"));
    }
    Ok(Fingerprint::of(&bytes))
}

fn spec(args: &BidArgs, program: std::path::PathBuf, bid: &OpenBid) -> Spec {
    let submission = bid.submission();
    let key = submission.key();
    let mut environment = vec![
        ("BIDLOCK_ATTEMPT_ID", submission.attempt().to_string()),
        ("BIDLOCK_TOKEN", submission.token().to_string()),
        ("BIDLOCK_KEY", key.to_string()),
        ("BIDLOCK_MARKETPLACE", key.marketplace().to_owned()),
        ("BIDLOCK_POSTING", key.posting()),
        ("BIDLOCK_SEND_BY", time::rfc3339(submission.send_by())),
    ];
    if submission.is_again() {
        environment.push(("BIDLOCK_SENT_AGAIN", "1".to_owned()));
    }
    Spec {
        program,
        words: args.command.clone(),
        environment,
        talk: if args.reference_from_stdout { Talk::LastLine } else { Talk::Through },
        grace: GRACE,
    }
}

/// Runs the command of a started attempt, and keeps how it went.
async fn submit(
    bid: OpenBid,
    spec: &Spec,
    signals: &mut Signals,
    timeout: Duration,
    context: &Context,
) -> Result<Report, Failure> {
    if let Some((why, failure)) = hindered(&bid, signals).await {
        return not_started(bid, why, failure, context).await;
    }
    let clock = context.clock();
    let child = match Child::start(spec, context.clock()) {
        Ok(child) => child,
        Err(error) => {
            let why = error.to_string();
            return not_started(bid, &why, error.into(), context).await;
        }
    };
    // At the send-by the posting may go to another bidder: nothing of the command may run then.
    let send_by = bid.submission().deadline();
    let ask_at = send_by - STOP_LEAD_MAX.min(timeout / 10);
    let (stop, kill) = (at(&*clock, ask_at), at(&*clock, send_by));
    let ended = child.wait(signals, stop, kill).await;
    let outcome = match &ended {
        Ok(ended) => outcome_of(ended),
        Err(e) => Outcome::GivenUp { reason: Some(format!("its end was not seen: {e}")) },
    };
    let submission = bid.submission().clone();
    let outcome = outcome.fitted();
    match bid.finish(outcome.clone()).await {
        Ok(placement) => {
            let report = Report::of_placement(&placement, &outcome, context);
            Ok(if submission.is_again() { report.sent_again() } else { report })
        }
        Err(error) => Err(Report::not_recorded(&submission, &outcome, error, context)),
    }
}

/// Resolves at this moment. A bidlock that was stopped meanwhile finds it over at its first look,
/// though its timers have yet to notice.
async fn at(clock: &dyn Clock, moment: Moment) -> Why {
    let mut timer = clock.sleep_until(moment);
    poll_fn(|context| match timer.as_mut().poll(context) {
        Poll::Pending if clock.now() < moment => Poll::Pending,
        _ => Poll::Ready(Why::Deadline),
    })
    .await
}

/// What came up between the start of the attempt and that of the command.
async fn hindered(bid: &OpenBid, signals: &mut Signals) -> Option<(&'static str, Failure)> {
    if bid.submission().left().is_zero() {
        let why = "its send-by passed before the command was started";
        return Some((why, lost(why)));
    }
    tokio::select! {
        biased;
        signal = signals.stop_asked() => {
            Some(("bidlock was asked to stop before the command was started", interrupted(signal)))
        }
        reason = bid.lock_lost() => {
            let why = "the lock was lost before the command was started";
            Some((why, lost(&format!("{why}: {reason}"))))
        }
        () = std::future::ready(()) => None,
        () = pending() => None,
    }
}

fn lost(why: &str) -> Failure {
    Failure::new(code::LOST, "lost", format!("{why}; nothing was sent"))
        .hint("run the same command again")
        .retryable(true)
}

/// Keeps that nothing was sent. Without that the attempt reads as unknown from its send-by on,
/// and a person has to end it.
async fn not_started(
    bid: OpenBid,
    why: &str,
    failure: Failure,
    context: &Context,
) -> Result<Report, Failure> {
    let outcome = Outcome::NotSent { reason: Some(why.to_owned()) }.fitted();
    let submission = bid.submission().clone();
    match bid.finish(outcome.clone()).await {
        Ok(_) => Err(failure),
        Err(error) => Err(Report::not_recorded(&submission, &outcome, error, context)),
    }
}

/// What the command's end says. Once it was signalled, only a clear «refused» counts (L4).
fn outcome_of(ended: &Ended) -> Outcome {
    match (ended.exit, ended.stopped) {
        (Exit::Code(0), None) => Outcome::Placed { reference: ended.kept.clone() },
        (Exit::Code(CHILD_REFUSED), _) => {
            Outcome::Refused { reason: Some("the command says so".to_owned()) }
        }
        (Exit::Code(CHILD_NOT_SENT), None) => {
            Outcome::NotSent { reason: Some("the command says so".to_owned()) }
        }
        (exit, None) => Outcome::Unknown { reason: Some(format!("the command {exit}")) },
        (exit, Some(why)) => {
            let why = match why {
                Why::Signal(signal) => format!("bidlock got {signal}"),
                Why::Deadline => "its send-by was over".to_owned(),
                Why::Lease => "the lock was lost".to_owned(),
            };
            Outcome::Unknown { reason: Some(format!("stopped because {why}; the command {exit}")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    fn outcome(exit: Exit, stopped: Option<Why>) -> Outcome {
        outcome_of(&Ended { exit, stopped, kept: Some("ref".to_owned()) })
    }

    #[test]
    fn the_exit_code_says_how_it_went() {
        let placed = outcome(Exit::Code(0), None);
        assert_eq!(placed, Outcome::Placed { reference: Some("ref".to_owned()) });
        assert!(matches!(outcome(Exit::Code(65), None), Outcome::Refused { .. }));
        assert!(matches!(outcome(Exit::Code(75), None), Outcome::NotSent { .. }));
        for exit in [Exit::Code(1), Exit::Code(66), Exit::Signal(Signal::SIGKILL)] {
            assert!(matches!(outcome(exit, None), Outcome::Unknown { .. }), "{exit}");
        }
    }

    #[test]
    fn a_command_that_was_signalled_proves_nothing() {
        // L4
        for why in [Why::Signal(Signal::SIGTERM), Why::Deadline] {
            for exit in
                [Exit::Code(0), Exit::Code(75), Exit::Code(1), Exit::Signal(Signal::SIGTERM)]
            {
                assert!(matches!(outcome(exit, Some(why)), Outcome::Unknown { .. }), "{exit}");
            }
        }
    }
}
