//! What the library and bidlock itself log to stderr.

use std::fmt::{self, Debug, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{self, Format, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::Global;

/// What these log as an error, bidlock's own report says: a late outcome, or one not recorded.
const REPORTED: [&str; 2] = ["bidlock::bid::", "bidlock_ledger::ledger"];

/// Lets `-v` show what the library does; its errors are shown always.
pub(crate) fn to_stderr(flags: &Global) {
    let level = match flags.verbose {
        0 => Level::ERROR,
        1 => Level::DEBUG,
        _ => Level::TRACE,
    };
    let verbose = flags.verbose > 0;
    let text = format::format().with_target(verbose);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(false)
        .event_format(Lines { json: flags.json, verbose, text })
        .with_writer(std::io::stderr)
        .init();
}

/// One line, or one object, for each event.
struct Lines {
    json: bool,
    verbose: bool,
    text: Format,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let target = event.metadata().target();
        if !self.verbose && REPORTED.iter().any(|reported| target.starts_with(reported)) {
            return Ok(());
        }
        if !self.json {
            return self.text.format_event(context, writer, event);
        }
        let mut at = String::new();
        SystemTime.format_time(&mut Writer::new(&mut at))?;
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let mut object = Map::new();
        object.insert("log".to_owned(), event.metadata().level().as_str().into());
        object.insert("at".to_owned(), at.into());
        object.insert("target".to_owned(), target.into());
        object.extend(fields.0);
        writeln!(writer, "{}", Value::Object(object))
    }
}

/// The fields of an event, as JSON.
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // A value that cannot be shown is shown as far as it went.
        write!(text, "{value:?}").unwrap_or_default();
        self.set(field, text);
    }
}
