//! Stores that break one rule each, so that the suite itself is tested.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{Endpoint, FencingToken, Health, Key, ProcessMark, WallTime, limits};
use bidlock_ledger::{
    AttemptId, AttemptInfo, AuditAct, AuditEntry, AuditQuery, BidQuery, Fingerprint, HistoryEntry,
    LedgerError, OperatorNote, Outcome, Recorded, Reservation, ReserveRequest, Resolution, Result,
    Start, StartRequest, State, Store, Verdict,
};

use super::LedgerFixture;

macro_rules! faults {
    ($($(#[$doc:meta])+ $name:ident: [$($rule:literal),+],)+) => {
        /// What a saboteur does wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum LedgerFault {
            $($(#[$doc])+ $name,)+
        }

        /// Every fault, and the rules that catch it.
        pub const LEDGER_FAULTS: &[(LedgerFault, &[&str])] = &[
            $((LedgerFault::$name, &[$($rule),+]),)+
        ];
    };
}

faults! {
    /// Lets a submission begin whoever asks.
    StartsTwice: [
        "start_is_answered_yes_once", "the_payload_is_fixed_at_the_start",
        "a_higher_token_takes_over_what_is_only_reserved"
    ],
    /// Says yes to every racer that comes second.
    ReservesTwice: ["racing_bidders_start_once", "a_free_posting_is_reserved_once"],
    /// Has another attempt for the same call.
    ForgetsRepeats: ["a_repeat_of_reserve_is_recognised"],
    /// Lets one id serve two postings.
    SharesIds: ["an_attempt_id_serves_once"],
    /// Takes the prefix for a part of the posting.
    SplitsByPrefix: ["a_posting_is_one_under_every_prefix"],
    /// Reserves for a token that is too low.
    ReserveIgnoresToken: [
        "a_lower_token_is_refused_and_changes_nothing",
        "a_lower_token_that_meets_a_start_changes_nothing"
    ],
    /// Starts for a token that is too low.
    StartIgnoresToken: ["a_start_with_a_lower_token_is_refused"],
    /// Starts what it does not know.
    StartsStrangers: ["an_unknown_attempt_never_starts"],
    /// Takes a started attempt over, for a higher token.
    TakesOverStarted: ["a_started_attempt_is_never_taken_over", "doubt_never_ends_by_age"],
    /// Closes a doubt an hour after its send-by.
    TakesOverByAge: ["doubt_never_ends_by_age"],
    /// Leaves started what nobody will send any more.
    StartedForEver: [
        "started_past_its_send_by_reads_as_unknown",
        "bids_are_filtered_as_everybody_reads_them"
    ],
    /// Takes the payload of the latest call.
    ReplacesPayload: ["the_payload_is_fixed_at_the_start"],
    /// Opens a decided posting again by itself.
    ReopensByItself: ["a_decision_stands_for_ever"],
    /// Keeps a posting closed of which nothing was sent.
    NeverReleases: ["not_sent_lets_another_try"],
    /// Wants the highest token for an outcome.
    RecordNeedsToken: ["record_needs_no_token"],
    /// Lets a doubt stand against the submitter's own word.
    DoubtsTheSubmitter: ["a_doubt_ends_by_the_submitters_word"],
    /// Takes a repeated outcome for news.
    RecordsTwice: ["a_repeated_outcome_changes_nothing"],
    /// Loses an outcome that comes late.
    SwallowsLate: ["a_late_outcome_is_kept_and_reported"],
    /// Has an outcome for what never started.
    RecordsUnstarted: ["what_never_started_has_no_outcome"],
    /// Lets a doubt be ended while it may still be sent.
    ResolvesEarly: ["resolve_waits_for_send_by_and_lag", "resolve_needs_a_doubt"],
    /// Loses the sender's process.
    LosesProcess: ["resolve_waits_for_the_sender_to_end"],
    /// Says that it has resolved what was no doubt.
    ResolvesAnything: ["resolve_needs_a_doubt", "acts_by_hand_are_audited"],
    /// Ends every doubt as not sent.
    ResolvesOneWay: ["each_finding_leads_to_its_state"],
    /// Opens a placed bid again.
    ReopensPlaced: ["a_placed_bid_is_not_reopened"],
    /// Says that a posting is open again, and leaves it closed.
    ReopensNothing: ["reopen_lets_another_try"],
    /// Says that it has withdrawn what was never placed.
    WithdrawsAnything: ["only_a_placed_bid_is_withdrawn"],
    /// Keeps no audit.
    SkipsAudit: ["acts_by_hand_are_audited"],
    /// Keeps the newest entry of a history only.
    RewritesHistory: ["history_tells_every_step_in_order"],
    /// Begins every page anew.
    RepeatsPages: ["bids_are_paged_newest_first"],
    /// Forgets what was acknowledged when it is closed.
    Forgets: ["a_ledger_opened_again_has_forgotten_nothing"],
    /// Sees no attempt that stands against a bid.
    SeesNothing: ["should_bid_gives_the_reason"],
}

/// Puts a fault around a sound store.
#[must_use]
pub fn sabotaged(fixture: LedgerFixture, fault: LedgerFault) -> LedgerFixture {
    let opened = AtomicBool::new(false);
    fixture.wrapped(move |inner| {
        let again = opened.swap(true, Ordering::SeqCst);
        let payloads = Mutex::default();
        Arc::new(Saboteur { inner, fault, again, payloads })
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

    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded> {
        if let Some(known) = self.inner.attempt(id, now).await? {
            let closed = known.state.is_decided() || known.state == State::Abandoned;
            match self.fault {
                LedgerFault::SwallowsLate if closed => return Ok(Recorded::Already(known)),
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
        id: &AttemptId,
        resolution: &Resolution,
        note: &OperatorNote,
        lag: Duration,
        now: WallTime,
    ) -> Result<AttemptInfo> {
        let (mut resolution, mut at) = (resolution.clone(), now);
        match self.fault {
            LedgerFault::ResolvesEarly => at = now + YEARS,
            LedgerFault::ResolvesOneWay => resolution = Resolution::NotSent,
            _ => {}
        }
        match self.inner.resolve(id, &resolution, note, lag, at).await {
            Err(LedgerError::NotAllowed { .. }) if self.does(LedgerFault::ResolvesAnything) => {
                self.one(id, now).await
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
        self.inner.audit(query).await
    }

    async fn ping(&self) -> Result<Health> {
        self.inner.ping().await
    }

    fn endpoint(&self) -> &Endpoint {
        self.inner.endpoint()
    }
}
