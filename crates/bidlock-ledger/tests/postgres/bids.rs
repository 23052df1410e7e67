//! What bidders do, for tests of what happens to them.

use std::time::Duration;

use bidlock_core::{Clock as _, FencingToken, Key, ProcessMark};
use bidlock_ledger::{
    AttemptId, AttemptInfo, Fingerprint, LedgerError, Outcome, PostgresStore, Recorded,
    Reservation, ReserveRequest, Start, StartRequest, Store as _,
};
use bidlock_testkit::TestPlatform;

pub(crate) fn key(posting: &str) -> Key {
    Key::new("upwork", posting).unwrap()
}

/// A bidder at one store.
#[derive(Clone, Copy)]
pub(crate) struct Bidder<'a> {
    pub(crate) store: &'a PostgresStore,
    pub(crate) machine: &'a TestPlatform,
}

impl Bidder<'_> {
    pub(crate) fn request(&self, token: u64) -> ReserveRequest {
        ReserveRequest {
            attempt: AttemptId::random(self.machine.rng.as_ref()),
            token: FencingToken::new(token),
            holder: format!("host:{token}:a1b2c3d4"),
            process: ProcessMark::new("elsewhere"),
            seen_at: None,
        }
    }

    pub(crate) async fn try_reserve(
        &self,
        key: &Key,
        token: u64,
    ) -> Result<Reservation, LedgerError> {
        let request = self.request(token);
        self.store.reserve(key, &request, self.machine.clock.wall()).await
    }

    pub(crate) async fn reserve(&self, key: &Key, token: u64) -> AttemptId {
        match self.try_reserve(key, token).await.unwrap() {
            Reservation::Reserved(info) => info.id,
            other => panic!("{key} is free, not {other:?}"),
        }
    }

    pub(crate) async fn try_start(&self, id: &AttemptId, token: u64) -> Result<Start, LedgerError> {
        let now = self.machine.clock.wall();
        let request = StartRequest {
            token: FencingToken::new(token),
            send_by: now + Duration::from_mins(1),
            payload: Some(Fingerprint::of(b"offer")),
        };
        self.store.start(id, &request, now).await
    }

    pub(crate) async fn started(&self, key: &Key, token: u64) -> AttemptId {
        let id = self.reserve(key, token).await;
        let start = self.try_start(&id, token).await.unwrap();
        assert!(matches!(start, Start::Yes(_)), "{start:?}");
        id
    }

    pub(crate) async fn try_record(&self, id: &AttemptId) -> Result<Recorded, LedgerError> {
        let placed = Outcome::Placed { reference: Some("r-1".to_owned()) };
        self.store.record(id, &placed, self.machine.clock.wall()).await
    }

    pub(crate) async fn placed(&self, key: &Key, token: u64) -> AttemptId {
        let id = self.started(key, token).await;
        self.try_record(&id).await.unwrap();
        id
    }

    pub(crate) async fn info(&self, id: &AttemptId) -> AttemptInfo {
        self.store.attempt(id, self.machine.clock.wall()).await.unwrap().unwrap()
    }
}
