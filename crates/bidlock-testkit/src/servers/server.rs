mod looks;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Connection, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};
use tempfile::TempDir;

use super::clock::StepClock;
use super::tls::{TlsFiles, TlsFront};
use super::{ServerKind, ServerOptions};
use crate::process::pause;
use crate::{Process, temp_dir, wait_until};

/// No server takes longer to start, and none longer to die.
const SOON: Duration = Duration::from_secs(20);
/// No answer to a test's own look takes longer, unless the server is stopped.
const ANSWER: Duration = Duration::from_secs(30);
/// How often another free port is tried when somebody else took the last one.
const PORTS_TRIED_MAX: u32 = 20;

/// A real server of one test, on a port of its own, with a folder of its own; gone when dropped.
///
/// Methods panic where the server does not do what a test needs: they are for tests.
///
/// # Examples
/// ```
/// use bidlock_testkit::servers::{Server, ServerKind};
///
/// let server = Server::start(ServerKind::Valkey9);
/// server.command(&["SET", "key", "value"]);
/// server.restart();
/// assert_eq!(server.text(&["GET", "key"]), "");
/// ```
#[derive(Debug)]
pub struct Server {
    // Fields are dropped in this order: the process before the folder that it writes to.
    process: Mutex<Option<Process>>,
    tls: Option<Tls>,
    clock: Option<StepClock>,
    kind: ServerKind,
    options: ServerOptions,
    port: u16,
    folder: TempDir,
}

#[derive(Debug)]
struct Tls {
    files: TlsFiles,
    port: u16,
    front: Option<TlsFront>,
}

/// Why a server does not run.
enum Failure {
    PortTaken,
    Other(String),
}

