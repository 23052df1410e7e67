use async_trait::async_trait;
use bidlock_core::{Endpoint, Health, Key, WallTime};

use crate::archive::Archive;
use crate::requests::{
    AuditAct, AuditQuery, BidQuery, OperatorNote, Outcome, ResendRequest, ReserveRequest,
    ResolveRequest, SeenSender, StartRequest,
};
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry, Recorded, Reservation, Start};
use crate::{AttemptId, Result};

/// One store of attempts: a method per durable operation, each one transaction.
///
/// What an answer says is on disk before the answer is given. Rules are kept by the database,
/// not by its callers' good will. `now` is the caller's wall clock: states are read and written
/// as of then. Values were checked by [`Ledger`](crate::Ledger) before they come here. Every
/// method that changes something may take effect after its future was dropped.
#[async_trait]
pub trait Store: Archive {
    /// The attempt of a posting that is outside [`State::Abandoned`](crate::State::Abandoned).
    async fn open_attempt(&self, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>>;

    /// Makes an attempt, where none stands against it. Takes over one that is only reserved when
    /// the token is higher; writes `unknown` to one that has started (L1, L3, L5).
    async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation>;

    /// Moves an attempt from reserved to started, and says yes to that one call (L2, L3, L9).
    async fn start(&self, id: &AttemptId, request: &StartRequest, now: WallTime) -> Result<Start>;

    /// Lets an attempt that reads as unknown be sent again under its own id: with the payload of
    /// its start, a higher token than any that it has seen, not before its send-by, and so that
    /// the new send-by lies within the retention after its first start. It stays unknown; token,
    /// send-by, holder and process move on. Says yes once for a token (L11).
    async fn resend(&self, id: &AttemptId, request: &ResendRequest, now: WallTime)
    -> Result<Start>;

    /// Keeps an outcome, by the attempt alone (L8).
    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded>;

    /// Ends the doubt about the open attempt of a posting, where L6 allows it, and notes it in
    /// the audit. All of L6 is decided inside the transaction: which attempt is open, whether it
    /// is the one that the operator named, whether another one came before it, whether its time
    /// has come. `seen` is what was found out before, about the attempt that was open then;
    /// `None` when none was. It proves nothing about another attempt.
    async fn resolve(
        &self,
        key: &Key,
        request: &ResolveRequest,
        seen: Option<SeenSender>,
        now: WallTime,
    ) -> Result<AttemptInfo>;

    /// Notes that a placed bid was taken back, here and in the audit.
    async fn withdraw(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo>;

    /// Closes a refused or withdrawn attempt, so that a new one may be made, and notes it in the
    /// audit.
    async fn reopen(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo>;

    /// One attempt.
    async fn attempt(&self, id: &AttemptId, now: WallTime) -> Result<Option<AttemptInfo>>;

    /// The history of a posting, oldest first (L7).
    async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>>;

    /// One page of attempts, newest first.
    async fn bids(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>>;

    /// Appends an act that happened outside the ledger to the audit (L7).
    async fn audit_append(&self, act: &AuditAct, now: WallTime) -> Result<()>;

    /// One page of the audit, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>>;

    /// Asks the store for a sign of life.
    async fn ping(&self) -> Result<Health>;

    /// Where the store is.
    fn endpoint(&self) -> &Endpoint;
}
