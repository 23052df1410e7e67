use std::time::Duration;

use bidlock::ledger::{AttemptInfo, Event, Outcome, State, Verdict};
use bidlock::{Key, Liveness, Placement, Submission, WallTime};
use serde_json::{Value, json};

use crate::cmd::attempts::attempt_json;
use crate::cmd::context::Context;
use crate::exit::{Failure, code};
use crate::output::time;

/// How a call of `bidlock bid` went, for people and for programs.
#[derive(Debug)]
pub(super) struct Report {
    /// The exit code.
    pub(super) code: u8,
    lines: Vec<String>,
    object: Value,
}

impl Report {
    /// Writes it to stderr: stdout belongs to the command.
    pub(super) fn show(&self, context: &Context) {
        context.output.report(self.code == 0, &self.lines, &self.object);
    }

    fn new(code: u8, result: &str, lines: Vec<String>, attempt: Option<&AttemptInfo>) -> Self {
        let mut object = attempt.map_or_else(|| json!({}), attempt_json);
        object["code"] = code.into();
        object["result"] = result.into();
        object["message"] = lines.first().cloned().into();
        if code != 0 {
            // The same fields as those of a failure, so that programs read one shape.
            object["kind"] = result.into();
            object["hint"] = hint_of(&lines).into();
            object["retryable"] = (code == code::NOT_SENT).into();
        }
        Self { code, lines, object }
    }

    /// With something to know before the hints.
    pub(super) fn with_note(mut self, note: Option<String>) -> Self {
        if let Some(note) = note {
            let place = self.lines.iter().position(|line| line.starts_with("hint: "));
            self.object["note"] = note.clone().into();
            self.lines.insert(place.unwrap_or(self.lines.len()), format!("note: {note}"));
        }
        self
    }

    /// Of an attempt that was in doubt, and was sent again under its own id.
    pub(super) fn sent_again(mut self) -> Self {
        self.object["resent"] = true.into();
        let note = "it was in doubt, and was sent again under its own id";
        self.with_note(Some(note.to_owned()))
    }

    /// With what was found out about a mark, for programs; people have seen it.
    pub(super) fn with_unread_mark(mut self, why: Option<String>) -> Self {
        if let Some(why) = why {
            self.object["marks_unreadable"] = why.into();
        }
        self
    }

    /// What stands against a bid; with the horizon that the posting was seen before (L10).
    pub(super) fn of_verdict(
        key: &Key,
        verdict: &Verdict,
        horizon: Option<WallTime>,
        context: &Context,
    ) -> Self {
        let name = posting_name(key.marketplace(), &key.posting());
        let (code, head) = match verdict {
            Verdict::AlreadyPlaced(_) => (code::DECIDED, "already bid".to_owned()),
            Verdict::Refused(_) => (code::DECIDED, "already refused".to_owned()),
            Verdict::Withdrawn(_) => (code::DECIDED, "already withdrawn".to_owned()),
            Verdict::Stale { age } => (code::STALE, stale(*age, horizon)),
            Verdict::InProgress(_) => (code::IN_DOUBT, "in progress".to_owned()),
            _ => (code::IN_DOUBT, "in doubt: nobody knows how an attempt went".to_owned()),
        };
        let attempt = verdict.attempt();
        let mut lines = vec![match attempt {
            None => format!("{head}: {name}; nothing was done"),
            Some(info) => {
                let at = info.decided_at.or(info.started_at).unwrap_or(info.reserved_at);
                let when = time::with_age(at, context.now());
                format!("{head}: {name}, {when} by {}; nothing was done", info.holder)
            }
        }];
        if let Some(info) = attempt {
            lines.push(attempt_line(info));
        }
        match verdict {
            Verdict::InDoubt(info) => lines.extend(Doubt::met(info, context).hint(context)),
            Verdict::InProgress(info) => lines.push(wait_hint(info)),
            Verdict::Stale { .. } if horizon.is_some() => lines.push(format!(
                "hint: see whether the marketplace, or `bidlock bids {} {}`, knows a bid on it; \
                 once it is seen there again, it is taken with that --seen-at",
                key.marketplace(),
                quoted(&key.posting())
            )),
            Verdict::Stale { .. } => {
                lines.push("hint: raise --max-age to bid on it all the same".to_owned());
            }
            _ => lines.push(kept(context)),
        }
        let mut report = Self::new(code, verdict.as_str(), lines, attempt);
        if let Some(horizon) = horizon {
            report.object["pruned_before"] = time::rfc3339(horizon).into();
        }
        report
    }

