//! I13: whoever waits beside a hand-over is told that the key may end sooner than was said, so that
//! nothing but time is lost when the window passes unused.

use super::Invariant;
use crate::facts::{Facts, Happened};

/// A clock that moves in a script may read a little later than the first look.
const MOVES: u64 = 100;

pub(super) struct Told;

impl Invariant for Told {
    fn name(&self) -> &'static str {
        "waiters know the end"
    }

    fn cites(&self) -> &'static str {
        "I13"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        let Some(granted) = change.handed_over() else { return Ok(()) };
        let now = change.server + MOVES;
        // Who asks now is told by the answer.
        let waits = change.after.queue.iter().any(|waiter| {
            let hears = waiter.heard && waiter.lease != change.lease;
            hears && waiter.deadline > now && waiter.alive > now
        });
        // Once in a window: those who were told before look before.
        if !waits || change.before.told > change.server {
            return Ok(());
        }
        facts.coverage.count("checked: waiters know the end");
        if change.ends_told == 0 {
            let lease = &granted.lease;
            return Err(format!("{}: nobody is told of the window of {lease}", change.key));
        }
        Ok(())
    }
}
