//! What every bid does: one statement each, which is a transaction of its own.

use bidlock_core::{InvalidValue, Key, Refusal, WallTime};
use tokio_postgres::types::Type;

use super::fault::{Done, Fail};
use super::pool::Session;
use super::record::Record;
use super::rows::{self, Param, Stored, int8, sql, sql_time, text};
use super::statements::Statements;
use crate::error::{LedgerError, Obstacle, Op, Subject};
use crate::requests::{Outcome, ResendRequest, ReserveRequest, StartRequest};
use crate::state::Event;
use crate::types::{Recorded, Reservation, Start, Verdict};
use crate::values::{AttemptId, fit_line, limits};

/// What a store was opened on; where it leads elsewhere, nothing is given out (L12).
#[derive(Debug)]
pub(super) struct Expected {
    /// The ledger's identity.
    pub(super) ledger: String,
    /// Whether a promoted standby is known to have all that was acknowledged.
    pub(super) trusts_failover: bool,
}

/// What one of our functions answered.
struct Answer {
    word: String,
    note: Option<String>,
    record: Record,
}

impl Answer {
    /// Calls a function, in a transaction that says its isolation where the session's own is
    /// another.
    async fn of(session: &mut Session, statement: &str, values: &[Param<'_>]) -> Done<Self> {
        let row = if session.must_isolate() {
            let transaction = session.begin().await?;
            let row = transaction.query_typed_one(statement, values).await?;
            transaction.commit().await?;
            row
        } else {
            session.client().query_typed_one(statement, values).await?
        };
        let record: Record = rows::value(&row, 0)?;
        Ok(Self { word: record.text(0)?, note: record.text_opt(1)?, record })
    }

    fn stored(&self) -> Done<Stored> {
        self.record.record(2)?.attempt()
    }

    /// An answer that the function gives in case of trouble, or that no version of it gives.
    fn refused(self) -> Fail {
        let note = self.note.unwrap_or_default();
        Fail::Refused(match self.word.as_str() {
            "changed" => Refusal::Restored(note),
            other => Refusal::Corrupt(format!("the ledger's function answered {other:?}")),
        })
    }
}

/// Makes an attempt, or says what stands against it.
pub(super) async fn reserve(
    session: &mut Session,
    sqls: &Statements,
    key: &Key,
    request: &ReserveRequest,
    now: WallTime,
    expected: &Expected,
) -> Done<Reservation> {
    let (marketplace, posting) = (key.marketplace(), key.posting_encoded());
    let (id, token) = (request.attempt.to_string(), sql(request.token.get()));
    let (holder, process) = (request.holder.as_str(), request.process.as_str());
    let (seen_at, at) = (request.seen_at.map(sql_time), sql_time(now));
    let doubt = format!("a higher token met it before its send-by, with {holder}");
    let doubt = fit_line(&doubt, limits::REASON_BYTES_MAX);
    let values = [
        text(&marketplace),
        text(&posting),
        text(&id),
        int8(&token),
        text(&holder),
        text(&process),
        int8(&seen_at),
        int8(&at),
        text(&doubt),
        text(&expected.ledger),
        (&expected.trusts_failover, Type::BOOL),
    ];
    let answer = match Answer::of(session, &sqls.reserve, &values).await {
        Ok(answer) => answer,
        Err(fail) if fail.violates("attempts_id") => {
            let why = "used before; every attempt has an id of its own";
            return Err(Fail::Call(InvalidValue::new("attempt id", id, why).into()));
        }
        Err(fail) => return Err(fail),
    };
    match answer.word.as_str() {
        "reserved" => Ok(Reservation::Reserved(answer.stored()?.info)),
        "not" => {
            let verdict = Verdict::of(answer.stored()?.read_at(now));
            Ok(Reservation::Not(verdict.unwrap_or(Verdict::Yes)))
        }
        "too_low" => Ok(Reservation::TokenTooLow { seen: answer.stored()?.token_seen() }),
        "stale" => {
            let age = request.seen_at.map(|seen_at| now.since(seen_at)).unwrap_or_default();
            Ok(Reservation::Not(Verdict::Stale { age }))
        }
        _ => Err(answer.refused()),
    }
}

/// Lets the submission begin, once (L2).
pub(super) async fn start(
    session: &mut Session,
    sqls: &Statements,
    id: &AttemptId,
    request: &StartRequest,
    now: WallTime,
    expected: &Expected,
) -> Done<Start> {
    let (text_id, token) = (id.to_string(), sql(request.token.get()));
    let (send_by, at) = (sql_time(request.send_by), sql_time(now));
    let payload = request.payload.map(|print| print.to_string());
    let values = [
        text(&text_id),
        int8(&token),
        int8(&send_by),
        text(&payload),
        int8(&at),
        text(&expected.ledger),
        (&expected.trusts_failover, Type::BOOL),
    ];
    started(Answer::of(session, &sqls.start, &values).await?, now)
}

/// Lets an attempt in doubt be sent again under its own id (L11).
pub(super) async fn resend(
    session: &mut Session,
    sqls: &Statements,
    id: &AttemptId,
    request: &ResendRequest,
    now: WallTime,
    expected: &Expected,
) -> Done<Start> {
    let (text_id, token) = (id.to_string(), sql(request.token.get()));
    let (send_by, at) = (sql_time(request.send_by), sql_time(now));
    let payload = request.payload.to_string();
    let retention = i64::try_from(request.retention.as_micros()).unwrap_or(i64::MAX);
    let (holder, process) = (request.holder.as_str(), request.process.as_str());
    let values = [
        text(&text_id),
        int8(&token),
        int8(&send_by),
        text(&payload),
        int8(&retention),
        text(&holder),
        text(&process),
        int8(&at),
        text(&expected.ledger),
        (&expected.trusts_failover, Type::BOOL),
    ];
    started(Answer::of(session, &sqls.resend, &values).await?, now)
}

fn started(answer: Answer, now: WallTime) -> Done<Start> {
    match answer.word.as_str() {
        "yes" => Ok(Start::Yes(answer.stored()?.info)),
        "no" => Ok(Start::No(answer.stored()?.read_at(now))),
        "missing" => Err(Fail::Missing),
        _ => Err(answer.refused()),
    }
}

/// Keeps an outcome, by the attempt alone (L8).
pub(super) async fn record(
    session: &mut Session,
    sqls: &Statements,
    id: &AttemptId,
    outcome: &Outcome,
    now: WallTime,
) -> Done<Recorded> {
    let (text_id, event, at) = (id.to_string(), Event::of_outcome(outcome).as_str(), sql_time(now));
    let (reference, reason) = (outcome.reference(), outcome.reason());
    let next = outcome.state().as_str();
    let values =
        [text(&text_id), text(&event), text(&next), text(&reference), text(&reason), int8(&at)];
    let answer = Answer::of(session, &sqls.record, &values).await?;
    match answer.word.as_str() {
        "written" => Ok(Recorded::Written(answer.stored()?.read_at(now))),
        "already" => Ok(Recorded::Already(answer.stored()?.read_at(now))),
        "late" => Ok(Recorded::Late(answer.stored()?.read_at(now))),
        "not_started" => Err(Fail::Call(LedgerError::NotAllowed {
            op: Op::Record,
            subject: Subject::Attempt(*id),
            state: answer.stored()?.info.state,
            why: Obstacle::NotStarted,
            until: None,
        })),
        "missing" => Err(Fail::Missing),
        _ => Err(answer.refused()),
    }
}
