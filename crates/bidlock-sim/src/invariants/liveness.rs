//! P4: every call ends within its budget, and in the end every waiter was served or told.

use super::Invariant;
use crate::facts::{Facts, Happened};
use crate::time::Micros;

/// A call may end this much after its wait budget (R17), by the slowest clock.
const GRACE: Micros = 50_000;
/// One request without a wait, and its own limits.
const AT_ONCE: Micros = 2_100_000;

pub(super) struct Liveness;

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "every waiter is told"
    }

    fn cites(&self) -> &'static str {
        "P4"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Told(waiting) => {
                let Some(budget) = waiting.budget.filter(|_| facts.runs(waiting.process)) else {
                    return Ok(());
                };
                facts.coverage.count("checked: every waiter is told");
                let most = if budget == 0 { AT_ONCE } else { budget + GRACE };
                let took = facts.now - waiting.since;
                // Rates of clocks differ by up to one hundredth.
                if took > most + most / 100 {
                    let (key, most) = (&waiting.key, most / 1_000);
                    return Err(format!("{key}: a call took {} ms, not {most}", took / 1_000));
                }
                Ok(())
            }
            Happened::End => match facts.waiting.values().next() {
                Some(waiting) => Err(format!("{}: a waiter was never told", waiting.key)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
