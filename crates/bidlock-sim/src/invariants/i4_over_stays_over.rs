//! I4: what is over stays over.

use super::Invariant;
use crate::facts::{Facts, Happened, ran};

pub(super) struct OverStaysOver;

impl Invariant for OverStaysOver {
    fn name(&self) -> &'static str {
        "what is over stays over"
    }

    fn cites(&self) -> &'static str {
        "I4"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        if !matches!(happened, Happened::Step) {
            return Ok(());
        }
        let mut ends = 0;
        let Facts { leases, frozen, now, .. } = facts;
        // Who stands still looks at no clock, and has lost nothing yet: the answer to a renewal
        // may already be there.
        for watched in leases.values_mut().filter(|w| ran(frozen, *now, w.process)) {
            let believes = watched.believes();
            if watched.over && believes {
                return Err(format!("{}: token {} came back", watched.key, watched.token));
            }
            ends += u64::from(!watched.over && !believes);
            watched.over |= !believes;
        }
        for _ in 0..ends {
            facts.coverage.count("checked: what is over stays over");
        }
        Ok(())
    }
}
