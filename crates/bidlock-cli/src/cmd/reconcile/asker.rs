use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use bidlock::{Answer, Clock, Question};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::answer::{self, cannot_tell, told};
use crate::args::ReconcileArgs;
use crate::child::{Child, Ended, Exit, Signals, Spec, Talk, Why, find_command};
use crate::cmd::attempts::entry_json;
use crate::cmd::senders;
use crate::exit::Failure;
use crate::output::time;

/// How long a command has to end when it is asked to: it only looks something up.
const GRACE: Duration = Duration::from_secs(1);

/// Asks by running a command.
#[derive(Debug)]
pub(super) struct Asker {
    program: PathBuf,
    words: Vec<OsString>,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    signals: Mutex<Signals>,
    asks: AtomicBool,
    stopped: Lock<Option<Signal>>,
}

impl Asker {
    /// How much longer than its timeout an answer may take, until the command was stopped.
    pub(super) const STOPS_WITHIN: Duration = Duration::from_secs(5);

    /// Finds the command, before anything is contacted.
    pub(super) fn new(args: &ReconcileArgs, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let words = match &args.reconcile_with {
            Some(line) => ["sh", "-c", line].map(OsString::from).to_vec(),
            None => args.command.clone(),
        };
        let program = find_command(words.first().map_or("".as_ref(), OsString::as_os_str))?;
        Ok(Self {
            program,
            words,
            timeout: args.ask_timeout,
            clock,
            signals: Mutex::new(Signals::listen()?),
            asks: AtomicBool::new(false),
            stopped: Lock::new(None),
        })
    }

    /// Whether a command runs, which then hears of signals itself.
    pub(super) fn asks(&self) -> bool {
        self.asks.load(Ordering::Acquire)
    }

    /// The signal that ended the questions.
    pub(super) fn stopped(&self) -> Option<Signal> {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks no more.
    pub(super) fn stop(&self, signal: Signal) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
    }

    /// Asks about one attempt.
    pub(super) async fn ask(&self, question: &Question) -> Answer {
        let mut signals = self.signals.lock().await;
        let spec = self.spec(question);
        self.asks.store(true, Ordering::Release);
        let asking = Asking(&self.asks);
        let child = match Child::start(&spec, Arc::clone(&self.clock)) {
            Ok(child) => child,
            Err(error) => return cannot_tell(error.to_string()),
        };
        let deadline = self.clock.sleep_until(self.clock.now() + self.timeout);
        let late = async {
            deadline.await;
            Why::Deadline
        };
        let ended = child.wait(&mut signals, late, std::future::pending()).await;
        drop(asking);
        match ended {
            Ok(ended) => self.judge(question, &ended),
            Err(error) => cannot_tell(format!("its end was not seen: {error}")),
        }
    }

    fn spec(&self, question: &Question) -> Spec {
        let payload = question.payload.map(|payload| payload.to_string()).unwrap_or_default();
        Spec {
            program: self.program.clone(),
            words: self.words.clone(),
            environment: vec![
                // So that it is not taken for the sender of the attempt.
                (senders::ASKS, "1".to_owned()),
                ("BIDLOCK_ATTEMPT_ID", question.attempt.to_string()),
                ("BIDLOCK_MARKETPLACE", question.marketplace.clone()),
                ("BIDLOCK_POSTING", question.posting.clone()),
                ("BIDLOCK_PAYLOAD", payload),
            ],
            talk: Talk::Question(format!("{}\n", question_json(question))),
            grace: GRACE,
        }
    }

    /// Only a command that ended well by itself has answered.
    fn judge(&self, question: &Question, ended: &Ended) -> Answer {
        let said = ended.kept.as_deref().unwrap_or_default();
        let why = match (ended.exit, ended.stopped) {
            (Exit::Code(0), None) => return self.checked(question, answer::read(said)),
            (exit, None) => format!("the command {exit}"),
            (_, Some(Why::Signal(signal))) => {
                self.stop(signal);
                format!("stopped by {signal}")
            }
            (_, Some(_)) => format!("no answer within {:?}", self.timeout),
        };
        if said.trim().is_empty() {
            return cannot_tell(why);
        }
        cannot_tell(format!("{why}; it said {}", told(said)))
    }

    /// A refusal is no last word while a command of this machine may still send (L6).
    #[expect(clippy::unused_self, reason = "judging goes through one place")]
    fn checked(&self, question: &Question, answer: Answer) -> Answer {
        match (&answer, senders::find(&question.attempt.to_string())) {
            (Answer::Refused { .. }, Some(pid)) => {
                cannot_tell(format!("refused, but process {pid} may still send it"))
            }
            _ => answer,
        }
    }
}

/// That a command runs, until it is dropped.
struct Asking<'a>(&'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

fn question_json(question: &Question) -> Value {
    json!({
        "attempt": question.attempt.to_string(),
        "marketplace": question.marketplace,
        "posting": question.posting,
        "payload": question.payload.map(|payload| payload.to_string()),
        "started_at": question.started_at.map(time::rfc3339),
        "send_by": question.send_by.map(time::rfc3339),
        "reference": question.reference,
        "holder": question.holder,
        "history": question.history.iter().map(entry_json).collect::<Vec<_>>(),
    })
}
