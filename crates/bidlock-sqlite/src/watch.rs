//! Which leases of this process wait or hold, and what happened to them meanwhile.
//!
//! SQLite tells nobody of a change. A change made through this very connection is announced after
//! its commit; for those of other processes the thread looks whether the file changed at all,
//! and reads on only then. Nothing correct rests on any of it (I13).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bidlock_core::{Attempt, Key, LeaseId, Listener, Moment, News, Renewal, Wake};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::store::{World, duration, micros};
use crate::worker::{Call, Reply};

/// How often the file is looked at for a waiter that is first in its queue; one further back
/// looks as many times less often, because as many hand-overs come before its own.
const LOOK_FIRST: Duration = Duration::from_millis(20);
/// How often every waiter is told to look, so that its row stays fresh; and how often held leases
/// are looked at for a revocation.
const LOOK_ALL: Duration = Duration::from_secs(1);
/// How many places of a queue are read to find those of this process.
const PLACES_READ: u32 = 50;
/// Looking takes at most one part in this many of the thread's time.
const LOOK_PARTS: u32 = 5;

/// Those who want news of leases.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listeners(Arc<Mutex<Vec<Weak<dyn Listener>>>>);

impl Listeners {
    pub(crate) fn add(&self, listener: Weak<dyn Listener>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|listener| listener.strong_count() > 0);
        all.push(listener);
    }

    fn any(&self) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().any(|listener| listener.strong_count() > 0)
    }

    fn tell(&self, key: &Key, lease: &LeaseId) {
        let all: Vec<_> = {
            let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            all.iter().filter_map(Weak::upgrade).collect()
        };
        let wake = Wake { key: key.clone(), lease: lease.clone(), news: News::Look };
        for listener in all {
            // Who does not know the lease never looks, and its window ends by itself (I7).
            listener.woken(&wake);
        }
    }
}

#[derive(Debug)]
struct Waiting {
    /// When its wait ends.
    until: Moment,
    /// When the grant before it ends, as it was told.
    told_end: Moment,
    ahead: u32,
    woken: Moment,
}

#[derive(Debug)]
struct Holding {
    /// When the grant ends unless it was renewed elsewhere.
    until: Moment,
    told: bool,
}

/// The leases of one connection.
#[derive(Debug)]
pub(crate) struct Watch {
    listeners: Listeners,
    waiting: HashMap<Key, HashMap<LeaseId, Waiting>>,
    holding: HashMap<(Key, LeaseId), Holding>,
    /// The fewest that stand before any waiter here.
    ahead_min: u32,
    /// What SQLite last said of the changes of others.
    version: i64,
    /// Whether held leases have not been looked at since the last change.
    holding_stale: bool,
    holding_seen: Moment,
    /// No look before this.
    rest_until: Moment,
    looked: Moment,
}

impl Watch {
    pub(crate) fn new(listeners: Listeners) -> Self {
        Self {
            listeners,
            waiting: HashMap::new(),
            holding: HashMap::new(),
            ahead_min: u32::MAX,
            version: -1,
            holding_stale: false,
            holding_seen: Moment::default(),
            rest_until: Moment::default(),
            looked: Moment::default(),
        }
    }

    /// How long the thread may wait for requests before it looks; `None` for ever.
    pub(crate) fn interval(&self) -> Option<Duration> {
        if (self.waiting.is_empty() && self.holding.is_empty()) || !self.listeners.any() {
            return None;
        }
        if self.waiting.is_empty() {
            return Some(LOOK_ALL);
        }
        Some(LOOK_FIRST.saturating_mul(self.ahead_min.saturating_add(1)).min(LOOK_ALL))
    }

    /// Takes note of an answer that is about to be given.
    pub(crate) fn note(&mut self, call: &Call, reply: &Reply, now: Moment) {
        match (call, reply) {
            (Call::Acquire(request), Reply::Attempt(Attempt::Granted { .. })) => {
                self.forget_waiting(&request.key, &request.lease);
                self.hold(&request.key, &request.lease, now + request.ttl.get());
            }
            (Call::Acquire(request), Reply::Attempt(Attempt::Held { remaining, ahead, .. })) => {
                let Some(wait) = request.wait.filter(|wait| !wait.is_zero()) else {
                    return self.forget_waiting(&request.key, &request.lease);
                };
                let waiting = Waiting {
                    until: now + wait,
                    told_end: now + *remaining,
                    ahead: *ahead,
                    woken: now,
                };
                self.ahead_min = self.ahead_min.min(*ahead);
                let queue = self.waiting.entry(request.key.clone()).or_default();
                queue.insert(request.lease.clone(), waiting);
            }
            (Call::Renew(request), Reply::Renewal(Renewal::Renewed)) => {
                self.hold(&request.key, &request.lease, now + request.ttl.get());
            }
            (Call::Renew(request), Reply::Renewal(_)) => {
                self.holding.remove(&(request.key.clone(), request.lease.clone()));
            }
            (Call::Release(key, lease), _) => {
                self.forget_waiting(key, lease);
                self.holding.remove(&(key.clone(), lease.clone()));
            }
            _ => {}
        }
    }

    fn hold(&mut self, key: &Key, lease: &LeaseId, until: Moment) {
        let entry = self.holding.entry((key.clone(), lease.clone()));
        let holding = entry.or_insert(Holding { until, told: false });
        holding.until = holding.until.max(until);
        // The store has just said yes: whatever was told before is over.
        holding.told = false;
    }

