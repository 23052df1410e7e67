//! Random operations on a real ledger, beside a model that knows the rules and nothing else.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use bidlock_core::{Clock as _, FencingToken, Key, ProcessMark};
use bidlock_ledger::{
    AttemptId, Fingerprint, Freshness, Ledger, LedgerError, OperatorNote, Outcome, Recorded,
    ResendRequest, Reservation, ReserveRequest, Resolution, ResolveRequest, Start, StartRequest,
    State, Verdict,
};
use bidlock_testkit::{TestPlatform, block_on, test_platform};
use proptest::prelude::*;

const POSTINGS: usize = 2;
const IDS: usize = 8;
/// Picks the latest attempt of a posting: this and the posting's number.
const LATEST: usize = 100;
const SEND_WITHIN: u64 = 60;
const LAG: u64 = 10;
/// For how long after its first start an attempt may be sent again.
const RETENTION: u64 = 200;

#[derive(Debug, Clone)]
enum Act {
    Reserve { posting: usize, id: usize, token: u64 },
    Start { id: usize, token: u64 },
    Resend { id: usize, token: u64 },
    Record { id: usize, next: State, guess: bool },
    Resolve { posting: usize, named: Option<usize>, next: State, gone: bool },
    Withdraw { posting: usize },
    Reopen { posting: usize },
    Pass { seconds: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (posting, token) = (0..POSTINGS, 1..9_u64);
    // Mostly what is under way, sometimes anything.
    let id = prop_oneof![1 => 0..IDS, 4 => LATEST..LATEST + POSTINGS];
    let said =
        prop::sample::select(vec![State::Placed, State::Refused, State::Abandoned, State::Unknown]);
    let found = prop::sample::select(vec![State::Placed, State::Refused, State::Abandoned]);
    let act = prop_oneof![
        4 => (posting.clone(), 0..IDS, token.clone())
            .prop_map(|(posting, id, token)| Act::Reserve { posting, id, token }),
        4 => (id.clone(), token.clone()).prop_map(|(id, token)| Act::Start { id, token }),
        4 => (id.clone(), token).prop_map(|(id, token)| Act::Resend { id, token }),
        4 => (id.clone(), said, any::<bool>())
            .prop_map(|(id, next, guess)| Act::Record { id, next, guess }),
        3 => (posting.clone(), prop::option::of(id), found, any::<bool>()).prop_map(
            |(posting, named, next, gone)| Act::Resolve { posting, named, next, gone }
        ),
        2 => posting.clone().prop_map(|posting| Act::Withdraw { posting }),
        1 => posting.prop_map(|posting| Act::Reopen { posting }),
        3 => prop::sample::select(vec![1, 5, 58, 60, 65, 70, 100])
            .prop_map(|seconds| Act::Pass { seconds }),
    ];
    prop::collection::vec(act, 1..60)
}

#[derive(Debug, Clone)]
struct Modelled {
    id: usize,
    posting: usize,
    state: State,
    seen: u64,
    started: u64,
    send_by: u64,
    /// Whether it was ever sent again.
    resent: bool,
    reopened: bool,
    /// Whether it is unknown by the submitter's own word.
    stated: bool,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    attempts: Vec<Modelled>,
}

impl Model {
    fn read(&self, attempt: &Modelled) -> State {
        if attempt.state == State::Started && attempt.send_by <= self.now {
            State::Unknown
        } else {
            attempt.state
        }
    }

    /// The act with the attempt that it means.
    fn pinned(&self, act: &Act) -> Act {
        let pin = |id: usize| {
            let latest = |posting| self.attempts.iter().rev().find(|a| a.posting == posting);
            let found = id.checked_sub(LATEST).map(latest);
            found.map_or(id, |latest| latest.map_or(0, |attempt| attempt.id))
        };
        match act.clone() {
            Act::Start { id, token } => Act::Start { id: pin(id), token },
            Act::Resend { id, token } => Act::Resend { id: pin(id), token },
            Act::Record { id, next, guess } => Act::Record { id: pin(id), next, guess },
            Act::Resolve { posting, named, next, gone } => {
                Act::Resolve { posting, named: named.map(pin), next, gone }
            }
            other => other,
        }
    }

