//! Asks marketplaces how attempts went whose outcome nobody knows.

mod ask;
mod question;
mod report;

use std::fmt::{self, Debug};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{InvalidValue, Key, Label, Ttl, WallTime};
use bidlock_ledger::{
    AttemptInfo, BidQuery, LedgerError, Obstacle, OperatorNote, Outcome, Resolution,
    ResolveRequest, State, limits,
};

use crate::held::class;
use crate::lease::Lease;
use crate::observe::Event;
use crate::{BidGuard, Error, Wait};

pub use question::{Answer, Question, Reconcile};
pub use report::{Asked, ReconcileOptions, ReconcileOutcome, Report};

/// Who settles, in the audit.
const ACTOR: &str = "reconciler";
/// The lock is renewed while a question is asked; this is how long it outlives a crash.
const LOCK_TTL: Duration = Duration::from_secs(30);
/// So many failures in a row mean that a store is away, and that the rest would fail too.
const FAILURES_MAX: u32 = 3;

/// Asks about attempts in doubt, and settles those that were found or refused.
///
/// Only what reads as unknown is asked about, and only once its send-by and the visibility delay
/// have passed. The posting's lock is held meanwhile and not waited for, so several machines may
/// do this at the same time, and never ask the same at once. That a bid was *not* found changes
/// nothing: its sender may still stand between its start and its first byte.
///
/// # Examples
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("ledger.db");
/// use bidlock::{Answer, BidGuard, Locker, Question, ReconcileOptions, Reconciler};
/// use bidlock::ledger::Ledger;
///
/// let locker = Locker::connect("memory:").await?;
/// let ledger = Ledger::connect_sqlite(&file, locker.platform()).await?;
/// let guard = BidGuard::new(locker, ledger);
/// let ask = |question: Question| async move {
///     // Look for `question.attempt` at the marketplace.
///     Answer::CannotTell { why: Some(format!("nobody asked for {}", question.attempt)) }
/// };
/// let reconciler = Reconciler::new(guard, ask, ReconcileOptions::default())?;
/// let report = reconciler.run_once().await?;
/// assert_eq!(report.in_doubt(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Reconciler {
    guard: BidGuard,
    asker: Arc<dyn Reconcile>,
    options: ReconcileOptions,
}

