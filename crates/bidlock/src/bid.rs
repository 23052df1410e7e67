mod again;
mod attempt;
mod open;
mod options;
mod submission;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;

use bidlock_core::Key;
use bidlock_ledger::{
    AttemptId, AttemptInfo, Ledger, Outcome, Reservation, ReserveRequest, Verdict,
};

use crate::Error;
use crate::held::class;
use crate::lease::Lease;
use crate::locker::Locker;
use crate::observe::{BidOutcome, Event};
use attempt::{Attempt, Phase};

pub use open::OpenBid;
pub use options::BidOptions;
pub use submission::Submission;

/// Places a bid at most once: joins the lock, which says who may act now, with the ledger, which
/// knows what was done.
#[derive(Debug, Clone)]
pub struct BidGuard {
    locker: Locker,
    ledger: Ledger,
}

/// Whether a bid may be submitted now.
#[derive(Debug)]
#[must_use = "a bid that was begun is to be finished"]
pub enum Begin {
    /// It may: submit, then [`OpenBid::finish`].
    Started(OpenBid),
    /// It may not: the ledger says why.
    Not(Verdict),
}

/// How a call to place a bid ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Placement {
    /// The submission was made, and this is how the attempt stands.
    Recorded(AttemptInfo),
    /// The attempt had been closed before its outcome came: the outcome is kept beside it.
    Late(AttemptInfo),
    /// Nothing was done: the ledger says why.
    Not(Verdict),
}

impl BidGuard {
    /// Joins a locker and a ledger.
    #[must_use]
    pub fn new(locker: Locker, ledger: Ledger) -> Self {
        Self { locker, ledger }
    }

    /// The lock's side.
    #[must_use]
    pub fn locker(&self) -> &Locker {
        &self.locker
    }

    /// The ledger's side.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Runs `submit` at most once for a posting, and keeps its outcome.
    ///
    /// `submit` sends the bid with [`Submission::attempt`] as its idempotency key, and says how
    /// it went. At its send-by it is dropped, and the outcome is unknown. The lock is renewed
    /// meanwhile; after the start its loss no longer stops the submission, because the ledger
    /// protects the posting then.
    ///
    /// # Errors
    /// [`Error::Held`] and [`Error::TimedOut`] when the lock was not to be had, [`Error::Lost`]
    /// and [`Error::Fenced`] when it was lost before the start: nothing was sent.
    /// [`Error::Store`] and [`Error::Ledger`] when a store gave no answer; when that happens
    /// after the start, the attempt reads as unknown.
    ///
    /// # Cancel safety
    /// Dropped before the start, the attempt is abandoned in the background; dropped after it,
    /// the outcome is recorded as unknown.
    pub async fn place<F, Fut>(
        &self,
        key: &Key,
        options: &BidOptions,
        submit: F,
    ) -> Result<Placement, Error>
    where
        F: FnOnce(Submission) -> Fut,
        Fut: Future<Output = Outcome>,
    {
        let bid = match self.begin(key, options).await? {
            Begin::Started(bid) => bid,
            Begin::Not(verdict) => return Ok(Placement::Not(verdict)),
        };
        let submission = bid.submission().clone();
        let outcome = if submission.left().is_zero() {
            Outcome::NotSent { reason: Some("its send-by had passed before it began".into()) }
        } else {
            until_send_by(&submission, submit(submission.clone())).await
        };
        bid.finish(outcome).await
    }

    /// Takes the lock, reserves the posting and starts the attempt: after this, the caller
    /// submits at once, until [`Submission::left`] is zero, and says how it went.
    ///
    /// # Errors
    /// As [`BidGuard::place`].
    ///
    /// # Cancel safety
    /// As [`BidGuard::place`].
    pub async fn begin(&self, key: &Key, options: &BidOptions) -> Result<Begin, Error> {
        let begun = self.try_begin(key, options).await;
        if let Err(failed) = &begun {
            self.observe(
                key,
                match failed {
                    Error::Store(_) | Error::Ledger(_) | Error::Config(_) => BidOutcome::Failed,
                    _ => BidOutcome::NoLock,
                },
            );
        }
        begun
    }