    /// What an attempt came to.
    pub(super) fn of_placement(
        placement: &Placement,
        outcome: &Outcome,
        context: &Context,
    ) -> Self {
        let info = match placement {
            Placement::Recorded(info) => info,
            Placement::Late(info) => return Self::late(info, outcome, context),
            Placement::Not(verdict) => {
                // A bid that was begun cannot be refused any more; the types allow for it.
                let lines = vec![format!("nothing was done: {}", verdict.as_str())];
                return Self::new(code::IN_DOUBT, verdict.as_str(), lines, verdict.attempt());
            }
        };
        let name = posting_name(&info.marketplace, &info.posting);
        let reason = info.reason.as_deref().unwrap_or("no reason was given");
        let (code, head) = match info.state {
            State::Placed | State::Withdrawn => (0, format!("placed: {name}")),
            State::Refused => (code::REFUSED, format!("refused: {name} ({reason})")),
            State::Abandoned => {
                (code::NOT_SENT, format!("not sent: {name} ({reason}); a later call may try again"))
            }
            _ => (code::IN_DOUBT, format!("in doubt: {name} ({reason})")),
        };
        let mut lines = vec![head, attempt_line(info)];
        if code == code::IN_DOUBT {
            lines.extend(Doubt::own(info).hint(context));
        } else {
            lines.push(kept(context));
        }
        Self::new(code, info.state.as_str(), lines, Some(info))
    }

    /// The attempt was closed by somebody else before its outcome came.
    fn late(info: &AttemptInfo, outcome: &Outcome, context: &Context) -> Self {
        let name = posting_name(&info.marketplace, &info.posting);
        let said = match outcome {
            Outcome::NotSent { .. } => "not sent",
            other => other.state().as_str(),
        };
        let lines = vec![
            format!("late: {name} was closed as {} before the command said {said}", info.state),
            format!("{}; look at the marketplace now", attempt_line(info)),
            kept(context),
        ];
        Self::new(code::IN_DOUBT, "late", lines, Some(info))
    }

    /// The ledger did not take the outcome.
    pub(super) fn not_recorded(
        submission: &Submission,
        outcome: &Outcome,
        error: bidlock::Error,
        context: &Context,
    ) -> Failure {
        let key = submission.key();
        let name = posting_name(key.marketplace(), &key.posting());
        let ended = match outcome {
            Outcome::NotSent { reason } => {
                let reason = reason.as_deref().unwrap_or("no reason was given");
                format!("nothing was sent for {name} ({reason})")
            }
            other => format!("{name} ended as {}", other.state()),
        };
        let attempt = submission.attempt();
        let doubt = Doubt {
            marketplace: key.marketplace().to_owned(),
            posting: key.posting(),
            attempt: attempt.to_string(),
            send_by: Some(submission.send_by()),
            sender: None,
        };
        let message =
            format!("in doubt: {ended}, but the ledger did not take that (attempt {attempt})");
        let under = Failure::from(error);
        let mut failure = Failure::new(code::IN_DOUBT, "outcome_not_recorded", message);
        failure.hint = hint_of(&doubt.hint(context));
        failure.causes.push(under.message);
        failure.causes.extend(under.causes);
        failure
    }
}

/// An attempt of which somebody has to say how it went.
struct Doubt {
    marketplace: String,
    posting: String,
    attempt: String,
    send_by: Option<WallTime>,
    /// Who may still send it, and whether that one is seen to live.
    sender: Option<(String, Liveness)>,
}

