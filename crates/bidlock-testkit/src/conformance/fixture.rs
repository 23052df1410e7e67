use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{Backend, Platform};

use crate::{ManualProcesses, TestPlatform, test_platform};

/// A fresh store for one rule, and what the rule may do to it.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Opens the store once more, as one more process would.
    ///
    /// # Cancel safety
    /// Not needed: the suite awaits it to its end.
    async fn client(&self) -> Arc<dyn Backend>;

    /// Lets time pass, by moving a clock or by waiting, and returns when background work that
    /// became due has been done.
    ///
    /// # Cancel safety
    /// Not needed: the suite awaits it to its end.
    async fn pass(&self, time: Duration);

    /// Ends the process behind `client`, as `kill -9` would: nothing is released, cancelled or
    /// closed by its own doing. Returns false where clients cannot die alone, because the store
    /// lives in their process.
    ///
    /// # Cancel safety
    /// Not needed: the suite awaits it to its end.
    async fn kill(&self, client: Arc<dyn Backend>) -> bool;

    /// Stops the store and starts it again; it keeps what it keeps. The rule opens new clients.
    ///
    /// # Cancel safety
    /// Not needed: the suite awaits it to its end.
    async fn restart(&self);

    /// Takes all data from the store. The rule opens new clients.
    ///
    /// # Cancel safety
    /// Not needed: the suite awaits it to its end.
    async fn lose_data(&self);

    /// Steps the wall clock that the store reads; returns false where that cannot be done.
    fn step_wall(&self, micros: i64) -> bool {
        let _ = micros;
        false
    }

    /// While on, a measurable time passes between the start of a call and its execution in the
    /// store. Real stores need not do anything: a nanosecond always passes.
    fn slow(&self, on: bool) {
        let _ = on;
    }

    /// Whether each piece of news reaches its process; where not, looks alone must suffice.
    fn wakes_arrive(&self) -> bool {
        true
    }
}

type Open<S> = Box<dyn Fn(&S, &Platform) -> Arc<dyn Backend> + Send + Sync>;
type Start<S> = Box<dyn Fn(&Platform) -> S + Send + Sync>;

/// A fixture of a store that takes its time and its processes from a [`Platform`], on a machine
/// whose clock is set by hand.
///
/// Each client sees the machine as a process of its own, which ends when it is killed.
/// `S` is what outlives the clients: the store itself, or the path of its file.
pub struct PlatformFixture<S> {
    machine: TestPlatform,
    start: Start<S>,
    open: Open<S>,
    keeps: bool,
    processes: bool,
    wakes_arrive: bool,
    store: Mutex<Option<S>>,
    clients: Mutex<Vec<(usize, ManualProcesses)>>,
}

impl<S: Send + 'static> PlatformFixture<S> {
    /// Describes a store: `start` makes an empty one, `open` a client of it. After a restart it
    /// is a new, empty one; [`PlatformFixture::keeping`] says otherwise.
    pub fn new(
        start: impl Fn(&Platform) -> S + Send + Sync + 'static,
        open: impl Fn(&S, &Platform) -> Arc<dyn Backend> + Send + Sync + 'static,
    ) -> Self {
        let machine = test_platform();
        let store = start(&machine.platform());
        Self {
            machine,
            start: Box::new(start),
            open: Box::new(open),
            keeps: false,
            processes: true,
            wakes_arrive: true,
            store: Mutex::new(Some(store)),
            clients: Mutex::new(Vec::new()),
        }
    }

    /// The store keeps its data over a restart.
    #[must_use]
    pub fn keeping(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// The store lives in its clients' process, and they all die with it.
    #[must_use]
    pub fn in_one_process(mut self) -> Self {
        self.processes = false;
        self
    }

    /// News may be lost, so that looks alone must suffice.
    #[must_use]
    pub fn losing_wakes(mut self) -> Self {
        self.wakes_arrive = false;
        self
    }

    /// The machine that the store runs on.
    #[must_use]
    pub const fn machine(&self) -> &TestPlatform {
        &self.machine
    }
}

impl<S> Debug for PlatformFixture<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlatformFixture").field("machine", &self.machine).finish_non_exhaustive()
    }
}

fn identity(client: &Arc<dyn Backend>) -> usize {
    Arc::as_ptr(client).cast::<()>().addr()
}

#[async_trait]
impl<S: Send + 'static> Fixture for PlatformFixture<S> {
    async fn client(&self) -> Arc<dyn Backend> {
        let process = self.machine.another_process();
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        #[expect(clippy::expect_used, reason = "it is taken only while it is replaced")]
        let store = store.as_ref().expect("the store is there");
        let client = (self.open)(store, &process.platform());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push((identity(&client), process.processes));
        client
    }

    async fn pass(&self, time: Duration) {
        self.machine.clock.advance(time);
    }

    async fn kill(&self, client: Arc<dyn Backend>) -> bool {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, process) = clients
            .iter()
            .rfind(|(known, _)| *known == identity(&client))
            .unwrap_or_else(|| panic!("{client:?} is not a client of this fixture"));
        process.end();
        self.processes
    }

    async fn restart(&self) {
        if !self.keeps {
            self.lose_data().await;
        }
    }

    async fn lose_data(&self) {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        // The old one goes first: both may stand on the same file.
        drop(store.take());
        *store = Some((self.start)(&self.machine.platform()));
    }

    fn step_wall(&self, micros: i64) -> bool {
        self.machine.clock.step_wall(micros);
        true
    }

    fn slow(&self, on: bool) {
        let tick = if on { Duration::from_millis(1) } else { Duration::ZERO };
        self.machine.clock.tick(tick);
    }

    fn wakes_arrive(&self) -> bool {
        self.wakes_arrive
    }
}
