//! How often the seldom things happened: a check that is never reached proves nothing.

use std::collections::BTreeMap;

/// What a thousand seeds must have reached.
pub(crate) const REQUIRED: &[&str] = &[
    "checked: one bid",
    "checked: states follow the machine",
    "checked: outcomes need no lease",
    "checked: one holder",
    "checked: tokens rise",
    "checked: longest first",
    "checked: nobody forgotten",
    "checked: fail closed",
    "checked: the holder knows first",
    "checked: every waiter is told",
    "checked: the counter is never behind",
    "checked: what is over stays over",
    "checked: a renewal only extends",
    "checked: a live grant is its lease's",
    "checked: too late is nothing",
    "checked: everything ends",
    "checked: leaving leaves nothing",
    "checked: revoked stays revoked",
    "checked: waiters know the end",
    "hand-over to a process that is dead, stopped or cut off",
    "hand-over past waiters that are dead or do not hear",
    "crossed cancel: a grant given back unconfirmed",
    "grant-window expiry, and a queue without its silent client",
    "server restart in the middle of a hand-over",
    "old data in the middle of a hand-over",
    "client ends in the middle of a hand-over",
    "client stops in the middle of a hand-over",
    "another fault in the middle of a hand-over",
    "step: hand-over",
    "step: confirmation of a window",
    "step: a waiter left the queue",
    "step: a request came too late",
    "step: a lease marked as revoked",
    "step: grant of a free key",
    "step: renewal or repeat of a held lease",
    "step: repeat of an acquire that was granted",
    "step: start",
    "step: sent again",
    "step: a bid after another one that came to nothing",
    "network: requests over an old connection after a newer one",
    "fault: connections cut",
    "fault: nothing reaches the server",
    "fault: nothing reaches a client",
    "fault: nothing passes",
    "fault: connections refused",
    "fault: process ended",
    "fault: machine without power",
    "fault: process stopped",
    "fault: a client's wall clock stepped",
    "fault: server stopped",
    "fault: server restarted with its data",
    "fault: server restarted without data",
    "fault: server restarted with old data",
    "fault: failover to a replica",
    "fault: FLUSHALL",
    "fault: SCRIPT FLUSH",
    "fault: the server's clock stepped",
    "fault: no memory",
    "fault: read-only",
    "fault: loading",
    "fault: the ledger cannot be reached",
    "fault: requests and answers of the ledger lost",
    "fault: the ledger's process ends in a transaction",
    "ledger: crash between statements",
    "ledger: crash at the commit",
    "ledger: crash after the commit",
    "ledger: crash with the caller's process",
    "fault: slow network",
];

/// So many seeds reach all that is required.
const REACHED_BY: u64 = 1_000;
/// In so many seeds each fault meets all of [`MET`] but the last, which is seldom.
const MET_BY: u64 = 2_000;

/// What a fault may meet at the lock store.
pub(crate) const MET: [&str; 4] =
    ["a lease is held", "somebody waits", "a hand-over is open", "a lease is revoked"];

/// Counts by name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    /// By fault, how often it met each of [`MET`].
    met: BTreeMap<&'static str, [u64; MET.len()]>,
}

impl Coverage {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.counts {
            *self.counts.entry(what).or_default() += count;
        }
        for (fault, met) in &other.met {
            let own = self.met.entry(fault).or_default();
            own.iter_mut().zip(met).for_each(|(own, met)| *own += met);
        }
    }

    /// A fault meets what is there.
    pub(crate) fn meets(&mut self, fault: &'static str, there: [bool; MET.len()]) {
        let met = self.met.entry(fault).or_default();
        met.iter_mut().zip(there).for_each(|(met, there)| *met += u64::from(there));
    }

    /// Every fault, and how often it met what.
    pub(crate) fn met(&self) -> impl Iterator<Item = (&'static str, [u64; MET.len()])> {
        self.met.iter().map(|(fault, met)| (*fault, *met))
    }

    /// What so many seeds must have reached, and have not.
    pub(crate) fn missing(&self, seeds: u64) -> Vec<String> {
        let never = REQUIRED.iter().filter(|what| seeds >= REACHED_BY && self.of(what) == 0);
        let never = never.map(|what| (*what).to_owned());
        let seldom = MET.len() - 1;
        let unmet = self.met().filter(|_| seeds >= MET_BY).flat_map(|(fault, met)| {
            let zero = (0..seldom).filter(move |step| met[*step] == 0);
            zero.map(move |step| format!("{fault}, while {}", MET[step]))
        });
        never.chain(unmet).collect()
    }

    pub(crate) fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(what, count)| (*what, *count))
    }
}
