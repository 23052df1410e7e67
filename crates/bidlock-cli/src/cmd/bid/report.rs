use bidlock::ledger::{AttemptInfo, Outcome, State, Verdict};
use bidlock::{Key, Placement, Submission};
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
        context.output.report(&self.lines, &self.object);
    }

    fn new(code: u8, result: &str, lines: Vec<String>, attempt: Option<&AttemptInfo>) -> Self {
        let mut object = attempt.map_or_else(|| json!({}), attempt_json);
        object["code"] = code.into();
        object["result"] = result.into();
        object["message"] = lines.first().cloned().into();
        if code != 0 {
            // The same fields as those of a failure, so that programs read one shape.
            let hint = lines.iter().find_map(|line| line.strip_prefix("hint: "));
            object["kind"] = result.into();
            object["hint"] = hint.into();
            object["retryable"] = (code == code::NOT_SENT).into();
        }
        Self { code, lines, object }
    }

    /// What stands against a bid.
    pub(super) fn of_verdict(key: &Key, verdict: &Verdict, context: &Context) -> Self {
        let name = posting_name(key.marketplace(), &key.posting());
        let (code, head) = match verdict {
            Verdict::AlreadyPlaced(_) => (code::DECIDED, "already bid".to_owned()),
            Verdict::Refused(_) => (code::DECIDED, "already refused".to_owned()),
            Verdict::Withdrawn(_) => (code::DECIDED, "already withdrawn".to_owned()),
            Verdict::Stale { age } => {
                (code::STALE, format!("stale: the posting was seen {} ago", time::age(*age)))
            }
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
        if code == code::IN_DOUBT {
            lines.push(resolve_hint(key.marketplace(), &key.posting()));
        } else if matches!(verdict, Verdict::Stale { .. }) {
            lines.push("hint: raise --max-age to bid on it all the same".to_owned());
        } else {
            lines.push(kept(context));
        }
        Self::new(code, verdict.as_str(), lines, attempt)
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
        let mut lines = vec![head, attempt_line(info), kept(context)];
        if code == code::IN_DOUBT {
            lines[2] = resolve_hint(&info.marketplace, &info.posting);
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
    ) -> Failure {
        let key = submission.key();
        let under = Failure::from(error);
        let mut failure = Failure::new(
            code::IN_DOUBT,
            "outcome_not_recorded",
            format!(
                "in doubt: {} ended as {}, but the ledger did not take it (attempt {})",
                posting_name(key.marketplace(), &key.posting()),
                outcome.state(),
                submission.attempt(),
            ),
        )
        .hint(resolve_hint(key.marketplace(), &key.posting()).trim_start_matches("hint: "));
        failure.causes.push(under.message);
        failure.causes.extend(under.causes);
        failure
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

fn resolve_hint(marketplace: &str, posting: &str) -> String {
    format!(
        "hint: look at the marketplace, then `bidlock resolve {marketplace} {} --placed REF | \
         --refused | --not-sent --because TEXT`",
        quoted(posting)
    )
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
