use std::time::Duration;

use bidlock_core::LossReason;
use bidlock_ledger::{AttemptId, Event, Fingerprint, LedgerError, ResendRequest, Start, Verdict};

use super::attempt::{Attempt, Phase};
use super::{Begin, BidGuard, BidOptions, OpenBid};
use crate::Error;

/// An attempt that is to be sent again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    attempt: AttemptId,
    retention: Duration,
    payload: Fingerprint,
}

impl BidGuard {
    /// The attempt in doubt that may be sent again under its own id, as far as can be told before
    /// the ledger decides it (L11).
    pub(super) fn again(&self, verdict: &Verdict, options: &BidOptions) -> Option<Again> {
        let Verdict::InDoubt(info) = verdict else { return None };
        let (retention, payload) = (options.honours_keys?, options.payload?);
        let now = self.locker.platform().clock.wall();
        let known_until = info.started_at? + retention;
        let suits = info.payload == Some(payload)
            && info.send_by? <= now
            && now + options.submit_timeout <= known_until
            && options.freshness.stale_at(now).is_none();
        suits.then_some(Again { attempt: info.id, retention, payload })
    }

    /// Begins to send an attempt again, under the lease that was taken for a new one.
    pub(super) async fn send_again(
        &self,
        mut attempt: Attempt,
        again: Again,
        options: &BidOptions,
    ) -> Result<Begin, Error> {
        let key = attempt.submission.key.clone();
        attempt.submission.attempt = again.attempt;
        attempt.submission.again = true;
        // It is not this caller's to close: the first sending may have gone through.
        attempt.phase = Phase::Resending;
        if let Err(failed) = attempt.lease()?.confirm().await {
            attempt.settle().await;
            return Err(failed);
        }
        match attempt.resend(options, again.retention, again.payload).await? {
            Start::Yes(_) => {
                attempt.phase = Phase::Open;
                Ok(Begin::Started(OpenBid { attempt, outcome: None }))
            }
            Start::No(info) => {
                attempt.settle().await;
                match Verdict::of(info) {
                    Some(verdict) => Ok(self.not(&key, verdict)),
                    None => Err(Error::lost(&key, LossReason::Taken)),
                }
            }
        }
    }
}

impl Attempt {
    async fn resend(
        &mut self,
        options: &BidOptions,
        retention: Duration,
        payload: Fingerprint,
    ) -> Result<Start, Error> {
        self.begin_now(options.submit_timeout);
        let lease = self.lease()?;
        let request = ResendRequest {
            token: self.submission.token,
            send_by: self.submission.send_by,
            payload,
            retention,
            holder: lease.id().holder(options.label.clone()).to_string(),
            process: self.guard.locker.platform().processes.current(),
        };
        match self.guard.ledger.resend(&self.submission.attempt, &request).await {
            Err(failed) if failed.may_have_applied() => self.read_resent(failed).await,
            answer => Ok(answer?),
        }
    }

    /// Finds out about a call whose answer was lost: its token at the event says yes. What cannot
    /// be found out is not sent, and stays in doubt.
    async fn read_resent(&mut self, failed: LedgerError) -> Result<Start, Error> {
        let token = self.submission.token;
        match self.read_again().await {
            Ok(Some(info)) if info.event == Event::Resent && info.token == token => {
                Ok(Start::Yes(info))
            }
            Ok(_) | Err(_) => {
                self.settle().await;
                Err(failed.into())
            }
        }
    }
}