    fn find(&mut self, id: usize) -> Option<&mut Modelled> {
        self.attempts.iter_mut().find(|attempt| attempt.id == id)
    }

    fn open(&self, posting: usize) -> Option<usize> {
        let is_open = |a: &Modelled| a.posting == posting && a.state != State::Abandoned;
        assert!(self.attempts.iter().filter(|a| is_open(a)).count() <= 1, "L1");
        self.attempts.iter().position(is_open)
    }

    fn verdict(&self, posting: usize) -> &'static str {
        match self.open(posting).map(|at| self.read(&self.attempts[at])) {
            None => "yes",
            Some(State::Placed) => "already_placed",
            Some(State::Refused) => "refused",
            Some(State::Withdrawn) => "withdrawn",
            Some(State::Unknown) => "in_doubt",
            Some(_) => "in_progress",
        }
    }

    fn reserve(&mut self, posting: usize, id: usize, token: u64) -> &'static str {
        let of_posting = self.attempts.iter().filter(|a| a.posting == posting);
        let seen = of_posting.map(|a| a.seen).max().unwrap_or_default();
        let used = self.attempts.iter().any(|a| a.id == id);
        if let Some(at) = self.open(posting) {
            let (state, mine) = (self.read(&self.attempts[at]), self.attempts[at].id == id);
            let open = &mut self.attempts[at];
            match state {
                State::Reserved if mine => return "reserved",
                State::Reserved | State::Started if token < seen => return "too_low",
                State::Reserved if token > seen && !used => {
                    open.state = State::Abandoned;
                    open.seen = token;
                }
                State::Reserved if token > seen => return "invalid",
                State::Started if token > seen && !mine => {
                    (open.state, open.stated) = (State::Unknown, false);
                    open.seen = token;
                }
                _ => {}
            }
        } else if token < seen {
            return "too_low";
        }
        if self.open(posting).is_some() {
            return self.verdict(posting);
        }
        if used {
            return "invalid";
        }
        self.attempts.push(Modelled {
            id,
            posting,
            state: State::Reserved,
            seen: token,
            started: 0,
            send_by: 0,
            resent: false,
            reopened: false,
            stated: false,
        });
        "reserved"
    }

    fn start(&mut self, id: usize, token: u64) -> &'static str {
        let (now, send_by) = (self.now, self.now + SEND_WITHIN);
        match self.find(id) {
            None => "not_found",
            Some(attempt) if attempt.state == State::Reserved && attempt.seen <= token => {
                (attempt.state, attempt.seen) = (State::Started, token);
                (attempt.started, attempt.send_by) = (now, send_by);
                "yes"
            }
            Some(_) => "no",
        }
    }

    /// L11
    fn resend(&mut self, id: usize, token: u64) -> &'static str {
        let (now, send_by) = (self.now, self.now + SEND_WITHIN);
        let Some(attempt) = self.find(id) else { return "not_found" };
        let in_doubt = matches!(attempt.state, State::Started | State::Unknown);
        if !in_doubt
            || attempt.send_by > now
            || attempt.seen >= token
            || send_by > attempt.started + RETENTION
        {
            return "no";
        }
        (attempt.state, attempt.stated, attempt.resent) = (State::Unknown, false, true);
        (attempt.seen, attempt.send_by) = (token, send_by);
        "yes"
    }

    fn record(&mut self, id: usize, next: State, guess: bool) -> &'static str {
        let Some(attempt) = self.find(id) else { return "not_found" };
        match (attempt.state, next) {
            // One of two sendings.
            (State::Unknown, State::Abandoned) if attempt.resent => {
                let repeated = std::mem::replace(&mut attempt.stated, true);
                if repeated { "already" } else { "written" }
            }
            (State::Reserved, State::Abandoned)
            | (State::Started, _)
            | (State::Unknown, State::Placed | State::Refused | State::Abandoned) => {
                attempt.state = next;
                attempt.stated = next == State::Unknown && !guess;
                "written"
            }
            (State::Unknown, State::Unknown) if !attempt.stated && !guess => {
                attempt.stated = true;
                "written"
            }
            (State::Reserved, _) => "not_allowed",
            (State::Withdrawn, State::Placed) => "already",
            (State::Abandoned, State::Abandoned) if attempt.reopened => "late",
            (state, next) if state == next => "already",
            _ => "late",
        }
    }

    fn resolve(
        &mut self,
        posting: usize,
        named: Option<usize>,
        next: State,
        gone: bool,
    ) -> &'static str {
        let named = match named.map(|id| self.find(id).cloned()) {
            Some(Some(named)) if named.posting == posting => Some(named.id),
            None => None,
            Some(_) => return "not_found",
        };
        let only = self.attempts.iter().filter(|a| a.posting == posting).count() == 1;
        let now = self.now;
        self.by_hand(posting, |open, state| {
            if named.is_some_and(|id| id != open.id) {
                return None;
            }
            let due = open.send_by + LAG <= now;
            let may = match (state, next) {
                (State::Started | State::Unknown, State::Placed) => true,
                (State::Unknown, State::Refused) => due,
                // No process of this test can be looked up.
                (State::Unknown, _) => {
                    let stopped = open.stated && !open.resent;
                    due && (only || named.is_some()) && (gone || stopped)
                }
                _ => false,
            };
            may.then_some(next)
        })
    }

    fn by_hand(
        &mut self,
        posting: usize,
        step: impl Fn(&Modelled, State) -> Option<State>,
    ) -> &'static str {
        let Some(at) = self.open(posting) else {
            let tried = self.attempts.iter().any(|a| a.posting == posting);
            return if tried { "not_allowed" } else { "not_found" };
        };
        let state = self.read(&self.attempts[at]);
        match step(&self.attempts[at], state) {
            None => "not_allowed",
            Some(next) => {
                let attempt = &mut self.attempts[at];
                attempt.reopened = matches!(state, State::Refused | State::Withdrawn);
                attempt.state = next;
                "done"
            }
        }
    }

    fn apply(&mut self, act: &Act) -> &'static str {
        match *act {
            Act::Reserve { posting, id, token } => self.reserve(posting, id, token),
            Act::Start { id, token } => self.start(id, token),
            Act::Resend { id, token } => self.resend(id, token),
            Act::Record { id, next, guess } => self.record(id, next, guess),
            Act::Resolve { posting, named, next, gone } => self.resolve(posting, named, next, gone),
            Act::Withdraw { posting } => self
                .by_hand(posting, |_, state| (state == State::Placed).then_some(State::Withdrawn)),
            Act::Reopen { posting } => self.by_hand(posting, |_, state| {
                matches!(state, State::Refused | State::Withdrawn).then_some(State::Abandoned)
            }),
            Act::Pass { seconds } => {
                self.now += seconds;
                "done"
            }
        }
    }
}

