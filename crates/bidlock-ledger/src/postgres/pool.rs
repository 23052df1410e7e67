//! The connections of one store, on the thread that has them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bidlock_core::{Clock, Moment, Refusal};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::{CancelToken, Client, IsolationLevel};

use super::config::{Place, PostgresConfig};
use super::fault::{Done, Fail, Fault, Remedy};
use super::lanes::Lanes;
use super::schema::Known;
use super::statements::Statements;
use super::tls::Tls;

/// How long a statement may take: a way that swallows bytes without a word costs so long, and a
/// fleet has to bid again within 10 s after it is mended. Locks of others are waited for a little
/// shorter, so that the server's own answer comes first.
pub(super) const STATEMENT_MAX: Duration = Duration::from_secs(5);
/// How long a call waits for a connection that others use.
const QUEUE_MAX: Duration = Duration::from_secs(5);
/// How long the request to cancel may take; nobody waits for it.
const CANCEL_MAX: Duration = Duration::from_secs(5);
/// How often what others have made fail is done again.
const AGAIN_MAX: u32 = 5;

/// One call's way to the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// Whether it may change anything.
    pub(super) writes: bool,
    /// How long it may take.
    pub(super) within: Duration,
}

impl Manner {
    pub(super) const READ: Self = Self { writes: false, within: STATEMENT_MAX };
    pub(super) const WRITE: Self = Self { writes: true, within: STATEMENT_MAX };
    /// Looks through much of the ledger, for an operator.
    pub(super) const WHOLE: Self = Self { writes: false, within: Duration::from_mins(10) };
}

/// How a connection was made: of it and of nothing behind it, where a pooler stands in between.
#[derive(Debug, Clone)]
pub(super) struct Way {
    /// As the settings name it.
    pub(super) host: String,
    /// The version of TLS that is spoken; none where none is.
    pub(super) tls: Option<String>,
}

/// A connection that is kept.
struct Line {
    client: Client,
    way: Way,
}

/// A connection while a call has it.
pub(super) struct Session {
    line: Line,
    /// Whether a transaction has to say its isolation.
    isolate: bool,
}

impl Session {
    /// The connection, for statements that are a transaction each.
    pub(super) const fn client(&self) -> &Client {
        &self.line.client
    }

    pub(super) const fn way(&self) -> &Way {
        &self.line.way
    }

    /// Begins a transaction of several statements, of which each sees what others have committed.
    pub(super) async fn begin(&mut self) -> Done<tokio_postgres::Transaction<'_>> {
        let begin = self.line.client.build_transaction();
        Ok(begin.isolation_level(IsolationLevel::ReadCommitted).start().await?)
    }

    /// Begins a transaction that sees one instant, and changes nothing.
    pub(super) async fn begin_snapshot(&mut self) -> Done<tokio_postgres::Transaction<'_>> {
        let begin = self.line.client.build_transaction().read_only(true);
        Ok(begin.isolation_level(IsolationLevel::RepeatableRead).start().await?)
    }

    /// Whether a statement by itself would run at another isolation than it needs.
    pub(super) const fn must_isolate(&self) -> bool {
        self.isolate
    }
}

pub(super) struct Pool {
    config: PostgresConfig,
    tls: Tls,
    clock: Arc<dyn Clock>,
    idle: RefCell<Vec<Line>>,
    room: Semaphore,
    isolate: RefCell<bool>,
    /// What every new connection has to lead to, once that is known.
    ledger: RefCell<Option<Rc<Known>>>,
    lanes: Lanes,
    sqls: Arc<Statements>,
}

impl Pool {
    pub(super) fn new(
        config: PostgresConfig,
        sqls: Arc<Statements>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let tls = Tls::new(&config.tls)?;
        let room = Semaphore::new(config.pool);
        let (idle, isolate, ledger) = (RefCell::default(), RefCell::default(), RefCell::default());
        Ok(Self { config, tls, clock, idle, room, isolate, ledger, lanes: Lanes::default(), sqls })
    }

    /// From now on, new connections have to lead to this ledger.
    pub(super) fn keep_to(&self, ledger: Known) {
        *self.ledger.borrow_mut() = Some(Rc::new(ledger));
    }

    /// Does one call's work on a connection; again where that is harmless and may help.
    pub(super) async fn run<T>(
        &self,
        manner: Manner,
        work: &impl AsyncFn(&mut Session) -> Done<T>,
        is_wanted: impl Fn() -> bool,
    ) -> Result<T, Fault> {
        let permit = self.room().await?;
        if !is_wanted() {
            return Err(Fault::lost("its caller has gone", false));
        }
        let mut again = 0;
        let mut redials = u32::from(!manner.writes);
        let done = loop {
            let mut session = self.session().await?;
            let isolated = session.isolate;
            let (fail, healthy) = match self.once(manner, work, &mut session).await {
                Ok(Ok(done)) => {
                    self.idle.borrow_mut().push(session.line);
                    break Ok(done);
                }
                Ok(Err(fail)) => {
                    let healthy = fail.remedy() != Remedy::Redial;
                    (fail, healthy)
                }
                Err(late) => break Err(late),
            };
            let remedy = fail.remedy();
            if healthy {
                self.keep(session);
            }
            match remedy {
                Remedy::Again if again < AGAIN_MAX => again += 1,
                // Another call may have found it out meanwhile; this one did not say it yet.
                Remedy::Isolate if !isolated => *self.isolate.borrow_mut() = true,
                Remedy::Redial if redials > 0 => redials -= 1,
                _ => break Err(fail.sent(manner.writes)),
            }
        };
        drop(permit);
        done
    }

