//! The real store, on a file in memory, and how one thread waits for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use bidlock_core::{BoxFuture, Platform};
use bidlock_ledger::SqliteStore;

/// A ledger's file, which is gone when this is.
#[derive(Debug)]
pub(crate) struct File {
    folder: PathBuf,
    pub(crate) store: Arc<SqliteStore>,
}

impl File {
    /// Makes an empty ledger in memory, where the system has files there.
    pub(crate) fn new(name: &str, platform: &Platform) -> std::io::Result<Self> {
        let shared = Path::new("/dev/shm");
        let base = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let folder = base.join(format!("bidlock-sim-{}-{name}", std::process::id()));
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        let opened = SqliteStore::open(&folder.join("ledger.db"), platform);
        let store = Arc::new(opened.map_err(std::io::Error::other)?);
        Ok(Self { folder, store })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // What is left in memory by a folder that resists is the system's to clean.
        drop(std::fs::remove_dir_all(&self.folder));
    }
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