    fn forget_waiting(&mut self, key: &Key, lease: &LeaseId) {
        if let Some(queue) = self.waiting.get_mut(key) {
            queue.remove(lease);
            if queue.is_empty() {
                self.waiting.remove(key);
            }
        }
    }

    /// Tells a lease of this process what a commit of this connection did to it.
    pub(crate) fn announce(&mut self, key: &Key, lease: &str, now: Moment) {
        let Ok(lease) = lease.parse::<LeaseId>() else { return };
        let waiting = self.waiting.get_mut(key).and_then(|queue| queue.get_mut(&lease));
        if let Some(waiting) = waiting {
            waiting.woken = now;
        } else if let Some(holding) = self.holding.get_mut(&(key.clone(), lease.clone())) {
            holding.told = true;
        } else {
            return;
        }
        self.listeners.tell(key, &lease);
    }

    /// Whether it is worth looking between two requests.
    pub(crate) fn is_due(&self, now: Moment) -> bool {
        self.interval().is_some_and(|interval| now.since(self.looked) >= interval)
    }

    /// Looks at what other processes did.
    pub(crate) fn look(&mut self, connection: &Connection, world: &World) -> rusqlite::Result<()> {
        let now = world.platform.clock.now();
        self.looked = now;
        if now < self.rest_until {
            return Ok(());
        }
        self.prune(now);
        let sql = "PRAGMA data_version";
        let version = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        if version != self.version {
            self.version = version;
            self.holding_stale = true;
            self.look_at_queues(connection, world, now)?;
        }
        if self.holding_stale && now.since(self.holding_seen) >= LOOK_ALL {
            self.look_at_holdings(connection, world, now)?;
            self.holding_stale = false;
            self.holding_seen = now;
        }
        for (key, queue) in &mut self.waiting {
            for (lease, waiting) in queue {
                if now.since(waiting.woken) >= LOOK_ALL {
                    waiting.woken = now;
                    self.listeners.tell(key, lease);
                }
            }
        }
        let ended = world.platform.clock.now();
        self.rest_until = ended + ended.since(now) * (LOOK_PARTS - 1);
        Ok(())
    }

    /// Forgets waits and grants that have ended: their leases find that out by themselves.
    fn prune(&mut self, now: Moment) {
        self.waiting.retain(|_, queue| {
            queue.retain(|_, waiting| waiting.until > now);
            !queue.is_empty()
        });
        self.holding.retain(|_, holding| holding.until > now);
        let all = self.waiting.values().flat_map(HashMap::values);
        self.ahead_min = all.map(|waiting| waiting.ahead).min().unwrap_or(u32::MAX);
    }

    fn look_at_queues(
        &mut self,
        connection: &Connection,
        world: &World,
        now: Moment,
    ) -> rusqlite::Result<()> {
        let now_us = micros(now.since_boot());
        let mut grants = connection.prepare_cached(
            "SELECT lease, ends_us FROM lock_keys
             WHERE key = ?1 AND boot = ?2 AND ends_us > ?3",
        )?;
        let mut places = connection.prepare_cached(
            "SELECT lease FROM lock_waiters WHERE key = ?1 ORDER BY place LIMIT ?2",
        )?;
        for (key, queue) in &mut self.waiting {
            let grant: Option<(String, i64)> = grants
                .query_row(params![key.as_str(), world.boot, now_us], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let mut rows = places.query(params![key.as_str(), PLACES_READ])?;
            let mut ahead = 0;
            while let Some(row) = rows.next()? {
                let lease = row.get_ref(0)?.as_str()?.parse::<LeaseId>();
                if let Some(waiting) = lease.ok().and_then(|lease| queue.get_mut(&lease)) {
                    waiting.ahead = ahead;
                }
                ahead += 1;
            }
            drop(rows);
            let (holder, ends) = match grant {
                Some((holder, ends_us)) => {
                    (holder.parse::<LeaseId>().ok(), Moment::from_boot(duration(ends_us)))
                }
                None => (None, now),
            };
            for (lease, waiting) in queue {
                let given = holder.as_ref() == Some(lease);
                let sooner = waiting.ahead == 0 && ends < waiting.told_end;
                if given || sooner {
                    (waiting.woken, waiting.told_end) = (now, ends);
                    self.listeners.tell(key, lease);
                }
            }
        }
        let all = self.waiting.values().flat_map(HashMap::values);
        self.ahead_min = all.map(|waiting| waiting.ahead).min().unwrap_or(u32::MAX);
        Ok(())
    }

    /// Finds held leases that an operator took: their next renewal says so (I12).
    fn look_at_holdings(
        &mut self,
        connection: &Connection,
        world: &World,
        now: Moment,
    ) -> rusqlite::Result<()> {
        let now_us = micros(now.since_boot());
        let mut held = connection.prepare_cached(
            "SELECT lease = ?2 AND state <> 2 FROM lock_keys
             WHERE key = ?1 AND boot = ?3 AND ends_us > ?4",
        )?;
        for ((key, lease), holding) in &mut self.holding {
            let args = params![key.as_str(), lease.expose(), world.boot, now_us];
            let held = held.query_row(args, |row| row.get(0)).optional()?;
            if held != Some(true) && !holding.told {
                holding.told = true;
                self.listeners.tell(key, lease);
            }
        }
        Ok(())
    }
}
