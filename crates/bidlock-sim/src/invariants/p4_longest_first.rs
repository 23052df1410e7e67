//! P4, I6: a key that is handed over goes to the live waiter that has waited longest.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct LongestFirst;

impl Invariant for LongestFirst {
    fn name(&self) -> &'static str {
        "longest first"
    }

    fn cites(&self) -> &'static str {
        "P4 I6"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        let Some(granted) = change.granted() else { return Ok(()) };
        let queue = &change.before.queue;
        if queue.is_empty() {
            return Ok(());
        }
        facts.coverage.count("checked: longest first");
        let silent = change.before.window.as_ref();
        if let Some(waiter) = queue.iter().find(|waiter| waiter.lease == granted.lease) {
            let dead = waiter.deadline < change.server || waiter.alive < change.server;
            let unheard =
                !waiter.heard || (change.held_before().is_none() && silent == Some(&waiter.client));
            if change.handed_over().is_some() && (dead || unheard) {
                let (key, lease) = (&change.key, &waiter.lease);
                let why = if dead { "no longer waits" } else { "does not hear" };
                return Err(format!("{key}: handed over to {lease}, which {why}"));
            }
        }
        for waiter in queue.iter().take_while(|waiter| waiter.lease != granted.lease) {
            // A clock that moves in a script may read a little later than the first look.
            let lives = waiter.deadline > change.server + 100
                && waiter.alive > change.server + 100
                && waiter.heard;
            let held = change.held_before().is_some();
            let silent = !held && silent == Some(&waiter.client);
            if lives && !silent && waiter.lease != change.lease {
                let (key, passed) = (&change.key, &waiter.lease);
                return Err(format!("{key}: {} was served before {passed}", granted.lease));
            }
        }
        Ok(())
    }
}
