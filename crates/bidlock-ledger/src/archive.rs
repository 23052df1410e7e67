use std::collections::{HashMap, HashSet};
use std::fmt::Debug;

use async_trait::async_trait;
use bidlock_core::{FencingToken, InvalidValue, Key, Prefix, WallTime};

use crate::mark::ago;
use crate::requests::OperatorNote;
use crate::state::State;
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry};
use crate::values::{check_line, limits};
use crate::{LedgerId, Result};

/// Who a ledger is and what it has forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its identity, made with the ledger. A copy keeps it.
    pub id: LedgerId,
    /// The version of its schema, in the store.
    pub schema: u32,
    /// The horizon of the last prune (L10).
    pub pruned_before: Option<WallTime>,
    /// When a person last accepted a restored copy (L12).
    pub accepted_at: Option<WallTime>,
    /// Why the store says by itself that it is another copy than before (L12); most cannot tell.
    pub changed: Option<String>,
}

/// All that a ledger knows of one posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dossier {
    /// The marketplace; empty for a named key.
    pub marketplace: String,
    /// The posting id or name as keys encode it.
    pub posting_encoded: String,
    /// Its attempts, oldest first.
    pub attempts: Vec<KeptAttempt>,
    /// Its history, oldest first. The numbers are those of the ledger that it came from.
    pub history: Vec<HistoryEntry>,
}

/// One attempt as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAttempt {
    /// The attempt, with its state as stored: not as everybody reads it.
    pub info: AttemptInfo,
    /// The highest token that has met it.
    pub token_seen: FencingToken,
}

/// How something that another ledger knew was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// It is here now.
    Taken,
    /// It was here already, exactly so.
    Known,
}

/// What the audit keeps of a prune.
pub(crate) fn prune_note(
    before: WallTime,
    now: WallTime,
    postings: usize,
    attempts: u64,
) -> OperatorNote {
    let because = format!(
        "over for more than {}: {postings} postings, {attempts} attempts (before {} us since 1970)",
        ago(now.since(before)),
        before.as_micros()
    );
    OperatorNote { actor: "bidlock".to_owned(), because }
}

/// What one step of a prune came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// How many attempts were removed.
    pub attempts: u64,
    /// Whether another step may find more.
    pub more: bool,
}

/// A ledger as a whole: who it is, taking it along to another store, and forgetting.
///
/// As with [`Store`](crate::Store), each method that changes something is one transaction, and
/// may take effect after its future was dropped.
#[async_trait]
pub trait Archive: Debug + Send + Sync + 'static {
    /// Who the ledger is, and what it has forgotten.
    async fn standing(&self) -> Result<Standing>;

    /// How many attempts are in each state as everybody reads them, without those that only a
    /// look at processes tells (L5): every state once, in the order of [`State::ALL`].
    async fn counts(&self, now: WallTime) -> Result<Vec<(State, u64)>>;

    /// One page of postings, by marketplace and encoded posting, byte by byte; `after` is the
    /// last one of the page before. Each dossier is as of one instant.
    async fn dossiers(&self, after: Option<&(String, String)>, limit: u32) -> Result<Vec<Dossier>>;

    /// Takes in what another ledger knows of a posting. What is here of it may be the beginning
    /// of that; anything else is [`LedgerError::Differs`](crate::LedgerError::Differs), and
    /// nothing is changed.
    async fn admit(&self, dossier: &Dossier) -> Result<Admitted>;

    /// One page of the audit, oldest first; `after` is the last number of the page before.
    async fn audit_forward(&self, after: Option<u64>, limit: u32) -> Result<Vec<AuditEntry>>;

    /// Takes in an entry of another ledger's audit. Its number is not kept.
    async fn admit_audit(&self, entry: &AuditEntry) -> Result<Admitted>;

    /// Removes postings whose every attempt is decided or abandoned and whose last step lies
    /// before `before`, `limit` postings at most, raises the horizon, and notes it in the audit
    /// (L10).
    async fn prune(&self, before: WallTime, limit: u32, now: WallTime) -> Result<Pruned>;

    /// Keeps, here and in the audit, that a person has accepted a restored copy (L12).
    async fn accept(&self, note: &OperatorNote, now: WallTime) -> Result<()>;
}

