//! Values as Python has them.

use std::time::Duration;

use bidlock::{InvalidValue, Ttl, Wait};
use pyo3::prelude::*;

use crate::errors::Failure;

/// What is locked.
#[pyclass(frozen, eq, hash, ord, str, module = "bidlock")]
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(pub(crate) bidlock::Key);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[pymethods]
impl Key {
    #[new]
    fn new(marketplace: &str, posting: &str) -> Result<Self, Failure> {
        Ok(Self(bidlock::Key::new(marketplace, posting)?))
    }

    /// A key for something that is no posting, such as `nightly-report`.
    #[staticmethod]
    fn named(name: &str) -> Result<Self, Failure> {
        Ok(Self(bidlock::Key::named(name)?))
    }

    /// Reads a key as stores keep it, whatever its prefix.
    #[staticmethod]
    fn read(text: &str) -> Result<Self, Failure> {
        Ok(Self(bidlock::Key::read(text)?))
    }

    /// The marketplace; empty for a named key.
    #[getter]
    fn marketplace(&self) -> &str {
        self.0.marketplace()
    }

    /// The posting id or name.
    #[getter]
    fn posting(&self) -> String {
        self.0.posting()
    }

    /// Whether clients of the old kind lock another key for this posting.
    #[getter]
    fn is_encoded(&self) -> bool {
        self.0.is_encoded()
    }

    fn __repr__(&self) -> String {
        format!("Key({:?})", self.0.as_str())
    }
}

/// A length of time in seconds.
pub(crate) fn duration(what: &'static str, seconds: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        InvalidValue::new(what, seconds, "a length of time is a number of seconds from 0").into()
    })
}

pub(crate) fn ttl(seconds: f64) -> Result<Ttl, Failure> {
    Ok(Ttl::new(duration("ttl", seconds)?)?)
}

/// A wait in seconds; None for one without end.
pub(crate) fn wait(seconds: Option<f64>) -> Result<Wait, Failure> {
    seconds.map_or(Ok(Wait::Forever), |seconds| Ok(Wait::For(duration("wait", seconds)?)))
}