    /// Waits for leave to use a connection.
    pub(super) async fn room(&self) -> Result<SemaphorePermit<'_>, Fault> {
        if let Ok(permit) = self.room.try_acquire() {
            return Ok(permit);
        }
        let until = self.clock.now() + QUEUE_MAX;
        if let Some(Ok(permit)) = self.before(until, self.room.acquire()).await {
            return Ok(permit);
        }
        let why = format!("all {} connections are in use", self.config.pool);
        Err(Fault::Refused(Refusal::NotReady(why)))
    }

    /// Keeps a connection that is well for the next call.
    pub(super) fn keep(&self, session: Session) {
        if !session.line.client.is_closed() {
            self.idle.borrow_mut().push(session.line);
        }
    }

    pub(super) const fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    pub(super) fn statements(&self) -> &Statements {
        &self.sqls
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Does the work once, and not longer than it may take.
    async fn once<T>(
        &self,
        manner: Manner,
        work: &impl AsyncFn(&mut Session) -> Done<T>,
        session: &mut Session,
    ) -> Result<Done<T>, Fault> {
        let cancel = session.client().cancel_token();
        let until = self.clock.now() + manner.within;
        if let Some(done) = self.before(until, work(session)).await {
            return Ok(done);
        }
        self.cancel(cancel);
        let why = format!("no answer within {:?}; the statement was cancelled", manner.within);
        Err(Fault::lost(why, manner.writes))
    }

    /// Asks the server to end a statement, beside everything else.
    pub(super) fn cancel(&self, token: CancelToken) {
        let (tls, clock) = (self.tls.clone(), Arc::clone(&self.clock));
        let end = clock.now() + CANCEL_MAX;
        drop(tokio::task::spawn_local(async move {
            tokio::select! {
                asked = token.cancel_query(tls) => {
                    if let Err(error) = asked {
                        tracing::debug!(%error, "a statement could not be cancelled");
                    }
                }
                () = clock.sleep_until(end) => {}
            }
        }));
    }

    /// A connection that is open, as far as can be seen from here.
    pub(super) async fn session(&self) -> Result<Session, Fault> {
        let isolate = *self.isolate.borrow();
        loop {
            let Some(line) = self.idle.borrow_mut().pop() else { break };
            if !line.client.is_closed() {
                return Ok(Session { line, isolate });
            }
        }
        let session = Session { line: self.dial().await?, isolate };
        let ledger = self.ledger.borrow().clone();
        if let Some(ledger) = ledger {
            let until = self.clock.now() + STATEMENT_MAX;
            let looked = self.before(until, ledger.check(&session)).await;
            // Nothing of the call itself was sent yet.
            looked
                .unwrap_or_else(|| Err(Fail::Refused(Refusal::NotReady(SILENT.to_owned()))))
                .map_err(|fail| fail.sent(false))?;
        }
        Ok(session)
    }

    /// Opens a connection to the first place that has what is needed.
    async fn dial(&self) -> Result<Line, Fault> {
        let several = self.config.places.len() > 1;
        let mut failed = None;
        for place in &self.config.places {
            match self.dial_one(place, several).await {
                Ok(line) => return Ok(line),
                Err(fault) => {
                    // What is wrong with the account is wrong everywhere.
                    if matches!(&fault, Fault::Refused(Refusal::Permission(_))) {
                        return Err(fault);
                    }
                    failed.get_or_insert(fault);
                }
            }
        }
        Err(failed.unwrap_or_else(|| Fault::lost("no host is named", false)))
    }

    async fn dial_one(&self, place: &Place, for_writing: bool) -> Result<Line, Fault> {
        let mut driver = self.config.driver(place);
        if for_writing {
            driver.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
        }
        let until = self.clock.now() + self.config.connect_timeout;
        let tls = self.tls.of_one();
        let dialled = self.before(until, driver.connect(tls.clone())).await;
        let (client, connection) = match dialled {
            Some(Ok(connected)) => connected,
            Some(Err(error)) => return Err(Fault::dialling(&error)),
            None => {
                let within = self.config.connect_timeout;
                let why = format!("no connection to {} within {within:?}", place.host);
                return Err(Fault::lost(why, false));
            }
        };
        drop(tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        }));
        Ok(Line { client, way: Way { host: place.host.clone(), tls: tls.spoken() } })
    }

    /// What a future gives before a moment; none when it does not.
    pub(super) async fn before<T>(
        &self,
        until: Moment,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.clock.sleep_until(until) => None,
        }
    }
}

const SILENT: &str = "the server accepts connections, but does not answer";
