mod archive;
mod known;
mod open;
mod operate;

use std::path::PathBuf;
use std::sync::Arc;

use bidlock_core::{
    Endpoint, Health, InvalidValue, Key, Liveness, Platform, WallTime, limits as core_limits,
};

use crate::Result;
use crate::error::{LedgerError, Op, Subject};
use crate::mark::{Mark, Marks};
use crate::requests::{BidQuery, Freshness, Outcome, ResendRequest, ReserveRequest, StartRequest};
use crate::state::State;
use crate::store::Store;
use crate::types::{AttemptInfo, HistoryEntry, Recorded, Reservation, Start, Verdict};
use crate::values::{AttemptId, check_line, limits};

/// The ledger: checks what goes in, and knows the time and the processes of this machine.
///
/// Cheap to clone; all clones share one store.
#[derive(Debug, Clone)]
pub struct Ledger {
    store: Arc<dyn Store>,
    platform: Platform,
    marks: Arc<Marks>,
}

impl Ledger {
    /// Puts the ledger in front of a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, platform: &Platform) -> Self {
        Self { store, platform: platform.clone(), marks: Arc::default() }
    }

    /// Remembers the last attempt that was started in a folder too, for the processes to come:
    /// a small file for each ledger, and one for each place where a ledger was. Without it each
    /// process has only its own memory (L12).
    #[must_use]
    pub fn remembering(self, folder: impl Into<PathBuf>) -> Self {
        let marks = Marks::kept_in(folder.into(), self.endpoint());
        Self { marks: Arc::new(marks), ..self }
    }

    /// Tells whether a posting should be bid on. Decided, open and doubtful attempts come before
    /// staleness.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] when the posting was seen more than 5 minutes in the future; else
    /// the store gave no answer: do not bid.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn should_bid(&self, key: &Key, freshness: &Freshness) -> Result<Verdict> {
        let now = self.wall();
        check_seen_at(freshness.seen_at, now)?;
        let mut open = self.open_attempt(Op::ShouldBid, key, now).await?;
        if open.as_ref().is_some_and(|info| self.is_orphan(info)) {
            // Whatever it had to say it has said by now, and perhaps after it was read.
            open = self.open_attempt(Op::ShouldBid, key, now).await?;
        }
        let verdict = match open.map(|info| self.as_read(info)).and_then(Verdict::of) {
            Some(verdict) => verdict,
            None => match self.stale_at(freshness, now).await? {
                Some(age) => Verdict::Stale { age },
                None => Verdict::Yes,
            },
        };
        tracing::debug!(posting = %Subject::Posting(key.clone()), verdict = verdict.as_str());
        Ok(verdict)
    }

    /// Makes an attempt at a posting. Repeating a call whose answer was lost is harmless.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] when a value is out of bounds or the attempt id was used before;
    /// a [`LedgerError::Refused`] as a restored copy when the ledger has forgotten what was
    /// started (L12); else the store gave no answer: repeat the call, or do not bid.
    ///
    /// # Cancel safety
    /// The attempt may be made after the future was dropped. It then stays reserved until a
    /// higher token takes it over.
    pub async fn reserve(&self, key: &Key, request: &ReserveRequest) -> Result<Reservation> {
        let now = self.wall();
        check_seen_at(request.seen_at, now)?;
        check_line("holder", &request.holder, limits::HOLDER_BYTES_MAX)?;
        check_line("process", request.process.as_str(), limits::HOLDER_BYTES_MAX)?;
        check_token(request.token.get())?;
        let posting = Subject::Posting(key.clone());
        self.known_ledger(Op::Reserve, &posting, now).await?;
        let reservation = self.noted(self.store.reserve(key, request, now).await)?;
        match &reservation {
            Reservation::Reserved(info) => {
                tracing::info!(%posting, attempt = %info.id, token = %info.token, "reserved");
            }
            Reservation::Not(verdict) => {
                tracing::info!(%posting, verdict = verdict.as_str(), "not reserved");
            }
            Reservation::TokenTooLow { seen } => {
                tracing::warn!(%posting, token = %request.token, %seen, "token too low");
            }
        }
        Ok(reservation)
    }

    /// Lets the one submission of an attempt begin. Only [`Start::Yes`] allows a byte to be sent,
    /// and only before the send-by.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a send-by that is not within the next 24 hours,
    /// [`LedgerError::NotFound`] for an unknown attempt. On any other error send nothing: read
    /// the attempt back, and treat it as started when that is not possible.
    ///
    /// # Cancel safety
    /// The attempt may start after the future was dropped, and is then in doubt.
    pub async fn start(&self, id: &AttemptId, request: &StartRequest) -> Result<Start> {
        let now = self.wall();
        check_send_by(request.send_by, now)?;
        check_token(request.token.get())?;
        self.known_ledger(Op::Start, &Subject::Attempt(*id), now).await?;
        let start = self.noted(self.store.start(id, request, now).await)?;
        match &start {
            Start::Yes(info) => {
                tracing::info!(attempt = %info.id, token = %info.token, "started");
                let started = info.started_at.unwrap_or(now);
                self.marks.remember(Mark { attempt: info.id, started }, &*self.platform.rng);
            }
            Start::No(info) => {
                tracing::warn!(attempt = %info.id, state = %info.state, "not started");
            }
        }
        Ok(start)
    }

    /// Lets an attempt in doubt be sent again under its own id, at a marketplace that takes the
    /// id for an idempotency key (L11). Only [`Start::Yes`] allows a byte to be sent, and only
    /// before the new send-by. A call whose answer was lost is not repeated: when the attempt
    /// reads back with [`Event::Resent`](crate::Event::Resent) and the call's own token, the
    /// answer was yes.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a value out of bounds, [`LedgerError::NotFound`] for an
    /// unknown attempt. On any other error send nothing: read the attempt back.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped, and the attempt stays in doubt.
    pub async fn resend(&self, id: &AttemptId, request: &ResendRequest) -> Result<Start> {
        let now = self.wall();
        check_send_by(request.send_by, now)?;
        check_line("holder", &request.holder, limits::HOLDER_BYTES_MAX)?;
        check_line("process", request.process.as_str(), limits::HOLDER_BYTES_MAX)?;
        check_token(request.token.get())?;
        if request.retention > limits::RETENTION_MAX {
            let shown = format!("{}s", request.retention.as_secs());
            let why = "a retention of idempotency keys is at most 365 days";
            return Err(InvalidValue::new("retention", shown, why).into());
        }
        self.known_ledger(Op::Resend, &Subject::Attempt(*id), now).await?;
        let resent = self.noted(self.store.resend(id, request, now).await)?;
        match &resent {
            Start::Yes(info) => tracing::info!(attempt = %info.id, token = %info.token, "resent"),
            Start::No(info) => {
                tracing::warn!(attempt = %info.id, state = %info.state, "not resent");
            }
        }
        Ok(resent)
    }

    /// Keeps how a submission went, with or without a lease. Repeating it is harmless.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for texts that do not fit (see [`Outcome::fitted`]),
    /// [`LedgerError::NotFound`] for an unknown attempt, [`LedgerError::NotAllowed`] when the
    /// attempt never started. On any other error repeat the call.
    ///
    /// # Cancel safety
    /// The outcome may be kept after the future was dropped; repeating it is harmless.
    pub async fn record(&self, id: &AttemptId, outcome: &Outcome) -> Result<Recorded> {
        outcome.check()?;
        let recorded = self.noted(self.store.record(id, outcome, self.wall()).await)?;
        let state = recorded.attempt().state;
        match &recorded {
            Recorded::Written(info) => tracing::info!(attempt = %info.id, %state, "recorded"),
            Recorded::Already(info) => tracing::debug!(attempt = %info.id, %state, "known"),
            Recorded::Late(info) => {
                let outcome = outcome.state();
                tracing::error!(attempt = %info.id, %state, %outcome, "late outcome");
            }
        }
        Ok(recorded)
    }

    /// Reads one attempt.
    ///
    /// # Errors
    /// The store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn attempt(&self, id: &AttemptId) -> Result<Option<AttemptInfo>> {
        let found = self.noted(self.store.attempt(id, self.wall()).await)?;
        // A start of this very process whose answer was lost is seen here first (L12).
        if let Some(info) = found.as_ref().filter(|info| self.is_own(info))
            && let Some(started) = info.started_at
        {
            let mark = Mark { attempt: info.id, started };
            self.marks.remember_later(mark, &*self.platform.rng);
        }
        Ok(found)
    }

    /// Reads the history of a posting, oldest entry first.
    ///
    /// # Errors
    /// The store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>> {
        self.noted(self.store.history(key).await)
    }

    /// Reads one page of attempts, newest first; the last one's id is the next page's `after`.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a bad filter, [`LedgerError::NotFound`] when `after` names no
    /// attempt; else the store gave no answer.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn bids(&self, query: &BidQuery) -> Result<Vec<AttemptInfo>> {
        query.check()?;
        let now = self.wall();
        let mut page = self.page(query, now).await?;
        if page.iter().any(|info| self.is_orphan(info)) {
            page = self.page(query, now).await?; // As in `should_bid`.
        }
        let read = page.into_iter().map(|info| self.as_read(info));
        let fits = |info: &AttemptInfo| query.state.is_none_or(|state| state == info.state);
        Ok(read.filter(fits).take(query.limit as usize).collect())
    }

    /// An attempt as everybody reads it: whose sender is known to be gone is in doubt, also before
    /// its send-by (L5). Its command may live on, so nothing may end the doubt any sooner.
    fn as_read(&self, mut info: AttemptInfo) -> AttemptInfo {
        if self.is_orphan(&info) {
            info.state = State::Unknown;
        }
        info
    }

    /// Whether the sender of a started attempt is known to be gone.
    fn is_orphan(&self, info: &AttemptInfo) -> bool {
        info.state == State::Started
            && self.platform.processes.liveness(&info.process) == Liveness::Gone
    }

    /// A page as the store has it, with those that may turn out to be in doubt.
    async fn page(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>> {
        let mut page = self.noted(self.store.bids(query, now).await)?;
        if query.state == Some(State::Unknown) {
            // Those that the store still takes for started are few: one for each submission that
            // is under way, and what became of its sender only this machine can tell.
            let started = BidQuery { state: Some(State::Started), ..query.clone() };
            page.extend(self.noted(self.store.bids(&started, now).await)?);
            page.sort_by_key(|info| std::cmp::Reverse(info.reserved_at));
        }
        Ok(page)
    }

    /// Asks the store for a sign of life.
    ///
    /// # Errors
    /// The store gave none.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn ping(&self) -> Result<Health> {
        self.noted(self.store.ping().await)
    }

    /// Where the store is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.store.endpoint()
    }

    async fn open_attempt(&self, op: Op, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>> {
        relabel(op, self.noted(self.store.open_attempt(key, now).await))
    }

    fn is_own(&self, info: &AttemptInfo) -> bool {
        info.process == self.platform.processes.current()
    }

    fn wall(&self) -> WallTime {
        self.platform.clock.wall()
    }
}

