use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{Backend, BoxFuture, Clock as _, Platform};

use super::{OffsetClock, Server, ServerKind, ServerOptions};
use crate::conformance::Fixture;
use crate::{ManualProcesses, SeededRng, ThreadSpawn};

type Open = Box<dyn Fn(&Server, &Platform) -> BoxFuture<'static, Arc<dyn Backend>> + Send + Sync>;

/// The server does its own upkeep so often in a second, so that little real time is waited.
const UPKEEP: [&str; 2] = ["--hz", "100"];
/// How long the server has to have nothing to do until all is said to be done.
const QUIET: Duration = Duration::from_millis(5);
const QUIETS: u32 = 4;
/// Work that never ends is not waited for longer.
const QUIETS_MAX: u32 = 200;
/// What this kit itself asks the server.
const OWN: [&str; 3] = ["auth", "hello", "info"];

/// A fixture of a store on a real server, whose time passes by leaps.
///
/// Each client is a process of its own: it has a background thread, whose end closes its
/// connections without a word.
pub struct ServerFixture {
    clients: Mutex<Vec<Client>>,
    server: Server,
    clock: OffsetClock,
    rng: Arc<SeededRng>,
    processes: ManualProcesses,
    open: Open,
    wakes_arrive: bool,
}

struct Client {
    backend: Weak<dyn Backend>,
    process: Process,
}

/// What a client has to itself.
struct Process {
    spawn: Arc<ThreadSpawn>,
    processes: ManualProcesses,
}

impl ServerFixture {
    /// Starts a server with a clock to step; `open` opens a client of it. After a restart it is
    /// empty, unless the options say [`ServerOptions::append_only`].
    ///
    /// # Panics
    /// When the server does not start.
    #[must_use]
    pub fn new(
        kind: ServerKind,
        options: ServerOptions,
        open: impl Fn(&Server, &Platform) -> BoxFuture<'static, Arc<dyn Backend>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        #[expect(clippy::expect_used, reason = "a test cannot go on without its clock")]
        let clock = OffsetClock::start().expect("a thread starts");
        Self {
            clients: Mutex::default(),
            server: Server::start_with(kind, options.clock(true).args(UPKEEP)),
            clock,
            rng: Arc::new(SeededRng::new(1)),
            processes: ManualProcesses::new(),
            open: Box::new(open),
            wakes_arrive: true,
        }
    }

    /// News may be lost, so that looks alone must suffice.
    #[must_use]
    pub fn losing_wakes(mut self) -> Self {
        self.wakes_arrive = false;
        self
    }

    /// The server.
    #[must_use]
    pub const fn server(&self) -> &Server {
        &self.server
    }

    /// The clock of all clients.
    #[must_use]
    pub const fn clock(&self) -> &OffsetClock {
        &self.clock
    }

    /// Makes one more process, without a client in it.
    fn process(&self) -> Process {
        #[expect(clippy::expect_used, reason = "a test cannot go on without its thread")]
        let spawn = Arc::new(ThreadSpawn::start().expect("a thread starts"));
        Process { spawn, processes: self.processes.another() }
    }

    fn platform(&self, process: &Process) -> Platform {
        Platform {
            clock: Arc::new(self.clock.clone()),
            rng: Arc::clone(&self.rng) as _,
            spawn: Arc::clone(&process.spawn) as _,
            processes: Arc::new(process.processes.clone()),
        }
    }

    /// Waits until the server has had nothing to do for a while.
    async fn settle(&self) {
        let mut quiet = 0;
        let mut before = self.work();
        for _ in 0..QUIETS_MAX {
            self.clock.sleep_until(self.clock.now() + QUIET).await;
            let after = self.work();
            quiet = if after == before { quiet + 1 } else { 0 };
            if quiet == QUIETS {
                return;
            }
            before = after;
        }
    }

    /// What the server has done for others.
    fn work(&self) -> HashMap<String, u64> {
        let mut stats = self.server.command_stats();
        stats.retain(|name, _| !OWN.contains(&name.as_str()));
        stats
    }
}

impl Debug for ServerFixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFixture").field("server", &self.server).finish_non_exhaustive()
    }
}

#[async_trait]
impl Fixture for ServerFixture {
    async fn client(&self) -> Arc<dyn Backend> {
        let process = self.process();
        let backend = (self.open)(&self.server, &self.platform(&process)).await;
        let client = Client { backend: Arc::downgrade(&backend), process };
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        backend
    }

