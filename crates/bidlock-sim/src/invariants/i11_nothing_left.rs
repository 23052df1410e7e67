//! I11: who waits no more leaves neither a place nor a grant.

use std::collections::BTreeMap;

use super::Invariant;
use crate::exec::ProcessId;
use crate::facts::{Facts, Happened};
use crate::time::Micros;

/// After so long a release in the background has been sent, and sent again.
const SETTLED: Micros = 3_500_000;

/// What the keys begin with whose every waiter is known.
const HOT: &str = "bid_lock::hot-";

#[derive(Default)]
pub(super) struct NothingLeft {
    /// Of each key, the grant that is not confirmed, and since when.
    windows: BTreeMap<String, (u64, Micros)>,
}

impl Invariant for NothingLeft {
    fn name(&self) -> &'static str {
        "leaving leaves nothing"
    }

    fn cites(&self) -> &'static str {
        "I11 P4"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        if !matches!(happened, Happened::Tick) {
            return Ok(());
        }
        let settled = facts.answers_since.is_some_and(|since| since + SETTLED < facts.now)
            && !facts.restored
            && facts.forgot.is_none_or(|at| at + SETTLED < facts.now);
        let mut checked = 0;
        for (key, view) in facts.keys.iter().filter(|_| settled) {
            self.window(facts, key)?;
            // Of bidders it is not known which of them wait for their lock.
            if !key.starts_with(HOT) {
                continue;
            }
            for (client, process) in &facts.owners {
                let of = (*process, key.clone());
                let quiet = facts.last_told.get(&of).is_none_or(|at| at + SETTLED < facts.now);
                if !quiet || !facts.well.contains(process) {
                    continue;
                }
                checked += 1;
                let places = view.queue.iter().filter(|w| w.client == *client).count();
                if places > waits(facts, *process, key) {
                    return Err(format!("{key}: process {process} has {places} places too many"));
                }
            }
        }
        for _ in 0..checked {
            facts.coverage.count("checked: leaving leaves nothing");
        }
        Ok(())
    }
}

impl NothingLeft {
    /// A client that is well confirms a grant, or gives it back, well before its window ends. One
    /// that lost packets and dials anew has its time from when it listens again.
    fn window(&mut self, facts: &Facts, key: &str) -> Result<(), String> {
        let well = |client| facts.owners.get(client).is_some_and(|p| facts.well.contains(p));
        let lock = facts.keys.get(key).and_then(|view| view.lock.as_ref());
        let Some(lock) = lock.filter(|lock| lock.state == b'g' && well(&lock.client)) else {
            self.windows.remove(key);
            return Ok(());
        };
        match self.windows.get(key) {
            Some((token, since)) if *token == lock.token => {
                if facts.now - since > 900_000 {
                    return Err(format!("{key}: nobody uses the window of token {token}"));
                }
            }
            _ => drop(self.windows.insert(key.to_owned(), (lock.token, facts.now))),
        }
        Ok(())
    }
}

fn waits(facts: &Facts, process: ProcessId, key: &str) -> usize {
    let of = |w: &&crate::facts::Waiting| w.process == process && w.key == key;
    facts.waiting.values().filter(of).count()
}
