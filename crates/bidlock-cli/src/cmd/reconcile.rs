mod answer;
mod asker;

use std::future::pending;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bidlock::ledger::{AttemptInfo, Ledger};
use bidlock::{
    Answer, Asked, BidGuard, Question, ReconcileOptions, ReconcileOutcome, Reconciler, Report,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::attempts::attempt_json;
use super::context::Context;
use crate::args::ReconcileArgs;
use crate::child::Signals;
use crate::exit::{Failure, code};
use crate::output::{time, visible};
use asker::Asker;

/// Asks the marketplace about attempts in doubt, once or again and again.
pub(crate) async fn run(args: ReconcileArgs, context: &Context) -> Result<u8, Failure> {
    context.config.lock.built()?;
    context.config.lock.check_keeps_others_out()?;
    context.config.ledger.built()?;
    context.config.check_bidding()?;
    let options = options(&args);
    if args.dry_run {
        return dry_run(options, context).await;
    }
    let asker = Arc::new(Asker::new(&args, context.clock())?);
    let mut signals = Signals::listen()?;
    context.say_default();
    let ledger = match ledger(&mut signals, &args, context).await? {
        Ok(ledger) => ledger,
        Err(signal) => return stopped(signal, &args, context),
    };
    let guard = BidGuard::new(context.locker().await?, ledger);
    let locker = guard.locker().clone();
    let ask = {
        let asker = Arc::clone(&asker);
        move |question: Question| {
            let asker = Arc::clone(&asker);
            async move { asker.ask(&question).await }
        }
    };
    let reconciler = Reconciler::new(guard, ask, options)?;
    let done = rounds(&reconciler, &asker, &mut signals, &args, context).await;
    context.close(&locker).await;
    done
}

fn options(args: &ReconcileArgs) -> ReconcileOptions {
    let options = ReconcileOptions::default()
        .visibility_delay(args.visibility_delay)
        .limit(args.limit)
        .ask_timeout(args.ask_timeout + Asker::STOPS_WITHIN);
    match &args.marketplace {
        Some(marketplace) => options.marketplace(marketplace),
        None => options,
    }
}

/// Opens the ledger. Who asks again and again waits for the first bid to make it, whatever fails
/// meanwhile, or for a signal to stop.
async fn ledger(
    signals: &mut Signals,
    args: &ReconcileArgs,
    context: &Context,
) -> Result<Result<Ledger, Signal>, Failure> {
    let mut told: Option<Failure> = None;
    loop {
        let failure = match context.ledger_to_read().await {
            Ok(ledger) => return Ok(Ok(ledger)),
            Err(failure) => failure,
        };
        let waits = failure.is_missing_store() || told.is_some();
        let Some(every) = args.every.filter(|_| waits) else { return Err(failure) };
        if is_news(&failure, told.as_ref()) {
            if failure.is_missing_store() {
                let (what, hint) = (&failure.message, failure.hint.as_deref().unwrap_or_default());
                context.output.say(&format!("{what}; nothing to ask about until then ({hint})"));
            } else {
                failure.report(&context.output);
            }
        }
        told = Some(failure);
        if let Some(signal) = rest(every, signals, context).await {
            return Ok(Err(signal));
        }
    }
}

/// Whether a failure is another one than the last: the same is told once.
fn is_news(failure: &Failure, told: Option<&Failure>) -> bool {
    told.is_none_or(|told| told.kind != failure.kind)
}

/// Waits for the next turn; some signal where one asks to stop before.
async fn rest(every: Duration, signals: &mut Signals, context: &Context) -> Option<Signal> {
    let clock = context.clock();
    tokio::select! {
        biased;
        signal = signals.stop_asked() => Some(signal),
        () = clock.sleep_until(clock.now() + every) => None,
    }
}

async fn rounds(
    reconciler: &Reconciler,
    asker: &Asker,
    signals: &mut Signals,
    args: &ReconcileArgs,
    context: &Context,
) -> Result<u8, Failure> {
    let mut told: Option<Failure> = None;
    loop {
        let ended = round(reconciler, asker, signals, context).await;
        if let Some(signal) = asker.stopped() {
            return stopped(signal, args, context);
        }
        let Some(every) = args.every else { return ended };
        match ended {
            Ok(_) if told.take().is_some() => context.output.say("the stores answer again"),
            Ok(_) => {}
            // A wrong word, or a reader that has gone, does not mend itself.
            Err(failure) if matches!(failure.code, 0 | code::USAGE) => return Err(failure),
            Err(failure) => {
                if is_news(&failure, told.as_ref()) {
                    failure.report(&context.output);
                }
                told = Some(failure);
            }
        }
        if let Some(signal) = rest(every, signals, context).await {
            return stopped(signal, args, context);
        }
    }
}

/// One that goes on until it is asked to stop has done its work then.
fn stopped(signal: Signal, args: &ReconcileArgs, context: &Context) -> Result<u8, Failure> {
    if args.every.is_some() {
        context.output.say(&format!("stopped by {signal}"));
        return Ok(0);
    }
    let code = u8::try_from(128 + signal as i32).unwrap_or(u8::MAX);
    let message = format!("stopped by {signal} in the middle of a round");
    Err(Failure::new(code, "interrupted", message)
        .hint("what was told above is settled; run the same command again for the rest")
        .retryable(true))
}

/// Asks once about all that is due.
async fn round(
    reconciler: &Reconciler,
    asker: &Asker,
    signals: &mut Signals,
    context: &Context,
) -> Result<u8, Failure> {
    let mut failed: Option<Failure> = None;
    let report = {
        let mut round = pin!(reconciler.run_each(|asked| {
            let shown = show(&asked, context);
            let broken = shown.is_err();
            let failure = shown.err().or_else(|| failure_of(asked));
            failed = failed.take().or(failure);
            if broken || asker.stopped().is_some() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }));
        tokio::select! {
            biased;
            report = &mut round => Some(report),
            () = asked_to_stop(signals, asker) => None,
        }
    };
    let Some(report) = report else { return Ok(0) };
    let report = report?;
    summary(&report, context)?;
    match failed {
        Some(failed) => Err(failed),
        None if report.in_doubt() > 0 => Ok(code::IN_DOUBT),
        None => Ok(0),
    }
}

/// What a store said that gave no answer, or refused.
fn failure_of(asked: Asked) -> Option<Failure> {
    let failed = asked.outcome == ReconcileOutcome::Failed;
    asked.error.filter(|_| failed).map(Failure::from)
}

/// Resolves when a signal comes while no command runs. One that runs hears of it too: with its
/// answer the round ends.
async fn asked_to_stop(signals: &mut Signals, asker: &Asker) {
    asker.stop(signals.stop_asked().await);
    if asker.asks() {
        pending::<()>().await;
    }
}

/// Tells of one attempt. What failed for it is returned only where nothing can be told.
fn show(asked: &Asked, context: &Context) -> Result<(), Failure> {
    let info = &asked.attempt;
    let detail = detail(asked);
    if context.output.json {
        let mut object = attempt_json(info);
        object["result"] = asked.outcome.as_str().into();
        object["answer"] = asked.answer.as_ref().map(Answer::as_str).into();
        object["detail"] = detail.into();
        context.output.object(&object)?;
    } else {
        let detail = visible(detail.as_deref().unwrap_or("-"));
        let result = asked.outcome.as_str();
        let (marketplace, posting) = (&info.marketplace, visible(&info.posting));
        let line = format!("{marketplace}\t{posting}\t{result}\t{}\t{detail}\n", info.id);
        let people = context.output.is_terminal();
        context.output.data(&if people { line.replace('\t', "  ") } else { line })?;
    }
    Ok(())
}

/// What there is to say beside the result.
fn detail(asked: &Asked) -> Option<String> {
    if let Some(error) = &asked.error {
        return Some(error.to_string());
    }
    match (asked.outcome, &asked.answer) {
        (ReconcileOutcome::Busy, _) => Some("somebody else holds its lock".to_owned()),
        (ReconcileOutcome::Overtaken, _) => Some(format!("it is {} by now", asked.attempt.state)),
        (_, Some(Answer::Found { reference })) => reference.clone(),
        (_, Some(Answer::Refused { reason })) => reason.clone(),
        (_, Some(Answer::CannotTell { why })) => why.clone(),
        _ => None,
    }
}

fn summary(report: &Report, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        context.output.object(&json!({ "report": report_json(report) }))?;
    }
    let settled = report.placed + report.refused;
    let mut line = format!("{} asked, {settled} settled", report.asked);
    if report.skipped_busy > 0 {
        line = format!("{line}, {} held by others", report.skipped_busy);
    }
    if report.waiting > 0 {
        line = format!("{line}, {} too young to ask about", report.waiting);
    }
    if report.left_over > 0 {
        line = format!("{line}, {} left for the next round", report.left_over);
    }
    context.output.say(&format!("{line}; {} in doubt", report.in_doubt()));
    Ok(())
}

