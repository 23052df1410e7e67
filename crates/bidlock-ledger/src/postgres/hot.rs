//! What every bid does: one statement each, which is a transaction of its own, or shares one.

use std::rc::Rc;

use bidlock_core::{InvalidValue, Key, Refusal, WallTime};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::fault::{Done, Fail};
use super::pool::Session;
use super::record::Record;
use super::rows::{self, Param, Stored, sql, sql_time};
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
    pub(super) ledger: Option<String>,
    /// Whether a promoted standby is known to have all that was acknowledged.
    pub(super) trusts_failover: bool,
}

impl Expected {
    fn params(&self) -> [Param<'_>; 2] {
        [rows::text(&self.ledger), (&self.trusts_failover, Type::BOOL)]
    }
}

/// What one of our functions answered.
pub(super) struct Answer {
    word: String,
    note: Option<String>,
    record: Record,
}

impl Answer {
    pub(super) fn read(row: &Row) -> Done<Self> {
        let record: Record = rows::value(row, 0)?;
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

/// How many elements a call has in a batch: the most that any function takes, and its name.
const BATCH_WIDTH: usize = 10;

/// A value of a call, until it is sent.
#[derive(Debug)]
enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

impl Value {
    fn param(&self) -> Param<'_> {
        match self {
            Self::Text(value) => (value, Type::TEXT),
            Self::Int(value) => (value, Type::INT8),
        }
    }

    /// As one element of a batch.
    fn text(&self) -> Option<String> {
        match self {
            Self::Text(value) => value.clone(),
            Self::Int(value) => value.map(|number| number.to_string()),
        }
    }
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(Some(value.into()))
}

fn text_opt(value: Option<&str>) -> Value {
    Value::Text(value.map(str::to_owned))
}

fn int(value: i64) -> Value {
    Value::Int(Some(value))
}

/// A call of one of our functions: a transaction by itself, or with others in one.
#[derive(Debug)]
pub(super) struct Ask {
    /// The function's name in a batch.
    name: &'static str,
    statement: String,
    values: Vec<Value>,
    /// Asked of the ledger before anything is given out; nothing of an outcome.
    expected: Option<Expected>,
}

impl Ask {
    async fn send(&self, client: &Client) -> Result<Row, tokio_postgres::Error> {
        let mut values: Vec<Param<'_>> = self.values.iter().map(Value::param).collect();
        if let Some(expected) = &self.expected {
            values.extend(expected.params());
        }
        client.query_typed_one(&self.statement, &values).await
    }

    /// The elements that the call takes in a batch.
    fn elements(&self) -> impl Iterator<Item = Option<String>> {
        let own = std::iter::once(Some(self.name.to_owned()));
        let values = self.values.iter().map(Value::text);
        own.chain(values).chain(std::iter::repeat(None)).take(BATCH_WIDTH)
    }

    /// Makes several calls in one transaction; their answers come in the same order.
    pub(super) async fn all(
        asks: &[Rc<Self>],
        session: &Session,
        sqls: &Statements,
    ) -> Done<Vec<Row>> {
        let elements: Vec<Option<String>> = asks.iter().flat_map(|ask| ask.elements()).collect();
        let none = Expected { ledger: None, trusts_failover: false };
        // All of them were asked of one store.
        let expected = asks.iter().find_map(|ask| ask.expected.as_ref()).unwrap_or(&none);
        let [ledger, trusts] = expected.params();
        let values = [(&elements as _, Type::TEXT_ARRAY), ledger, trusts];
        let rows = session.client().query_typed(&sqls.batch, &values).await?;
        if rows.len() == asks.len() {
            return Ok(rows);
        }
        Err(rows::garbled(format!("{} answers to {} calls", rows.len(), asks.len())))
    }

