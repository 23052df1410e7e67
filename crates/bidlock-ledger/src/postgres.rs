//! The ledger in a PostgreSQL database, which several machines share.
//!
//! A thread of its own has the connections, so that a store works from any executor, and what
//! was asked is done also when nobody waits for it any more. What every bid does is one statement
//! that calls a function in the database, and one transaction: on disk before its answer, also
//! where the server was told otherwise. No statement needs a session of its own, so that a pooler
//! may stand in between.

mod admit;
mod archive;
mod config;
mod desk;
mod doctor;
mod fault;
mod hot;
mod lanes;
mod operate;
mod pool;
mod read;
mod record;
mod rights;
mod rows;
mod schema;
mod statements;
mod tls;
mod whole;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bidlock_core::{Clock, Endpoint, Health, Key, Platform, Refusal, WallTime};

use crate::error::{Op, Subject};
use crate::requests::{
    AuditAct, AuditQuery, BidQuery, OperatorNote, Outcome, ResendRequest, ReserveRequest,
    ResolveRequest, SeenSender, StartRequest,
};
use crate::store::Store;
use crate::types::{AttemptInfo, AuditEntry, HistoryEntry, Recorded, Reservation, Start};
use crate::{AttemptId, LedgerError, LedgerId, Result};
pub use config::{BadPostgresUrl, PostgresConfig};
use desk::{Desk, Wanted};
pub use doctor::PostgresDoctor;
use fault::{Done, Fault};
use hot::Expected;
use pool::{Manner, Session};
pub use rights::LedgerRole;
use schema::Opened;
use statements::Statements;

/// The ledger in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    endpoint: Endpoint,
    desk: Desk,
    sqls: Arc<Statements>,
    trusts_failover: bool,
    /// Known once it is open.
    ledger: OnceLock<LedgerId>,
    /// Whether this role may keep how a bid went, as far as was asked.
    records: AtomicBool,
    clock: Arc<dyn Clock>,
}

/// What is done about a ledger that is missing or older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// Nothing: it is not opened.
    Told,
    Made,
}

impl PostgresStore {
    /// Opens the ledger, and makes its schema where it is missing or older and this role may.
    ///
    /// # Errors
    /// [`LedgerError::Unreachable`] when no server answers; [`LedgerError::Refused`] when it lets
    /// this role not in, the schema cannot be made by it, or was made by a newer version.
    ///
    /// # Cancel safety
    /// The schema may be made after the future was dropped, which harms nobody.
    pub async fn connect(config: &PostgresConfig, platform: &Platform) -> Result<Self> {
        let store = Self::start(config, platform)?;
        store.open(platform, Lack::Made).await?;
        Ok(store)
    }

