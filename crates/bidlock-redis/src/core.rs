//! What the handles of one store share: the connection, the server's time, who waits, who listens.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bidlock_core::{
    BackendError, Clock, Endpoint, FencingToken, Key, LeaseId, Listener, Moment, News, Op,
    Ownership, Prefix, Refusal, Rng, Spawn, Wake,
};

use crate::driver::{Hears, Reading, Server};
use crate::failure::{self, About};
use crate::names::Names;
use crate::news::{Kind, Message};
use crate::places::Places;
use crate::resp::Value;
use crate::scripts::{Script, Scripts};
use crate::server_time::ServerTime;
use crate::wire::{Reply, Wire};

/// How much longer than a request may take its answer is waited for: that it came too late says
/// more than silence.
const GRACE: Duration = Duration::from_millis(15);
/// How long a call may take that has no bound of its own.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) wire: Arc<Wire>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) endpoint: Endpoint,
    pub(crate) prefix: Prefix,
    /// What tells this client's channel from others.
    pub(crate) client: String,
    /// What the channels of clients begin with.
    pub(crate) channels: String,
    pub(crate) scripts: Scripts,
    pub(crate) places: Places,
    pub(crate) server: Mutex<Option<Server>>,
    time: Mutex<ServerTime>,
    listeners: Mutex<Vec<Weak<dyn Listener>>>,
    myself: Weak<Self>,
}

impl Drop for Core {
    fn drop(&mut self) {
        self.wire.close();
    }
}

/// What a core is made of.
pub(crate) struct Parts<'a> {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) spawn: Arc<dyn Spawn>,
    pub(crate) rng: &'a dyn Rng,
    pub(crate) endpoint: Endpoint,
    pub(crate) prefix: Prefix,
    pub(crate) scripts: Scripts,
}

impl Core {
    pub(crate) fn new(parts: Parts<'_>) -> Arc<Self> {
        // 48 bits: two clients that shared a channel would hear of each other's leases.
        let client = format!("{:012x}", parts.rng.next_u64() >> 16);
        Arc::new_cyclic(|myself| Self {
            wire: Wire::new(Arc::clone(&parts.clock)),
            clock: parts.clock,
            spawn: parts.spawn,
            endpoint: parts.endpoint,
            channels: crate::names::channels(&parts.prefix),
            prefix: parts.prefix,
            client,
            scripts: parts.scripts,
            places: Places::default(),
            server: Mutex::default(),
            time: Mutex::default(),
            listeners: Mutex::default(),
            myself: Weak::clone(myself),
        })
    }

    pub(crate) fn about<'a>(&'a self, op: Op, key: Option<&'a Key>) -> About<'a> {
        About { op, key, endpoint: &self.endpoint }
    }

    /// A moment by which a call without a bound of its own is answered.
    pub(crate) fn soon(&self) -> Moment {
        self.clock.now() + CALL_MAX
    }

    /// Sends one command.
    pub(crate) async fn command(
        &self,
        about: About<'_>,
        deadline: Moment,
        args: &[&[u8]],
    ) -> Result<Reply, BackendError> {
        let reply = self.wire.call(deadline, args).await.map_err(|failed| about.failed(failed))?;
        accepted(about, reply)
    }

    /// Runs a script, and teaches it to a server that does not know it.
    pub(crate) async fn run(
        &self,
        about: About<'_>,
        deadline: Moment,
        script: &Script,
        names: &Names,
        order: &[usize],
        argv: &[&[u8]],
    ) -> Result<Reply, BackendError> {
        let deadline = deadline + GRACE;
        let count = [b'0' + u8::try_from(order.len()).unwrap_or_default()];
        let mut words: Vec<&[u8]> = Vec::with_capacity(3 + order.len() + argv.len());
        words.extend([b"EVALSHA".as_slice(), script.sha.as_bytes(), &count]);
        words.extend(order.iter().map(|n| names.get(*n)));
        words.extend_from_slice(argv);
        let reply =
            self.wire.call(deadline, &words).await.map_err(|failed| about.failed(failed))?;
        let reply = match &reply.value {
            Value::Error(text) if failure::is_no_script(text) => {
                (words[0], words[1]) = (b"EVAL", script.text.as_bytes());
                self.wire.call(deadline, &words).await.map_err(|failed| about.failed(failed))?
            }
            _ => reply,
        };
        accepted(about, reply)
    }

    /// The server's reading of its clock after which a request shall do nothing (I9).
    pub(crate) fn server_deadline(&self, deadline: Moment) -> i64 {
        // Without any reading there is no connection either: the first one brings a reading.
        lock(&self.time).deadline(deadline).unwrap_or(0)
    }

    /// Learns from the time in a reply.
    pub(crate) fn learn(&self, reply: &Reply, server: i64) {
        self.learn_reading((reply.sent, reply.received, server));
    }

    fn learn_reading(&self, (sent, received, server): Reading) {
        if let Some(step) = lock(&self.time).learn(sent, received, server) {
            let step_ms = step / 1_000;
            tracing::warn!(endpoint = %self.endpoint, step_ms, "the server's clock was stepped");
        }
    }

