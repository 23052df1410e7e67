use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};

use bidlock_core::{BoxFuture, Spawn};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

/// Drives a future to its end on this thread, with whatever of tokio is compiled in.
///
/// # Panics
/// When there is no runtime to be had, or when called within one.
pub fn block_on<F: Future>(future: F) -> F::Output {
    #[expect(clippy::expect_used, reason = "a test cannot go on without its executor")]
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(future)
}

/// Runs what is spawned on one background thread, which ends with this value.
#[derive(Debug)]
pub struct ThreadSpawn {
    handle: Handle,
    stop: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl ThreadSpawn {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's error when there is no thread to be had.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("testkit".to_owned())
            .spawn(move || runtime.block_on(stopped.notified()))?;
        Ok(Self { handle, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Ends the thread now, as the end of a process does, and returns when it has ended: tasks
    /// are dropped where they wait, and with them the connections that they hold. What is
    /// spawned later is dropped at once.
    ///
    /// # Panics
    /// When a task on the thread itself calls it, which would wait for itself.
    pub fn end(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.stop.notify_one();
        if let Some(thread) = thread {
            assert!(thread.thread().id() != thread::current().id(), "no thread can await itself");
            // A task that panicked has been reported by its own thread.
            drop(thread.join());
        }
    }
}

impl Spawn for ThreadSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(self.handle.spawn(task));
    }
}

impl Drop for ThreadSpawn {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// Keeps what is spawned until the test runs it, so that a test decides what happens when.
#[derive(Default)]
pub struct HeldSpawn {
    tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl HeldSpawn {
    /// Makes an empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many tasks are not yet at their end.
    pub fn pending(&self) -> usize {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Drives all tasks until none of them can go on; returns how many are left.
    ///
    /// A task that always has more to do, and never waits, keeps this from returning.
    pub fn run(&self) -> usize {
        let mut waiting = Vec::new();
        loop {
            let fresh: Vec<_> =
                std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            let flag = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&flag));
            let mut context = Context::from_waker(&waker);
            waiting.extend(fresh);
            waiting.retain_mut(|task: &mut BoxFuture<'static, ()>| {
                matches!(task.as_mut().poll(&mut context), Poll::Pending)
            });
            if self.pending() == 0 && !flag.is_set() {
                break;
            }
        }
        let left = waiting.len();
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(waiting);
        left
    }

    /// Drops all tasks, as the end of a process does.
    pub fn abandon(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        drop(tasks);
    }
}

impl std::fmt::Debug for HeldSpawn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldSpawn").field("pending", &self.pending()).finish()
    }
}

impl Spawn for HeldSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl Woken {
    fn is_set(&self) -> bool {
        self.0.load(std::sync::atomic::Ordering::Acquire)
    }
}

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bidlock_core::Clock as _;

    use super::*;
    use crate::ManualClock;

    #[test]
    fn held_tasks_run_only_when_told_and_go_on_after_time_passed() {
        let (spawn, clock) = (HeldSpawn::new(), ManualClock::new());
        let (done, ended) = std::sync::mpsc::channel();
        let sleep = clock.sleep_until(clock.now() + Duration::from_secs(1));
        spawn.spawn(Box::pin(async move {
            sleep.await;
            done.send(()).unwrap();
        }));
        assert_eq!(spawn.run(), 1);
        assert!(ended.try_recv().is_err(), "not before its time");
        clock.advance(Duration::from_secs(1));
        assert!(ended.try_recv().is_err(), "not before it is run");
        assert_eq!(spawn.run(), 0);
        ended.try_recv().unwrap();
    }

    #[test]
    fn a_thread_that_was_ended_has_dropped_its_tasks_and_takes_no_more() {
        let spawn = ThreadSpawn::start().unwrap();
        let (first, second) = (Arc::new(()), Arc::new(()));
        let wait = |held: Arc<()>| async move {
            std::future::pending::<()>().await;
            drop(held);
        };
        spawn.spawn(Box::pin(wait(Arc::clone(&first))));
        spawn.end();
        assert_eq!(Arc::strong_count(&first), 1);
        spawn.spawn(Box::pin(wait(Arc::clone(&second))));
        assert_eq!(Arc::strong_count(&second), 1);
        spawn.end();
    }

    #[test]
    fn threads_run_what_they_are_given_and_drop_it_at_their_end() {
        let spawn = ThreadSpawn::start().unwrap();
        let (done, ended) = std::sync::mpsc::channel::<u8>();
        spawn.spawn(Box::pin(async move {
            done.send(1).unwrap();
            std::future::pending::<()>().await;
        }));
        assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok(1));
        drop(spawn);
        assert!(ended.recv_timeout(Duration::from_secs(10)).is_err(), "the task was dropped");
    }
}