    /// Opens the ledger where there is one of this version; makes and changes nothing.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    pub async fn find(config: &PostgresConfig, platform: &Platform) -> Result<Option<Self>> {
        let store = Self::start(config, platform)?;
        Ok(store.open(platform, Lack::Told).await?.map(|_| store))
    }

    /// Makes the schema, or brings it up to date, as a role that may. Tells the version that was
    /// there; none to the one caller that has made it.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    ///
    /// # Cancel safety
    /// The schema may be made after the future was dropped, which harms nobody.
    pub async fn migrate(config: &PostgresConfig, platform: &Platform) -> Result<Option<u32>> {
        let opened = Self::start(config, platform)?.open(platform, Lack::Made).await?;
        Ok(opened.and_then(|opened| opened.from))
    }

    /// Starts the thread; contacts nothing.
    fn start(config: &PostgresConfig, platform: &Platform) -> Result<Self> {
        let endpoint = config.endpoint();
        let clock = Arc::clone(&platform.clock);
        // A file of TLS that does not fit keeps its kind, by which callers know it.
        let failed =
            |source| Fault::Unreachable(source).about(Op::Open, Subject::Ledger, &endpoint);
        let sqls = Arc::new(Statements::of(&config.schema));
        let desk = Desk::start(config.clone(), Arc::clone(&sqls), Arc::clone(&clock));
        let desk = desk.map_err(failed)?;
        let trusts_failover = config.trusts_failover;
        let (ledger, records) = (OnceLock::new(), AtomicBool::default());
        Ok(Self { endpoint, desk, sqls, trusts_failover, ledger, records, clock })
    }

    async fn open(&self, platform: &Platform, lack: Lack) -> Result<Option<Opened>> {
        let (sqls, rng) = (Arc::clone(&self.sqls), Arc::clone(&platform.rng));
        let now = platform.clock.wall();
        let work = async move |session: &mut Session| {
            if let Some(found) = schema::find(session, &sqls.schema).await?
                && schema::usable(found)?
            {
                return Ok(Some(Opened::as_found(found)));
            }
            if lack == Lack::Told {
                return Ok(None);
            }
            let made = schema::migrate(session, &sqls.schema, &*rng, now).await;
            made.map(Some).map_err(schema::needs_an_owner)
        };
        let manner = Manner { writes: false, within: schema::MIGRATION_MAX };
        let opened = self.desk.call(Wanted::Always, manner, work).await;
        let opened = opened.map_err(self.explain(Op::Open, Subject::Ledger))?;
        let Some(Opened { id, records, .. }) = opened else { return Ok(None) };
        self.desk.keep_to(&self.sqls.schema, id).await;
        self.ledger.get_or_init(|| id);
        self.records.store(records, Ordering::Relaxed);
        Ok(opened)
    }

    /// Refuses to let anything be sent that could not be recorded. Whoever was opened as a role
    /// that may record pays nothing for it, until a record is refused; any other asks again, since
    /// rights are granted and taken away.
    async fn may_record(&self) -> std::result::Result<(), Fault> {
        if self.records.load(Ordering::Relaxed) {
            return Ok(());
        }
        let sqls = Arc::clone(&self.sqls);
        let work = async move |session: &mut Session| schema::find(session, &sqls.schema).await;
        // What has gone is told of by the call itself.
        let Some(found) = self.read(work).await? else { return Ok(()) };
        if found.records {
            self.records.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let why = "this role may not record how a bid went, so that none is begun: see `bidlock \
                   doctor --acl`";
        Err(Fault::Refused(Refusal::Permission(why.to_owned())))
    }

    fn expected(&self) -> Expected {
        let ledger = self.ledger.get().map(ToString::to_string);
        Expected { ledger, trusts_failover: self.trusts_failover }
    }

    fn explain(&self, op: Op, subject: Subject) -> impl FnOnce(Fault) -> LedgerError + '_ {
        move |fault| fault.about(op, subject, &self.endpoint)
    }

    /// Has something changed, also when nobody waits for it any more.
    async fn write<T: Send + 'static>(
        &self,
        work: impl AsyncFn(&mut Session) -> Done<T> + Send + 'static,
    ) -> std::result::Result<T, Fault> {
        self.desk.call(Wanted::Always, Manner::WRITE, work).await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl AsyncFn(&mut Session) -> Done<T> + Send + 'static,
    ) -> std::result::Result<T, Fault> {
        self.desk.call(Wanted::WhileAwaited, Manner::READ, work).await
    }
}

fn about(key: &Key) -> Subject {
    Subject::Posting(key.clone())
}

#[async_trait]
impl Store for PostgresStore {
    async fn open_attempt(&self, key: &Key, now: WallTime) -> Result<Option<AttemptInfo>> {
        let (sqls, asked) = (Arc::clone(&self.sqls), key.clone());
        let work = async move |session: &mut Session| {
            Ok(read::open_attempt(session, &sqls, &asked).await?.map(|it| it.read_at(now)))
        };
        self.read(work).await.map_err(self.explain(Op::Read, about(key)))
    }

    async fn reserve(
        &self,
        key: &Key,
        request: &ReserveRequest,
        now: WallTime,
    ) -> Result<Reservation> {
        self.may_record().await.map_err(self.explain(Op::Reserve, about(key)))?;
        let ask = hot::reserve(&self.sqls, key, request, now, self.expected());
        let request = request.clone();
        let read = move |answer: Done<_>| hot::reserved(answer, &request, now);
        let done = self.desk.ask(Wanted::WhileAwaited, ask, read).await;
        done.map_err(self.explain(Op::Reserve, about(key)))
    }

    async fn start(&self, id: &AttemptId, request: &StartRequest, now: WallTime) -> Result<Start> {
        let ask = hot::start(&self.sqls, id, request, now, self.expected());
        let read = move |answer: Done<_>| hot::started(answer, now);
        let done = self.desk.ask(Wanted::WhileAwaited, ask, read).await;
        done.map_err(self.explain(Op::Start, Subject::Attempt(*id)))
    }

