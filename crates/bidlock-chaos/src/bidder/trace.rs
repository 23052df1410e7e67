//! Hears what the library says of its own steps, and lets a bidder die right after one.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Level, Metadata, Subscriber};

use super::crash::{Point, reach};
use crate::event::{Event, Log};

static LOG: OnceLock<Arc<Log>> = OnceLock::new();

/// Begins to listen.
pub(super) fn begin() {
    // Set once in a process; a second time would change nothing.
    let _set_before = tracing::subscriber::set_global_default(Ear);
}

/// Says where to tell of what is heard.
pub(super) fn tell(log: &Arc<Log>) {
    let _told_before = LOG.set(Arc::clone(log));
}

struct Ear;

#[derive(Default)]
struct Words {
    message: String,
    attempt: String,
    state: String,
    all: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        self.all = format!("{} {}={text}", self.all, field.name());
        match field.name() {
            "message" => self.message = text,
            "attempt" => self.attempt = text,
            "state" => self.state = text,
            _ => {}
        }
    }
}

impl Subscriber for Ear {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ledger = metadata.target().starts_with("bidlock_ledger");
        let most = if ledger { Level::INFO } else { Level::WARN };
        metadata.target().starts_with("bidlock") && *metadata.level() <= most
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        if *event.metadata().level() <= Level::WARN {
            eprintln!("{} {}:{}", crate::time::boot(), event.metadata().target(), words.all);
        }
        let Some(log) = LOG.get() else { return };
        let Words { message, attempt, state, .. } = words;
        let posting = super::crash::TASK.try_with(|task| task.posting.clone());
        match message.as_str() {
            "reserved" => {
                log.say(Event::Reserved { posting: posting.unwrap_or_default(), attempt });
                reach(log, Point::Reserved);
            }
            "started" => {
                log.say(Event::Started { attempt });
                reach(log, Point::Started);
            }
            "resent" => {
                log.say(Event::Resent { attempt });
                reach(log, Point::Started);
            }
            "recorded" => {
                log.say(Event::Recorded { attempt, state });
                reach(log, Point::Recorded);
            }
            "late outcome" => log.say(Event::Late { attempt }),
            _ => {}
        }
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}
