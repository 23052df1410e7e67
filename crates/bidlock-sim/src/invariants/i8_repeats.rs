//! I2, I8: a lease that has the key keeps its token, and only it can change that.

use super::Invariant;
use crate::facts::{Facts, Happened};

pub(super) struct Repeats;

impl Invariant for Repeats {
    fn name(&self) -> &'static str {
        "a live grant is its lease's"
    }

    fn cites(&self) -> &'static str {
        "I2 I8"
    }

    fn on(&mut self, facts: &mut Facts, happened: &Happened) -> Result<(), String> {
        let Happened::Changed(change) = happened else { return Ok(()) };
        let Some(before) = change.held_before() else { return Ok(()) };
        let same = change
            .after
            .lock
            .as_ref()
            .is_some_and(|after| after.lease == before.lease && after.token == before.token);
        let asked = change.lease == before.lease;
        if asked {
            facts.coverage.count("checked: a live grant is its lease's");
        }
        let freed = facts.revoked.contains(&before.lease);
        if !same && !asked && !freed {
            let (key, token) = (&change.key, before.token);
            return Err(format!("{key}: {} ended token {token} of another", change.lease));
        }
        if asked && change.told_held && before.state != b'r' {
            let (key, token) = (&change.key, before.token);
            return Err(format!("{key}: {} has token {token}, and was told to wait", change.lease));
        }
        let mine = change.after.lock.as_ref().filter(|after| after.lease == before.lease);
        match mine {
            Some(after) if after.token != before.token => {
                let (key, token) = (&change.key, before.token);
                Err(format!("{key}: token {token} became {} by a repeat", after.token))
            }
            _ => Ok(()),
        }
    }
}
