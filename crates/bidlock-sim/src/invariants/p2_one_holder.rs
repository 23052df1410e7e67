//! P2: at any instant at most one client believes that it holds a key.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct OneHolder;

impl Invariant for OneHolder {
    fn name(&self) -> &'static str {
        "one holder"
    }

    fn cites(&self) -> &'static str {
        "P2"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        // Belief begins in a step of the process that has it.
        if !matches!(happened, Happened::Step) || facts.leases.len() < 2 || !facts.remembers() {
            return Ok(());
        }
        let mut believers = Vec::with_capacity(facts.leases.len());
        for watched in facts.leases.values().filter(|w| !facts.revoked.contains(&w.lease)) {
            if !watched.believes() {
                continue;
            }
            let other = believers.iter().find(|(key, _)| *key == watched.key);
            if let Some((key, token)) = other {
                let mine = watched.token;
                return Err(format!("{key}: tokens {token} and {mine} are believed at once"));
            }
            believers.push((watched.key.clone(), watched.token));
        }
        if believers.len() > 1 {
            facts.coverage.count("checked: one holder");
        }
        Ok(())
    }
}
