//! What the tests share: a server with a proxy before it, lockers, and looks past both.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bidlock::{Error, Lease, Locker};
use bidlock_core::{
    AcquireRequest, Attempt, Backend as _, BackendError, Key, LeaseId, Ownership, Platform, Prefix,
    Refusal, RenewRequest, Ttl,
};
use bidlock_redis::{Config, Redis};
use bidlock_testkit::servers::{Proxy, Server, ServerKind, ServerOptions, Step};
use bidlock_testkit::wait_until;

/// No step of any test takes longer, unless something hangs.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

pub(crate) fn ttl(number: u64) -> Ttl {
    Ttl::new(millis(number)).expect("a sound TTL")
}

pub(crate) fn key(name: &str) -> Key {
    Key::new("upwork", name).expect("a sound key")
}

#[expect(clippy::disallowed_methods, reason = "real servers run in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "real servers run in real time")]
pub(crate) async fn pause(length: Duration) {
    tokio::time::sleep(length).await;
}

/// Ends a wait that must not hang.
pub(crate) async fn within<T>(what: &str, most: Duration, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(most, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not done within {most:?}"))
}

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime starts").block_on(future)
}

/// Plays a scene on every kind of server, side by side.
pub(crate) fn on_every_kind<F: Future<Output = ()>>(play: impl Fn(ServerKind) -> F + Sync) {
    side_by_side(&ServerKind::ALL, |kind| run(play(*kind)));
}

/// Runs one test for each case at the same time; all run to their ends.
pub(crate) fn side_by_side<T: std::fmt::Debug + Sync>(cases: &[T], test: impl Fn(&T) + Sync) {
    let test = &test;
    let failed: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> =
            cases.iter().map(|case| (case, scope.spawn(move || test(case)))).collect();
        running.into_iter().filter_map(|(case, run)| run.join().err().map(|_| case)).collect()
    });
    assert!(failed.is_empty(), "failed on {failed:?}");
}

/// A server, and a proxy that clients come by.
pub(crate) struct Scene {
    // Dropped in this order.
    pub(crate) proxy: Arc<Proxy>,
    pub(crate) server: Arc<Server>,
}

impl Scene {
    pub(crate) fn new(kind: ServerKind) -> Self {
        Self::with(kind, ServerOptions::new())
    }

    pub(crate) fn with(kind: ServerKind, options: ServerOptions) -> Self {
        // Neither is part of what 6.2 knows of DEBUG.
        let options = match kind {
            ServerKind::Redis62 => options,
            _ => options.args(["--enable-debug-command", "yes"]),
        };
        let server = Arc::new(Server::start_with(kind, options));
        Self { proxy: Arc::new(Proxy::to(server.address())), server }
    }

    /// The way by the proxy.
    pub(crate) fn url(&self) -> String {
        let (own, proxied) = (self.server.port(), self.proxy.port());
        self.server.url().replace(&format!(":{own}/"), &format!(":{proxied}/"))
    }

    /// A process that comes by the proxy.
    pub(crate) async fn locker(&self) -> Locker {
        Locker::connect(&self.url()).await.expect("the server answers")
    }

    /// A process that no fault of the proxy touches.
    pub(crate) async fn direct(&self) -> Locker {
        Locker::connect(&self.server.url()).await.expect("the server answers")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.url()).await.expect("the server answers")
    }

    /// Does something right before the next request about a key is passed on, once; tells
    /// whether that has happened.
    pub(crate) fn before_next(
        &self,
        key: &Key,
        action: impl FnOnce(&Step) + Send + 'static,
    ) -> Fired {
        let fired = Fired(Arc::new(AtomicBool::new(false)));
        let (mut action, done) = (Some(action), Fired(Arc::clone(&fired.0)));
        self.proxy.on_request(key.as_str().as_bytes(), move |step| {
            if let Some(action) = action.take() {
                action(step);
                done.0.store(true, Ordering::SeqCst);
            }
        });
        fired
    }

    /// Swallows the answer to the next request about a key, and closes the connection. No other
    /// connection may have a request under way: its answer could be the one that is lost.
    pub(crate) fn lose_next_answer(&self, key: &Key) -> Fired {
        let proxy = Arc::downgrade(&self.proxy);
        self.before_next(key, move |_| {
            proxy.upgrade().expect("the scene is not over").lose_next_reply();
        })
    }

    pub(crate) fn number(&self, words: &[&str]) -> i64 {
        let text = self.server.text(words);
        text.parse().unwrap_or_else(|_| panic!("{words:?}: {text}"))
    }

    pub(crate) fn exists(&self, key: &Key) -> bool {
        self.number(&["EXISTS", key.as_str()]) == 1
    }

    pub(crate) fn pttl(&self, key: &Key) -> i64 {
        self.number(&["PTTL", key.as_str()])
    }

    /// How many waiters the server knows.
    pub(crate) fn queue(&self, key: &Key) -> i64 {
        self.number(&["ZCARD", &queue(key)])
    }

    pub(crate) fn await_queue(&self, key: &Key, length: i64) {
        wait_until("all are queued", SOON, || self.queue(key) == length);
    }

    /// Waits until so many processes can be reached by messages.
    pub(crate) fn await_listeners(&self, number: usize) {
        wait_until("all listen", SOON, || {
            self.server.text(&["PUBSUB", "CHANNELS", "*"]).lines().count() == number
        });
    }

    /// The last token that was given, and the one under a key.
    pub(crate) fn counter(&self) -> u64 {
        self.server.text(&["GET", "bid_lock:#tokens"]).parse().expect("a number")
    }

    pub(crate) fn token(&self, key: &Key) -> Option<u64> {
        let value = self.server.text(&["GET", key.as_str()]);
        value.split_once("#b1;")?.1.split(';').next()?.parse().ok()
    }

    /// Nothing is left but the counter.
    pub(crate) fn await_nothing_left(&self) {
        let mut left = String::new();
        wait_until("nothing is left but the counter", SOON, || {
            left = self.server.text(&["KEYS", "*"]);
            left.is_empty() || left == "bid_lock:#tokens"
        });
    }
}

