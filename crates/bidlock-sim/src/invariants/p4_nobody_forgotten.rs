//! P4: a key does not lie free while somebody waits for it who could take it.

use std::collections::BTreeMap;

use super::Invariant;
use crate::facts::{Facts, Happened};
use crate::time::Micros;

/// The rest of the TTL has passed already; the promise allows one second. A look that is on its
/// way when a fault ends may need its own time limit first.
const IDLE_MAX: Micros = 1_000_000;
const SETTLED: Micros = 3_000_000;
/// The longest TTL, and the time to look.
const LONGEST: Micros = 4_500_000;

#[derive(Default)]
pub(super) struct NobodyForgotten {
    free: BTreeMap<String, Micros>,
}

impl Invariant for NobodyForgotten {
    fn name(&self) -> &'static str {
        "nobody forgotten"
    }

    fn cites(&self) -> &'static str {
        "P4 I7 I13"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        if !matches!(happened, Happened::Tick) {
            return Ok(());
        }
        // Who waits at a server that has forgotten the queue knows when the key ends, and looks.
        let told = facts.forgot.is_none_or(|at| at + LONGEST < facts.now);
        let settled = facts.answers_since.is_some_and(|since| since + SETTLED < facts.now) && told;
        let mut checked = 0;
        for (key, view) in &facts.keys {
            let waited = facts.waiting.values().any(|waiting| {
                let waits = waiting.budget != Some(0) && waiting.key == *key;
                waits && facts.well.contains(&waiting.process)
            });
            if view.lock.is_some() || !waited || !settled {
                self.free.remove(key);
                continue;
            }
            checked += 1;
            let since = *self.free.entry(key.clone()).or_insert(facts.now);
            if facts.now - since > IDLE_MAX {
                return Err(format!(
                    "{key} lies free since {} ms, and is waited for",
                    (facts.now - since) / 1_000
                ));
            }
        }
        for _ in 0..checked {
            facts.coverage.count("checked: nobody forgotten");
        }
        Ok(())
    }
}
