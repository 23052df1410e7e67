//! What is looked at from time to time, whatever happens.

use std::collections::BTreeMap;

use super::{Due, TICK, World};
use crate::facts::Happened;
use crate::time::Micros;

/// For so long a client has been undisturbed before it is called well.
const WELL: Micros = 3_000_000;
/// How much history of the server's data is kept, for replicas and snapshots.
const HISTORY: usize = 40;

impl World<'_> {
    pub(super) fn tick(&mut self) {
        let now = self.time.now();
        self.at(now + TICK, Due::Tick);
        self.trace.step(b'k', 0);
        self.server.at(self.clock.micros());
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((now, self.server.db().clone()));
        let mut facts = self.watch.facts();
        facts.well.clear();
        let mut hears = BTreeMap::new();
        for slot in &mut self.slots {
            let Some((host, process)) = slot.env.as_ref().map(|env| (env.host, env.process)) else {
                continue;
            };
            let reached = self.net.reaches(host) && slot.frozen_until <= now;
            if !reached {
                slot.disturbed_until(now);
            }
            hears.insert(process, reached);
            if slot.reachable_since + WELL < now {
                facts.well.insert(process);
            }
        }
        facts.hears.clear();
        facts.owners.clear();
        for (channel, listeners) in self.server.channels() {
            let client = String::from_utf8_lossy(&channel);
            let client = client.strip_prefix("bid_lock:#client:").unwrap_or_default();
            let process = listeners.iter().find_map(|id| self.net.process(*id));
            let somebody = process.is_some_and(|process| hears.get(&process) == Some(&true));
            facts.owners.extend(process.map(|process| (client.to_owned(), process)));
            facts.hears.insert(client.to_owned(), somebody);
        }
        facts.answers_since = Some(self.answers_since).filter(|since| *since < now);
        facts.happened.push(Happened::Tick);
    }
}