pub(crate) fn queue(key: &Key) -> String {
    format!("{{{}}}:waiters", key.as_str())
}

/// Whether an action has been done.
#[derive(Debug, Clone)]
pub(crate) struct Fired(Arc<AtomicBool>);

impl Fired {
    pub(crate) fn yet(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn wait(&self) {
        wait_until("the fault strikes", SOON, || self.yet());
    }
}

/// The store itself, as one process has it.
pub(crate) struct Client {
    pub(crate) store: Arc<Redis>,
    pub(crate) platform: Platform,
}

impl Client {
    pub(crate) async fn connect(url: &str) -> Result<Self, BackendError> {
        let platform = bidlock::platform::system().expect("the platform starts");
        let config = Config::from_url(url).expect("a sound URL");
        let store = Redis::connect(&config, &Prefix::default(), &platform).await?;
        Ok(Self { store: Arc::new(store), platform })
    }

    pub(crate) fn lease(&self) -> LeaseId {
        LeaseId::random("host", 1, &*self.platform.rng)
    }

    pub(crate) async fn acquire(
        &self,
        key: &Key,
        lease: &LeaseId,
        [ttl_ms, wait, within]: [u64; 3],
    ) -> Result<Attempt, BackendError> {
        let request = AcquireRequest {
            key: key.clone(),
            lease: lease.clone(),
            ttl: ttl(ttl_ms),
            label: None,
            wait: (wait > 0).then(|| millis(wait)),
            routine: false,
            within: millis(within),
        };
        self.store.acquire(&request).await
    }

    pub(crate) async fn take(&self, key: &Key, ttl_ms: u64) -> LeaseId {
        let lease = self.lease();
        let got = self.acquire(key, &lease, [ttl_ms, 0, 2_000]).await;
        assert!(matches!(got, Ok(Attempt::Granted { .. })), "{got:?}");
        lease
    }

    pub(crate) async fn release(&self, key: &Key, lease: &LeaseId) {
        let gave = self.store.release(key, lease).await;
        assert!(matches!(gave, Ok(Ownership::Ours)), "{gave:?}");
    }

    pub(crate) async fn renew(
        &self,
        key: &Key,
        lease: &LeaseId,
        [ttl_ms, within]: [u64; 2],
    ) -> Result<bidlock_core::Renewal, BackendError> {
        let (key, lease) = (key.clone(), lease.clone());
        let request = RenewRequest { key, lease, ttl: ttl(ttl_ms), within: millis(within) };
        self.store.renew(&request).await
    }
}

/// Tokens of a key in the order of its grants.
#[derive(Debug, Default)]
pub(crate) struct Tokens(u64);

impl Tokens {
    /// I1
    pub(crate) fn rise(&mut self, lease: &Lease) {
        let token = lease.token().get();
        assert!(token > self.0, "{token} comes after {}", self.0);
        self.0 = token;
    }
}

/// Whether an error is one that the same call may get over.
pub(crate) fn passes(error: &Error) -> bool {
    matches!(error, Error::Store(failed) if failed.is_retryable())
}

pub(crate) fn refusal(error: &BackendError) -> Option<&Refusal> {
    match error {
        BackendError::Refused { reason, .. } => Some(reason),
        _ => None,
    }
}
