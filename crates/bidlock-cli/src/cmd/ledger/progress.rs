use std::time::Duration;

use bidlock::Moment;

use crate::cmd::context::Context;

/// How often a long work tells how far it has come.
const EVERY: Duration = Duration::from_secs(2);

/// Tells people on stderr how far a long work has come.
#[derive(Debug)]
pub(super) struct Progress<'a> {
    context: &'a Context,
    total: u64,
    what: &'static str,
    told: Moment,
}

impl<'a> Progress<'a> {
    /// Begins; a total of zero is one that nobody knows.
    pub(super) fn new(context: &'a Context, total: u64, what: &'static str) -> Self {
        Self { context, total, what, told: context.clock().now() }
    }

    /// Tells, when it was silent for a while.
    pub(super) fn at(&mut self, done: u64) {
        let now = self.context.clock().now();
        if now.since(self.told) < EVERY {
            return;
        }
        self.told = now;
        let Self { total, what, .. } = self;
        let of = if *total > 0 { format!(" of {total}") } else { String::new() };
        self.context.output.say(&format!("{done}{of} {what}"));
    }
}