struct Real {
    _folder: tempfile::TempDir,
    machine: TestPlatform,
    ledger: Ledger,
    ids: Vec<AttemptId>,
}

fn key(posting: usize) -> Key {
    Key::new("upwork", &format!("p{posting}")).unwrap()
}

fn label<T>(answer: Result<T, LedgerError>, said: impl FnOnce(T) -> &'static str) -> &'static str {
    match answer {
        Ok(answer) => said(answer),
        Err(LedgerError::NotFound { .. }) => "not_found",
        Err(LedgerError::NotAllowed { .. }) => "not_allowed",
        Err(LedgerError::Invalid(_)) => "invalid",
        Err(error) => panic!("{error}"),
    }
}

impl Real {
    fn new() -> Self {
        let (folder, machine) = (tempfile::tempdir().unwrap(), test_platform());
        let path = folder.path().join("ledger.db");
        let ledger = Ledger::open_sqlite(&path, &machine.platform()).unwrap();
        let ids = (0..IDS).map(|_| AttemptId::random(machine.rng.as_ref())).collect();
        Self { _folder: folder, machine, ledger, ids }
    }

    async fn apply(&self, act: &Act) -> &'static str {
        let note = OperatorNote { actor: "ann".to_owned(), because: "a reason".to_owned() };
        match *act {
            Act::Reserve { posting, id, token } => self.reserve(posting, id, token).await,
            Act::Start { id, token } => {
                let send_by = self.machine.clock.wall() + Duration::from_secs(SEND_WITHIN);
                let token = FencingToken::new(token);
                let payload = Some(Fingerprint::of(b"offer"));
                let request = StartRequest { token, send_by, payload };
                label(self.ledger.start(&self.ids[id], &request).await, |start| match start {
                    Start::Yes(_) => "yes",
                    Start::No(_) => "no",
                })
            }
            Act::Resend { id, token } => {
                let request = ResendRequest {
                    token: FencingToken::new(token),
                    send_by: self.machine.clock.wall() + Duration::from_secs(SEND_WITHIN),
                    payload: Fingerprint::of(b"offer"),
                    retention: Duration::from_secs(RETENTION),
                    holder: "another holder".to_owned(),
                    process: ProcessMark::new("elsewhere"),
                };
                label(self.ledger.resend(&self.ids[id], &request).await, |start| match start {
                    Start::Yes(_) => "yes",
                    Start::No(_) => "no",
                })
            }
            Act::Record { id, next, guess } => {
                let (reason, reference) = (None, None);
                let outcome = match next {
                    State::Placed => Outcome::Placed { reference },
                    State::Refused => Outcome::Refused { reason },
                    State::Abandoned => Outcome::NotSent { reason },
                    _ if guess => Outcome::GivenUp { reason },
                    _ => Outcome::Unknown { reason },
                };
                label(self.ledger.record(&self.ids[id], &outcome).await, |kept| match kept {
                    Recorded::Written(_) => "written",
                    Recorded::Already(_) => "already",
                    Recorded::Late(_) => "late",
                })
            }
            Act::Resolve { posting, named, next, gone } => {
                let resolution = match next {
                    State::Placed => Resolution::Placed { reference: None },
                    State::Refused => Resolution::Refused,
                    _ => Resolution::NotSent { sender_is_gone: gone },
                };
                let attempt = named.map(|id| self.ids[id]);
                let visibility_lag = Duration::from_secs(LAG);
                let request = ResolveRequest { attempt, resolution, note, visibility_lag };
                label(self.ledger.resolve(&key(posting), &request).await, |_| "done")
            }
            Act::Withdraw { posting } => {
                label(self.ledger.withdraw(&key(posting), &note).await, |_| "done")
            }
            Act::Reopen { posting } => {
                label(self.ledger.reopen(&key(posting), &note).await, |_| "done")
            }
            Act::Pass { seconds } => {
                self.machine.clock.advance(Duration::from_secs(seconds));
                "done"
            }
        }
    }

    async fn reserve(&self, posting: usize, id: usize, token: u64) -> &'static str {
        let request = ReserveRequest {
            attempt: self.ids[id],
            token: FencingToken::new(token),
            holder: "holder".to_owned(),
            process: ProcessMark::new("elsewhere"),
            seen_at: None,
        };
        label(self.ledger.reserve(&key(posting), &request).await, |answer| match answer {
            Reservation::Reserved(_) => "reserved",
            Reservation::Not(verdict) => verdict.as_str(),
            Reservation::TokenTooLow { .. } => "too_low",
        })
    }

    async fn state(&self, id: usize) -> Option<State> {
        self.ledger.attempt(&self.ids[id]).await.unwrap().map(|info| info.state)
    }

    async fn verdict(&self, posting: usize) -> Verdict {
        self.ledger.should_bid(&key(posting), &Freshness::default()).await.unwrap()
    }
}

fn settings() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn the_ledger_does_what_the_model_does(acts in acts()) {
        let (mut model, real) = (Model::default(), Real::new());
        let mut told = [0; POSTINGS];
        for (step, act) in acts.iter().enumerate() {
            let act = &model.pinned(act);
            let expected = model.apply(act);
            let answer = block_on(real.apply(act));
            prop_assert_eq!(answer, expected, "step {}: {:?}\n{:#?}", step, act, model);
            for id in 0..IDS {
                let modelled = model.attempts.iter().find(|a| a.id == id);
                let state = modelled.map(|attempt| model.read(attempt));
                prop_assert_eq!(block_on(real.state(id)), state, "step {}: {:?}", step, act);
            }
            for (posting, told) in told.iter_mut().enumerate() {
                prop_assert_eq!(block_on(real.verdict(posting)).as_str(), model.verdict(posting));
                // L7: a history only grows.
                let length = block_on(real.ledger.history(&key(posting))).unwrap().len();
                prop_assert!(length >= *told);
                *told = length;
            }
        }
    }
}
