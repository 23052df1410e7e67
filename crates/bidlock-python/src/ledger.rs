//! The bid ledger.

use bidlock::ledger::{
    AttemptId, AuditQuery, BidQuery, Freshness, OperatorNote, Outcome, Recorded, Resolution,
    ResolveRequest, State,
};
use bidlock::{InvalidValue, StoreUrl, WallTime, limits};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::convert::{Key, duration};
use crate::errors::Failure;
use crate::op::Op;
use crate::owned::Owned;
use crate::process::{Process, may_open_sqlite};
use crate::records;

/// Remembers what was done about each posting.
#[pyclass(frozen, weakref, module = "bidlock._native")]
pub(crate) struct Ledger {
    ledger: Owned<bidlock::ledger::Ledger>,
    shared: bool,
}

/// Opens a ledger; `marks` is a folder for what tells a restored copy.
#[pyfunction]
#[pyo3(signature = (url, marks=None))]
pub(crate) fn open_ledger(url: &str, marks: Option<String>) -> Result<Op, Failure> {
    let url = StoreUrl::ledger(url).map_err(bidlock::Error::from)?;
    let process = Process::current()?;
    let shared = url.is_shared();
    let work = async move {
        if matches!(url, StoreUrl::Sqlite(_)) {
            may_open_sqlite()?;
        }
        let ledger = bidlock::open_ledger(&url, &process.platform).await?;
        Ok::<_, Failure>(match marks {
            Some(folder) => ledger.remembering(folder),
            None => ledger,
        })
    };
    Op::new(work, move |py, ledger| {
        Ok(Py::new(py, Ledger { ledger: Owned::new(ledger), shared })?.into_any())
    })
}

impl Ledger {
    pub(crate) fn get(&self) -> Result<bidlock::ledger::Ledger, Failure> {
        Ok(self.ledger.get()?.clone())
    }
}

/// An attempt's id, read.
pub(crate) fn attempt_id(text: &str) -> Result<AttemptId, Failure> {
    Ok(text.parse::<AttemptId>()?)
}

/// How a submission went, in words: `placed`, `refused`, `not_sent`, `unknown` or `given_up`.
pub(crate) fn outcome(kind: &str, text: Option<String>) -> Result<Outcome, Failure> {
    let outcome = match kind {
        "placed" => Outcome::Placed { reference: text },
        "refused" => Outcome::Refused { reason: text },
        "not_sent" => Outcome::NotSent { reason: text },
        "unknown" => Outcome::Unknown { reason: text },
        "given_up" => Outcome::GivenUp { reason: text },
        _ => {
            let why = "placed, refused, not_sent, unknown or given_up";
            return Err(InvalidValue::new("outcome", kind, why).into());
        }
    };
    // An outcome is worth more than the exact words that came with it.
    Ok(outcome.fitted())
}

pub(crate) fn freshness(seen_at: Option<f64>, max_age: f64) -> Result<Freshness, Failure> {
    Ok(Freshness {
        seen_at: seen_at.map(wall).transpose()?,
        max_age: duration("max_age", max_age)?,
    })
}

fn wall(seconds: f64) -> Result<WallTime, Failure> {
    let since = duration("seen_at", seconds)?;
    Ok(WallTime::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)))
}

#[pymethods]
impl Ledger {
    #[getter]
    fn endpoint(&self) -> Result<String, Failure> {
        Ok(self.ledger.get()?.endpoint().to_string())
    }

    /// Whether several machines can use it.
    #[getter]
    fn shared(&self) -> bool {
        self.shared
    }

    #[pyo3(signature = (key, seen_at, max_age))]
    fn should_bid(&self, key: &Key, seen_at: Option<f64>, max_age: f64) -> Result<Op, Failure> {
        let (ledger, key) = (self.get()?, key.0.clone());
        let freshness = freshness(seen_at, max_age)?;
        let work = async move { ledger.should_bid(&key, &freshness).await };
        Op::new(work, |py, verdict| Ok(records::verdict(py, &verdict)?.into_any().unbind()))
    }

    fn record(&self, attempt: &str, kind: &str, text: Option<String>) -> Result<Op, Failure> {
        let (ledger, id) = (self.get()?, attempt_id(attempt)?);
        let outcome = outcome(kind, text)?;
        let work = async move { ledger.record(&id, &outcome).await };
        Op::new(work, |py, recorded| recorded_of(py, &recorded))
    }

