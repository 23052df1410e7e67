//! I5, I8: nothing that its holder asks for shortens a grant.

use super::Invariant;
use crate::facts::{Facts, Happened, Script};

pub(super) struct RenewalExtends;

impl Invariant for RenewalExtends {
    fn name(&self) -> &'static str {
        "a renewal only extends"
    }

    fn cites(&self) -> &'static str {
        "I5 I8"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        if let Some(lock) = change.granted().filter(|_| change.script == Script::Renew) {
            return Err(format!("{}: a renewal made token {}", change.key, lock.token));
        }
        let (Some(before), Some(after)) = (change.held_before(), &change.after.lock) else {
            return Ok(());
        };
        if before.lease != after.lease || before.token != after.token {
            return Ok(());
        }
        facts.coverage.count("checked: a renewal only extends");
        // A rest of less than a millisecond is cut off where an end is written anew.
        let shorter = after.ends.zip(before.ends).is_some_and(|(after, before)| after < before);
        if shorter {
            return Err(format!("{}: token {} ends sooner", change.key, after.token));
        }
        Ok(())
    }
}
