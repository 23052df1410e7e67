//! Stores that break one rule each, so that the suite itself is tested.

mod archive;
mod faults;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{Endpoint, FencingToken, Health, Key, Liveness, ProcessMark, WallTime, limits};
use bidlock_ledger::{
    AttemptId, AttemptInfo, AuditAct, AuditEntry, AuditQuery, BidQuery, Fingerprint, HistoryEntry,
    LedgerError, OperatorNote, Outcome, Recorded, ResendRequest, Reservation, ReserveRequest,
    Resolution, ResolveRequest, Result, SeenSender, Start, StartRequest, State, Store, Verdict,
};

use super::LedgerFixture;
pub use faults::{LEDGER_FAULTS, LedgerFault};

/// Puts a fault around a sound store.
#[must_use]
pub fn sabotaged(fixture: LedgerFixture, fault: LedgerFault) -> LedgerFixture {
    let opened = AtomicBool::new(false);
    fixture.wrapped(move |inner| {
        let again = opened.swap(true, Ordering::SeqCst);
        let (payloads, place) = (Mutex::default(), elsewhere(&*inner));
        Arc::new(Saboteur { inner, fault, again, payloads, place })
    })
}

/// A sound store with one fault around it.
#[derive(Debug)]
struct Saboteur {
    inner: Arc<dyn Store>,
    fault: LedgerFault,
    /// Whether this is not the first process that opens the store.
    again: bool,
    payloads: Mutex<HashMap<AttemptId, Option<Fingerprint>>>,
    /// A place of its own.
    place: Endpoint,
}

/// A place that no other process has found this store at.
fn elsewhere(inner: &dyn Store) -> Endpoint {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let number = OPENED.fetch_add(1, Ordering::SeqCst);
    Endpoint::new(format!("{}#{number}", inner.endpoint()))
}

const YEARS: Duration = Duration::from_hours(24 * 1_000);

impl Saboteur {
    fn does(&self, fault: LedgerFault) -> bool {
        self.fault == fault
    }

    /// The time by which states are read.
    fn read_time(&self, now: WallTime) -> WallTime {
        if self.does(LedgerFault::StartedForEver) { WallTime::default() } else { now }
    }

    /// Whether a fault gives way to a bid against this verdict.
    fn gives_way(&self, verdict: &Verdict, request: &ReserveRequest, now: WallTime) -> bool {
        let aged =
            |info: &AttemptInfo| info.send_by.is_some_and(|by| by + Duration::from_mins(59) <= now);
        match (self.fault, verdict) {
            (LedgerFault::TakesOverStarted, Verdict::InDoubt(info)) => request.token > info.token,
            (LedgerFault::TakesOverByAge, Verdict::InDoubt(info)) => aged(info),
            (LedgerFault::ReopensByItself, verdict) => {
                matches!(verdict, Verdict::Refused(_) | Verdict::Withdrawn(_))
            }
            (LedgerFault::ReservesTwice, verdict) => {
                matches!(verdict, Verdict::InProgress(_) | Verdict::InDoubt(_))
            }
            _ => false,
        }
    }

    /// Closes what stands against a bid, as no store may.
    async fn clear(&self, key: &Key, verdict: &Verdict, now: WallTime) -> Result<()> {
        let Some(info) = verdict.attempt() else { return Ok(()) };
        match verdict {
            Verdict::Refused(_) | Verdict::Withdrawn(_) => {
                self.inner.reopen(key, &operator(), now).await.map(drop)
            }
            _ => {
                let nothing = Outcome::NotSent { reason: None };
                self.inner.record(&info.id, &nothing, now).await.map(drop)
            }
        }
    }

    /// Ends a doubt on the word of whoever spoke last.
    async fn believe(&self, known: &AttemptInfo, now: WallTime) -> Result<Recorded> {
        let key = Key::new(&known.marketplace, &known.posting)?;
        let resolution = Resolution::NotSent { sender_is_gone: true };
        let (note, visibility_lag) = (operator(), Duration::ZERO);
        let request = ResolveRequest { attempt: Some(known.id), resolution, note, visibility_lag };
        let seen = Some(SeenSender { attempt: known.id, liveness: Liveness::Gone });
        let done = self.inner.resolve(&key, &request, seen, now + YEARS).await?;
        Ok(Recorded::Written(done))
    }

    async fn one(&self, id: &AttemptId, now: WallTime) -> Result<AttemptInfo> {
        let found = self.inner.attempt(id, now).await?;
        Ok(found.unwrap_or_else(|| panic!("{id} was there")))
    }
}