/// A sighting in the future means that a clock is wrong, and that its age means nothing.
fn check_seen_at(seen_at: Option<WallTime>, now: WallTime) -> Result<()> {
    match seen_at {
        Some(seen_at) if seen_at.since(now) > limits::AHEAD_MAX => {
            let ahead = format!("{:?} ahead", seen_at.since(now));
            let why = "seen more than 5 minutes in the future; check the clocks";
            Err(InvalidValue::new("seen-at", ahead, why).into())
        }
        _ => Ok(()),
    }
}

fn check_send_by(send_by: WallTime, now: WallTime) -> Result<()> {
    if send_by > now && send_by.since(now) <= limits::SEND_BY_MAX {
        return Ok(());
    }
    let shown = format!("{}us", send_by.as_micros());
    Err(InvalidValue::new("send-by", shown, "a send-by lies in the next 24 hours").into())
}

fn check_token(token: u64) -> Result<()> {
    if token <= core_limits::TOKEN_MAX {
        return Ok(());
    }
    Err(InvalidValue::new("token", token, "no store grants a token above 2^52").into())
}

/// Names the operation that a shared read was made for.
fn relabel<T>(as_op: Op, result: Result<T>) -> Result<T> {
    result.map_err(|mut error| {
        match &mut error {
            LedgerError::Unreachable { op, .. }
            | LedgerError::Unknown { op, .. }
            | LedgerError::Refused { op, .. }
            | LedgerError::NotFound { op, .. }
            | LedgerError::Differs { op, .. }
            | LedgerError::NotAllowed { op, .. } => *op = as_op,
            LedgerError::Invalid(_) => {}
        }
        error
    })
}
