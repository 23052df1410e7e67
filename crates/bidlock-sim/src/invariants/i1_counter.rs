//! I1: a grant without its counter cannot exist.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct Counter;

impl Invariant for Counter {
    fn name(&self) -> &'static str {
        "the counter is never behind"
    }

    fn cites(&self) -> &'static str {
        "I1"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        let Some(granted) = change.granted() else { return Ok(()) };
        facts.coverage.count("checked: the counter is never behind");
        if granted.token < change.server {
            let (key, token) = (&change.key, granted.token);
            return Err(format!("{key}: token {token} is below the clock, {}", change.server));
        }
        match change.counter {
            Some(counter) if counter >= granted.token => Ok(()),
            counter => Err(format!("{}: token {}, counter {counter:?}", change.key, granted.token)),
        }
    }
}