impl Server {
    /// Starts a server as [`ServerOptions::new`] describes it, and waits until it answers.
    ///
    /// # Panics
    /// When its program is not installed, or does not start.
    #[must_use]
    pub fn start(kind: ServerKind) -> Self {
        Self::start_with(kind, ServerOptions::new())
    }

    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    /// When its program is not installed, or does not start.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub fn start_with(kind: ServerKind, options: ServerOptions) -> Self {
        let folder = temp_dir();
        let clock = options
            .clock
            .then(|| StepClock::new(folder.path()).expect("a clock to step can be compiled"));
        let tls = options.tls.then(|| Tls {
            files: TlsFiles::make(folder.path()).expect("certificates can be made"),
            port: 0,
            front: None,
        });
        let process = Mutex::new(None);
        let mut server = Self { process, tls, clock, kind, options, port: 0, folder };
        for _ in 0..PORTS_TRIED_MAX {
            server.take_ports();
            match server.launch() {
                Ok(()) => {
                    server.open_front();
                    return server;
                }
                Err(Failure::PortTaken) => {}
                Err(Failure::Other(why)) => panic!("{kind} does not start: {why}"),
            }
        }
        panic!("{kind} found no free port in {PORTS_TRIED_MAX} attempts");
    }

    /// Which program it is.
    #[must_use]
    pub const fn kind(&self) -> ServerKind {
        self.kind
    }

    /// The TCP port without TLS.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The TCP address without TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The URL without TLS, with the password: `redis://:PASSWORD@127.0.0.1:PORT/0`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_to("redis", self.port)
    }

    /// The URL with TLS, with the password: `rediss://:PASSWORD@127.0.0.1:PORT/0`.
    ///
    /// # Panics
    /// When the server was started without [`ServerOptions::tls`].
    #[must_use]
    pub fn tls_url(&self) -> String {
        self.url_to("rediss", self.tls_port())
    }

    /// The TCP port with TLS.
    ///
    /// # Panics
    /// When the server was started without [`ServerOptions::tls`].
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        let tls = self.tls();
        tls.front.as_ref().map_or(tls.port, TlsFront::port)
    }

    /// The certificates that it and its clients show each other.
    ///
    /// # Panics
    /// When the server was started without [`ServerOptions::tls`].
    #[must_use]
    pub fn tls_files(&self) -> &TlsFiles {
        &self.tls().files
    }

    /// Its Unix socket.
    #[must_use]
    pub fn unix_socket(&self) -> PathBuf {
        self.folder().join("socket")
    }

    /// Its folder, which is gone with this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process number.
    ///
    /// # Panics
    /// When it was killed and not restarted.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.with_process(Process::id)
    }

    /// Kills it, as `kill -9` does, and returns when it is gone. Killing it twice is once.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            #[expect(clippy::expect_used, reason = "its own child can always be killed")]
            process.kill().expect("it can be killed");
            process.wait(SOON);
        }
    }

    /// Kills it if it runs, starts it again on the same port in the same folder, and returns
    /// when it answers. Only [`ServerOptions::append_only`] keeps its data. Its clock stays as
    /// it was stepped.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.kill();
        match self.launch() {
            Ok(()) => {}
            Err(Failure::PortTaken) => panic!("port {} is another's by now", self.port),
            Err(Failure::Other(why)) => panic!("{} does not start again: {why}", self.kind),
        }
    }

    /// Stops it where it is, until [`Server::go_on`]: connections stay open, nothing is
    /// answered.
    ///
    /// # Panics
    /// When it was killed.
    pub fn stop(&self) {
        #[expect(clippy::expect_used, reason = "its own child can always be stopped")]
        self.with_process(|process| process.stop().expect("it can be stopped"));
    }

    /// Lets it go on after [`Server::stop`].
    ///
    /// # Panics
    /// When it was killed.
    pub fn go_on(&self) {
        #[expect(clippy::expect_used, reason = "its own child can always be continued")]
        self.with_process(|process| process.go_on().expect("it can go on"));
    }

    /// Connects to it by an implementation that is not bidlock's own, with the password.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn client(&self) -> Connection {
        self.connect().unwrap_or_else(|error| panic!("{} is not to be reached: {error}", self.kind))
    }

    /// Steps its wall clock while it runs, and returns when it goes by the new time. The clock
    /// that measures its own waits does not step.
    ///
    /// # Panics
    /// When the server was started without [`ServerOptions::clock`].
    pub fn step_clock(&self, micros: i64) {
        #[expect(clippy::expect_used, reason = "a test cannot go on without its clock")]
        self.clock().step(micros).expect("its clock can be stepped");
        // Valkey 9 reads the wall clock once in a millisecond, and reckons from there.
        pause();
    }

    /// By how many microseconds its wall clock differs from the machine's.
    ///
    /// # Panics
    /// When the server was started without [`ServerOptions::clock`].
    #[must_use]
    pub fn clock_offset(&self) -> i64 {
        self.clock().offset()
    }

    /// What it wrote to its log since its last start.
    ///
    /// # Panics
    /// When it was killed.
    #[must_use]
    pub fn log(&self) -> String {
        self.with_process(Process::stdout)
    }

    fn launch(&self) -> Result<(), Failure> {
        let mut command = self.command_line();
        if let Some(clock) = &self.clock {
            clock.give(&mut command);
        }
        let mut process =
            Process::spawn(&mut command).map_err(|error| Failure::Other(error.to_string()))?;
        // A socket in the own folder is no other server's, which a port could be.
        let mut failure = None;
        wait_until("the server answers", SOON, || {
            if self.connect().is_ok_and(|mut client| redis::cmd("PING").exec(&mut client).is_ok()) {
                return true;
            }
            if matches!(process.ended(), Ok(None)) {
                return false;
            }
            let output = format!("{}{}", process.stdout(), process.stderr());
            let taken = output.contains("Address already in use");
            failure = Some(if taken { Failure::PortTaken } else { Failure::Other(output) });
            true
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        *self.process() = Some(process);
        Ok(())
    }

    fn command_line(&self) -> Command {
        let mut command = Command::new(self.kind.program());
        command.current_dir(self.folder()).env_clear();
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string()]);
        command.arg("--dir").arg(self.folder()).arg("--unixsocket").arg(self.unix_socket());
        command.args(["--daemonize", "no", "--save", "", "--appendfsync", "always"]);
        command.args(["--appendonly", if self.options.append_only { "yes" } else { "no" }]);
        if let Some(password) = &self.options.password {
            command.args(["--requirepass", password]);
        }
        if let Some(tls) = self.tls.as_ref().filter(|_| self.kind.speaks_tls()) {
            let demanded = self.options.client_certificates;
            command.args(["--tls-port", &tls.port.to_string()]);
            command.arg("--tls-ca-cert-file").arg(&tls.files.ca);
            command.arg("--tls-cert-file").arg(&tls.files.cert);
            command.arg("--tls-key-file").arg(&tls.files.key);
            command.args(["--tls-auth-clients", if demanded { "yes" } else { "no" }]);
        }
        command.args(&self.options.args);
        command
    }

    fn take_ports(&mut self) {
        self.port = free_port();
        if let Some(tls) = &mut self.tls {
            tls.port = free_port();
        }
    }

    /// Puts TLS before a server that has none.
    fn open_front(&mut self) {
        let (inner, demanded) = (self.address(), self.options.client_certificates);
        if let Some(tls) = self.tls.as_mut().filter(|_| !self.kind.speaks_tls()) {
            #[expect(clippy::expect_used, reason = "a test cannot go on without TLS")]
            let front = TlsFront::open(inner, &tls.files, demanded).expect("TLS can be spoken");
            tls.front = Some(front);
        }
    }

    fn connect(&self) -> redis::RedisResult<Connection> {
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(password) = &self.options.password {
            settings = settings.set_password(password);
        }
        let info = ConnectionAddr::Unix(self.unix_socket()).into_connection_info()?;
        let client = redis::Client::open(info.set_redis_settings(settings))?;
        let connection = client.get_connection_with_timeout(ANSWER)?;
        connection.set_read_timeout(Some(ANSWER))?;
        connection.set_write_timeout(Some(ANSWER))?;
        Ok(connection)
    }

    fn url_to(&self, scheme: &str, port: u16) -> String {
        let password = self.options.password.as_ref().map(|password| escape(password));
        let user = password.map_or_else(String::new, |password| format!(":{password}@"));
        format!("{scheme}://{user}127.0.0.1:{port}/0")
    }

    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    fn tls(&self) -> &Tls {
        self.tls.as_ref().expect("the server was started with TLS")
    }

    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    fn clock(&self) -> &StepClock {
        self.clock.as_ref().expect("the server was started with a clock to step")
    }

    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    fn with_process<T>(&self, ask: impl FnOnce(&Process) -> T) -> T {
        ask(self.process().as_ref().expect("the server runs"))
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port that is free now, below those that the system gives to connections: one of these could
/// take it while its server is down for a restart.
pub(super) fn free_port() -> u16 {
    const FIRST: u16 = 15_000;
    const COUNT: u64 = 15_000;
    for _ in 0..PORTS_TRIED_MAX {
        let drawn = RandomState::new().build_hasher().finish() % COUNT;
        let port = FIRST + u16::try_from(drawn).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// Writes a password so that it can stand in a URL.
fn escape(password: &str) -> String {
    let byte = |byte: u8| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    password.bytes().map(byte).collect()
}