    pub(crate) fn subscribe(&self, listener: Weak<dyn Listener>) {
        let mut listeners = lock(&self.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(listener);
    }

    /// Offers news to everybody here; returns whether the lease is nobody's, though somebody was
    /// there to ask.
    fn announce(&self, wake: &Wake) -> bool {
        let listeners: Vec<_> = lock(&self.listeners).iter().filter_map(Weak::upgrade).collect();
        !listeners.is_empty() && !listeners.iter().any(|listener| listener.woken(wake))
    }

    /// Sends leases to look.
    pub(crate) fn look(&self, key: &Key, leases: Vec<LeaseId>) {
        for lease in leases {
            self.announce(&Wake { key: key.clone(), lease, news: News::Look });
        }
    }

    /// Tells the connection whether anybody waits for messages.
    pub(crate) fn listens(&self) {
        loop {
            let idle = self.places.is_empty();
            self.wire.listen(!idle);
            // Somebody may have come, or gone, in between, and have been faster.
            if self.places.is_empty() == idle {
                return;
            }
        }
    }

    /// Takes in that a lease waits no more: it has the key by that token, or nothing.
    pub(crate) fn settle(&self, key: &Key, lease: &LeaseId, has: Option<FencingToken>) {
        self.look(key, self.places.settled(key, lease, has));
    }

    /// Gives up the key, or the place, that a lease has.
    pub(crate) async fn release(
        &self,
        key: &Key,
        lease: &LeaseId,
    ) -> Result<Ownership, BackendError> {
        let released = self.release_on_server(key, lease).await;
        match released {
            Ok(Ownership::NotOurs) => self.settle(key, lease, None),
            _ => self.places.leave(key, lease),
        }
        self.listens();
        released
    }

    async fn release_on_server(
        &self,
        key: &Key,
        lease: &LeaseId,
    ) -> Result<Ownership, BackendError> {
        let about = self.about(Op::Release, Some(key));
        let (names, lease) = (Names::of(key), marked(lease));
        let argv = [lease.as_bytes()];
        let script = &self.scripts.release;
        let reply = self.run(about, self.soon(), script, &names, &[0, 1, 2, 3], &argv).await?;
        match reply.value {
            Value::Int(1) => Ok(Ownership::Ours),
            Value::Int(0) => Ok(Ownership::NotOurs),
            value => Err(about.odd(&value)),
        }
    }

    fn granted(&self, wake: Wake, token: FencingToken) {
        self.places.pushed(&wake.key, &wake.lease, token);
        if !self.announce(&wake) {
            return;
        }
        // Nobody here waits for it any more: the next one shall not have to wait out the window.
        let Some(core) = self.myself.upgrade() else { return };
        self.spawn.spawn(Box::pin(async move {
            if let Err(error) = core.release(&wake.key, &wake.lease).await {
                tracing::debug!(key = %wake.key, %error, "a grant for nobody ends by itself");
            }
        }));
    }
}

impl Hears for Core {
    fn connected(&self, server: Server, time: Reading) {
        *lock(&self.server) = Some(server);
        // It may be another server, with another clock.
        *lock(&self.time) = ServerTime::default();
        self.learn_reading(time);
    }

    fn ready(&self) {
        for (key, lease) in self.places.doubt_all() {
            self.look(&key, vec![lease]);
        }
    }

    /// Who waits learns why nothing comes, and says so when the wait is over.
    fn away(&self) {
        self.ready();
    }

    fn message(&self, text: &str, received: Moment) {
        let Some(Message { key, lease, kind }) = Message::read(text) else { return };
        match kind {
            Kind::Look => drop(self.announce(&Wake { key, lease, news: News::Look })),
            Kind::Ends { left } => {
                let end = received + left;
                self.places.ends(&key, end);
                self.announce(&Wake { key, lease, news: News::EndsAt(end) });
            }
            Kind::Granted { token, at, window } => {
                let until = lock(&self.time).believed_until(at, window);
                let news = match until.filter(|until| *until > received) {
                    // However the clocks stand, no message is read before its grant was made.
                    Some(until) => News::Granted { token, until: until.min(received + window) },
                    // Nothing to believe it by: the store is asked first.
                    None => News::Look,
                };
                self.granted(Wake { key, lease, news }, token);
            }
        }
    }
}

/// An answer that is no error.
fn accepted(about: About<'_>, reply: Reply) -> Result<Reply, BackendError> {
    match reply.value {
        Value::Error(text) => Err(about.refused(failure::refusal(&text))),
        value => Ok(Reply { value, ..reply }),
    }
}

/// What the value of a lease's lock begins with.
pub(crate) fn marked(lease: &LeaseId) -> String {
    lease.expose() + "#b1;"
}

/// Why a script will not go past a bound.
pub(crate) fn limit(what: &str) -> Refusal {
    Refusal::Limit(match what {
        "waiters" => "10000 waiters queue for the key already".to_owned(),
        _ => "no fencing token is left below 2^52: mend the server's clock".to_owned(),
    })
}

/// Nothing panics half-way through a change, so what is locked is whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
