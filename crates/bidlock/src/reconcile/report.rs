use std::time::Duration;

use bidlock_core::InvalidValue;
use bidlock_ledger::{AttemptInfo, limits};

use super::Answer;
use crate::Error;

/// How to ask about attempts in doubt.
#[derive(Debug, Clone)]
#[must_use = "options do nothing by themselves"]
pub struct ReconcileOptions {
    pub(super) visibility_delay: Duration,
    pub(super) marketplace: Option<String>,
    pub(super) limit: u32,
    pub(super) ask_timeout: Duration,
}

impl Default for ReconcileOptions {
    fn default() -> Self {
        Self {
            visibility_delay: Self::VISIBILITY_DELAY,
            marketplace: None,
            limit: Self::LIMIT,
            ask_timeout: Self::ASK_TIMEOUT,
        }
    }
}

impl ReconcileOptions {
    /// How long after its send-by an attempt is first asked about: 1 min.
    pub const VISIBILITY_DELAY: Duration = Duration::from_mins(1);
    /// How many questions one round asks at most: 1,000.
    pub const LIMIT: u32 = 1_000;
    /// The most questions that one round may be allowed.
    pub const LIMIT_MAX: u32 = 10_000;
    /// How long one answer may take: 30 s.
    pub const ASK_TIMEOUT: Duration = Duration::from_secs(30);

    /// Asks first so long after the send-by, up to 30 days: the time that a bid may take to show
    /// at the marketplace. 1 min by default.
    pub const fn visibility_delay(mut self, delay: Duration) -> Self {
        self.visibility_delay = delay;
        self
    }

    /// Asks about this marketplace only.
    pub fn marketplace(mut self, marketplace: impl Into<String>) -> Self {
        self.marketplace = Some(marketplace.into());
        self
    }

    /// Asks at most so many questions in one round, up to 10,000. 1,000 by default.
    pub const fn limit(mut self, limit: u32) -> Self {
        self.limit = limit;
        self
    }

    /// Waits so long for one answer. 30 s by default.
    pub const fn ask_timeout(mut self, timeout: Duration) -> Self {
        self.ask_timeout = timeout;
        self
    }

    pub(super) fn check(&self) -> Result<(), InvalidValue> {
        if self.visibility_delay > limits::VISIBILITY_LAG_MAX {
            let shown = format!("{:?}", self.visibility_delay);
            let why = "a visibility delay is at most 30 days";
            return Err(InvalidValue::new("visibility delay", shown, why));
        }
        if !(1..=Self::LIMIT_MAX).contains(&self.limit) {
            let why = "a round asks 1 to 10000 questions";
            return Err(InvalidValue::new("limit", self.limit, why));
        }
        if self.ask_timeout.is_zero() {
            return Err(InvalidValue::new("ask timeout", "0", "an answer takes time"));
        }
        Ok(())
    }
}

/// What came of one attempt in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ReconcileOutcome {
    /// The bid was found: the attempt is placed now.
    Placed,
    /// The marketplace refused the bid: the attempt is refused now.
    Refused,
    /// The marketplace shows no such bid: the doubt stays.
    NotFound,
    /// There was no clear answer: the doubt stays.
    CannotTell,
    /// Somebody else holds the posting's lock, perhaps to ask the same: nothing was asked.
    Busy,
    /// It was settled, or sent again, before it could be settled here: nothing was changed.
    Overtaken,
    /// It may not be settled like this yet, because its sender may still send: the doubt stays.
    Left,
    /// A store gave no answer, or refused: the doubt stays.
    Failed,
}

impl ReconcileOutcome {
    /// The outcome's name, as metrics and JSON say it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Refused => "refused",
            Self::NotFound => "not_found",
            Self::CannotTell => "cannot_tell",
            Self::Busy => "busy",
            Self::Overtaken => "overtaken",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

/// One attempt that was asked about, or was to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct Asked {
    /// The attempt, as it is now.
    pub attempt: AttemptInfo,
    /// The answer; `None` when nothing was asked.
    pub answer: Option<Answer>,
    /// What came of it.
    pub outcome: ReconcileOutcome,
    /// Why, where the outcome is left or failed.
    pub error: Option<Error>,
}

impl Asked {
    pub(super) fn without(attempt: &AttemptInfo, outcome: ReconcileOutcome) -> Self {
        Self { attempt: attempt.clone(), answer: None, outcome, error: None }
    }

    pub(super) fn failed(attempt: &AttemptInfo, error: Error) -> Self {
        let error = Some(error);
        Self { error, ..Self::without(attempt, ReconcileOutcome::Failed) }
    }
}

/// What one round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Report {
    /// Attempts in doubt whose send-by and visibility delay had passed.
    pub due: usize,
    /// Attempts in doubt that are too young to be asked about.
    pub waiting: usize,
    /// Attempts that were due and not looked at: beyond the limit, or the round was stopped.
    pub left_over: usize,
    /// Questions that were asked.
    pub asked: usize,
    /// See [`ReconcileOutcome::Placed`].
    pub placed: usize,
    /// See [`ReconcileOutcome::Refused`].
    pub refused: usize,
    /// See [`ReconcileOutcome::NotFound`].
    pub not_found: usize,
    /// See [`ReconcileOutcome::CannotTell`].
    pub cannot_tell: usize,
    /// See [`ReconcileOutcome::Busy`].
    pub skipped_busy: usize,
    /// See [`ReconcileOutcome::Overtaken`].
    pub overtaken: usize,
    /// See [`ReconcileOutcome::Left`].
    pub left: usize,
    /// See [`ReconcileOutcome::Failed`].
    pub failed: usize,
}

impl Report {
    pub(super) fn count(&mut self, asked: &Asked) {
        self.asked += usize::from(asked.answer.is_some());
        let counter = match asked.outcome {
            ReconcileOutcome::Placed => &mut self.placed,
            ReconcileOutcome::Refused => &mut self.refused,
            ReconcileOutcome::NotFound => &mut self.not_found,
            ReconcileOutcome::CannotTell => &mut self.cannot_tell,
            ReconcileOutcome::Busy => &mut self.skipped_busy,
            ReconcileOutcome::Overtaken => &mut self.overtaken,
            ReconcileOutcome::Left => &mut self.left,
            ReconcileOutcome::Failed => &mut self.failed,
        };
        *counter += 1;
    }

    /// How many attempts are still in doubt, as far as this round knows.
    #[must_use]
    pub const fn in_doubt(&self) -> usize {
        self.waiting
            + self.left_over
            + self.not_found
            + self.cannot_tell
            + self.skipped_busy
            + self.left
            + self.failed
    }
}
