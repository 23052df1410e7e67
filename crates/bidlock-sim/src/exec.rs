//! Tasks of all processes on one thread. Which one runs next, the seed decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bidlock_core::{BoxFuture, Spawn};

use crate::rand::Rand;

/// One run of one process: a restarted one has another number.
pub(crate) type ProcessId = u64;
type TaskId = u64;

#[derive(Debug, Default)]
struct Ready {
    woken: BTreeSet<TaskId>,
    fresh: Vec<Fresh>,
    dead: BTreeSet<ProcessId>,
}

struct Fresh(ProcessId, BoxFuture<'static, ()>);

impl std::fmt::Debug for Fresh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fresh({})", self.0)
    }
}

/// Where tasks are put and woken.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue(Arc<Mutex<Ready>>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a task of a process in; a process that has ended runs nothing more.
    pub(crate) fn spawn(&self, process: ProcessId, task: BoxFuture<'static, ()>) {
        let refused = {
            let mut ready = self.lock();
            if ready.dead.contains(&process) {
                Some(task)
            } else {
                ready.fresh.push(Fresh(process, task));
                None
            }
        };
        drop(refused);
    }
}

/// Background work of one process.
#[derive(Debug)]
pub(crate) struct SimSpawn {
    pub(crate) process: ProcessId,
    pub(crate) queue: Queue,
}

impl Spawn for SimSpawn {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.queue.spawn(self.process, task);
    }
}

struct TaskWaker {
    id: TaskId,
    queue: Queue,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.queue.lock().woken.insert(self.id);
    }
}

struct Task {
    process: ProcessId,
    future: BoxFuture<'static, ()>,
    waker: Waker,
}

/// The tasks.
pub(crate) struct Executor {
    pub(crate) queue: Queue,
    tasks: BTreeMap<TaskId, Task>,
    frozen: BTreeSet<ProcessId>,
    next: TaskId,
    rand: Rand,
}

/// What a step ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) task: TaskId,
    pub(crate) process: ProcessId,
}

impl Executor {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            queue: Queue::default(),
            tasks: BTreeMap::new(),
            frozen: BTreeSet::new(),
            next: 0,
            rand: Rand::new(seed, "schedule"),
        }
    }

    /// Runs one task to its next await; nothing when none can run.
    pub(crate) fn step(&mut self) -> Option<Ran> {
        self.take_fresh();
        let task = self.pick()?;
        let ran = Ran { task, process: self.tasks[&task].process };
        let done = {
            let entry = self.tasks.get_mut(&task)?;
            let mut context = Context::from_waker(&entry.waker);
            matches!(entry.future.as_mut().poll(&mut context), Poll::Ready(()))
        };
        if done {
            // Dropped outside of any borrow: its end may wake or spawn others.
            let ended = self.tasks.remove(&task);
            drop(ended);
        }
        Some(ran)
    }

    fn take_fresh(&mut self) {
        let fresh = std::mem::take(&mut self.queue.lock().fresh);
        for Fresh(process, future) in fresh {
            let id = self.next;
            self.next += 1;
            let waker = Waker::from(Arc::new(TaskWaker { id, queue: self.queue.clone() }));
            self.tasks.insert(id, Task { process, future, waker });
            self.queue.lock().woken.insert(id);
        }
    }

    fn pick(&mut self) -> Option<TaskId> {
        let mut ready = self.queue.lock();
        let (tasks, frozen) = (&self.tasks, &self.frozen);
        ready.woken.retain(|id| tasks.contains_key(id));
        let runs = |id: &&TaskId| frozen.is_empty() || !frozen.contains(&tasks[id].process);
        let count = ready.woken.iter().filter(runs).count();
        if count == 0 {
            return None;
        }
        let chosen = *ready.woken.iter().filter(runs).nth(self.rand.index(count))?;
        ready.woken.remove(&chosen);
        Some(chosen)
    }

    /// Stops a process where it is, or lets it go on.
    pub(crate) fn freeze(&mut self, process: ProcessId, frozen: bool) {
        if frozen {
            self.frozen.insert(process);
        } else {
            self.frozen.remove(&process);
        }
    }

    /// Whether no task is left.
    pub(crate) fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.queue.lock().fresh.is_empty()
    }

    /// Ends a process between two steps of its tasks.
    pub(crate) fn kill(&mut self, process: ProcessId) {
        self.take_fresh();
        self.queue.lock().dead.insert(process);
        self.frozen.remove(&process);
        let ids: Vec<TaskId> =
            self.tasks.iter().filter(|(_, t)| t.process == process).map(|(id, _)| *id).collect();
        for id in ids {
            let ended = self.tasks.remove(&id);
            drop(ended);
        }
    }
}
