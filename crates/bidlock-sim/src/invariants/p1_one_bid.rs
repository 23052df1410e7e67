//! P1: no submission starts while another may have happened. It needs no lock, and no condition.

use std::collections::BTreeMap;

use bidlock_ledger::State;

use super::Invariant;
use crate::facts::{Facts, Happened};

#[derive(Default)]
pub(super) struct OneBid {
    /// The attempt of a posting that was let begin, and whose outcome nobody has closed.
    open: BTreeMap<String, String>,
    /// By which tokens an attempt was let begin.
    begun: BTreeMap<String, Vec<u64>>,
}

impl Invariant for OneBid {
    fn name(&self) -> &'static str {
        "one bid"
    }

    fn cites(&self) -> &'static str {
        "P1 L1 L2 L4 L5 L6 L11"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Sent { posting, attempt, earlier } => {
                facts.coverage.count("checked: one bid");
                if !earlier.is_empty() {
                    facts.coverage.count("step: a bid after another one that came to nothing");
                }
                // The same attempt again is one bid, where the marketplace takes its id for a key.
                let other = earlier.iter().find(|e| e.stands && e.attempt != *attempt);
                if let Some(other) = other {
                    let other = &other.attempt;
                    return Err(format!("{posting}: {attempt} was sent besides {other}"));
                }
                let again = earlier.iter().any(|e| e.stands && e.attempt == *attempt);
                let begun = self.begun.get(attempt).map_or(0, Vec::len);
                if begun == 0 || (again && begun < 2) {
                    return Err(format!("{posting}: {attempt} was sent, and begun {begun} times"));
                }
                Ok(())
            }
            Happened::Begun { info, again } => {
                let (posting, attempt) = (&info.posting, info.id.to_string());
                let tokens = self.begun.entry(attempt.clone()).or_default();
                if (!again && !tokens.is_empty()) || tokens.contains(&info.token.get()) {
                    return Err(format!("{posting}: {attempt} was answered yes twice"));
                }
                tokens.push(info.token.get());
                facts.coverage.count(if *again { "step: sent again" } else { "step: start" });
                match self.open.insert(posting.clone(), attempt.clone()) {
                    Some(open) if open != attempt => {
                        Err(format!("{posting}: {attempt} was begun, and {open} is open"))
                    }
                    _ => Ok(()),
                }
            }
            Happened::Attempt(info) => {
                let closed = info.state == State::Abandoned;
                if closed && self.open.get(&info.posting) == Some(&info.id.to_string()) {
                    self.open.remove(&info.posting);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
