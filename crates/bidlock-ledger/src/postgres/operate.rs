//! What operators do by hand: each act is a transaction under the posting's lock, by the same
//! decisions as in every store, and is noted in the audit.

use bidlock_core::{Key, WallTime};
use tokio_postgres::Transaction;

use super::fault::{Done, Fail};
use super::pool::Session;
use super::rows::{self, Stored, garbled, int8, sql, sql_time, text};
use super::statements::Statements;
use crate::doubt::{Case, Hindered};
use crate::error::{LedgerError, Obstacle, Op, Subject};
use crate::requests::{AuditAct, OperatorNote, Resolution, ResolveRequest, SeenSender};
use crate::state::{Event, State};
use crate::types::AttemptInfo;
use crate::values::AttemptId;

/// One step of the state machine.
struct Step<'a> {
    next: State,
    event: Event,
    reference: Option<&'a str>,
    reason: Option<&'a str>,
}

/// What an operator says and where, in one transaction.
struct Act<'a> {
    transaction: Transaction<'a>,
    sqls: &'a Statements,
    key: &'a Key,
    op: Op,
    now: WallTime,
}

impl<'a> Act<'a> {
    /// Begins, alone at this posting.
    async fn begin(
        session: &'a mut Session,
        sqls: &'a Statements,
        key: &'a Key,
        op: Op,
        now: WallTime,
    ) -> Done<Self> {
        let transaction = session.begin().await?;
        let (marketplace, posting) = (key.marketplace(), key.posting_encoded());
        let limit = "SELECT set_config('lock_timeout', '4s', true)";
        transaction.query_typed(limit, &[]).await?;
        let names = [text(&marketplace), text(&posting)];
        transaction.query_typed(&sqls.lock_posting, &names).await?;
        Ok(Self { transaction, sqls, key, op, now })
    }

    /// The open attempt of the posting, which nobody else moves on meanwhile.
    async fn open(&self) -> Done<Stored> {
        let (marketplace, posting) = (self.key.marketplace(), self.key.posting_encoded());
        let names = [text(&marketplace), text(&posting)];
        let statement = format!("{} FOR UPDATE", self.sqls.open_attempt);
        if let Some(row) = self.transaction.query_typed_opt(&statement, &names).await? {
            return rows::attempt(&row, 0);
        }
        let Some(row) = self.transaction.query_typed_opt(&self.sqls.latest, &names).await? else {
            return Err(Fail::Missing);
        };
        let last = rows::attempt(&row, 0)?.info;
        Err(self.not_allowed(last.state, Obstacle::NoneOpen { last: last.id }, None))
    }

    async fn attempt(&self, id: &AttemptId) -> Done<Option<Stored>> {
        let id = id.to_string();
        let row = self.transaction.query_typed_opt(&self.sqls.by_id, &[text(&id)]).await?;
        row.map(|row| rows::attempt(&row, 0)).transpose()
    }

    fn not_allowed(&self, state: State, why: Obstacle, until: Option<WallTime>) -> Fail {
        let subject = Subject::Posting(self.key.clone());
        Fail::Call(LedgerError::NotAllowed { op: self.op, subject, state, why, until })
    }

    /// Makes the step, notes it, and commits.
    async fn finish(
        self,
        from: &AttemptInfo,
        step: Step<'_>,
        act: &str,
        note: &OperatorNote,
    ) -> Done<AttemptInfo> {
        let (id, now) = (from.id.to_string(), sql_time(self.now));
        let (next, event, was) = (step.next.as_str(), step.event.as_str(), from.state.as_str());
        let advance = self.sqls.put(
            "UPDATE {schema}.attempts
             SET state = $1, event = $2, decided_at_us = $3, reference = $4, reason = $5
             WHERE id = $6::uuid AND (state = $7) IS TRUE",
        );
        let values = [
            text(&next),
            text(&event),
            int8(&now),
            text(&step.reference),
            text(&step.reason),
            text(&id),
            text(&was),
        ];
        expect_one(self.transaction.execute_typed(&advance, &values).await?)?;
        let (actor, because) = (note.actor.as_str(), note.because.as_str());
        let line = self.sqls.put(
            "INSERT INTO {schema}.history
                 (at_us, marketplace, posting, attempt, event, actor, detail)
             VALUES ($1, $2, $3, $4::uuid, $5, $6, $7)",
        );
        let (marketplace, posting) = (self.key.marketplace(), self.key.posting_encoded());
        let values = [
            int8(&now),
            text(&marketplace),
            text(&posting),
            text(&id),
            text(&event),
            text(&actor),
            text(&because),
        ];
        expect_one(self.transaction.execute_typed(&line, &values).await?)?;
        let entry = AuditAct {
            act: act.to_owned(),
            key: Some(self.key.clone()),
            attempt: Some(from.id),
            token: None,
            note: note.clone(),
        };
        append_audit(&self.transaction, self.sqls, &entry, self.now).await?;
        let done = self.attempt(&from.id).await?.ok_or(Fail::Missing)?;
        self.transaction.commit().await?;
        Ok(done.read_at(self.now))
    }
}

pub(super) fn expect_one(changed: u64) -> Done<()> {
    if changed == 1 { Ok(()) } else { Err(garbled(format!("{changed} rows were changed, not 1"))) }
}

