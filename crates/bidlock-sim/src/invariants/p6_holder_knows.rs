//! P6, I3: whoever believes in a lease has it at the server, and who has lost one learns of it by
//! himself.

use bidlock_core::Clock as _;

use super::Invariant;
use crate::facts::{Facts, Happened};

/// How long after its end the loss of a lease may go unnoticed by a process that runs.
const UNNOTICED_MAX: std::time::Duration = std::time::Duration::from_millis(50);

pub(super) struct HolderKnows;

impl Invariant for HolderKnows {
    fn name(&self) -> &'static str {
        "the holder knows first"
    }

    fn cites(&self) -> &'static str {
        "P6 I3"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Step if facts.remembers() => {
                for watched in facts.leases.values() {
                    if !watched.believes() || facts.revoked.contains(&watched.lease) {
                        continue;
                    }
                    let lock = facts.keys.get(&watched.key).and_then(|view| view.lock.as_ref());
                    if lock.is_none_or(|lock| lock.lease != watched.lease) {
                        let (key, token) = (&watched.key, watched.token);
                        return Err(format!("{key}: token {token} is believed, and is over"));
                    }
                }
                if !facts.leases.is_empty() {
                    facts.coverage.count("checked: the holder knows first");
                }
                Ok(())
            }
            Happened::Tick => {
                for watched in facts.leases.values().filter(|w| facts.runs(w.process)) {
                    let Some(until) = watched.view.believed_until() else { continue };
                    if until + UNNOTICED_MAX < watched.clock.now() {
                        let (key, token) = (&watched.key, watched.token);
                        return Err(format!("{key}: the end of token {token} went unnoticed"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
