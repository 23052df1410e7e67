mod account;
mod bouncer;
mod cluster;
mod copies;
mod looks;
mod options;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use self::account::Account;
use self::looks::explained;
use self::options::Disk;
use super::disk::SmallDisk;
use super::server::free_port;
use super::tls::TlsFiles;
use crate::{Process, block_on, temp_dir, wait_until};

pub use bouncer::PgBouncer;
pub use options::PostgresOptions;

/// No server takes longer to start, and none longer to die.
const SOON: Duration = Duration::from_mins(1);
/// How often another free port is tried when somebody else took the last one.
const PORTS_TRIED_MAX: u32 = 20;
/// The database that every cluster has.
const MAINTENANCE: &str = "postgres";

/// A real PostgreSQL server of one test, on a port of its own, with data of its own; gone when
/// dropped. Its superuser is `postgres`, who needs no password.
///
/// Methods panic where the server does not do what a test needs: they are for tests.
///
/// # Examples
/// ```
/// use bidlock_testkit::servers::Postgres;
///
/// let server = Postgres::start();
/// let database = server.new_database();
/// server.sql(&database, "CREATE TABLE kept (it int); INSERT INTO kept VALUES (7)");
/// server.restart();
/// assert_eq!(server.text(&database, "SELECT it FROM kept"), "7");
/// ```
#[derive(Debug)]
pub struct Postgres {
    // Fields are dropped in this order: the process before the folder that it writes to.
    process: Mutex<Option<Process>>,
    options: PostgresOptions,
    account: Account,
    tls: Option<TlsFiles>,
    disk: Option<SmallDisk>,
    port: u16,
    databases: AtomicU32,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server as [`PostgresOptions::new`] describes it, and waits until it answers.
    ///
    /// # Panics
    /// When its program is not installed, or does not start.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(PostgresOptions::new())
    }

    /// Starts a server, and waits until it answers.
    ///
    /// # Panics
    /// When its program is not installed, or does not start.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    pub fn start_with(options: PostgresOptions) -> Self {
        let account = Account::find();
        let folder = temp_dir();
        account.owns(folder.path()).expect("its folder can be given to it");
        let data = folder.path().join("data");
        if options.own_identity {
            cluster::init(&account, &data);
        } else {
            cluster::copy_template(&account, &data);
        }
        Self::launch_in(folder, account, options)
    }

    /// Starts a server on a folder that has its data.
    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    fn launch_in(folder: TempDir, account: Account, options: PostgresOptions) -> Self {
        let tls = options.tls.then(|| {
            let files = TlsFiles::make(folder.path()).expect("certificates can be made");
            account.keeps(&files.key).expect("its key can be given to it");
            files
        });
        if let Some(hba) = &options.hba {
            let path = folder.path().join("data/pg_hba.conf");
            std::fs::write(path, hba).expect("its rules can be written");
        }
        let disk = (options.disk == Disk::Small)
            .then(|| SmallDisk::new(folder.path()).expect("a disk to fill can be compiled"));
        let (process, databases) = (Mutex::new(None), AtomicU32::new(0));
        let mut server = Self { process, options, account, tls, disk, port: 0, databases, folder };
        for _ in 0..PORTS_TRIED_MAX {
            server.port = free_port();
            match server.launch() {
                Ok(()) => return server,
                Err(said) if said.contains("Address already in use") => {}
                Err(said) => panic!("PostgreSQL does not start: {said}"),
            }
        }
        panic!("PostgreSQL found no free port in {PORTS_TRIED_MAX} attempts");
    }

    /// The TCP port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its folder, which has its socket and, in `data`, its data; gone with this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The certificates that it shows.
    ///
    /// # Panics
    /// When it was started without [`PostgresOptions::tls`].
    #[must_use]
    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    pub fn tls_files(&self) -> &TlsFiles {
        self.tls.as_ref().expect("the server was started with TLS")
    }

    /// A database's URL for the superuser: `postgres://postgres@127.0.0.1:PORT/DATABASE`.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        self.url_as(MAINTENANCE, database)
    }

    /// A database's URL for a role that needs no password.
    #[must_use]
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// A database's URL by its socket.
    #[must_use]
    pub fn socket_url(&self, database: &str) -> String {
        let (folder, port) = (self.folder().display(), self.port);
        format!("postgres://postgres@/{database}?host={folder}&port={port}")
    }

    /// Its process number.
    ///
    /// # Panics
    /// When it was killed and not restarted.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    pub fn pid(&self) -> u32 {
        self.process().as_ref().expect("the server runs").id()
    }

    /// Kills it and all that it has started, as `kill -9` or a power cut does, and returns when
    /// they are gone. Killing it twice is once.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&self) {
        if let Some(mut process) = self.process().take() {
            // First it stands still: a session that it makes meanwhile would outlive it.
            signal(&[process.id()], Signal::SIGSTOP);
            wait_until("it stands still", SOON, || !forks(process.id()));
            let all = family(process.id());
            signal(&all, Signal::SIGKILL);
            process.wait(SOON);
            wait_until("its sessions are gone", SOON, || all.iter().all(|pid| !runs(*pid)));
        }
    }

    /// Ends it as an administrator does: sessions are ended, data is put in order.
    ///
    /// # Panics
    /// When it does not end.
    pub fn shut_down(&self) {
        if let Some(mut process) = self.process().take() {
            signal(&[process.id()], Signal::SIGINT);
            process.wait(SOON);
        }
    }

    /// Kills it if it runs, starts it again on the same port with the same data, and returns when
    /// it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&self) {
        self.kill();
        if let Err(said) = self.launch() {
            panic!("PostgreSQL does not start again: {said}");
        }
    }

    /// Stops it and its sessions where they are, until [`Postgres::go_on`]: connections stay
    /// open, nothing is answered.
    ///
    /// # Panics
    /// When it was killed.
    pub fn stop(&self) {
        signal(&family(self.pid()), Signal::SIGSTOP);
    }

    /// Lets it go on after [`Postgres::stop`].
    ///
    /// # Panics
    /// When it was killed.
    pub fn go_on(&self) {
        signal(&family(self.pid()), Signal::SIGCONT);
    }

    /// Makes its disk full, or gives it room again: while it is full, no file of it grows.
    ///
    /// # Panics
    /// When it was started without [`PostgresOptions::small_disk`].
    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    pub fn fill_disk(&self, full: bool) {
        let disk = self.disk.as_ref().expect("the server was started with a disk to fill");
        disk.fill(full).expect("its disk can be filled");
    }

    /// Whether it has ended by itself.
    #[must_use]
    pub fn has_died(&self) -> bool {
        self.process().as_mut().is_some_and(|process| !matches!(process.ended(), Ok(None)))
    }

    /// What it wrote to its log since its last start.
    ///
    /// # Panics
    /// When it was killed.
    #[must_use]
    #[expect(clippy::expect_used, reason = "a mistake of the test")]
    pub fn log(&self) -> String {
        self.process().as_ref().expect("the server runs").stderr()
    }

    fn launch(&self) -> Result<(), String> {
        let mut command = self.command_line();
        let mut process = Process::spawn(&mut command).map_err(|error| error.to_string())?;
        let mut failure = None;
        wait_until("PostgreSQL answers", SOON, || {
            let answers = block_on(async { self.connect(MAINTENANCE, MAINTENANCE).await.is_ok() });
            let ended = !matches!(process.ended(), Ok(None));
            if ended {
                failure = Some(process.stderr());
            }
            answers || ended
        });
        if let Some(failure) = failure {
            return Err(failure);
        }
        *self.process() = Some(process);
        Ok(())
    }

    fn command_line(&self) -> Command {
        let mut command = self.account.command("postgres");
        command.arg("-D").arg(self.folder().join("data"));
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k"]).arg(self.folder());
        if let Some(disk) = &self.disk {
            disk.give(&mut command);
        }
        let durable = if self.options.durable { "on" } else { "off" };
        let mut set = |setting: String| {
            command.arg("-c").arg(setting);
        };
        set(format!("fsync={durable}"));
        set(format!("full_page_writes={durable}"));
        for setting in ["shared_buffers=16MB", "max_wal_senders=4", "jit=off"] {
            set(setting.to_owned());
        }
        if let Some(files) = &self.tls {
            set("ssl=on".to_owned());
            set(format!("ssl_cert_file={}", files.cert.display()));
            set(format!("ssl_key_file={}", files.key.display()));
        }
        self.options.settings.iter().for_each(|setting| set(setting.clone()));
        command
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    /// Ends it at once, but so that it gives back what it shares with the whole machine.
    fn drop(&mut self) {
        if let Some(mut process) = self.process().take() {
            let all = family(process.id());
            signal(&all, Signal::SIGCONT);
            signal(&[process.id()], Signal::SIGQUIT);
            process.wait(SOON);
        }
    }
}

/// Runs a program to its end.
fn run(command: &mut Command) {
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{command:?}: {error}"),
    }
}

/// The server's process and those that it has started, which have process groups of their own.
fn family(pid: u32) -> Vec<u32> {
    let parent = |pid: u32| -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let children = pids.filter(|child| parent(*child) == Some(pid));
    std::iter::once(pid).chain(children).collect()
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Whether a process may still make others: it neither stands still nor has ended.
fn forks(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") T ") && !stat.contains(") Z "))
}

fn signal(pids: &[u32], signal: Signal) {
    for pid in pids {
        let _gone_already = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}