fn report_json(report: &Report) -> Value {
    json!({
        "due": report.due,
        "asked": report.asked,
        "placed": report.placed,
        "refused": report.refused,
        "not_found": report.not_found,
        "cannot_tell": report.cannot_tell,
        "busy": report.skipped_busy,
        "overtaken": report.overtaken,
        "left": report.left,
        "failed": report.failed,
        "waiting": report.waiting,
        "left_over": report.left_over,
        "in_doubt": report.in_doubt(),
    })
}

/// Lists what would be asked about.
async fn dry_run(options: ReconcileOptions, context: &Context) -> Result<u8, Failure> {
    context.say_default();
    let ledger = context.ledger_to_read().await?;
    let guard = BidGuard::new(context.locker_to_read().await?, ledger);
    let nobody = |_: Question| std::future::ready(Answer::NotFound);
    let reconciler = Reconciler::new(guard, nobody, options)?;
    let (due, report) = reconciler.due().await?;
    for info in &due {
        list(info, context)?;
    }
    let (would, waiting) = (due.len(), report.waiting);
    context.output.say(&format!("{would} would be asked about, {waiting} are too young for it"));
    Ok(if report.due + waiting > 0 { code::IN_DOUBT } else { 0 })
}

fn list(info: &AttemptInfo, context: &Context) -> Result<(), Failure> {
    if context.output.json {
        context.output.object(&attempt_json(info))?;
        return Ok(());
    }
    let send_by = info.send_by.map_or_else(|| "-".to_owned(), time::rfc3339);
    let (marketplace, posting) = (&info.marketplace, visible(&info.posting));
    let holder = visible(&info.holder);
    let line = format!("{marketplace}\t{posting}\tdue\t{}\t{send_by}\t{holder}\n", info.id);
    let people = context.output.is_terminal();
    context.output.data(&if people { line.replace('\t', "  ") } else { line })?;
    Ok(())
}
