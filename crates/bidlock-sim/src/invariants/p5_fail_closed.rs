//! P5: nobody has a lease that the server has not granted to that very lease.

use std::collections::BTreeSet;

use super::Invariant;
use crate::facts::{Facts, Happened};

#[derive(Default)]
pub(super) struct FailClosed {
    granted: BTreeSet<(String, String, u64)>,
}

impl Invariant for FailClosed {
    fn name(&self) -> &'static str {
        "fail closed"
    }

    fn cites(&self) -> &'static str {
        "P5"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Changed(change) => {
                if let Some(lock) = change.granted() {
                    let grant = (change.key.clone(), lock.lease.clone(), lock.token);
                    self.granted.insert(grant);
                }
                Ok(())
            }
            Happened::Acquired(number) => {
                let Some(watched) = facts.leases.get(number) else { return Ok(()) };
                let grant = (watched.key.clone(), watched.lease.clone(), watched.token);
                if !self.granted.contains(&grant) {
                    return Err(format!("{}: {} was never granted", grant.0, grant.1));
                }
                facts.coverage.count("checked: fail closed");
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
