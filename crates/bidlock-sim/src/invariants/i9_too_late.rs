//! I9: a request that is carried out after its deadline changes nothing.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct TooLate;

impl Invariant for TooLate {
    fn name(&self) -> &'static str {
        "too late is nothing"
    }

    fn cites(&self) -> &'static str {
        "I9"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        if change.deadline.is_none_or(|deadline| change.server <= deadline) {
            return Ok(());
        }
        facts.coverage.count("checked: too late is nothing");
        let lock = change.held_before() == change.after.lock.as_ref();
        if lock && change.before.queue.len() == change.after.queue.len() {
            return Ok(());
        }
        Err(format!("{}: a request of {} came too late, and took effect", change.key, change.lease))
    }
}