    async fn try_begin(&self, key: &Key, options: &BidOptions) -> Result<Begin, Error> {
        let verdict = self.ledger.should_bid(key, &options.freshness).await?;
        let again = self.again(&verdict, options);
        if again.is_none() && !matches!(verdict, Verdict::Yes | Verdict::InProgress(_)) {
            return Ok(self.not(key, verdict));
        }
        let mut acquire = self.locker.acquire(key).wait(options.wait).ttl(options.ttl);
        if let Some(max_hold) = options.max_hold {
            acquire = acquire.max_hold(max_hold);
        }
        if let Some(label) = &options.label {
            acquire = acquire.holder_label(label.clone());
        }
        let lease = acquire.await?;
        let mut attempt = self.attempt(lease, options);
        if let Some(again) = again {
            return self.send_again(attempt, again, options).await;
        }
        // The wait may have been long. Whether the posting is decided by now, `reserve` finds out;
        // only one that has grown too old is worth another look before.
        if options.freshness.stale_at(self.locker.platform().clock.wall()).is_some() {
            let verdict = self.ledger.should_bid(key, &options.freshness).await?;
            if matches!(verdict, Verdict::Stale { .. }) {
                attempt.settle().await;
                return Ok(self.not(key, verdict));
            }
        }
        match self.reserve(&attempt, options).await? {
            Reservation::Reserved(_) => {}
            Reservation::Not(verdict) => {
                // What was in progress when the wait began may be in doubt by now.
                if let Some(again) = self.again(&verdict, options) {
                    return self.send_again(attempt, again, options).await;
                }
                attempt.settle().await;
                return Ok(self.not(key, verdict));
            }
            Reservation::TokenTooLow { seen } => {
                let token = attempt.submission.token;
                attempt.settle().await;
                return Err(Error::Fenced { key: key.clone(), token, seen });
            }
        }
        // The last word before the start is the lease's: confirmed by the store, and in time.
        if let Err(failed) = attempt.lease()?.confirm().await {
            attempt.abandon("the lock was lost before the start").await;
            return Err(failed);
        }
        attempt.start(options).await?;
        Ok(Begin::Started(OpenBid { attempt, outcome: None }))
    }

    fn attempt(&self, lease: Lease, options: &BidOptions) -> Attempt {
        let clock = Arc::clone(&self.locker.platform().clock);
        let submission = Submission {
            attempt: AttemptId::random(&*self.locker.platform().rng),
            key: lease.key().clone(),
            token: lease.token(),
            deadline: clock.now() + options.submit_timeout,
            send_by: clock.wall() + options.submit_timeout,
            clock,
            again: false,
        };
        Attempt { guard: self.clone(), lease: Some(lease), submission, phase: Phase::Reserving }
    }

    async fn reserve(&self, attempt: &Attempt, options: &BidOptions) -> Result<Reservation, Error> {
        let lease = attempt.lease()?;
        let request = ReserveRequest {
            attempt: attempt.submission.attempt,
            token: attempt.submission.token,
            holder: lease.id().holder(options.label.clone()).to_string(),
            process: self.locker.platform().processes.current(),
            seen_at: options.freshness.seen_at,
        };
        Ok(self.ledger.reserve(lease.key(), &request).await?)
    }

    fn not(&self, key: &Key, verdict: Verdict) -> Begin {
        let outcome = match verdict {
            Verdict::InDoubt(_) => BidOutcome::InDoubt,
            Verdict::InProgress(_) => BidOutcome::InProgress,
            Verdict::Stale { .. } => BidOutcome::Stale,
            _ => BidOutcome::AlreadyDecided,
        };
        self.observe(key, outcome);
        Begin::Not(verdict)
    }

    fn observe(&self, key: &Key, outcome: BidOutcome) {
        self.locker.inner().observe(&Event::Bid { class: class(key), outcome });
    }
}

/// Polls a submission until it says how it went, and never once its send-by has passed.
async fn until_send_by(submission: &Submission, submit: impl Future<Output = Outcome>) -> Outcome {
    let mut submit = std::pin::pin!(submit);
    let mut send_by = submission.clock.sleep_until(submission.deadline);
    poll_fn(|context| {
        if submission.left().is_zero() || send_by.as_mut().poll(context).is_ready() {
            let reason = Some("stopped at its send-by".into());
            // Not its own word: what it has spawned may still be sending (L6).
            return Poll::Ready(Outcome::GivenUp { reason });
        }
        submit.as_mut().poll(context)
    })
    .await
}
