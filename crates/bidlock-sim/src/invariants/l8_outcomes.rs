//! L8: an outcome is taken by its attempt alone, whoever has the lock by then.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct Outcomes;

impl Invariant for Outcomes {
    fn name(&self) -> &'static str {
        "outcomes need no lease"
    }

    fn cites(&self) -> &'static str {
        "L8"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Outcome { attempt, refused } = happened else { return Ok(()) };
        facts.coverage.count("checked: outcomes need no lease");
        match refused {
            None => Ok(()),
            Some(why) => Err(format!("{attempt}: {why}")),
        }
    }
}
