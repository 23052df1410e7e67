//! One background task that decides, for every lease of a locker, when to renew and when it is
//! lost: by its own timer, never by a store's call that has to return first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use bidlock_core::{Clock, Moment, Platform};
use tokio::sync::Notify;

use crate::held::Held;
use crate::inbox::lock;

/// The plan of what is due when.
#[derive(Debug, Default)]
pub(crate) struct Keeper {
    plan: Mutex<Plan>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Plan {
    due: BTreeMap<Slot, Weak<Held>>,
    next_id: u64,
    /// When the task wakes by itself; none while it has nothing to do.
    wakes_at: Option<Moment>,
    stopped: bool,
}

/// A place in the plan: when, and a number that tells places of one moment apart.
pub(crate) type Slot = (Moment, u64);

impl Keeper {
    /// Starts the task that carries the plan out.
    pub(crate) fn start(platform: &Platform) -> Arc<Self> {
        let keeper = Arc::new(Self::default());
        let task = Arc::clone(&keeper).run(Arc::clone(&platform.clock));
        platform.spawn.spawn(Box::pin(task));
        keeper
    }

    /// Plans a tick of `held`. The task is woken only when it would otherwise sleep past it, so
    /// that most leases come and go without a word to another thread.
    pub(crate) fn plan(&self, at: Moment, held: Weak<Held>) -> Slot {
        let mut plan = lock(&self.plan);
        let slot = (at, plan.next_id);
        plan.next_id += 1;
        plan.due.insert(slot, held);
        if plan.wakes_at.is_none_or(|wakes_at| at < wakes_at) {
            plan.wakes_at = Some(at);
            self.changed.notify_one();
        }
        slot
    }

    /// Takes a tick off the plan.
    pub(crate) fn forget(&self, slot: Slot) {
        lock(&self.plan).due.remove(&slot);
    }

    /// How many ticks are planned.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        lock(&self.plan).due.len()
    }

    /// Ends the task.
    pub(crate) fn stop(&self) {
        lock(&self.plan).stopped = true;
        self.changed.notify_one();
    }

    async fn run(self: Arc<Self>, clock: Arc<dyn Clock>) {
        loop {
            let next = {
                let mut plan = lock(&self.plan);
                if plan.stopped {
                    return;
                }
                plan.wakes_at = plan.due.first_key_value().map(|(slot, _)| slot.0);
                plan.wakes_at
            };
            match next {
                None => self.changed.notified().await,
                Some(at) => tokio::select! {
                    biased;
                    () = clock.sleep_until(at) => self.tick(clock.now()),
                    () = self.changed.notified() => {}
                },
            }
        }
    }

    /// Ticks everything that is due.
    fn tick(&self, now: Moment) {
        loop {
            let held = {
                let mut plan = lock(&self.plan);
                match plan.due.first_entry() {
                    Some(entry) if entry.key().0 <= now => entry.remove(),
                    _ => return,
                }
            };
            if let Some(held) = held.upgrade() {
                held.tick();
            }
        }
    }
}
