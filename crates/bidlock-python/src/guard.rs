//! One bid, with the lock and the ledger.

use std::sync::{Arc, Mutex};

use bidlock::ledger::Fingerprint;
use bidlock::{Begin, BidGuard, BidOptions, Label, OpenBid, Placement, Submission};
use pyo3::prelude::*;

use crate::asker::Asker;
use crate::convert::{Key, duration, ttl, wait};
use crate::errors::Failure;
use crate::ledger::{Ledger, freshness, outcome};
use crate::locker::Locker;
use crate::op::Op;
use crate::owned::Owned;
use crate::process::lock;
use crate::records;

/// Places a bid at most once.
#[pyclass(frozen, weakref, module = "bidlock._native")]
pub(crate) struct Guard {
    guard: Owned<BidGuard>,
    /// Keeps the locker in the books of the process.
    _locker: Owned<Arc<bidlock::Locker>>,
}

/// How to bid, by the names that Python's front has.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Options {
    wait: Option<f64>,
    ttl: f64,
    max_hold: Option<f64>,
    label: Option<String>,
    submit_timeout: f64,
    seen_at: Option<f64>,
    max_age: f64,
    payload: Option<Vec<u8>>,
    honours_keys: Option<f64>,
}

impl Options {
    fn read(self) -> Result<BidOptions, Failure> {
        let mut options = BidOptions::default()
            .wait(wait(self.wait)?)
            .ttl(ttl(self.ttl)?)
            .submit_timeout(duration("submit_timeout", self.submit_timeout)?);
        if let Some(max_hold) = self.max_hold {
            options = options.max_hold(duration("max_hold", max_hold)?);
        }
        if let Some(label) = self.label {
            options = options.holder_label(Label::new(&label)?);
        }
        let fresh = freshness(self.seen_at, self.max_age)?;
        if let Some(seen_at) = fresh.seen_at {
            options = options.seen(seen_at, fresh.max_age);
        }
        if let Some(payload) = self.payload {
            options = options.payload(Fingerprint::of(&payload));
        }
        if let Some(retention) = self.honours_keys {
            options = options.honours_keys(duration("honours_keys", retention)?);
        }
        Ok(options)
    }
}

#[pymethods]
impl Guard {
    #[new]
    fn new(locker: &Locker, ledger: &Ledger) -> Result<Self, Failure> {
        let locker = locker.get()?;
        let guard = BidGuard::new((*locker).clone(), ledger.get()?);
        Ok(Self { guard: Owned::new(guard), _locker: Owned::new(locker) })
    }

    /// Takes the lock, reserves and starts; a Bid, or the verdict that stands against it.
    fn begin(&self, key: &Key, options: Options) -> Result<Op, Failure> {
        let (guard, key) = (self.guard.get()?.clone(), key.0.clone());
        let options = options.read()?;
        let work = async move { guard.begin(&key, &options).await };
        Op::new(work, |py, begun| match begun {
            Begin::Started(bid) => Ok(Py::new(py, Bid::new(bid))?.into_any()),
            Begin::Not(verdict) => Ok(records::verdict(py, &verdict)?.into_any().unbind()),
        })
    }

    /// Asks once about all attempts in doubt that are due.
    #[pyo3(signature = (asker, visibility_delay, marketplace, limit, ask_timeout))]
    fn reconcile(
        &self,
        asker: &Asker,
        visibility_delay: f64,
        marketplace: Option<String>,
        limit: u32,
        ask_timeout: f64,
    ) -> Result<Op, Failure> {
        let delay = duration("visibility_delay", visibility_delay)?;
        let timeout = duration("ask_timeout", ask_timeout)?;
        asker.reconcile(self.guard.get()?.clone(), delay, marketplace, limit, timeout)
    }
}

/// A bid whose submission may be under way. Dropped, its outcome is unknown.
#[pyclass(frozen, weakref, module = "bidlock._native")]
pub(crate) struct Bid {
    bid: Owned<Mutex<Option<OpenBid>>>,
    submission: Submission,
}

impl Bid {
    fn new(bid: OpenBid) -> Self {
        let submission = bid.submission().clone();
        Self { bid: Owned::new(Mutex::new(Some(bid))), submission }
    }
}

#[pymethods]
impl Bid {
    /// The attempt's identity: the idempotency key for the marketplace.
    #[getter]
    fn id(&self) -> String {
        self.submission.attempt().to_string()
    }

    #[getter]
    fn key(&self) -> Key {
        Key(self.submission.key().clone())
    }

    #[getter]
    fn token(&self) -> u64 {
        self.submission.token().get()
    }

    /// Whether the attempt may have been sent before, under the same id.
    #[getter]
    fn again(&self) -> bool {
        self.submission.is_again()
    }

    /// From when on nothing may be sent, in seconds since 1970.
    #[getter]
    fn send_by(&self) -> f64 {
        records::seconds(self.submission.send_by())
    }

    /// Seconds left until the send-by; at zero, nothing may be sent.
    fn left(&self) -> Result<f64, Failure> {
        self.bid.get()?;
        Ok(self.submission.left().as_secs_f64())
    }

    /// Keeps how it went, then releases the lock.
    fn finish(&self, kind: &str, text: Option<String>) -> Result<Op, Failure> {
        let outcome = outcome(kind, text)?;
        let bid = lock(self.bid.get()?).take().ok_or(Failure::Used)?;
        let work = async move { bid.finish(outcome).await };
        Op::new(work, |py, placement| {
            let (kind, info) = match placement {
                Placement::Recorded(info) => ("recorded", info),
                Placement::Late(info) => ("late", info),
                Placement::Not(verdict) => {
                    let shown = records::verdict(py, &verdict)?;
                    return Ok(("not", shown).into_pyobject(py)?.into_any().unbind());
                }
            };
            let shown = (kind, records::attempt(py, &info)?);
            Ok(shown.into_pyobject(py)?.into_any().unbind())
        })
    }
}
