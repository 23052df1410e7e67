//! Faults of a ledger as a whole.

use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::WallTime;
use bidlock_ledger::{
    Admitted, Archive, AuditEntry, BidQuery, Dossier, KeptAttempt, LedgerError, LedgerId,
    OperatorNote, Outcome, Pruned, Result, Standing, State,
};

use super::{LedgerFault, Saboteur};

impl Saboteur {
    /// Ends what is open, as no prune may.
    async fn close_all(&self, now: WallTime) -> Result<()> {
        for info in self.inner.bids(&BidQuery::default(), now).await? {
            if matches!(info.state, State::Reserved | State::Started | State::Unknown) {
                let over = Outcome::NotSent { reason: None };
                self.inner.record(&info.id, &over, info.reserved_at).await?;
            }
        }
        Ok(())
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Archive for Saboteur {
    async fn standing(&self) -> Result<Standing> {
        let mut standing = self.inner.standing().await?;
        match self.fault {
            LedgerFault::ForgetsTheHorizon => standing.pruned_before = None,
            LedgerFault::ForgetsAcceptances => standing.accepted_at = None,
            LedgerFault::ChangesIdentity if self.again => {
                let other = standing.id.to_string();
                let first = if other.starts_with('0') { "1" } else { "0" };
                standing.id = format!("{first}{}", &other[1..]).parse::<LedgerId>()?;
            }
            _ => {}
        }
        Ok(standing)
    }

    async fn counts(&self, now: WallTime) -> Result<Vec<(State, u64)>> {
        self.inner.counts(self.read_time(now)).await
    }

    async fn dossiers(&self, after: Option<&(String, String)>, limit: u32) -> Result<Vec<Dossier>> {
        let after = after.filter(|_| !self.does(LedgerFault::RepeatsPages));
        self.inner.dossiers(after, limit).await
    }

    async fn admit(&self, dossier: &Dossier) -> Result<Admitted> {
        let mut given = dossier.clone();
        if self.does(LedgerFault::LeavesSeenTokensBehind) {
            let bare = |kept: KeptAttempt| KeptAttempt { token_seen: kept.info.token, ..kept };
            given.attempts = given.attempts.into_iter().map(bare).collect();
        }
        match self.inner.admit(&given).await {
            Ok(Admitted::Known) if self.does(LedgerFault::TakesInTwice) => Ok(Admitted::Taken),
            Err(LedgerError::Differs { .. }) if self.does(LedgerFault::SwallowsContradictions) => {
                Ok(Admitted::Known)
            }
            Ok(Admitted::Taken) if self.does(LedgerFault::LeavesBeginnings) => {
                // Says so the second time too, and has done nothing.
                let last = dossier.history.last().map(|entry| entry.event);
                let ends = matches!(last, Some(bidlock_ledger::Event::Reserved));
                Ok(if ends { Admitted::Taken } else { Admitted::Known })
            }
            answer => answer,
        }
    }

    async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>> {
        let mut page = self.inner.audit_forward(after, limit).await?;
        if self.does(LedgerFault::SkipsAudit) {
            page.pop();
        }
        Ok(page)
    }

    async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted> {
        if self.does(LedgerFault::LosesForeignAudit) {
            return Ok(Admitted::Taken);
        }
        self.inner.admit_audit(entry).await
    }

    async fn prune(&self, before: WallTime, limit: u32, now: WallTime) -> Result<Pruned> {
        let mut at = before;
        match self.fault {
            LedgerFault::PrunesTooMuch => at = now + Duration::from_micros(1),
            LedgerFault::PrunesWhatIsOpen => self.close_all(now).await?,
            _ => {}
        }
        let mut pruned = self.inner.prune(at, limit, now).await?;
        pruned.more &= !self.does(LedgerFault::StopsPruningEarly);
        Ok(pruned)
    }

    async fn accept(&self, note: &OperatorNote, now: WallTime) -> Result<()> {
        self.inner.accept(note, now).await
    }
}