fn operator() -> OperatorNote {
    OperatorNote { actor: "saboteur".to_owned(), because: "nobody asked".to_owned() }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Store for Saboteur {
    async fn open_attempt(&self, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>> {
        if self.does(LedgerFault::SeesNothing) {
            return Ok(None);
        }
        let mut open = self.inner.open_attempt(key, self.read_time(now)).await?;
        if let (LedgerFault::LosesProcess, Some(info)) = (self.fault, &mut open) {
            info.process = ProcessMark::new("lost");
        }
        Ok(open)
    }

    async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation> {
        let (mut key, mut request) = (key.clone(), request.clone());
        match self.fault {
            LedgerFault::ForgetsTheHorizon => request.seen_at = None,
            LedgerFault::SplitsByPrefix if key.prefix() != "bid_lock" => {
                key = Key::new(key.marketplace(), &format!("{} {}", key.prefix(), key.posting()))?;
            }
            LedgerFault::ForgetsRepeats => {
                if let Some(known) = self.inner.attempt(&request.attempt, now).await? {
                    return Ok(Reservation::Not(Verdict::InProgress(known)));
                }
            }
            _ => {}
        }
        match self.inner.reserve(&key, &request, now).await {
            Ok(Reservation::TokenTooLow { seen })
                if self.does(LedgerFault::ReserveIgnoresToken) =>
            {
                request.token = FencingToken::new(seen.get() + 1);
                self.inner.reserve(&key, &request, now).await
            }
            Ok(Reservation::Not(verdict)) if self.gives_way(&verdict, &request, now) => {
                self.clear(&key, &verdict, now).await?;
                self.inner.reserve(&key, &request, now).await
            }
            Err(LedgerError::Invalid(_)) if self.does(LedgerFault::SharesIds) => {
                Ok(Reservation::Reserved(self.one(&request.attempt, now).await?))
            }
            answer => answer,
        }
    }

    async fn start(&self, id: &AttemptId, request: &StartRequest, now: WallTime) -> Result<Start> {
        let mut request = *request;
        if self.does(LedgerFault::StartIgnoresToken) {
            request.token = FencingToken::new(limits::TOKEN_MAX);
        }
        self.payloads.lock().unwrap_or_else(PoisonError::into_inner).insert(*id, request.payload);
        match self.inner.start(id, &request, now).await {
            Ok(Start::No(info)) if self.does(LedgerFault::StartsTwice) => Ok(Start::Yes(info)),
            Err(LedgerError::NotFound { .. }) if self.does(LedgerFault::StartsStrangers) => {
                let key = Key::new("upwork", "stranger")?;
                let reserve = ReserveRequest {
                    attempt: *id,
                    token: request.token,
                    holder: "saboteur".to_owned(),
                    process: ProcessMark::new("saboteur"),
                    seen_at: None,
                };
                self.inner.reserve(&key, &reserve, now).await?;
                self.inner.start(id, &request, now).await
            }
            answer => answer,
        }
    }

    async fn resend(
        &self,
        id: &AttemptId,
        request: &ResendRequest,
        now: WallTime,
    ) -> Result<Start> {
        let (mut request, mut at) = (request.clone(), now);
        let known = self.inner.attempt(id, now).await?;
        match self.fault {
            LedgerFault::ResendsForOldTokens => {
                request.token = FencingToken::new(limits::TOKEN_MAX);
            }
            LedgerFault::ResendsEarly => at = now + Duration::from_mins(2),
            LedgerFault::ResendsAnyPayload => {
                let stored = known.as_ref().and_then(|info| info.payload);
                request.payload = stored.unwrap_or(request.payload);
            }
            LedgerFault::ResendsForEver => request.retention = YEARS,
            LedgerFault::KeepsTheFirstSender => {
                let sender = known.as_ref().map(|info| info.process.clone());
                request.process = sender.unwrap_or(request.process);
            }
            _ => {}
        }
        if self.does(LedgerFault::ResendsEarly) {
            request.send_by = request.send_by + Duration::from_mins(2);
        }
        match self.inner.resend(id, &request, at).await {
            Ok(Start::No(info)) if self.does(LedgerFault::ResendsTwice) => Ok(Start::Yes(info)),
            Ok(Start::No(info))
                if self.does(LedgerFault::ResendsWhatIsKnown) && info.state.is_decided() =>
            {
                Ok(Start::Yes(info))
            }
            answer => answer,
        }
    }

    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded> {
        let guess = matches!(outcome, Outcome::GivenUp { .. });
        let told = &Outcome::Unknown { reason: outcome.reason().map(str::to_owned) };
        let outcome =
            if guess && self.does(LedgerFault::TakesGuessesForWords) { told } else { outcome };
        if let Some(known) = self.inner.attempt(id, now).await? {
            let closed = known.state.is_decided() || known.state == State::Abandoned;
            match self.fault {
                LedgerFault::BelievesOneOfTwo
                    if known.state == State::Unknown && outcome.state() == State::Abandoned =>
                {
                    return self.believe(&known, now).await;
                }
                LedgerFault::SwallowsLate if closed => return Ok(Recorded::Already(known)),
                LedgerFault::KeepsTheGuess
                    if known.state == State::Unknown && outcome.state() == State::Unknown =>
                {
                    return Ok(Recorded::Already(known));
                }
                LedgerFault::DoubtsTheSubmitter if known.state == State::Unknown => {
                    return Ok(Recorded::Late(known));
                }
                // The only trace of a higher token that everybody can see.
                LedgerFault::RecordNeedsToken if known.event.as_str() == "doubted" => {
                    return Ok(Recorded::Late(known));
                }
                LedgerFault::NeverReleases if outcome.state() == State::Abandoned => {
                    let unsure = Outcome::Unknown { reason: None };
                    return self.inner.record(id, &unsure, now).await;
                }
                LedgerFault::RecordsUnstarted if known.state == State::Reserved => {
                    let send_by = now + Duration::from_mins(1);
                    let start = StartRequest { token: known.token, send_by, payload: None };
                    self.inner.start(id, &start, now).await?;
                }
                _ => {}
            }
        }
        match self.inner.record(id, outcome, now).await? {
            Recorded::Already(info) if self.does(LedgerFault::RecordsTwice) => {
                Ok(Recorded::Written(info))
            }
            answer => Ok(answer),
        }
    }

    async fn resolve(
        &self,
        key: &Key,
        request: &ResolveRequest,
        seen: Option<SeenSender>,
        now: WallTime,
    ) -> Result<AttemptInfo> {
        let (mut request, mut seen, mut at) = (request.clone(), seen, now);
        let open = self.inner.open_attempt(key, now).await?;
        if let Some(open) = &open {
            match self.fault {
                LedgerFault::ResolvesWhateverIsOpen => request.attempt = Some(open.id),
                LedgerFault::GuessesTheAttempt => {
                    request.attempt = request.attempt.or(Some(open.id));
                }
                LedgerFault::SwapsSenders => {
                    let liveness = seen.map_or(Liveness::Gone, |seen| seen.liveness);
                    seen = Some(SeenSender { attempt: open.id, liveness });
                }
                _ => {}
            }
        }
        let early = open.as_ref().is_some_and(|open| open.send_by.is_some_and(|by| by > now));
        match (self.fault, &mut request.resolution) {
            (LedgerFault::ResolvesEarly, _) => at = now + YEARS,
            (LedgerFault::ResolvesOneWay, any) => *any = Resolution::Refused,
            (LedgerFault::FindersWait, any) if early => *any = Resolution::Refused,
            (LedgerFault::ForgetsUnseenSenders, Resolution::NotSent { sender_is_gone }) => {
                *sender_is_gone = true;
            }
            _ => {}
        }
        match self.inner.resolve(key, &request, seen, at).await {
            Err(LedgerError::NotAllowed { .. }) if self.does(LedgerFault::ResolvesAnything) => {
                Ok(open.unwrap_or_else(|| panic!("{key} has an open attempt")))
            }
            Err(LedgerError::NotAllowed { op, subject, state: State::Abandoned, .. })
                if self.does(LedgerFault::HidesTheAbandoned) =>
            {
                Err(LedgerError::NotFound { op, subject, endpoint: self.endpoint().clone() })
            }
            answer => answer,
        }
    }

    async fn withdraw(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        match self.inner.withdraw(key, note, now).await {
            Err(LedgerError::NotAllowed { .. }) if self.does(LedgerFault::WithdrawsAnything) => {
                let open = self.inner.open_attempt(key, now).await?;
                Ok(open.unwrap_or_else(|| panic!("{key} has an open attempt")))
            }
            answer => answer,
        }
    }

    async fn reopen(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let open = self.inner.open_attempt(key, now).await?;
        match (self.fault, open) {
            (LedgerFault::ReopensNothing, Some(info)) => {
                return Ok(AttemptInfo {
                    state: State::Abandoned,
                    reason: Some(note.because.clone()),
                    ..info
                });
            }
            (LedgerFault::ReopensPlaced, Some(info)) if info.state == State::Placed => {
                self.inner.withdraw(key, note, now).await?;
            }
            _ => {}
        }
        self.inner.reopen(key, note, now).await
    }

    async fn attempt(&self, id: &AttemptId, now: WallTime) -> Result<Option<AttemptInfo>> {
        if self.does(LedgerFault::Forgets) && self.again {
            return Ok(None);
        }
        let mut found = self.inner.attempt(id, self.read_time(now)).await?;
        if let (LedgerFault::ReplacesPayload, Some(info)) = (self.fault, &mut found) {
            let payloads = self.payloads.lock().unwrap_or_else(PoisonError::into_inner);
            info.payload = payloads.get(id).copied().flatten();
        }
        Ok(found)
    }

    async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>> {
        let mut entries = self.inner.history(key).await?;
        if self.does(LedgerFault::RewritesHistory) && entries.len() > 1 {
            entries.drain(..entries.len() - 1);
        }
        Ok(entries)
    }

    async fn bids(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>> {
        let mut query = query.clone();
        if self.does(LedgerFault::RepeatsPages) {
            query.after = None;
        }
        self.inner.bids(&query, self.read_time(now)).await
    }

    async fn audit_append(&self, act: &AuditAct, now: WallTime) -> Result<()> {
        if self.does(LedgerFault::SkipsAudit) {
            return Ok(());
        }
        self.inner.audit_append(act, now).await
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let mut page = self.inner.audit(query).await?;
        if self.does(LedgerFault::PrunesInSilence) {
            page.retain(|entry| entry.act != "prune");
        }
        Ok(page)
    }

    async fn ping(&self) -> Result<Health> {
        self.inner.ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        if self.does(LedgerFault::LosesItsPlace) { &self.place } else { self.inner.endpoint() }
    }
}