    /// Calls alone, in a transaction that says its isolation where the session's own is another.
    pub(super) async fn alone(&self, session: &mut Session) -> Done<Answer> {
        if !session.must_isolate() {
            return Answer::read(&self.send(session.client()).await?);
        }
        let transaction = session.begin().await?;
        let row = self.send(transaction.client()).await?;
        transaction.commit().await?;
        Answer::read(&row)
    }
}

/// Makes an attempt, or says what stands against it.
pub(super) fn reserve(
    sqls: &Statements,
    key: &Key,
    request: &ReserveRequest,
    now: WallTime,
    expected: Expected,
) -> Ask {
    let doubt = format!("a higher token met it before its send-by, with {}", request.holder);
    Ask {
        name: "reserve",
        statement: sqls.reserve.clone(),
        values: vec![
            text(key.marketplace()),
            text(key.posting_encoded()),
            text(request.attempt.to_string()),
            int(sql(request.token.get())),
            text(&request.holder),
            text(request.process.as_str()),
            Value::Int(request.seen_at.map(sql_time)),
            int(sql_time(now)),
            Value::Text(fit_line(&doubt, limits::REASON_BYTES_MAX)),
        ],
        expected: Some(expected),
    }
}

/// Reads the answer to [`reserve`].
pub(super) fn reserved(
    answer: Done<Answer>,
    request: &ReserveRequest,
    now: WallTime,
) -> Done<Reservation> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(fail) if fail.violates("attempts_id") => {
            let (id, why) = (request.attempt, "used before; every attempt has an id of its own");
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
pub(super) fn start(
    sqls: &Statements,
    id: &AttemptId,
    request: &StartRequest,
    now: WallTime,
    expected: Expected,
) -> Ask {
    Ask {
        name: "start",
        statement: sqls.start.clone(),
        values: vec![
            text(id.to_string()),
            int(sql(request.token.get())),
            int(sql_time(request.send_by)),
            Value::Text(request.payload.map(|print| print.to_string())),
            int(sql_time(now)),
        ],
        expected: Some(expected),
    }
}

/// Lets an attempt in doubt be sent again under its own id (L11).
pub(super) fn resend(
    sqls: &Statements,
    id: &AttemptId,
    request: &ResendRequest,
    now: WallTime,
    expected: Expected,
) -> Ask {
    let retention = i64::try_from(request.retention.as_micros()).unwrap_or(i64::MAX);
    Ask {
        name: "resend",
        statement: sqls.resend.clone(),
        values: vec![
            text(id.to_string()),
            int(sql(request.token.get())),
            int(sql_time(request.send_by)),
            text(request.payload.to_string()),
            int(retention),
            text(&request.holder),
            text(request.process.as_str()),
            int(sql_time(now)),
        ],
        expected: Some(expected),
    }
}

/// Reads the answer to [`start`] and to [`resend`].
pub(super) fn started(answer: Done<Answer>, now: WallTime) -> Done<Start> {
    let answer = answer?;
    match answer.word.as_str() {
        "yes" => Ok(Start::Yes(answer.stored()?.info)),
        "no" => Ok(Start::No(answer.stored()?.read_at(now))),
        "missing" => Err(Fail::Missing),
        _ => Err(answer.refused()),
    }
}

/// Keeps an outcome, by the attempt alone (L8).
pub(super) fn record(sqls: &Statements, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Ask {
    Ask {
        name: "record",
        statement: sqls.record.clone(),
        values: vec![
            text(id.to_string()),
            text(Event::of_outcome(outcome).as_str()),
            text(outcome.state().as_str()),
            text_opt(outcome.reference()),
            text_opt(outcome.reason()),
            int(sql_time(now)),
        ],
        expected: None,
    }
}

/// Reads the answer to [`record`].
pub(super) fn recorded(answer: Done<Answer>, id: AttemptId, now: WallTime) -> Done<Recorded> {
    let answer = answer?;
    match answer.word.as_str() {
        "written" => Ok(Recorded::Written(answer.stored()?.read_at(now))),
        "already" => Ok(Recorded::Already(answer.stored()?.read_at(now))),
        "late" => Ok(Recorded::Late(answer.stored()?.read_at(now))),
        "not_started" => Err(Fail::Call(LedgerError::NotAllowed {
            op: Op::Record,
            subject: Subject::Attempt(id),
            state: answer.stored()?.info.state,
            why: Obstacle::NotStarted,
            until: None,
        })),
        "missing" => Err(Fail::Missing),
        _ => Err(answer.refused()),
    }
}
