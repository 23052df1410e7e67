use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Clock as _, FencingToken, Key, ProcessMark, WallTime};
use bidlock_ledger::{
    AttemptId, AttemptInfo, Event, Fingerprint, Ledger, LedgerError, Obstacle, OperatorNote,
    Outcome, Reservation, ReserveRequest, Resolution, ResolveRequest, Start, StartRequest, State,
    Store,
};

use crate::TestPlatform;

type Open = Box<dyn Fn(&TestPlatform) -> Arc<dyn Store> + Send + Sync>;

/// A ledger that nobody has written to, on a machine in the test's hands.
pub struct LedgerFixture {
    machine: TestPlatform,
    open: Open,
}

impl LedgerFixture {
    /// Makes a fixture of a function that opens the store; every call of it opens the same data,
    /// as another process would.
    #[must_use]
    pub fn new(open: impl Fn(&TestPlatform) -> Arc<dyn Store> + Send + Sync + 'static) -> Self {
        Self { machine: crate::test_platform(), open: Box::new(open) }
    }

    /// The same fixture with something around its store.
    #[must_use]
    pub fn wrapped(
        self,
        wrap: impl Fn(Arc<dyn Store>) -> Arc<dyn Store> + Send + Sync + 'static,
    ) -> Self {
        let Self { machine, open } = self;
        Self { machine, open: Box::new(move |machine| wrap(open(machine))) }
    }
}

impl Debug for LedgerFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerFixture").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// How long after its start an attempt of these rules may be sent.
pub(super) const SEND_WITHIN: Duration = Duration::from_mins(1);

/// A ledger, and what bidders do with it.
pub(super) struct Scene {
    fixture: LedgerFixture,
    pub(super) ledger: Ledger,
}

impl Scene {
    pub(super) fn new(fixture: LedgerFixture) -> Self {
        let store = (fixture.open)(&fixture.machine);
        let ledger = Ledger::new(store, &fixture.machine.platform());
        Self { fixture, ledger }
    }

    /// The same ledger as another process opens it.
    pub(super) fn open_again(&self) -> Ledger {
        Ledger::new(self.store(), &self.fixture.machine.platform())
    }

    /// The store by itself, without what the ledger in front of it checks.
    pub(super) fn store(&self) -> Arc<dyn Store> {
        (self.fixture.open)(&self.fixture.machine)
    }

    pub(super) const fn machine(&self) -> &TestPlatform {
        &self.fixture.machine
    }

    pub(super) fn advance(&self, time: Duration) {
        self.machine().clock.advance(time);
    }

    pub(super) fn now(&self) -> WallTime {
        self.machine().clock.wall()
    }

    /// A request of a process on a machine that nobody here can ask about.
    pub(super) fn request(&self, token: u64) -> ReserveRequest {
        ReserveRequest {
            attempt: AttemptId::random(self.machine().rng.as_ref()),
            token: FencingToken::new(token),
            holder: format!("host:{token}:a1b2c3d4"),
            process: ProcessMark::new("elsewhere"),
            seen_at: None,
        }
    }

    pub(super) async fn reserve(&self, key: &Key, token: u64) -> AttemptId {
        let request = self.request(token);
        match sure(self.ledger.reserve(key, &request).await) {
            Reservation::Reserved(info) => {
                assert_eq!((info.id, info.state), (request.attempt, State::Reserved));
                info.id
            }
            other => panic!("{key} is free for token {token}, not {other:?}"),
        }
    }

    /// Asks for what is not to be had.
    pub(super) async fn cannot_reserve(&self, key: &Key, token: u64) -> Reservation {
        let request = self.request(token);
        let answer = sure(self.ledger.reserve(key, &request).await);
        assert!(!matches!(answer, Reservation::Reserved(_)), "{key} is not free: {answer:?}");
        let made = sure(self.ledger.attempt(&request.attempt).await);
        assert_eq!(made, None, "what was not reserved leaves nothing");
        answer
    }

    pub(super) fn start_request(&self, token: u64) -> StartRequest {
        StartRequest {
            token: FencingToken::new(token),
            send_by: self.now() + SEND_WITHIN,
            payload: Some(Fingerprint::of(b"offer")),
        }
    }

    pub(super) async fn start(&self, id: &AttemptId, token: u64) -> Start {
        sure(self.ledger.start(id, &self.start_request(token)).await)
    }

