//! The transactions of the ledger's stores, one step each: `sqlite/write.rs`, `sqlite/operate.rs`.

use std::time::Duration;

use bidlock_core::{FencingToken, Liveness, ProcessMark, WallTime};
use bidlock_ledger::rules::{Case, RecordStep, Standing, record_step};
use bidlock_ledger::{
    AttemptId, AttemptInfo, Event, Fingerprint, OperatorNote, Outcome, ResendRequest, Resolution,
    ResolveRequest, SeenSender, State as Stored,
};

use super::{Bidder, Broken, Config, LAG, Market, Mutant, Phase, RETENTION, Row, SEND, State};

/// Now, in the ticks of the real functions.
const NOW: u64 = 1_000;

/// What a reservation came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reservation {
    Reserved(u8),
    /// An attempt in doubt stands against it.
    InDoubt(u8),
    Not,
}

impl State {
    pub(crate) fn open(&self) -> Option<u8> {
        let open = self.rows.iter().position(|row| row.state != Stored::Abandoned)?;
        u8::try_from(open).ok()
    }

    fn latest(&self) -> Option<u8> {
        self.open().or_else(|| u8::try_from(self.rows.len().checked_sub(1)?).ok())
    }

    pub(crate) fn reserve(&mut self, config: &Config, bidder: u8, token: u8) -> Reservation {
        if let Some(latest) = self.latest() {
            let row = self.rows[latest as usize];
            let seen = row.token_seen;
            match row.read() {
                Stored::Unknown if config.is(Mutant::TakeOverByAge) && row.left == Some(-LAG) => {
                    self.goes_to(latest, Stored::Abandoned, Event::TakenOver);
                }
                Stored::Placed | Stored::Refused | Stored::Withdrawn => return Reservation::Not,
                Stored::Unknown => return Reservation::InDoubt(latest),
                _ if token < seen => return Reservation::Not, // L3
                Stored::Started if token > seen && config.is(Mutant::TakeOverOfStarted) => {
                    self.goes_to(latest, Stored::Abandoned, Event::TakenOver);
                }
                Stored::Reserved if token > seen => {
                    if self.pruned {
                        return Reservation::Not; // L10
                    }
                    self.rows[latest as usize].token_seen = token;
                    self.goes_to(latest, Stored::Abandoned, Event::TakenOver);
                }
                Stored::Started if token > seen => {
                    self.rows[latest as usize].token_seen = token;
                    self.goes_to(latest, Stored::Unknown, Event::Doubted); // L5
                    return Reservation::InDoubt(latest);
                }
                Stored::Reserved | Stored::Started => return Reservation::Not,
                Stored::Abandoned => {}
            }
        }
        if self.pruned && !config.is(Mutant::PruneForgetsHorizon) {
            return Reservation::Not; // L10: stale
        }
        let seen = self.rows.iter().map(|row| row.token_seen).max().unwrap_or(0);
        if token < seen {
            self.break_rule(Broken::OldTokenTaken); // L3
        }
        self.rows.push(Row {
            state: Stored::Reserved,
            event: Event::Reserved,
            token_seen: token,
            left: None,
            kept: RETENTION,
            payload: 0,
            process: bidder,
            resent: false,
            starts: 0,
            market: Market::Nothing,
            sent: None,
        });
        Reservation::Reserved(u8::try_from(self.rows.len() - 1).unwrap_or(u8::MAX))
    }

    /// Says yes once (L2).
    pub(crate) fn start(&mut self, config: &Config, row: u8, token: u8, payload: u8) -> bool {
        let own = &mut self.rows[row as usize];
        let reserved = own.state == Stored::Reserved
            || config.is(Mutant::StartIsNoCompareAndSet) && own.state != Stored::Placed;
        let current = own.token_seen <= token || config.is(Mutant::StartIsNoCompareAndSet);
        if !reserved || !current {
            return false;
        }
        own.token_seen = own.token_seen.max(token);
        (own.left, own.kept, own.payload) = (Some(SEND), RETENTION, payload);
        own.starts += 1;
        if own.state == Stored::Reserved {
            self.goes_to(row, Stored::Started, Event::Started);
        }
        self.judge_start(config, row);
        true
    }

    /// P1: nothing else may have happened when a submission starts.
    fn judge_start(&mut self, config: &Config, row: u8) {
        let mut others = (0..).take(self.rows.len()).filter(|other| *other != row);
        if others.any(|other| self.may_have_happened(config, other)) || self.forgotten > 0 {
            self.break_rule(Broken::SecondSubmission);
        }
    }

    /// Sends an attempt in doubt again (L11).
    pub(crate) fn resend(
        &mut self,
        config: &Config,
        row: u8,
        (bidder, token, payload): (u8, u8, u8),
    ) -> bool {
        let own = self.rows[row as usize];
        let any = config.is(Mutant::ResentWithOtherPayload);
        let request = ResendRequest {
            token: FencingToken::new(token.into()),
            send_by: at(SEND),
            payload: print(if any { own.payload } else { payload }),
            retention: ticks(RETENTION),
            holder: String::new(),
            process: ProcessMark::new(""),
        };
        if token <= own.token_seen || !request.suits(&own.info(row), at(0)) {
            return false;
        }
        let own = &mut self.rows[row as usize];
        (own.token_seen, own.left, own.process) = (token, Some(SEND), bidder);
        (own.state, own.event, own.resent) = (Stored::Unknown, Event::Resent, true);
        self.judge_start(config, row);
        true
    }

