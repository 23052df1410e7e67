//! What the ledger knows, as Python has it.

use bidlock::WallTime;
use bidlock::ledger::{AttemptInfo, AuditEntry, HistoryEntry, Verdict};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Seconds since 1970.
#[expect(clippy::cast_precision_loss, reason = "microseconds since 1970 are exact until 2255")]
pub(crate) fn seconds(at: WallTime) -> f64 {
    at.as_micros() as f64 / 1e6
}

pub(crate) fn attempt<'py>(py: Python<'py>, info: &AttemptInfo) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("id", info.id.to_string())?;
    shown.set_item("marketplace", &info.marketplace)?;
    shown.set_item("posting", &info.posting)?;
    shown.set_item("state", info.state.as_str())?;
    shown.set_item("event", info.event.as_str())?;
    shown.set_item("token", info.token.get())?;
    shown.set_item("holder", &info.holder)?;
    shown.set_item("seen_at", info.seen_at.map(seconds))?;
    shown.set_item("reserved_at", seconds(info.reserved_at))?;
    shown.set_item("started_at", info.started_at.map(seconds))?;
    shown.set_item("send_by", info.send_by.map(seconds))?;
    shown.set_item("decided_at", info.decided_at.map(seconds))?;
    shown.set_item("reference", &info.reference)?;
    shown.set_item("payload", info.payload.map(|payload| payload.to_string()))?;
    shown.set_item("reason", &info.reason)?;
    Ok(shown)
}

pub(crate) fn verdict<'py>(py: Python<'py>, verdict: &Verdict) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("name", verdict.as_str())?;
    let stands = verdict.attempt().map(|info| attempt(py, info)).transpose()?;
    shown.set_item("attempt", stands)?;
    let age = match verdict {
        Verdict::Stale { age } => Some(age.as_secs_f64()),
        _ => None,
    };
    shown.set_item("age", age)?;
    Ok(shown)
}

pub(crate) fn history<'py>(py: Python<'py>, entry: &HistoryEntry) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("at", seconds(entry.at))?;
    shown.set_item("attempt", entry.attempt.to_string())?;
    shown.set_item("event", entry.event.as_str())?;
    shown.set_item("token", entry.token.map(bidlock::FencingToken::get))?;
    shown.set_item("by", &entry.by)?;
    shown.set_item("detail", &entry.detail)?;
    Ok(shown)
}

pub(crate) fn audit<'py>(py: Python<'py>, entry: &AuditEntry) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    shown.set_item("number", entry.seq)?;
    shown.set_item("at", seconds(entry.at))?;
    shown.set_item("actor", &entry.actor)?;
    shown.set_item("act", &entry.act)?;
    shown.set_item("marketplace", &entry.marketplace)?;
    shown.set_item("posting", &entry.posting)?;
    shown.set_item("attempt", entry.attempt.map(|id| id.to_string()))?;
    shown.set_item("token", entry.token.map(bidlock::FencingToken::get))?;
    shown.set_item("because", &entry.because)?;
    Ok(shown)
}

/// A list of what one of the functions above makes.
pub(crate) fn list<'py, T>(
    py: Python<'py>,
    all: &[T],
    one: impl Fn(Python<'py>, &T) -> PyResult<Bound<'py, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let shown: PyResult<Vec<_>> = all.iter().map(|each| one(py, each)).collect();
    Ok(shown?.into_pyobject(py)?.into_any().unbind())
}