    async fn pass(&self, time: Duration) {
        // The server goes first: nobody renews what it has let expire.
        self.server.step_clock(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        self.clock.advance(time);
        self.settle().await;
    }

    async fn kill(&self, client: Arc<dyn Backend>) -> bool {
        {
            let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            let own = Arc::downgrade(&client);
            let killed = clients.iter().find(|known| known.backend.ptr_eq(&own));
            let killed =
                killed.unwrap_or_else(|| panic!("{client:?} is not a client of this fixture"));
            killed.process.processes.end();
            killed.process.spawn.end();
        }
        self.settle().await;
        true
    }

    async fn restart(&self) {
        self.server.restart();
    }

    async fn lose_data(&self) {
        self.server.command(&["FLUSHALL"]);
    }

    fn step_wall(&self, micros: i64) -> bool {
        self.server.step_clock(micros);
        true
    }

    fn wakes_arrive(&self) -> bool {
        self.wakes_arrive
    }
}

#[cfg(test)]
mod tests {
    use bidlock_core::Memory;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;
    use crate::{block_on, wait_until};

    const SOON: Duration = Duration::from_secs(20);

    /// A client that keeps its locks to itself, and only has a connection to the server.
    fn fixture(kind: ServerKind, options: ServerOptions) -> ServerFixture {
        ServerFixture::new(kind, options, |server, platform| {
            let (address, platform) = (server.address(), platform.clone());
            let (connected, is_connected) = tokio::sync::oneshot::channel();
            platform.spawn.spawn(Box::pin(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                connected.send(()).unwrap();
                stream.read_u8().await.unwrap();
            }));
            Box::pin(async move {
                is_connected.await.unwrap();
                Arc::new(Memory::new(&platform)) as Arc<dyn Backend>
            })
        })
    }

    fn connections(fixture: &ServerFixture) -> usize {
        let all = fixture.server().text(&["CLIENT", "LIST", "TYPE", "normal"]);
        all.lines().filter(|line| line.contains(" cmd=NULL ")).count()
    }

    #[test]
    fn a_killed_client_loses_its_connection_and_the_others_keep_theirs() {
        let fixture = fixture(ServerKind::Redis70, ServerOptions::new());
        block_on(async {
            let (first, second) = (fixture.client().await, fixture.client().await);
            wait_until("both are connected", SOON, || connections(&fixture) == 2);
            assert!(fixture.kill(first).await);
            wait_until("one is gone", SOON, || connections(&fixture) == 1);
            drop(second);
            fixture.pass(Duration::from_secs(1)).await;
            assert_eq!(connections(&fixture), 1);
        });
    }

    #[test]
    fn time_passes_for_the_server_and_for_clients_alike() {
        for kind in ServerKind::ALL {
            let fixture = fixture(kind, ServerOptions::new().password("secret"));
            let server = fixture.server();
            server.command(&["SET", "key", "value", "PX", "7200000"]);
            block_on(fixture.pass(Duration::from_hours(1)));
            let left: u64 = server.text(&["PTTL", "key"]).parse().unwrap();
            assert!((3_590_000..=3_600_000).contains(&left), "{kind}: {left}");
            assert_eq!(fixture.clock().offset(), Duration::from_hours(1));
            block_on(fixture.pass(Duration::from_hours(1)));
            let stats = server.info("stats", "expired_keys");
            assert_eq!(stats, "1", "{kind}: the server's upkeep is done");
        }
    }

    #[test]
    fn the_wall_steps_for_the_server_alone() {
        let fixture = fixture(ServerKind::Valkey9, ServerOptions::new());
        let before = fixture.clock().now();
        assert!(fixture.step_wall(-3_600_000_000));
        assert_eq!(fixture.server().clock_offset(), -3_600_000_000);
        assert!(fixture.clock().now().since(before) < SOON);
    }

    #[test]
    fn data_is_kept_over_a_restart_when_asked_and_lost_on_command() {
        for keeps in [false, true] {
            let options = ServerOptions::new().append_only(keeps);
            let fixture = fixture(ServerKind::Redis62, options);
            fixture.server().command(&["SET", "key", "value"]);
            block_on(fixture.restart());
            assert_eq!(fixture.server().text(&["EXISTS", "key"]), u8::from(keeps).to_string());
            block_on(fixture.lose_data());
            assert_eq!(fixture.server().text(&["EXISTS", "key"]), "0");
        }
    }
}
