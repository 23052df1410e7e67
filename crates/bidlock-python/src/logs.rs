//! Messages on their way to Python's `logging`: kept here until a thread of Python's asks, so
//! that whoever logs never waits for the interpreter.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Write as _};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::errors::Failure;
use crate::process::{CURRENT, Process, lock};

/// How many messages may wait; more are counted only.
const WAITING_MAX: usize = 10_000;

/// The most talkative level that anybody wants: 0 for none, 1 for errors, 5 for everything.
static WANTED: AtomicU8 = AtomicU8::new(0);
static SUBSCRIBED: Once = Once::new();

type Entry = (u8, String, String);

/// The messages of one process.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    waiting: Mutex<Waiting>,
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    dropped: u64,
    ended: bool,
}

impl Logs {
    fn push(&self, entry: Entry) {
        let mut waiting = lock(&self.waiting);
        if waiting.entries.len() < WAITING_MAX {
            waiting.entries.push_back(entry);
        } else {
            waiting.dropped += 1;
        }
        drop(waiting);
        self.bell.notify_one();
    }

    /// What has come in, waited for at most so long; None after the end.
    fn next(&self, limit: Duration) -> Option<Vec<Entry>> {
        let idle = |waiting: &mut Waiting| waiting.entries.is_empty() && !waiting.ended;
        let waited = self.bell.wait_timeout_while(lock(&self.waiting), limit, idle);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::take(&mut waiting.dropped);
        let mut entries: Vec<_> = waiting.entries.drain(..).collect();
        if dropped > 0 {
            entries.push((2, "bidlock".into(), format!("{dropped} messages were dropped")));
        }
        (!entries.is_empty() || !waiting.ended).then_some(entries)
    }
}

/// Passes messages of bidlock's own on.
struct Passing;

const fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

impl Subscriber for Passing {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        number(*metadata.level()) <= WANTED.load(Ordering::Relaxed)
            && metadata.target().starts_with("bidlock")
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let known = CURRENT.load();
        // In a forked child the messages of its parent are nobody's.
        let Some(process) = known.as_ref().filter(|process| process.is_ours()) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        let target = metadata.target().split("::").next().unwrap_or_default().replace('_', ".");
        let target = target.strip_prefix("bidlock.").unwrap_or(&target).to_owned();
        process.logs.push((number(*metadata.level()), target, text.message + &text.fields));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// A message and its fields, in one line.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut next = value.source();
        while let Some(cause) = next {
            // Writing to a text does not fail.
            write!(text, ": {cause}").unwrap_or_default();
            next = cause.source();
        }
        self.record_debug(field, &format_args!("{text}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written: fmt::Result = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        written.unwrap_or_default();
    }
}

/// Waits for messages up to `level`, at most so many seconds; None after the end.
#[pyfunction]
pub(crate) fn next_logs(
    py: Python<'_>,
    level: u8,
    limit: f64,
) -> Result<Option<Vec<Entry>>, Failure> {
    let process = Process::current()?;
    WANTED.store(level, Ordering::Relaxed);
    // Where the process has another subscriber, it hears everything itself.
    SUBSCRIBED.call_once(|| drop(tracing::subscriber::set_global_default(Passing)));
    let limit = Duration::try_from_secs_f64(limit).unwrap_or_default();
    Ok(py.detach(|| process.logs.next(limit)))
}

/// Ends the wait for messages, for good.
#[pyfunction]
pub(crate) fn end_logs() -> Result<(), Failure> {
    let process = Process::current()?;
    lock(&process.logs.waiting).ended = true;
    process.logs.bell.notify_all();
    Ok(())
}
