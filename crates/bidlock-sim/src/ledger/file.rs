//! The real store, on a file in memory, how one thread waits for it, and how its process ends in
//! the middle of a transaction.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bidlock_core::{BoxFuture, Platform};
use bidlock_ledger::{SqliteStep, SqliteStore};

/// A ledger's file, which is gone when this is.
#[derive(Debug)]
pub(crate) struct File {
    folder: PathBuf,
    pub(crate) site: Site,
}

impl File {
    /// Makes an empty ledger in memory, where the system has files there.
    pub(crate) fn new(name: &str, platform: &Platform) -> io::Result<Self> {
        let shared = Path::new("/dev/shm");
        let base = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("bidlock-sim-{}-{name}", std::process::id()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        let site = Site::new(&folder, platform)?;
        Ok(Self { folder, site })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left in memory by a folder that resists is the system's to clean.
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// When a process that has the ledger open is to end, and what it has left.
#[derive(Debug, Default)]
struct End {
    /// After so many more steps of transactions.
    after: Option<u64>,
    /// Whether the call that is carried out has come to its commit.
    commits: bool,
    left: Option<Left>,
    /// How many processes have ended.
    count: u64,
}

/// The files of a process that has ended, and where it was.
#[derive(Debug)]
struct Left {
    files: io::Result<PathBuf>,
    at: &'static str,
}

/// The ledger: its process, and the one that comes after it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    folder: PathBuf,
    platform: Platform,
    store: Arc<Mutex<Arc<SqliteStore>>>,
    end: Arc<Mutex<End>>,
}

impl Site {
    fn new(folder: &Path, platform: &Platform) -> io::Result<Self> {
        let end = Arc::default();
        let path = path(folder, 0);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        let store = Arc::new(Mutex::new(open(folder, &path, platform, &end)?));
        Ok(Self { folder: folder.to_owned(), platform: platform.clone(), store, end })
    }

    pub(super) fn store(&self) -> Arc<SqliteStore> {
        Arc::clone(&self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn end(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the process end in so many steps: each row that a transaction changes is one, its
    /// commit is one, and its end.
    pub(crate) fn end_after(&self, steps: u64) {
        self.end().after = Some(steps);
    }

    /// A call is about to be carried out.
    pub(super) fn begin(&self) {
        self.end().commits = false;
    }

    /// A call was carried out; a process that lived on until here may end now, after the commit.
    pub(super) fn done(&self) {
        let mut end = self.end();
        if end.commits && end.after == Some(0) {
            end.leave(&self.folder, "ledger: crash after the commit");
        }
    }

    /// Whether the process has ended, and no other has taken its place.
    pub(super) fn has_ended(&self) -> bool {
        self.end().left.is_some()
    }

    /// If the process has ended, another one opens what it has left; says where it ended.
    pub(super) fn succeed(&self) -> io::Result<Option<&'static str>> {
        let Some(Left { files, at }) = self.end().left.take() else { return Ok(None) };
        let next = open(&self.folder, &files?, &self.platform, &self.end)?;
        *self.store.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(Some(at))
    }
}

impl End {
    fn step(&mut self, folder: &Path, step: SqliteStep) {
        self.commits |= step == SqliteStep::Commits;
        match self.after {
            None => {}
            Some(0) => self.leave(
                folder,
                match step {
                    SqliteStep::Changed => "ledger: crash between statements",
                    SqliteStep::Commits => "ledger: crash at the commit",
                },
            ),
            Some(steps) => self.after = Some(steps - 1),
        }
    }

    /// Keeps the files as they are now: a process that is killed writes nothing more.
    fn leave(&mut self, folder: &Path, at: &'static str) {
        self.after = None;
        let (from, to) = (path(folder, self.count), path(folder, self.count + 1));
        self.count += 1;
        self.left = Some(Left { files: copy(&from, &to).map(|()| to), at });
    }
}

/// Where the file of a process is: each has a copy of its own.
fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(number.to_string()).join("ledger.db")
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let wal = |path: &Path| path.with_extension("db-wal");
    fs::create_dir_all(to.parent().unwrap_or(to))?;
    fs::copy(from, to)?;
    // The file beside it, for what is shared between processes, is made anew by the next one.
    if wal(from).exists() {
        fs::copy(wal(from), wal(to))?;
    }
    Ok(())
}

fn open(
    folder: &Path,
    path: &Path,
    platform: &Platform,
    end: &Arc<Mutex<End>>,
) -> io::Result<Arc<SqliteStore>> {
    let (folder, end) = (folder.to_owned(), Arc::clone(end));
    let told = move |step| {
        end.lock().unwrap_or_else(PoisonError::into_inner).step(&folder, step);
    };
    let opened = SqliteStore::open_watched(path, platform, told);
    Ok(Arc::new(opened.map_err(io::Error::other)?))
}

/// Runs a future of the real store to its end: its own thread answers at once.
pub(super) fn block_on<T>(mut future: BoxFuture<'_, T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
            return done;
        }
        thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bidlock_core::{FencingToken, Key, ProcessMark, WallTime};
    use bidlock_ledger::{AttemptId, ReserveRequest, StartRequest, State, Store as _};

    use super::*;
    use crate::client::SimProcesses;
    use crate::exec::{Queue, SimSpawn};
    use crate::rand::{Rand, SimRng};
    use crate::time::{HostClock, Time};

    fn platform() -> Platform {
        Platform {
            clock: Arc::new(HostClock::new(&Time::default(), 0, 0, 0)),
            rng: Arc::new(SimRng::new(Rand::new(1, "file"))),
            spawn: Arc::new(SimSpawn { process: 0, queue: Queue::default() }),
            processes: Arc::new(SimProcesses { host: "h".to_owned(), pid: 1 }),
        }
    }

    /// Reserves and starts; the process ends in so many steps. Says what the next one finds, in
    /// which state, and where the first one ended.
    fn left_after(steps: u64) -> (Option<State>, Option<&'static str>) {
        let platform = platform();
        let file = File::new(&format!("ends-{steps}"), &platform).unwrap();
        let (site, now) = (&file.site, WallTime::from_micros(1_000_000));
        let (id, token) = (AttemptId::random(&*platform.rng), FencingToken::new(7));
        let key = Key::new("upwork", "job_1").unwrap();
        let (holder, process) = ("h:1:00000000".to_owned(), ProcessMark::new("h/1"));
        let reserve = ReserveRequest { attempt: id, token, holder, process, seen_at: None };
        let send_by = now + Duration::from_secs(1);
        let start = StartRequest { token, send_by, payload: None };
        let store = site.store();
        site.end_after(steps);
        site.begin();
        drop(block_on(store.reserve(&key, &reserve, now)));
        site.done();
        if !site.has_ended() {
            site.begin();
            drop(block_on(store.start(&id, &start, now)));
            site.done();
        }
        let at = site.succeed().unwrap();
        let found = block_on(site.store().attempt(&id, now)).unwrap();
        (found.map(|info| info.state), at)
    }

    #[test]
    fn what_was_not_committed_is_gone_with_the_process_and_nothing_else() {
        let (between, at, after) = (
            Some("ledger: crash between statements"),
            Some("ledger: crash at the commit"),
            Some("ledger: crash after the commit"),
        );
        let reserved = Some(State::Reserved);
        assert_eq!(left_after(0), (None, between));
        assert_eq!(left_after(1), (None, between));
        assert_eq!(left_after(2), (None, at));
        assert_eq!(left_after(3), (reserved, after));
        assert_eq!(left_after(4), (reserved, between));
        assert_eq!(left_after(5), (reserved, at));
        assert_eq!(left_after(6), (Some(State::Started), after));
        assert_eq!(left_after(40), (Some(State::Started), None));
    }
}
