//! What all lockers and ledgers of one process share: one thread with one runtime.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bidlock::platform::{Engine, LinuxProcesses, OsRng, SystemClock};
use bidlock::{ConfigError, Platform};
use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::errors::Failure;
use crate::lease::Held;
use crate::logs::Logs;
use crate::metrics::Metrics;
use crate::wait::block_on;

/// The one of this process, or of the process that it was forked from.
pub(crate) static CURRENT: ArcSwapOption<Process> = ArcSwapOption::const_empty();

/// The shared part of one process. It is never dropped: after a fork, the child has a copy of
/// which it may not even take the locks.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    pub(crate) platform: Platform,
    pub(crate) handle: Handle,
    pub(crate) logs: Logs,
    pub(crate) metrics: Arc<Metrics>,
    /// How many threads wait for an answer.
    pub(crate) waiting: AtomicUsize,
    /// Whether the interpreter is about to end.
    pub(crate) ending: AtomicBool,
    next: AtomicU64,
    lockers: Mutex<Vec<Weak<bidlock::Locker>>>,
    leases: Mutex<HashMap<u64, Weak<Held>>>,
}

impl Process {
    /// The one of this process, started by the first call.
    ///
    /// # Errors
    /// [`Failure::Bidlock`] when there is no thread to be had.
    pub(crate) fn current() -> Result<Arc<Self>, Failure> {
        let id = std::process::id();
        loop {
            let known = CURRENT.load();
            if let Some(process) = known.as_ref().filter(|process| process.id == id) {
                return Ok(Arc::clone(process));
            }
            let new = Arc::new(Self::start(id)?);
            let before = CURRENT.compare_and_swap(&known, Some(Arc::clone(&new)));
            if before.as_ref().map(Arc::as_ptr) == known.as_ref().map(Arc::as_ptr) {
                // One reference is never given back.
                std::mem::forget(Arc::clone(&new));
                return Ok(new);
            }
        }
    }

    fn start(id: u32) -> Result<Self, Failure> {
        let failed = |e| Failure::from(bidlock::Error::from(ConfigError::Platform(e)));
        let engine = Arc::new(Engine::start().map_err(failed)?);
        let handle = engine.handle();
        let platform = Platform {
            clock: Arc::new(SystemClock::new(engine.handle())),
            rng: Arc::new(OsRng),
            processes: Arc::new(LinuxProcesses::read().map_err(failed)?),
            spawn: engine,
        };
        Ok(Self {
            id,
            platform,
            handle,
            logs: Logs::default(),
            metrics: Arc::default(),
            waiting: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
            next: AtomicU64::new(1),
            lockers: Mutex::default(),
            leases: Mutex::default(),
        })
    }

    /// Whether it belongs to this process, and not to the one that this was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.id == std::process::id()
    }

    /// A number that nothing else in this process has.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Remembers a locker, whose background work the end of the process waits for.
    pub(crate) fn keep_locker(&self, locker: &Arc<bidlock::Locker>) {
        let mut lockers = lock(&self.lockers);
        lockers.retain(|known| known.strong_count() > 0);
        lockers.push(Arc::downgrade(locker));
    }

    /// Remembers a lease, to be given back at the end of the process.
    pub(crate) fn keep_lease(&self, number: u64, held: &Arc<Held>) {
        lock(&self.leases).insert(number, Arc::downgrade(held));
    }

    pub(crate) fn forget_lease(&self, number: u64) {
        lock(&self.leases).remove(&number);
    }

    /// Gives back what is held, and waits until the stores know, at most so long.
    async fn end(&self, limit: Duration) {
        const LOOK: Duration = Duration::from_millis(5);
        let clock = &self.platform.clock;
        let end = clock.now() + limit;
        self.ending.store(true, Ordering::SeqCst);
        // Threads that still wait for a key shall not be handed it.
        while self.waiting.load(Ordering::SeqCst) > 0 && clock.now() < end {
            clock.sleep_until(clock.now() + LOOK).await;
        }
        let held: Vec<_> = lock(&self.leases).drain().collect();
        for lease in held.iter().filter_map(|(_, lease)| lease.upgrade()) {
            drop(lease.take());
        }
        let lockers: Vec<_> = lock(&self.lockers).iter().filter_map(Weak::upgrade).collect();
        let mut over = clock.sleep_until(end);
        for locker in lockers {
            tokio::select! {
                () = locker.close() => {}
                () = &mut over => return,
            }
        }
    }
}

/// The process that opened an SQLite file first; 0 while none has.
static SQLITE: AtomicU32 = AtomicU32::new(0);

/// Sees to it that a file is opened only where no parent of this process had one open: SQLite
/// keeps what it knows of files and their locks in memory, and a forked child would believe it.
/// Source: SQLite corruption, §2.6.
///
/// # Errors
/// [`Failure::ForkedSqlite`] in such a child.
pub(crate) fn may_open_sqlite() -> Result<(), Failure> {
    let own = std::process::id();
    match SQLITE.compare_exchange(0, own, Ordering::SeqCst, Ordering::SeqCst) {
        Err(process) if process != own => Err(Failure::ForkedSqlite { process }),
        _ => Ok(()),
    }
}

/// Gives back every lease of this process, and waits so many seconds at most until the stores
/// know. For the end of the interpreter.
#[pyfunction]
pub(crate) fn close(py: Python<'_>, limit: f64) {
    let known = CURRENT.load_full();
    let Some(process) = known.filter(|process| process.is_ours()) else { return };
    let limit = Duration::try_from_secs_f64(limit).unwrap_or_default();
    py.detach(|| block_on(process.end(limit)));
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
