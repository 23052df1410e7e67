//! L3, L4: an attempt goes from state to state as the machine allows, and tokens never fall.

use std::collections::BTreeMap;

use bidlock_ledger::State;

use super::Invariant;
use crate::facts::{Facts, Happened};

#[derive(Default)]
pub(super) struct States {
    known: BTreeMap<String, State>,
    /// The highest token that was let reserve or begin a posting.
    tokens: BTreeMap<String, u64>,
}

/// As `docs/protocol.md` has it; a look may miss a state in between.
fn may_follow(before: State, after: State) -> bool {
    match before {
        State::Reserved => true,
        State::Started => after != State::Reserved,
        State::Unknown => !matches!(after, State::Reserved | State::Started),
        State::Placed => matches!(after, State::Placed | State::Withdrawn | State::Abandoned),
        State::Refused => matches!(after, State::Refused | State::Abandoned),
        State::Withdrawn => matches!(after, State::Withdrawn | State::Abandoned),
        State::Abandoned => after == State::Abandoned,
    }
}

impl Invariant for States {
    fn name(&self) -> &'static str {
        "states follow the machine"
    }

    fn cites(&self) -> &'static str {
        "L3 L4"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let (info, begun) = match happened {
            Happened::Attempt(info) => (info, false),
            Happened::Begun { info, .. } => (info, true),
            _ => return Ok(()),
        };
        facts.coverage.count("checked: states follow the machine");
        let attempt = info.id.to_string();
        if begun || info.state == State::Reserved {
            let token = self.tokens.entry(info.posting.clone()).or_default();
            if info.token.get() < *token {
                let posting = &info.posting;
                return Err(format!("{posting}: token {} after {token}", info.token));
            }
            *token = info.token.get();
        }
        match self.known.insert(attempt.clone(), info.state) {
            Some(before) if !may_follow(before, info.state) => {
                Err(format!("{attempt} went from {before} to {}", info.state))
            }
            _ => Ok(()),
        }
    }
}