    /// Keeps an outcome, by the attempt alone (L8).
    pub(crate) fn record(&mut self, config: &Config, row: u8, outcome: &Outcome, token: u8) {
        let own = self.rows[row as usize];
        if config.is(Mutant::RecordNeedsLease) && token < self.token {
            return self.break_rule(Broken::OutcomeRefused);
        }
        let resent = own.resent && !config.is(Mutant::NotSentEndsTwoSendings);
        let (reference, reason) = (None, None);
        let standing = Standing { state: own.state, event: own.event, reference, reason, resent };
        match record_step(standing, outcome) {
            RecordStep::Become(next) => self.goes_to(row, next, Event::of_outcome(outcome)),
            RecordStep::Restate(event) => self.rows[row as usize].event = event,
            RecordStep::NotStarted if own.starts > 0 => self.break_rule(Broken::OutcomeRefused),
            // A row that is closed stays as it is; what is late goes into the history.
            RecordStep::Late | RecordStep::Already | RecordStep::NotStarted => {}
        }
        let own = &mut self.rows[row as usize];
        let guess = own.state == Stored::Unknown && own.event == Event::GivenUp;
        if guess && config.is(Mutant::GivenUpHasStopped) {
            own.event = Event::Unknown;
        }
    }

    /// Ends the doubt about the open attempt, where L6 allows it.
    pub(crate) fn resolve(&mut self, config: &Config, resolution: Resolution, seen: Liveness) {
        let Some(row) = self.open() else { return };
        let own = &self.rows[row as usize];
        let info = own.info(row);
        let seen = Some(SeenSender { attempt: info.id, liveness: seen });
        let now = if config.is(Mutant::ResolvedTooEarly) { at(SEND + LAG) } else { at(0) };
        let resent = own.resent && !config.is(Mutant::SecondSenderSpeaksForFirst);
        let case = Case { open: &info, only: self.rows.len() == 1, resent, seen, now };
        let (event, next) = (Event::of_resolution(&resolution), resolution.state());
        let request = ResolveRequest {
            attempt: Some(info.id),
            resolution,
            note: OperatorNote { actor: String::new(), because: String::new() },
            visibility_lag: ticks(LAG),
        };
        if case.may_resolve(&request).is_ok() {
            self.goes_to(row, next, event);
        }
    }

    pub(crate) fn withdraw(&mut self) {
        let Some(row) = self.open() else { return };
        let own = &mut self.rows[row as usize];
        if own.state == Stored::Placed {
            own.market = Market::Withdrawn;
            self.goes_to(row, Stored::Withdrawn, Event::Withdrawn);
        }
    }

    pub(crate) fn reopen(&mut self) {
        let Some(row) = self.open() else { return };
        if matches!(self.rows[row as usize].read(), Stored::Refused | Stored::Withdrawn) {
            self.goes_to(row, Stored::Abandoned, Event::Reopened);
        }
    }

    /// Takes the posting whole, and only when nothing of it is open (L10).
    pub(crate) fn prune(&mut self, config: &Config) {
        let closed = |row: &Row| row.state.is_decided() || row.state == Stored::Abandoned;
        let all_closed = self.rows.iter().all(closed);
        if self.rows.is_empty() || !all_closed && !config.is(Mutant::PruneTakesOpenOnes) {
            return;
        }
        if !all_closed {
            return self.break_rule(Broken::OpenOnePruned);
        }
        self.forgotten = self.bids();
        self.pruned = true;
        self.rows.clear();
        for bidder in self.bidders.iter_mut().filter(|bidder| bidder.phase != Phase::Gone) {
            // What it still has to say is about nothing that is known.
            *bidder = Bidder { phase: Phase::Idle, ..*bidder };
        }
    }

    /// Goes a step of the state machine: one that it has (L4), and out of doubt only by somebody
    /// who has found out (L6).
    fn goes_to(&mut self, row: u8, next: Stored, event: Event) {
        let own = &mut self.rows[row as usize];
        let from = std::mem::replace(&mut own.state, next);
        own.event = event;
        let opens = matches!(from, Stored::Started | Stored::Unknown) && next == Stored::Abandoned;
        let found_out =
            matches!(event, Event::NotSent | Event::ResolvedNotSent | Event::ResolvedSenderGone);
        if !from.may_become(next) || opens && !found_out {
            self.break_rule(Broken::WayBack);
        }
    }

    pub(crate) fn break_rule(&mut self, rule: Broken) {
        self.broken = self.broken.or(Some(rule));
    }
}

impl Row {
    /// The state as everybody reads it (L5), by the real function.
    pub(crate) fn read(&self) -> Stored {
        self.state.read_at(at(0), self.left.map(at))
    }

    /// What the store would say of it.
    fn info(&self, row: u8) -> AttemptInfo {
        AttemptInfo {
            id: id(row),
            marketplace: String::new(),
            posting: String::new(),
            posting_encoded: String::new(),
            state: self.state,
            event: self.event,
            token: FencingToken::new(self.token_seen.into()),
            holder: String::new(),
            process: ProcessMark::new(""),
            seen_at: None,
            reserved_at: at(0),
            started_at: Some(at(self.kept - RETENTION)),
            send_by: self.left.map(at),
            decided_at: None,
            reference: None,
            payload: Some(print(self.payload)),
            reason: None,
        }
    }
}

fn at(left: i8) -> WallTime {
    WallTime::from_micros(NOW.saturating_add_signed(left.into()))
}

fn ticks(count: i8) -> Duration {
    Duration::from_micros(u64::from(count.unsigned_abs()))
}

fn print(payload: u8) -> Fingerprint {
    Fingerprint::of(&[payload])
}

fn id(row: u8) -> AttemptId {
    /// The same in every run.
    #[derive(Debug)]
    struct Number(u8);
    impl bidlock_core::Rng for Number {
        fn next_u64(&self) -> u64 {
            self.0.into()
        }
    }
    AttemptId::random(&Number(row))
}