/// Ends a doubt on an operator's word, where L6 allows it.
pub(super) async fn resolve(
    session: &mut Session,
    sqls: &Statements,
    key: &Key,
    request: &ResolveRequest,
    seen: Option<SeenSender>,
    now: WallTime,
) -> Done<AttemptInfo> {
    let act = Act::begin(session, sqls, key, Op::Resolve, now).await?;
    if let Some(named) = &request.attempt {
        let here = (key.marketplace(), key.posting_encoded());
        let info = act.attempt(named).await?.map(|stored| stored.info);
        let is_here = |info: &AttemptInfo| (&*info.marketplace, &*info.posting_encoded) == here;
        if !info.as_ref().is_some_and(is_here) {
            return Err(Fail::MissingAttempt(*named));
        }
    }
    let info = act.open().await?.info;
    let others = sqls.put(
        "SELECT EXISTS (SELECT FROM {schema}.attempts
             WHERE marketplace = $1 AND posting = $2 AND id <> $3::uuid)",
    );
    let id = info.id.to_string();
    let names = [text(&info.marketplace), text(&info.posting_encoded), text(&id)];
    let only = !rows::value::<bool>(&act.transaction.query_typed_one(&others, &names).await?, 0)?;
    let sent_again = sqls.put(
        "SELECT EXISTS (SELECT FROM {schema}.history
             WHERE marketplace = $1 AND posting = $2 AND attempt = $3::uuid AND event = $4)",
    );
    let resent = Event::Resent.as_str();
    let names = [text(&info.marketplace), text(&info.posting_encoded), text(&id), text(&resent)];
    let resent = rows::value(&act.transaction.query_typed_one(&sent_again, &names).await?, 0)?;
    let case = Case { open: &info, only, resent, seen, now };
    if let Err(Hindered { why, until }) = case.may_resolve(request) {
        return Err(act.not_allowed(info.state.read_at(now, info.send_by), why, until));
    }
    let resolution = &request.resolution;
    let word = match resolution {
        Resolution::Placed { .. } => "resolve_placed",
        Resolution::Refused => "resolve_refused",
        Resolution::NotSent { sender_is_gone: false } => "resolve_not_sent",
        Resolution::NotSent { sender_is_gone: true } => "resolve_not_sent_sender_is_gone",
    };
    let is_reason = matches!(resolution, Resolution::Refused | Resolution::NotSent { .. });
    let step = Step {
        next: resolution.state(),
        event: Event::of_resolution(resolution),
        reference: resolution.reference(),
        reason: is_reason.then_some(request.note.because.as_str()),
    };
    act.finish(&info, step, word, &request.note).await
}

/// Notes that a placed bid was taken back.
pub(super) async fn withdraw(
    session: &mut Session,
    sqls: &Statements,
    key: &Key,
    note: &OperatorNote,
    now: WallTime,
) -> Done<AttemptInfo> {
    let act = Act::begin(session, sqls, key, Op::Withdraw, now).await?;
    let info = act.open().await?.info;
    if info.state != State::Placed {
        let state = info.state.read_at(now, info.send_by);
        return Err(act.not_allowed(state, Obstacle::NotPlaced, None));
    }
    let step = Step {
        next: State::Withdrawn,
        event: Event::Withdrawn,
        reference: info.reference.as_deref(),
        reason: Some(&note.because),
    };
    act.finish(&info, step, "withdraw", note).await
}

/// Lets a posting be tried again.
pub(super) async fn reopen(
    session: &mut Session,
    sqls: &Statements,
    key: &Key,
    note: &OperatorNote,
    now: WallTime,
) -> Done<AttemptInfo> {
    let act = Act::begin(session, sqls, key, Op::Reopen, now).await?;
    let info = act.open().await?.info;
    let state = info.state.read_at(now, info.send_by);
    let why = match state {
        State::Refused | State::Withdrawn => None,
        State::Placed => Some(Obstacle::StillPlaced),
        State::Unknown => Some(Obstacle::InDoubt),
        _ => Some(Obstacle::InProgress),
    };
    if let Some(why) = why {
        return Err(act.not_allowed(state, why, None));
    }
    let step = Step {
        next: State::Abandoned,
        event: Event::Reopened,
        reference: info.reference.as_deref(),
        reason: Some(&note.because),
    };
    act.finish(&info, step, "reopen", note).await
}

/// Appends to the audit, in a transaction of its own (L7).
pub(super) async fn audit_append(
    session: &mut Session,
    sqls: &Statements,
    act: &AuditAct,
    now: WallTime,
) -> Done<()> {
    let transaction = session.begin().await?;
    append_audit(&transaction, sqls, act, now).await?;
    Ok(transaction.commit().await?)
}

pub(super) async fn append_audit(
    transaction: &Transaction<'_>,
    sqls: &Statements,
    act: &AuditAct,
    now: WallTime,
) -> Done<()> {
    let statement = sqls.put(
        "INSERT INTO {schema}.audit
             (at_us, actor, act, marketplace, posting, attempt, token, because)
         VALUES ($1, $2, $3, $4, $5, $6::uuid, $7, $8)",
    );
    let (now, token) = (sql_time(now), act.token.map(|token| sql(token.get())));
    let (marketplace, posting) =
        (act.key.as_ref().map(Key::marketplace), act.key.as_ref().map(Key::posting_encoded));
    let attempt = act.attempt.map(|id| id.to_string());
    let values = [
        int8(&now),
        text(&act.note.actor),
        text(&act.act),
        text(&marketplace),
        text(&posting),
        text(&attempt),
        int8(&token),
        text(&act.note.because),
    ];
    expect_one(transaction.execute_typed(&statement, &values).await?)
}
