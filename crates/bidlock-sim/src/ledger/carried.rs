//! What is carried out at the ledger itself, soundly or not.

use bidlock_core::{Key, WallTime};
use bidlock_ledger::{
    AttemptId, AttemptInfo, LedgerError, Obstacle, Op, Outcome, Recorded, ResendRequest,
    Reservation, ReserveRequest, Result, Start, StartRequest, State, Store as _, Subject,
};

use super::Way;

impl Way {
    /// Takes the word of the ledger's process, unless it ended before its commit.
    pub(super) fn lived<T>(&self, done: Result<T>) -> Result<T> {
        if !self.site.has_ended() {
            return done;
        }
        let (endpoint, source) = (self.endpoint.clone(), "the process has ended".into());
        Err(LedgerError::Unknown { op: Op::Open, subject: Subject::Ledger, endpoint, source })
    }

    /// Whether the ledger's process has ended with this call: another one opens what it has left.
    pub(super) fn ended(&self) -> bool {
        let at = match self.site.succeed() {
            Ok(None) => return false,
            Ok(Some(at)) => at,
            Err(error) => {
                self.watch.wrong(format!("the ledger does not come back: {error}"));
                return true;
            }
        };
        self.watch.facts().coverage.count(at);
        let (mut trouble, now) = (self.trouble(), self.time.now());
        let (length, takes_caller) = trouble.end;
        trouble.down = trouble.down.max(now + length);
        trouble.ended = takes_caller.then_some(self.process);
        true
    }

    pub(super) async fn reserved(
        &self,
        key: &Key,
        request: ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation> {
        let done = self.lived(self.store().reserve(key, &request, now).await);
        match &done {
            Ok(Reservation::Reserved(info)) => self.watch.attempt(info),
            Ok(Reservation::Not(verdict)) if self.faults.doubt_ages => {
                if let Some(info) = verdict.attempt().filter(|info| info.state == State::Unknown) {
                    let reason = Some("too old".to_owned());
                    drop(self.store().record(&info.id, &Outcome::NotSent { reason }, now).await);
                    return self.store().reserve(key, &request, now).await;
                }
            }
            _ => {}
        }
        done
    }

    pub(super) async fn started(
        &self,
        id: &AttemptId,
        request: &StartRequest,
        now: WallTime,
    ) -> Result<Start> {
        let done = self.lived(self.store().start(id, request, now).await);
        match done {
            Ok(Start::Yes(info)) => {
                self.watch.started(&info);
                Ok(Start::Yes(info))
            }
            done => done,
        }
    }

    pub(super) async fn resent(
        &self,
        id: &AttemptId,
        request: &ResendRequest,
        now: WallTime,
    ) -> Result<Start> {
        let done = self.lived(self.store().resend(id, request, now).await);
        if let Ok(Start::Yes(info)) = &done {
            self.watch.resent(info);
        }
        done
    }

    pub(super) async fn recorded(
        &self,
        id: &AttemptId,
        outcome: &Outcome,
        now: WallTime,
    ) -> Result<Recorded> {
        let before = self.store().attempt(id, now).await?;
        let begun = before.as_ref().filter(|info| info.started_at.is_some());
        let done = match begun {
            Some(info) if self.faults.records_by_lease && !self.watch.holds(info) => {
                Err(LedgerError::NotAllowed {
                    op: Op::Record,
                    subject: Subject::Attempt(*id),
                    state: info.state,
                    why: Obstacle::NotStarted,
                    until: None,
                })
            }
            _ => self.lived(self.store().record(id, outcome, now).await),
        };
        if begun.is_some() {
            let refused = |error: &LedgerError| !error.may_have_applied();
            let refused = done.as_ref().err().filter(|error| refused(error));
            self.watch.outcome(id, refused.map(ToString::to_string));
        }
        if let Ok(recorded) = &done {
            self.watch.attempt(recorded.attempt());
        }
        done
    }

    pub(super) fn by_hand(&self, done: Result<AttemptInfo>) -> Result<AttemptInfo> {
        if let Ok(info) = &done {
            self.watch.attempt(info);
        }
        done
    }
}
