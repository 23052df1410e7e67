//! Counters of everything that happens, for whoever collects metrics.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use bidlock::{AcquireOutcome, BidOutcome, Event, Observer, ReleaseOutcome, WakeSource};
use pyo3::prelude::*;

use crate::errors::Failure;
use crate::process::{Process, lock};

/// For each metric the marketplaces, and for each of them the labels with their values.
type Counts = BTreeMap<&'static str, HashMap<String, BTreeMap<&'static str, f64>>>;

/// Counts what all lockers of one process do.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    counts: Mutex<Counts>,
}

impl Metrics {
    fn add(&self, metric: &'static str, class: &str, label: &'static str, value: f64) {
        let mut counts = lock(&self.counts);
        let classes = counts.entry(metric).or_default();
        if let Some(labels) = classes.get_mut(class) {
            *labels.entry(label).or_default() += value;
        } else {
            classes.insert(class.to_owned(), BTreeMap::from([(label, value)]));
        }
    }

    fn time(&self, sum: &'static str, count: &'static str, class: &str, length: Duration) {
        self.add(sum, class, "", length.as_secs_f64());
        self.add(count, class, "", 1.0);
    }
}

impl Observer for Metrics {
    fn on(&self, event: &Event<'_>) {
        match event {
            Event::Acquire { class, outcome, waited, .. } => {
                self.add("acquires_total", class, acquired(*outcome), 1.0);
                self.time("acquire_seconds_sum", "acquire_seconds_count", class, *waited);
            }
            Event::Woken { class, source } => {
                let source = match source {
                    WakeSource::Push => "push",
                    WakeSource::Timer => "timer",
                    _ => "other",
                };
                self.add("wakes_total", class, source, 1.0);
            }
            Event::Renewed { class, .. } => self.add("renewals_total", class, "renewed", 1.0),
            Event::RenewalFailed { class } => self.add("renewals_total", class, "failed", 1.0),
            Event::Lost { class, reason, .. } => {
                self.add("lost_total", class, reason.as_str(), 1.0);
            }
            Event::Released { class, outcome, held } => {
                self.add("releases_total", class, released(*outcome), 1.0);
                self.time("held_seconds_sum", "held_seconds_count", class, *held);
            }
            Event::Bid { class, outcome } => self.add("bids_total", class, bid(*outcome), 1.0),
            Event::Reconciled { class, outcome } => {
                self.add("reconciled_total", class, outcome.as_str(), 1.0);
            }
            _ => {}
        }
    }
}

const fn acquired(outcome: AcquireOutcome) -> &'static str {
    match outcome {
        AcquireOutcome::Acquired => "acquired",
        AcquireOutcome::Busy => "busy",
        AcquireOutcome::TimedOut => "timed_out",
        AcquireOutcome::Cancelled => "cancelled",
        AcquireOutcome::Failed => "failed",
        _ => "other",
    }
}

const fn released(outcome: ReleaseOutcome) -> &'static str {
    match outcome {
        ReleaseOutcome::Released => "released",
        ReleaseOutcome::NotOwner => "not_owner",
        ReleaseOutcome::Failed => "failed",
        _ => "other",
    }
}

const fn bid(outcome: BidOutcome) -> &'static str {
    match outcome {
        BidOutcome::Placed => "placed",
        BidOutcome::Refused => "refused",
        BidOutcome::NotSent => "not_sent",
        BidOutcome::Unknown => "unknown",
        BidOutcome::AlreadyDecided => "already_decided",
        BidOutcome::InDoubt => "in_doubt",
        BidOutcome::InProgress => "in_progress",
        BidOutcome::NoLock => "no_lock",
        BidOutcome::Failed => "failed",
        BidOutcome::Stale => "stale",
        BidOutcome::Late => "late",
        _ => "other",
    }
}

type Row = (&'static str, String, &'static str, f64);

/// All counters: metric, marketplace, label, value.
#[pyfunction]
pub(crate) fn metrics() -> Result<Vec<Row>, Failure> {
    let process = Process::current()?;
    let counts = lock(&process.metrics.counts);
    let mut rows = Vec::new();
    for (metric, classes) in &*counts {
        for (class, labels) in classes {
            let row =
                |(label, value): (&&'static str, &f64)| (*metric, class.clone(), *label, *value);
            rows.extend(labels.iter().map(row));
        }
    }
    Ok(rows)
}