impl Dossier {
    /// Checks whether a ledger can have written it. What the texts and the steps are, the store's
    /// own constraints judge.
    ///
    /// # Errors
    /// [`InvalidValue`] says what no ledger would write.
    pub fn check(&self) -> std::result::Result<(), InvalidValue> {
        let refused = |why: &str| Err(InvalidValue::new("dossier", &self.posting_encoded, why));
        let prefix = Prefix::default();
        let text = format!("{}:{}:{}", prefix.as_str(), self.marketplace, self.posting_encoded);
        let posting = Key::parse(&prefix, &text)?.posting();
        let Some((last, earlier)) = self.attempts.split_last() else {
            return refused("it has no attempt");
        };
        if earlier.iter().any(|kept| kept.info.state != State::Abandoned) {
            return refused("only the last attempt may be open (L1)");
        }
        if earlier.iter().any(|kept| kept.token_seen > last.token_seen) {
            return refused("its last attempt has not seen the highest token (L3)");
        }
        let ids: HashSet<_> = self.attempts.iter().map(|kept| kept.info.id).collect();
        if ids.len() != self.attempts.len() {
            return refused("one attempt is there twice");
        }
        for KeptAttempt { info, .. } in &self.attempts {
            let of = (&info.marketplace, &info.posting_encoded);
            if of != (&self.marketplace, &self.posting_encoded) || info.posting != posting {
                return refused("an attempt belongs to another posting");
            }
            // What came too late moved nothing.
            let steps = self.history.iter().filter(|it| it.attempt == info.id);
            let Some(step) = steps.rev().find(|it| !it.event.is_late()) else {
                return refused("an attempt has no history");
            };
            if step.event != info.event || step.event.leads_to() != Some(info.state) {
                return refused("an attempt is not where its last step has led it (L7)");
            }
        }
        Ok(())
    }
}

impl AuditEntry {
    /// Checks whether a ledger can have written it.
    ///
    /// # Errors
    /// [`InvalidValue`] says what no ledger would write.
    pub fn check(&self) -> std::result::Result<(), InvalidValue> {
        check_line("actor", &self.actor, limits::ACTOR_BYTES_MAX)?;
        check_line("act", &self.act, limits::ACT_BYTES_MAX)?;
        check_line("reason", &self.because, limits::REASON_BYTES_MAX)?;
        match &self.posting {
            Some(posting) => Key::named(posting).map(drop),
            None => Ok(()),
        }
    }
}

/// Every state once, in the order of [`State::ALL`], with those that a store did not count.
pub(crate) fn every_state(counted: impl IntoIterator<Item = (State, u64)>) -> Vec<(State, u64)> {
    let mut counts: HashMap<State, u64> = HashMap::new();
    for (state, count) in counted {
        *counts.entry(state).or_default() += count;
    }
    State::ALL.map(|state| (state, counts.get(&state).copied().unwrap_or(0))).into()
}

/// What a store that knows a posting is to do with another ledger's dossier of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// It says the same.
    Same,
    /// What is here is the beginning of it.
    Extends,
    /// It says something else.
    Differs(String),
}

/// Compares what is here of a posting with another ledger's dossier of it. Each step of an
/// attempt leaves a line of history (L7), so a history that is the beginning of another one
/// belongs to an earlier moment of the same attempts.
pub(crate) fn compare(here: &Dossier, given: &Dossier) -> Comparison {
    let told = |dossier: &Dossier| dossier.history.iter().map(untold).collect::<Vec<_>>();
    let (ours, theirs) = (told(here), told(given));
    if let Some(at) = ours.iter().zip(&theirs).position(|(ours, theirs)| ours != theirs) {
        let (ours, theirs) = (&ours[at], &theirs[at]);
        return Comparison::Differs(format!(
            "step {} is {} of attempt {} here, and {} of attempt {} there",
            at + 1,
            ours.event,
            ours.attempt,
            theirs.event,
            theirs.attempt
        ));
    }
    if ours.len() > theirs.len() {
        let why = format!("it has gone on: {} steps here, {} there", ours.len(), theirs.len());
        return Comparison::Differs(why);
    }
    let earlier = ours.len() < theirs.len();
    let fits = |(ours, theirs): (&KeptAttempt, &KeptAttempt)| {
        if earlier { may_have_become(ours, theirs) } else { ours == theirs }
    };
    let pairs = || here.attempts.iter().zip(&given.attempts);
    if let Some((ours, _)) = pairs().find(|pair| !fits(*pair)) {
        return Comparison::Differs(format!("attempt {} is not the same there", ours.info.id));
    }
    match here.attempts.len().cmp(&given.attempts.len()) {
        std::cmp::Ordering::Equal if !earlier => Comparison::Same,
        std::cmp::Ordering::Less | std::cmp::Ordering::Equal if earlier => Comparison::Extends,
        _ => Comparison::Differs("the attempts and their steps do not belong together".to_owned()),
    }
}

/// A line of history without its number, which is each store's own.
fn untold(entry: &HistoryEntry) -> HistoryEntry {
    HistoryEntry { seq: 0, ..entry.clone() }
}

/// Whether an attempt may be the same one at a later moment: what is fixed has stayed.
fn may_have_become(ours: &KeptAttempt, theirs: &KeptAttempt) -> bool {
    let identity = |it: &AttemptInfo| (it.id, it.seen_at, it.reserved_at);
    let at_start = |it: &AttemptInfo| (it.started_at, it.payload);
    identity(&ours.info) == identity(&theirs.info)
        && (ours.info.started_at.is_none() || at_start(&ours.info) == at_start(&theirs.info))
        && ours.token_seen <= theirs.token_seen
        && (ours.info.state == theirs.info.state || ours.info.state.may_lead_to(theirs.info.state))
}