    fn attempt(&self, attempt: &str) -> Result<Op, Failure> {
        let (ledger, id) = (self.get()?, attempt_id(attempt)?);
        let work = async move { ledger.attempt(&id).await };
        Op::new(work, |py, found| {
            let found = found.map(|info| records::attempt(py, &info)).transpose()?;
            Ok(found.into_pyobject(py)?.into_any().unbind())
        })
    }

    fn history(&self, key: &Key) -> Result<Op, Failure> {
        let (ledger, key) = (self.get()?, key.0.clone());
        let work = async move { ledger.history(&key).await };
        Op::new(work, |py, all| records::list(py, &all, records::history))
    }

    #[pyo3(signature = (marketplace, posting, state, after, limit))]
    fn bids(
        &self,
        marketplace: Option<String>,
        posting: Option<String>,
        state: Option<&str>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Op, Failure> {
        let ledger = self.get()?;
        let state = state.map(|name| {
            let why = "reserved, started, placed, refused, unknown, withdrawn or abandoned";
            State::from_name(name).ok_or_else(|| InvalidValue::new("state", name, why))
        });
        let after = after.map(attempt_id).transpose()?;
        let query = BidQuery { marketplace, posting, state: state.transpose()?, after, limit };
        let work = async move { ledger.bids(&query).await };
        Op::new(work, |py, all| records::list(py, &all, records::attempt))
    }

    #[expect(clippy::too_many_arguments, reason = "Python's front names them")]
    #[pyo3(signature = (key, kind, reference, attempt, gone, actor, because, visibility_lag))]
    fn resolve(
        &self,
        key: &Key,
        kind: &str,
        reference: Option<String>,
        attempt: Option<&str>,
        gone: bool,
        actor: String,
        because: String,
        visibility_lag: f64,
    ) -> Result<Op, Failure> {
        let (ledger, key) = (self.get()?, key.0.clone());
        let resolution = match kind {
            "placed" => Resolution::Placed { reference },
            "refused" => Resolution::Refused,
            "not_sent" => Resolution::NotSent { sender_is_gone: gone },
            _ => {
                let why = "placed, refused or not_sent";
                return Err(InvalidValue::new("resolution", kind, why).into());
            }
        };
        let request = ResolveRequest {
            attempt: attempt.map(attempt_id).transpose()?,
            resolution,
            note: OperatorNote { actor, because },
            visibility_lag: duration("visibility_lag", visibility_lag)?,
        };
        let work = async move { ledger.resolve(&key, &request).await };
        Op::new(work, |py, info| Ok(records::attempt(py, &info)?.into_any().unbind()))
    }

    fn withdraw(&self, key: &Key, actor: String, because: String) -> Result<Op, Failure> {
        let (ledger, key) = (self.get()?, key.0.clone());
        let note = OperatorNote { actor, because };
        let work = async move { ledger.withdraw(&key, &note).await };
        Op::new(work, |py, info| Ok(records::attempt(py, &info)?.into_any().unbind()))
    }

    fn reopen(&self, key: &Key, actor: String, because: String) -> Result<Op, Failure> {
        let (ledger, key) = (self.get()?, key.0.clone());
        let note = OperatorNote { actor, because };
        let work = async move { ledger.reopen(&key, &note).await };
        Op::new(work, |py, info| Ok(records::attempt(py, &info)?.into_any().unbind()))
    }

    #[pyo3(signature = (key, after))]
    fn audit(&self, key: Option<&Key>, after: Option<u64>) -> Result<Op, Failure> {
        let ledger = self.get()?;
        let key = key.map(|key| key.0.clone());
        let query = AuditQuery { key, after, limit: limits::PAGE_MAX };
        let work = async move { ledger.audit(&query).await };
        Op::new(work, |py, all| records::list(py, &all, records::audit))
    }

    fn health(&self) -> Result<Op, Failure> {
        let ledger = self.get()?;
        let work = async move { ledger.ping().await };
        Op::new(work, |py, health| {
            let shown = PyDict::new(py);
            shown.set_item("server", health.server)?;
            shown.set_item("version", health.version)?;
            shown.set_item("role", health.role)?;
            shown.set_item("latency", health.latency.as_secs_f64())?;
            Ok(shown.into_any().unbind())
        })
    }
}

fn recorded_of(py: Python<'_>, recorded: &Recorded) -> PyResult<Py<PyAny>> {
    let kind = match recorded {
        Recorded::Written(_) => "written",
        Recorded::Already(_) => "already",
        Recorded::Late(_) => "late",
    };
    let shown = (kind, records::attempt(py, recorded.attempt())?);
    Ok(shown.into_pyobject(py)?.into_any().unbind())
}