    async fn resend(
        &self,
        id: &AttemptId,
        request: &ResendRequest,
        now: WallTime,
    ) -> Result<Start> {
        self.may_record().await.map_err(self.explain(Op::Resend, Subject::Attempt(*id)))?;
        let ask = hot::resend(&self.sqls, id, request, now, self.expected());
        let read = move |answer: Done<_>| hot::started(answer, now);
        let done = self.desk.ask(Wanted::WhileAwaited, ask, read).await;
        done.map_err(self.explain(Op::Resend, Subject::Attempt(*id)))
    }

    async fn record(&self, id: &AttemptId, outcome: &Outcome, now: WallTime) -> Result<Recorded> {
        let ask = hot::record(&self.sqls, id, outcome, now);
        let named = *id;
        let read = move |answer: Done<_>| hot::recorded(answer, named, now);
        let done = self.desk.ask(Wanted::Always, ask, read).await;
        if matches!(&done, Err(Fault::Refused(Refusal::Permission(_)))) {
            self.records.store(false, Ordering::Relaxed);
        }
        done.map_err(self.explain(Op::Record, Subject::Attempt(*id)))
    }

    async fn resolve(
        &self,
        key: &Key,
        request: &ResolveRequest,
        seen: Option<SeenSender>,
        now: WallTime,
    ) -> Result<AttemptInfo> {
        let (sqls, asked, request) = (Arc::clone(&self.sqls), key.clone(), request.clone());
        let work = async move |session: &mut Session| {
            operate::resolve(session, &sqls, &asked, &request, seen, now).await
        };
        self.write(work).await.map_err(self.explain(Op::Resolve, about(key)))
    }

    async fn withdraw(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let (sqls, asked, note) = (Arc::clone(&self.sqls), key.clone(), note.clone());
        let work = async move |session: &mut Session| {
            operate::withdraw(session, &sqls, &asked, &note, now).await
        };
        self.write(work).await.map_err(self.explain(Op::Withdraw, about(key)))
    }

    async fn reopen(&self, key: &Key, note: &OperatorNote, now: WallTime) -> Result<AttemptInfo> {
        let (sqls, asked, note) = (Arc::clone(&self.sqls), key.clone(), note.clone());
        let work = async move |session: &mut Session| {
            operate::reopen(session, &sqls, &asked, &note, now).await
        };
        self.write(work).await.map_err(self.explain(Op::Reopen, about(key)))
    }

    async fn attempt(&self, id: &AttemptId, now: WallTime) -> Result<Option<AttemptInfo>> {
        let (sqls, id) = (Arc::clone(&self.sqls), *id);
        let work = async move |session: &mut Session| {
            Ok(read::by_id(session, &sqls, &id).await?.map(|it| it.read_at(now)))
        };
        self.read(work).await.map_err(self.explain(Op::Read, Subject::Attempt(id)))
    }

    async fn history(&self, key: &Key) -> Result<Vec<HistoryEntry>> {
        let (sqls, asked) = (Arc::clone(&self.sqls), key.clone());
        let work = async move |session: &mut Session| read::history(session, &sqls, &asked).await;
        self.read(work).await.map_err(self.explain(Op::Read, about(key)))
    }

    async fn bids(&self, query: &BidQuery, now: WallTime) -> Result<Vec<AttemptInfo>> {
        let (sqls, query) = (Arc::clone(&self.sqls), query.clone());
        let work = async move |session: &mut Session| read::bids(session, &sqls, &query, now).await;
        self.read(work).await.map_err(self.explain(Op::Read, Subject::Ledger))
    }

    async fn audit_append(&self, act: &AuditAct, now: WallTime) -> Result<()> {
        let subject = act.key.as_ref().map_or(Subject::Ledger, about);
        let (sqls, act) = (Arc::clone(&self.sqls), act.clone());
        let work = async move |session: &mut Session| {
            operate::audit_append(session, &sqls, &act, now).await
        };
        self.write(work).await.map_err(self.explain(Op::Audit, subject))
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Vec<AuditEntry>> {
        let (sqls, query) = (Arc::clone(&self.sqls), query.clone());
        let work = async move |session: &mut Session| read::audit(session, &sqls, &query).await;
        self.read(work).await.map_err(self.explain(Op::Audit, Subject::Ledger))
    }

    async fn ping(&self) -> Result<Health> {
        let asked = self.clock.now();
        let work = async |session: &mut Session| read::server(session).await;
        let said = self.read(work).await.map_err(self.explain(Op::Ping, Subject::Ledger))?;
        let (version, standby) = said;
        Ok(Health {
            server: "postgresql".to_owned(),
            version,
            role: if standby { "standby" } else { "primary" }.to_owned(),
            latency: self.clock.now().since(asked),
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}
