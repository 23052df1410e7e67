use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Backoff, Clock, FencingToken, Key, Label, LossReason, Moment, Ttl, WallTime};
use bidlock_ledger::{
    AttemptId, AttemptInfo, Fingerprint, Freshness, Ledger, LedgerError, Outcome, Recorded,
    Reservation, ReserveRequest, Start, StartRequest, State, Verdict,
};

use crate::lease::{Lease, class};
use crate::locker::{Locker, lost};
use crate::observe::{BidOutcome, Event};
use crate::{Error, Wait};

/// How long an outcome is tried to be recorded while the ledger gives no answer.
const RECORD_FOR: Duration = Duration::from_secs(30);

/// Places a bid at most once: joins the lock, which says who may act now, with the ledger, which
/// knows what was done.
#[derive(Debug, Clone)]
pub struct BidGuard {
    locker: Locker,
    ledger: Ledger,
}

/// How to place a bid.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct BidOptions {
    wait: Wait,
    ttl: Ttl,
    max_hold: Option<Duration>,
    label: Option<Label>,
    submit_timeout: Duration,
    freshness: Freshness,
    payload: Option<Fingerprint>,
}

impl Default for BidOptions {
    fn default() -> Self {
        Self {
            wait: Wait::default(),
            ttl: Ttl::default(),
            max_hold: None,
            label: None,
            submit_timeout: Self::SUBMIT_TIMEOUT,
            freshness: Freshness::default(),
            payload: None,
        }
    }
}

impl BidOptions {
    /// How long a submission may take when the caller names nothing: 60 s.
    pub const SUBMIT_TIMEOUT: Duration = Duration::from_mins(1);

    /// Waits so long for the lock at most; 10 s by default.
    pub const fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The lock's TTL; 5 min by default.
    pub const fn ttl(mut self, ttl: Ttl) -> Self {
        self.ttl = ttl;
        self
    }

    /// Loses the lock after so long; unbounded by default.
    pub const fn max_hold(mut self, max_hold: Duration) -> Self {
        self.max_hold = Some(max_hold);
        self
    }

    /// Tells people for whom the key is held.
    pub fn holder_label(mut self, label: Label) -> Self {
        self.label = Some(label);
        self
    }

    /// Stops a submission so long after its start; 60 s by default. The moment is its send-by.
    pub const fn submit_timeout(mut self, submit_timeout: Duration) -> Self {
        self.submit_timeout = submit_timeout;
        self
    }

    /// Does nothing for a posting that was seen longer ago than `max_age`.
    pub const fn seen(mut self, seen_at: WallTime, max_age: Duration) -> Self {
        self.freshness = Freshness { seen_at: Some(seen_at), max_age };
        self
    }

