use std::io;
use std::sync::Arc;
use std::thread;

use bidlock_core::{BoxFuture, Spawn};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

/// One background thread with a runtime of its own, for renewals and releases.
///
/// The thread ends when the engine is dropped; what it had not finished by then is dropped too,
/// and the leases concerned end with their TTL.
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    stop: Arc<Notify>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's error when there is no thread or no timer to be had.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        thread::Builder::new().name("bidlock".to_owned()).spawn(move || {
            runtime.block_on(stopped.notified());
        })?;
        Ok(Self { handle, stop })
    }

    /// The runtime that background work runs on.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Spawn for Engine {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use bidlock_core::Clock as _;

    use super::*;
    use crate::SystemClock;

    #[test]
    fn timers_run_without_a_runtime_of_the_caller() {
        let engine = Engine::start().unwrap();
        let clock = SystemClock::new(engine.handle());
        let (done, waited) = mpsc::channel();
        let start = clock.now();
        let sleep = clock.sleep_until(start + Duration::from_millis(20));
        engine.spawn(Box::pin(async move {
            sleep.await;
            done.send(()).unwrap();
        }));
        waited.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(clock.now().since(start) >= Duration::from_millis(20));
    }

    #[test]
    fn dropping_the_engine_ends_its_work() {
        let engine = Engine::start().unwrap();
        let (held, ended) = mpsc::channel::<()>();
        engine.spawn(Box::pin(async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        drop(engine);
        let last = ended.recv_timeout(Duration::from_secs(10));
        assert_eq!(last, Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
