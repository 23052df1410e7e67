//! Questions of a reconciler on their way to Python, and answers on their way back.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bidlock::{
    Answer, BidGuard, InvalidValue, Question, Reconcile, ReconcileOptions, Reconciler, Report,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::sync::{mpsc, oneshot};

use crate::errors::Failure;
use crate::op::Op;
use crate::owned::Owned;
use crate::process::lock;
use crate::records;

type Asked = (Question, oneshot::Sender<Answer>);

/// Hands out the questions of one round, one after the other.
#[pyclass(frozen, module = "bidlock._native")]
pub(crate) struct Asker {
    desk: Owned<Arc<Desk>>,
}

struct Desk {
    questions: tokio::sync::Mutex<mpsc::Receiver<Asked>>,
    /// Gone once the round has begun: its end closes the desk.
    sender: Mutex<Option<mpsc::Sender<Asked>>>,
    open: Mutex<Option<oneshot::Sender<Answer>>>,
}

/// The reconciler's side of it.
struct Questions(mpsc::Sender<Asked>);

#[async_trait]
impl Reconcile for Questions {
    async fn ask(&self, question: &Question) -> Answer {
        let (sender, answer) = oneshot::channel();
        let gone = || Answer::CannotTell { why: Some("nobody was left to ask".to_owned()) };
        if self.0.send((question.clone(), sender)).await.is_err() {
            return gone();
        }
        answer.await.unwrap_or_else(|_| gone())
    }
}

impl Asker {
    pub(crate) fn reconcile(
        &self,
        guard: BidGuard,
        visibility_delay: Duration,
        marketplace: Option<String>,
        limit: u32,
        ask_timeout: Duration,
    ) -> Result<Op, Failure> {
        let sender = lock(&self.desk.get()?.sender).take().ok_or(Failure::Used)?;
        let mut options = ReconcileOptions::default()
            .visibility_delay(visibility_delay)
            .limit(limit)
            .ask_timeout(ask_timeout);
        if let Some(marketplace) = marketplace {
            options = options.marketplace(marketplace);
        }
        let reconciler = Reconciler::new(guard, Questions(sender), options)?;
        let work = async move { reconciler.run_once().await };
        Op::new(work, |py, report| Ok(report_of(py, &report)?.into_any().unbind()))
    }
}

#[pymethods]
impl Asker {
    #[new]
    fn new() -> Self {
        let (sender, questions) = mpsc::channel(1);
        let questions = tokio::sync::Mutex::new(questions);
        let desk = Desk { questions, sender: Mutex::new(Some(sender)), open: Mutex::default() };
        Self { desk: Owned::new(Arc::new(desk)) }
    }

    /// The next question; None when the round is over.
    fn next(&self) -> Result<Op, Failure> {
        let desk = Arc::clone(self.desk.get()?);
        let work = async move {
            let asked = desk.questions.lock().await.recv().await;
            Ok::<_, Failure>(asked.map(|(question, answer)| {
                *lock(&desk.open) = Some(answer);
                question
            }))
        };
        Op::new(work, |py, question| {
            let shown = question.map(|question| question_of(py, &question)).transpose()?;
            Ok(shown.into_pyobject(py)?.into_any().unbind())
        })
    }

    /// Answers the last question: `found`, `refused`, `not_found` or `cannot_tell`.
    fn answer(&self, kind: &str, text: Option<String>) -> Result<(), Failure> {
        let answer = match kind {
            "found" => Answer::Found { reference: text },
            "refused" => Answer::Refused { reason: text },
            "not_found" => Answer::NotFound,
            "cannot_tell" => Answer::CannotTell { why: text },
            _ => {
                let why = "found, refused, not_found or cannot_tell";
                return Err(InvalidValue::new("answer", kind, why).into());
            }
        };
        if let Some(open) = lock(&self.desk.get()?.open).take() {
            // A question that was withdrawn meanwhile wants no answer.
            drop(open.send(answer));
        }
        Ok(())
    }
}

fn question_of<'py>(py: Python<'py>, question: &Question) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("attempt", question.attempt.to_string())?;
    shown.set_item("marketplace", &question.marketplace)?;
    shown.set_item("posting", &question.posting)?;
    shown.set_item("payload", question.payload.map(|payload| payload.to_string()))?;
    shown.set_item("started_at", question.started_at.map(records::seconds))?;
    shown.set_item("send_by", question.send_by.map(records::seconds))?;
    shown.set_item("reference", &question.reference)?;
    shown.set_item("holder", &question.holder)?;
    Ok(shown)
}

fn report_of<'py>(py: Python<'py>, report: &Report) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    for (name, count) in [
        ("due", report.due),
        ("waiting", report.waiting),
        ("left_over", report.left_over),
        ("asked", report.asked),
        ("placed", report.placed),
        ("refused", report.refused),
        ("not_found", report.not_found),
        ("cannot_tell", report.cannot_tell),
        ("skipped_busy", report.skipped_busy),
        ("overtaken", report.overtaken),
        ("left", report.left),
        ("failed", report.failed),
        ("in_doubt", report.in_doubt()),
    ] {
        shown.set_item(name, count)?;
    }
    Ok(shown)
}