    pub(super) async fn started(&self, key: &Key, token: u64) -> AttemptId {
        let id = self.reserve(key, token).await;
        let start = self.start(&id, token).await;
        assert!(matches!(start, Start::Yes(_)), "{start:?}");
        id
    }

    /// An attempt that has come to an outcome.
    pub(super) async fn recorded(&self, key: &Key, token: u64, outcome: &Outcome) -> AttemptId {
        let id = self.started(key, token).await;
        sure(self.ledger.record(&id, outcome).await);
        id
    }

    /// An attempt of a process of this machine that has started.
    pub(super) async fn started_by(&self, sender: &TestPlatform, key: &Key) -> AttemptId {
        let mut request = self.request(5);
        request.process = sender.platform().processes.current();
        sure(self.ledger.reserve(key, &request).await);
        let start = self.start(&request.attempt, 5).await;
        assert!(matches!(start, Start::Yes(_)), "{start:?}");
        request.attempt
    }

    /// An operator's word about whatever attempt is open.
    pub(super) async fn resolve(
        &self,
        key: &Key,
        resolution: Resolution,
    ) -> Result<AttemptInfo, LedgerError> {
        self.ledger.resolve(key, &finding(None, resolution)).await
    }

    /// An operator's word about one attempt.
    pub(super) async fn resolve_one(
        &self,
        key: &Key,
        attempt: AttemptId,
        resolution: Resolution,
    ) -> Result<AttemptInfo, LedgerError> {
        self.ledger.resolve(key, &finding(Some(attempt), resolution)).await
    }

    pub(super) async fn info(&self, id: &AttemptId) -> AttemptInfo {
        let found = sure(self.ledger.attempt(id).await);
        found.unwrap_or_else(|| panic!("{id} is in the ledger"))
    }

    pub(super) async fn state(&self, id: &AttemptId) -> State {
        self.info(id).await.state
    }

    pub(super) async fn events(&self, key: &Key) -> Vec<Event> {
        sure(self.ledger.history(key).await).into_iter().map(|entry| entry.event).collect()
    }
}

pub(super) fn key(posting: &str) -> Key {
    match Key::new("upwork", posting) {
        Ok(key) => key,
        Err(refused) => panic!("{refused}"),
    }
}

pub(super) fn note() -> OperatorNote {
    OperatorNote { actor: "ann".to_owned(), because: "looked at the marketplace".to_owned() }
}

/// How long a bid may take to show, in these rules.
pub(super) const LAG: Duration = Duration::from_mins(10);

/// What an operator asks for.
pub(super) fn finding(attempt: Option<AttemptId>, resolution: Resolution) -> ResolveRequest {
    ResolveRequest { attempt, resolution, note: note(), visibility_lag: LAG }
}

/// An operator's finding that nothing was sent.
pub(super) const fn nothing_sent(sender_is_gone: bool) -> Resolution {
    Resolution::NotSent { sender_is_gone }
}

/// An operator's finding of the bid.
pub(super) fn found() -> Resolution {
    Resolution::Placed { reference: Some("r-9".to_owned()) }
}

pub(super) fn placed() -> Outcome {
    Outcome::Placed { reference: Some("r-1".to_owned()) }
}

pub(super) fn refused() -> Outcome {
    Outcome::Refused { reason: Some("closed".to_owned()) }
}

pub(super) fn not_sent() -> Outcome {
    Outcome::NotSent { reason: Some("no route".to_owned()) }
}

pub(super) fn unknown() -> Outcome {
    Outcome::Unknown { reason: Some("no answer".to_owned()) }
}

pub(super) fn given_up() -> Outcome {
    Outcome::GivenUp { reason: Some("dropped".to_owned()) }
}

/// The answer of a store that has to give one.
#[track_caller]
pub(super) fn sure<T>(answer: Result<T, LedgerError>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(error) => panic!("the store answers: {error}"),
    }
}

/// That the state machine has no such step.
#[track_caller]
pub(super) fn not_allowed<T: Debug>(answer: Result<T, LedgerError>) -> Option<WallTime> {
    match answer {
        Err(LedgerError::NotAllowed { until, .. }) => until,
        other => panic!("not allowed, but {other:?}"),
    }
}

/// What stands against it.
#[track_caller]
pub(super) fn obstacle<T: Debug>(answer: Result<T, LedgerError>) -> Obstacle {
    match answer {
        Err(LedgerError::NotAllowed { why, .. }) => why,
        other => panic!("not allowed, but {other:?}"),
    }
}
