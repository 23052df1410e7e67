use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Backoff, LossReason};
use bidlock_ledger::{
    AttemptId, AttemptInfo, LedgerError, Outcome, Recorded, Start, StartRequest, State,
};

use super::{BidGuard, BidOptions, Submission};
use crate::Error;
use crate::lease::Lease;
use crate::observe::BidOutcome;

/// How long an outcome is tried to be recorded while the ledger gives no answer.
const RECORD_FOR: Duration = Duration::from_secs(30);

/// How long an attempt whose answer was lost is read.
const READ_FOR: Duration = Duration::from_secs(5);

/// Why an attempt that may have started was never sent.
const NO_ANSWER: &str = "the answer to its start was lost";

/// An attempt on its way, and what is to be done when its caller goes away.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) guard: BidGuard,
    pub(super) lease: Option<Lease>,
    pub(super) submission: Submission,
    pub(super) phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It may be reserved or started, but nothing was sent.
    Reserving,
    /// It is in doubt, and may be sent again; nothing was sent this time.
    Resending,
    /// Its submission may be under way.
    Open,
    /// Nothing is left to do.
    Over,
}

impl Attempt {
    /// The lease, which is there until the attempt is over.
    pub(super) fn lease(&self) -> Result<&Lease, Error> {
        let gone = || Error::lost(&self.submission.key, LossReason::Expired);
        self.lease.as_ref().ok_or_else(gone)
    }

    /// Starts the attempt: yes is answered once, and from then on its outcome is open (L2).
    pub(super) async fn start(&mut self, options: &BidOptions) -> Result<(), Error> {
        self.begin_now(options.submit_timeout);
        let request = StartRequest {
            token: self.submission.token,
            send_by: self.submission.send_by,
            payload: options.payload,
        };
        let ledger = &self.guard.ledger;
        let key = self.submission.key.clone();
        let answer = match ledger.start(&self.submission.attempt, &request).await {
            Err(failed) if failed.may_have_applied() => self.read_back(failed).await?,
            answer => answer?,
        };
        match answer {
            Start::Yes(_) => {
                self.phase = Phase::Open;
                // The lease may have ended while the start was on its way. The row protects the
                // posting now, so the submission goes on: only its send-by ends it.
                Ok(())
            }
            Start::No(info) => {
                tracing::warn!(%key, state = %info.state, "closed before its start");
                self.settle().await;
                Err(Error::lost(&key, LossReason::Taken))
            }
        }
    }

    /// Counts the send-by from now.
    pub(super) fn begin_now(&mut self, submit_timeout: Duration) {
        let clock = &self.submission.clock;
        self.submission.deadline = clock.now() + submit_timeout;
        self.submission.send_by = clock.wall() + submit_timeout;
    }

    /// Finds out about a start whose answer was lost: only this very call may, and what it cannot
    /// find out is not sent. That nothing was sent it knows for certain, so it closes the attempt
    /// by its own word, before the start takes effect or after it (L4).
    async fn read_back(&mut self, failed: LedgerError) -> Result<Start, Error> {
        match self.read_again().await {
            Ok(Some(info)) if info.state == State::Started => Ok(Start::Yes(info)),
            Ok(Some(info)) if info.state == State::Reserved => {
                // The start may still be on its way: it must not apply any more.
                self.abandon(NO_ANSWER).await;
                Err(failed.into())
            }
            Ok(Some(info)) => Ok(Start::No(info)),
            Ok(None) | Err(_) => {
                // When that cannot be kept either, it reads as unknown from its send-by on.
                self.record_in_background(Outcome::NotSent { reason: Some(NO_ANSWER.to_owned()) });
                Err(failed.into())
            }
        }
    }

    /// Reads the attempt, again while the ledger gives no answer: for 5 s at most, and never
    /// past the send-by.
    pub(super) async fn read_again(&self) -> Result<Option<AttemptInfo>, LedgerError> {
        let platform = self.guard.locker.platform();
        let give_up = (platform.clock.now() + READ_FOR).min(self.submission.deadline);
        let mut backoff = Backoff::store();
        loop {
            let failed = match self.guard.ledger.attempt(&self.submission.attempt).await {
                Ok(found) => return Ok(found),
                Err(failed) => failed,
            };
            let again = platform.clock.now() + backoff.pause(&*platform.rng);
            if !failed.is_retryable() || again >= give_up {
                return Err(failed);
            }
            platform.clock.sleep_until(again).await;
        }
    }

    /// Closes an attempt that was not started, and gives the lock back.
    pub(super) async fn abandon(&mut self, why: &str) {
        let outcome = Outcome::NotSent { reason: Some(why.to_owned()) };
        if let Err(failed) = self.guard.record(self.submission.attempt, &outcome).await {
            let (key, attempt) = (&self.submission.key, self.submission.attempt);
            tracing::warn!(%key, %attempt, error = %failed, "stays reserved until taken over");
        }
        self.settle().await;
    }

    /// Gives the lock back: nothing is left to do.
    pub(super) async fn settle(&mut self) {
        self.phase = Phase::Over;
        if let Some(lease) = self.lease.take()
            && let Err(failed) = lease.release().await
        {
            tracing::debug!(key = %self.submission.key, error = %failed, "release of the lock");
        }
    }

    pub(super) fn observe(&self, outcome: BidOutcome) {
        self.guard.observe(&self.submission.key, outcome);
    }

    /// Records an outcome that nobody waits for, and holds the lock until it is kept.
    pub(super) fn record_in_background(&mut self, outcome: Outcome) {
        self.phase = Phase::Over;
        let (guard, lease) = (self.guard.clone(), self.lease.take());
        let id = self.submission.attempt;
        let inner = Arc::clone(self.guard.locker.inner());
        let key = self.submission.key.clone();
        inner.spawn(async move {
            match guard.record(id, &outcome).await {
                Ok(recorded) => guard.observe(&key, BidOutcome::of(&recorded)),
                // The request to reserve it may never have been carried out.
                Err(Error::Ledger(LedgerError::NotFound { .. })) => {}
                Err(failed) => {
                    tracing::error!(%key, attempt = %id, error = %failed, "outcome not recorded");
                    guard.observe(&key, BidOutcome::Failed);
                }
            }
            drop(lease);
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.phase == Phase::Reserving {
            // On its submitter's own word: nothing was sent.
            let reason = Some("given up before its start".to_owned());
            self.record_in_background(Outcome::NotSent { reason });
        }
    }
}

impl BidGuard {
    /// Records an outcome, asking again while the ledger gives no answer.
    pub(super) async fn record(&self, id: AttemptId, outcome: &Outcome) -> Result<Recorded, Error> {
        let platform = self.locker.platform();
        let give_up = platform.clock.now() + RECORD_FOR;
        let mut backoff = Backoff::store();
        loop {
            let failed = match self.ledger.record(&id, outcome).await {
                Ok(recorded) => return Ok(recorded),
                Err(failed) => failed,
            };
            let again = platform.clock.now() + backoff.pause(&*platform.rng);
            if !failed.is_retryable() || again >= give_up {
                return Err(failed.into());
            }
            tracing::warn!(attempt = %id, error = %failed, "recording the outcome again");
            platform.clock.sleep_until(again).await;
        }
    }
}