impl Doubt {
    /// One that this very call leaves behind: its sender has ended.
    fn own(info: &AttemptInfo) -> Self {
        Self {
            marketplace: info.marketplace.clone(),
            posting: info.posting.clone(),
            attempt: info.id.to_string(),
            send_by: info.send_by,
            sender: None,
        }
    }

    /// One that an earlier call left behind. Who said «unknown» itself has stopped sending.
    fn met(info: &AttemptInfo, context: &Context) -> Self {
        let alive = context.platform.processes.liveness(&info.process);
        let may_send = info.event != Event::Unknown && alive != Liveness::Gone;
        let sender = may_send.then(|| (info.holder.clone(), alive));
        Self { sender, ..Self::own(info) }
    }

    /// The way out: one line to be copied for each thing that may be found.
    fn hint(&self, context: &Context) -> Vec<String> {
        let mut lines = vec![];
        let mut gone = "";
        match &self.sender {
            Some((sender, Liveness::Alive)) => {
                lines.push(format!("hint: {sender} is alive and may still send it: end it first"));
            }
            Some((sender, _)) => {
                gone = " --sender-is-gone";
                lines.push(format!(
                    "hint: {sender} cannot be seen from here: make sure that it has ended, and \
                     all that it started"
                ));
            }
            None => {}
        }
        let when = match self.send_by {
            Some(send_by) if send_by > context.now() => {
                format!("--placed at once, else from {} on", time::rfc3339(send_by))
            }
            _ => "once it would show there".to_owned(),
        };
        lines.push(format!("hint: look at the marketplace, then say what you found ({when}):"));
        let Self { marketplace, attempt, .. } = self;
        let posting = quoted(&self.posting);
        for found in ["--placed REF", "--refused", &format!("--not-sent{gone}")] {
            lines.push(format!(
                "  bidlock resolve {marketplace} {posting} --attempt {attempt} {found} \
                 --because TEXT"
            ));
        }
        lines
    }
}

/// What programs get as the hint: all its lines, without the word.
fn hint_of(lines: &[String]) -> Option<String> {
    let hint: Vec<&str> = lines
        .iter()
        .skip_while(|line| !line.starts_with("hint: "))
        .map(|line| line.strip_prefix("hint: ").unwrap_or(line))
        .collect();
    (!hint.is_empty()).then(|| hint.join("\n"))
}

/// How old a sighting is, and what makes that too old.
fn stale(age: Duration, horizon: Option<WallTime>) -> String {
    let seen = format!("stale: the posting was seen {} ago", time::age(age));
    match horizon {
        None => seen,
        Some(horizon) => format!(
            "{seen}, before the horizon of the last prune ({}): bids on it may be forgotten",
            time::rfc3339(horizon)
        ),
    }
}

/// What to do about an attempt that is still under way.
fn wait_hint(info: &AttemptInfo) -> String {
    match info.send_by {
        Some(send_by) => {
            format!("hint: it ends by {}; run the same command again then", time::rfc3339(send_by))
        }
        None => "hint: it has sent nothing yet; run the same command again".to_owned(),
    }
}

fn posting_name(marketplace: &str, posting: &str) -> String {
    format!("{marketplace} {posting}")
}

fn attempt_line(info: &AttemptInfo) -> String {
    let reference = info.reference.as_ref();
    let reference = reference.map(|text| format!(", reference {text}")).unwrap_or_default();
    format!("attempt {}, token {}{reference}", info.id, info.token)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@');
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn kept(context: &Context) -> String {
    let config = &context.config;
    let why = match &config.default_file {
        Some(_) => " (the default; set BIDLOCK_URL for another)",
        None => "",
    };
    if config.ledger.value == config.lock.value {
        format!("kept in {}{why}", config.ledger.value)
    } else {
        format!("kept in {}, locked in {}{why}", config.ledger.value, config.lock.value)
    }
}