impl Debug for Reconciler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconciler")
            .field("guard", &self.guard)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Reconciler {
    /// Joins a locker and a ledger with somebody who can ask the marketplace.
    ///
    /// # Errors
    /// [`InvalidValue`] for an option that is out of its bounds.
    pub fn new(
        guard: BidGuard,
        asker: impl Reconcile + 'static,
        options: ReconcileOptions,
    ) -> Result<Self, InvalidValue> {
        options.check()?;
        Ok(Self { guard, asker: Arc::new(asker), options })
    }

    /// The same with other options.
    ///
    /// # Errors
    /// As [`Reconciler::new`].
    pub fn with_options(self, options: ReconcileOptions) -> Result<Self, InvalidValue> {
        options.check()?;
        Ok(Self { options, ..self })
    }

    /// Asks once about all that is due.
    ///
    /// # Errors
    /// [`Error::Ledger`] when the attempts in doubt cannot be listed. What fails for one of them
    /// is counted in the [`Report`], and the next one is asked about.
    ///
    /// # Cancel safety
    /// A question under way is dropped, and the lock released in the background. A settlement
    /// may still take effect.
    pub async fn run_once(&self) -> Result<Report, Error> {
        self.run_each(|_| ControlFlow::Continue(())).await
    }

    /// Asks once about all that is due, tells of each, and stops early when told to break.
    ///
    /// # Errors
    /// As [`Reconciler::run_once`].
    ///
    /// # Cancel safety
    /// As [`Reconciler::run_once`].
    pub async fn run_each(
        &self,
        mut told: impl FnMut(Asked) -> ControlFlow<()>,
    ) -> Result<Report, Error> {
        let (due, mut report) = self.due().await?;
        let mut failures = 0;
        for (done, attempt) in due.iter().enumerate() {
            let asked = self.settle(attempt).await;
            report.count(&asked);
            let class = if attempt.marketplace.is_empty() { "named" } else { &attempt.marketplace };
            let event = Event::Reconciled { class, outcome: asked.outcome };
            self.guard.locker().inner().observe(&event);
            let failed = asked.outcome == ReconcileOutcome::Failed;
            failures = if failed { failures + 1 } else { 0 };
            if told(asked).is_break() || failures == FAILURES_MAX {
                report.left_over += due.len() - done - 1;
                break;
            }
        }
        Ok(report)
    }

    /// Lists what a round would ask about now, oldest send-by first, and counts the rest. Where
    /// more is due than one round may ask, the choice is made at random, so that nothing waits
    /// for ever behind questions without an answer.
    ///
    /// # Errors
    /// As [`Reconciler::run_once`].
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn due(&self) -> Result<(Vec<AttemptInfo>, Report), Error> {
        let limit = self.options.limit as usize;
        let rng = &self.guard.locker().platform().rng;
        let (mut report, mut chosen) = (Report::default(), Vec::new());
        let mut query = BidQuery {
            marketplace: self.options.marketplace.clone(),
            state: Some(State::Unknown),
            limit: limits::PAGE_MAX,
            ..BidQuery::default()
        };
        loop {
            let page = self.guard.ledger().bids(&query).await?;
            let last = page.len() < query.limit as usize;
            query.after = page.last().map(|attempt| attempt.id);
            for attempt in page {
                if !self.is_due(&attempt) {
                    report.waiting += 1;
                    continue;
                }
                report.due += 1;
                if chosen.len() < limit {
                    chosen.push(attempt);
                    continue;
                }
                // Each one that is due has the same chance. Source: Vitter85, algorithm R.
                report.left_over += 1;
                let drawn = rng.next_u64() % report.due as u64;
                let slot = usize::try_from(drawn).ok().and_then(|at| chosen.get_mut(at));
                if let Some(slot) = slot {
                    *slot = attempt;
                }
            }
            if last {
                break;
            }
        }
        chosen.sort_by_key(|attempt| attempt.send_by);
        Ok((chosen, report))
    }

    fn is_due(&self, attempt: &AttemptInfo) -> bool {
        let from = attempt.send_by.map(|send_by| send_by + self.options.visibility_delay);
        attempt.state == State::Unknown && from.is_some_and(|from| from <= self.now())
    }

    fn now(&self) -> WallTime {
        self.guard.locker().platform().clock.wall()
    }

    /// Asks about one attempt and settles it, under its posting's lock.
    async fn settle(&self, attempt: &AttemptInfo) -> Asked {
        let key = match key_of(attempt) {
            Ok(key) => key,
            Err(bad) => return Asked::failed(attempt, bad.into()),
        };
        let mut acquire = self.guard.locker().acquire(&key).wait(Wait::No);
        if let (Ok(ttl), Ok(label)) = (Ttl::new(LOCK_TTL), Label::new(ACTOR)) {
            acquire = acquire.ttl(ttl).holder_label(label);
        }
        let lease = match acquire.await {
            Ok(lease) => lease,
            Err(Error::Held { .. }) => return Asked::without(attempt, ReconcileOutcome::Busy),
            Err(failed) => return Asked::failed(attempt, failed),
        };
        let asked = self.settle_locked(attempt, &key, &lease).await;
        if let Err(failed) = lease.release().await {
            tracing::debug!(%key, error = %failed, "release of the lock");
        }
        asked.unwrap_or_else(|failed| Asked::failed(attempt, failed))
    }

    async fn settle_locked(
        &self,
        listed: &AttemptInfo,
        key: &Key,
        lease: &Lease,
    ) -> Result<Asked, Error> {
        // Between the list and the lock somebody else may have settled it, or sent it again.
        let attempt = match self.guard.ledger().attempt(&listed.id).await? {
            Some(attempt) if self.is_due(&attempt) => attempt,
            Some(attempt) => return Ok(Asked::without(&attempt, ReconcileOutcome::Overtaken)),
            None => return Ok(Asked::without(listed, ReconcileOutcome::Overtaken)),
        };
        let history = self.guard.ledger().history(key).await?;
        let question = Question::about(&attempt, history);
        let clock = &*self.guard.locker().platform().clock;
        let deadline = clock.sleep_until(clock.now() + self.options.ask_timeout);
        let answer = ask::ask(&*self.asker, &question, lease, deadline).await;
        let class = class(key);
        tracing::debug!(class, attempt = %attempt.id, ?answer, "asked");
        let mut asked = self.follow(&attempt, key, lease, &answer).await?;
        asked.answer = Some(answer);
        Ok(asked)
    }

    /// Does what an answer allows, which for most is nothing (L6).
    async fn follow(
        &self,
        attempt: &AttemptInfo,
        key: &Key,
        lease: &Lease,
        answer: &Answer,
    ) -> Result<Asked, Error> {
        let host = self.guard.locker().platform().processes.host();
        let (resolution, outcome, because) = match answer {
            Answer::NotFound => return Ok(Asked::without(attempt, ReconcileOutcome::NotFound)),
            Answer::CannotTell { .. } => {
                return Ok(Asked::without(attempt, ReconcileOutcome::CannotTell));
            }
            // A bid that was found is proof, whoever holds the lock by now.
            Answer::Found { reference } => {
                let found = Outcome::Placed { reference: reference.clone() }.fitted();
                let reference = found.reference().map(str::to_owned);
                let because = format!("the marketplace has the bid (asked from {host})");
                (Resolution::Placed { reference }, ReconcileOutcome::Placed, because)
            }
            Answer::Refused { reason } => {
                // It is about what was sent by then: without the lock, more may have been.
                lease.check()?;
                let said = reason.as_deref().map(|said| format!(": {said}")).unwrap_or_default();
                let because = format!("the marketplace refused the bid (asked from {host}){said}");
                (Resolution::Refused, ReconcileOutcome::Refused, because)
            }
        };
        let because = Outcome::Unknown { reason: Some(because) }.fitted();
        let because = because.reason().unwrap_or(ACTOR).to_owned();
        let request = ResolveRequest {
            attempt: Some(attempt.id),
            resolution,
            note: OperatorNote { actor: ACTOR.to_owned(), because },
            visibility_lag: self.options.visibility_delay,
        };
        match self.guard.ledger().resolve(key, &request).await {
            Ok(done) => Ok(Asked::without(&done, outcome)),
            Err(refused) => self.refused(attempt, answer, refused).await,
        }
    }

    /// Sorts why the ledger did not take an answer.
    async fn refused(
        &self,
        attempt: &AttemptInfo,
        answer: &Answer,
        refused: LedgerError,
    ) -> Result<Asked, Error> {
        let LedgerError::NotAllowed { why, .. } = &refused else { return Err(refused.into()) };
        if matches!(why, Obstacle::UnderWay | Obstacle::TooEarly | Obstacle::SenderAlive { .. }) {
            let mut asked = Asked::without(attempt, ReconcileOutcome::Left);
            asked.error = Some(refused.into());
            return Ok(asked);
        }
        let settled = self.guard.ledger().attempt(&attempt.id).await?;
        let settled = settled.unwrap_or_else(|| attempt.clone());
        if matches!(answer, Answer::Found { .. }) && settled.state != State::Placed {
            // Two sources disagree about money, and a person has to look (L8).
            let (attempt, state) = (settled.id, settled.state);
            tracing::error!(%attempt, %state, "the bid was found, but was closed before");
        }
        Ok(Asked::without(&settled, ReconcileOutcome::Overtaken))
    }
}

/// The key that an attempt's posting or name has.
fn key_of(attempt: &AttemptInfo) -> Result<Key, InvalidValue> {
    if attempt.marketplace.is_empty() {
        Key::named(&attempt.posting)
    } else {
        Key::new(&attempt.marketplace, &attempt.posting)
    }
}