    /// Keeps a fingerprint of what is sent.
    pub const fn payload(mut self, payload: Fingerprint) -> Self {
        self.payload = Some(payload);
        self
    }
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
        let clock = Arc::clone(&submission.clock);
        let outcome = if submission.left().is_zero() {
            Outcome::NotSent { reason: Some("its send-by had passed before it began".into()) }
        } else {
            let send_by = clock.sleep_until(submission.deadline);
            tokio::select! {
                biased;
                outcome = submit(submission) => outcome,
                () = send_by => Outcome::Unknown { reason: Some("stopped at its send-by".into()) },
            }
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
        let verdict = self.ledger.should_bid(key, &options.freshness).await?;
        if !matches!(verdict, Verdict::Yes | Verdict::InProgress(_)) {
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
        match self.reserve(&attempt, options).await? {
            Reservation::Reserved(_) => {}
            Reservation::Not(verdict) => {
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
            Verdict::InDoubt(_) | Verdict::InProgress(_) => BidOutcome::InDoubt,
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

/// What a submission has to know.
#[derive(Debug, Clone)]
pub struct Submission {
    attempt: AttemptId,
    key: Key,
    token: FencingToken,
    deadline: Moment,
    send_by: WallTime,
    clock: Arc<dyn Clock>,
}

impl Submission {
    /// The attempt's identity: the idempotency key for the marketplace.
    #[must_use]
    pub const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// The posting's key.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.key
    }

    /// The lock's fencing token.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// Until when the submission may be under way, by the wall clock, for the ledger and people.
    #[must_use]
    pub const fn send_by(&self) -> WallTime {
        self.send_by
    }

    /// The same instant by the clock that runs through suspend: what the submission is held to.
    #[must_use]
    pub const fn deadline(&self) -> Moment {
        self.deadline
    }

    /// How much time is left until the send-by. Look right before the first byte is sent: at
    /// zero, nothing may be sent.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.deadline.since(self.clock.now())
    }
}

/// A bid whose submission may be under way. Dropping it records its outcome as unknown.
#[derive(Debug)]
pub struct OpenBid {
    attempt: Attempt,
    outcome: Option<Outcome>,
}

impl OpenBid {
    /// What the submission has to know.
    #[must_use]
    pub const fn submission(&self) -> &Submission {
        &self.attempt.submission
    }

    /// Resolves when the lock is lost. The submission goes on all the same: the ledger protects
    /// the posting now.
    ///
    /// # Cancel safety
    /// Dropping the future forgets nothing.
    pub async fn lock_lost(&self) -> LossReason {
        match &self.attempt.lease {
            Some(lease) => lease.lost().await,
            None => std::future::pending().await,
        }
    }

    /// Keeps how the submission went, then releases the lock. A ledger that gives no answer is
    /// asked again for 30 s.
    ///
    /// # Errors
    /// [`Error::Ledger`] when the outcome could not be kept: the attempt reads as unknown, and
    /// is never repeated by itself.
    ///
    /// # Cancel safety
    /// A dropped call goes on in the background.
    pub async fn finish(mut self, outcome: Outcome) -> Result<Placement, Error> {
        self.outcome = Some(outcome.clone());
        let recorded = self.attempt.guard.record(self.attempt.submission.attempt, &outcome).await;
        let placement = match recorded? {
            Recorded::Written(info) | Recorded::Already(info) => Placement::Recorded(info),
            Recorded::Late(info) => Placement::Late(info),
        };
        self.attempt.observe_end(&placement);
        self.attempt.settle().await;
        Ok(placement)
    }
}

impl Drop for OpenBid {
    fn drop(&mut self) {
        if self.attempt.phase != Phase::Over {
            let unknown = Outcome::Unknown { reason: Some("given up after its start".into()) };
            self.attempt.record_in_background(self.outcome.take().unwrap_or(unknown));
        }
    }
}

/// An attempt on its way, and what is to be done when its caller goes away.
#[derive(Debug)]
struct Attempt {
    guard: BidGuard,
    lease: Option<Lease>,
    submission: Submission,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It may be reserved or started, but nothing was sent.
    Reserving,
    /// Its submission may be under way.
    Open,
    /// Nothing is left to do.
    Over,
}

impl Attempt {
    /// The lease, which is there until the attempt is over.
    fn lease(&self) -> Result<&Lease, Error> {
        let key = &self.submission.key;
        self.lease.as_ref().ok_or_else(|| Error::Closed { key: key.clone() })
    }

    /// Starts the attempt: yes is answered once, and from then on its outcome is open (L2).
    async fn start(&mut self, options: &BidOptions) -> Result<(), Error> {
        let clock = &self.submission.clock;
        self.submission.deadline = clock.now() + options.submit_timeout;
        self.submission.send_by = clock.wall() + options.submit_timeout;
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
                tracing::warn!(%key, state = %info.state, "the attempt was closed before its start");
                self.settle().await;
                Err(lost(&key, LossReason::Taken))
            }
        }
    }

    /// Finds out about a start whose answer was lost: only this very call may, and what it cannot
    /// find out counts as started and is not sent.
    async fn read_back(&mut self, failed: LedgerError) -> Result<Start, Error> {
        let id = self.submission.attempt;
        match self.guard.ledger.attempt(&id).await {
            Ok(Some(info)) if info.state == State::Started => Ok(Start::Yes(info)),
            Ok(Some(info)) => Ok(Start::No(info)),
            Ok(None) | Err(_) => {
                // Neither abandoned nor sent: it reads as unknown from its send-by on.
                self.phase = Phase::Over;
                Err(failed.into())
            }
        }
    }

    /// Closes an attempt that was not started, and gives the lock back.
    async fn abandon(&mut self, why: &str) {
        let outcome = Outcome::NotSent { reason: Some(why.to_owned()) };
        if let Err(failed) = self.guard.record(self.submission.attempt, &outcome).await {
            tracing::warn!(error = %failed, "the attempt stays reserved; a later one takes it over");
        }
        self.settle().await;
    }

    /// Gives the lock back: nothing is left to do.
    async fn settle(&mut self) {
        self.phase = Phase::Over;
        if let Some(lease) = self.lease.take()
            && let Err(failed) = lease.release().await
        {
            tracing::warn!(error = %failed, "release of the lock");
        }
    }

    fn observe_end(&self, placement: &Placement) {
        let outcome = match placement {
            Placement::Late(_) => BidOutcome::Late,
            Placement::Not(_) => return,
            Placement::Recorded(info) => match info.state {
                State::Placed | State::Withdrawn => BidOutcome::Placed,
                State::Refused => BidOutcome::Refused,
                State::Abandoned => BidOutcome::NotSent,
                _ => BidOutcome::Unknown,
            },
        };
        self.guard.observe(&self.submission.key, outcome);
    }

    /// Records an outcome that nobody waits for, and holds the lock until it is kept.
    fn record_in_background(&mut self, outcome: Outcome) {
        self.phase = Phase::Over;
        let (guard, lease) = (self.guard.clone(), self.lease.take());
        let id = self.submission.attempt;
        let inner = Arc::clone(self.guard.locker.inner());
        inner.spawn(async move {
            if let Err(failed) = guard.record(id, &outcome).await {
                tracing::error!(attempt = %id, error = %failed, "outcome not recorded");
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
    async fn record(&self, id: AttemptId, outcome: &Outcome) -> Result<Recorded, Error> {
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
