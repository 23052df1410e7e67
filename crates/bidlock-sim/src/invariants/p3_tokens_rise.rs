//! P3: tokens of a key strictly rise, unless the clock was set back while the store was lost.

use std::collections::{BTreeMap, BTreeSet};

use super::Invariant;
use crate::facts::{Facts, Happened};
use crate::time::Micros;

#[derive(Default)]
pub(super) struct TokensRise {
    highest: BTreeMap<String, (u64, Micros)>,
    /// The last that a client was given.
    given: BTreeMap<String, u64>,
    /// Keys about which nothing is promised any more.
    excused: BTreeSet<String>,
}

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "tokens rise"
    }

    fn cites(&self) -> &'static str {
        "P3 I1"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Changed(change) => {
                let Some(granted) = change.granted() else { return Ok(()) };
                let last = self.highest.get(&change.key).copied();
                self.highest.insert(change.key.clone(), (granted.token, facts.now));
                let Some((token, at)) = last else { return Ok(()) };
                facts.coverage.count("checked: tokens rise");
                if granted.token > token {
                    return Ok(());
                }
                let forgot = facts.forgot.is_some_and(|forgot| forgot >= at);
                if forgot && change.server <= token {
                    // The counter is lost and the clock is back: nothing is promised.
                    facts.coverage.count("tokens fell as they may");
                    self.excused.insert(change.key.clone());
                    return Ok(());
                }
                Err(format!("{}: token {} after {token}", change.key, granted.token))
            }
            Happened::Acquired(number) => {
                let Some(watched) = facts.leases.get(number) else { return Ok(()) };
                let last = self.given.insert(watched.key.clone(), watched.token).unwrap_or(0);
                // Two clients may read their answers in another order than they were given.
                if last == watched.token && !self.excused.contains(&watched.key) {
                    return Err(format!("{}: token {last} was given twice", watched.key));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
