//! I12: a grant that an operator has marked is not renewed, and stays marked.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct Revoked;

impl Invariant for Revoked {
    fn name(&self) -> &'static str {
        "revoked stays revoked"
    }

    fn cites(&self) -> &'static str {
        "I12"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        let Some(before) = change.held_before().filter(|lock| lock.state == b'r') else {
            return Ok(());
        };
        facts.coverage.count("checked: revoked stays revoked");
        let Some(after) = change.after.lock.as_ref().filter(|l| l.lease == before.lease) else {
            return Ok(());
        };
        if after.state != b'r' || after.ends > before.ends {
            return Err(format!("{}: token {} goes on", change.key, after.token));
        }
        Ok(())
    }
}
