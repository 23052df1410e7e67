//! What is known of a run, for those who judge it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bidlock::{Lease, LeaseView};
use bidlock_core::{Clock as _, Key};
use bidlock_ledger::{AttemptId, AttemptInfo};

use crate::coverage::Coverage;
use crate::exec::ProcessId;
use crate::time::{HostClock, Micros};

/// A lock as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lock {
    pub(crate) lease: String,
    pub(crate) token: u64,
    /// `h`, `w`, `g` or `r`: see `docs/protocol.md`.
    pub(crate) state: u8,
    pub(crate) client: String,
    /// When it ends, in milliseconds of the server's clock.
    pub(crate) ends: Option<i64>,
}

/// A place in a queue as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) lease: String,
    pub(crate) client: String,
    /// In microseconds of the server's clock.
    pub(crate) deadline: u64,
    /// Until when its client counts as alive.
    pub(crate) alive: u64,
    /// Whether somebody listens on its client's channel.
    pub(crate) heard: bool,
}

/// One key as the server has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyView {
    pub(crate) lock: Option<Lock>,
    pub(crate) queue: Vec<Waiter>,
    /// The client of a grant that is not confirmed.
    pub(crate) window: Option<String>,
    /// Until when those who wait know that the key may end, by the server's clock.
    pub(crate) told: u64,
    /// What breaks the form of the stored data, in words.
    pub(crate) odd: Option<String>,
}

/// Which script ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Script {
    Acquire,
    Renew,
    Release,
    Other,
}

/// What a command changed, or left.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) key: String,
    pub(crate) before: KeyView,
    pub(crate) after: KeyView,
    /// What the request said of itself: its deadline, where it has one.
    pub(crate) deadline: Option<u64>,
    pub(crate) script: Script,
    /// The lease that asked.
    pub(crate) lease: String,
    /// Whether it was told that somebody else has the key.
    pub(crate) told_held: bool,
    /// How many who wait were told that the key ends sooner.
    pub(crate) ends_told: usize,
    /// The server's clock, in microseconds.
    pub(crate) server: u64,
    /// The highest token, as stored.
    pub(crate) counter: Option<u64>,
}

impl Change {
    /// The lock before, unless it had ended by then.
    pub(crate) fn held_before(&self) -> Option<&Lock> {
        let now = i64::try_from(self.server / 1_000).unwrap_or(i64::MAX);
        self.before.lock.as_ref().filter(|lock| lock.ends.is_none_or(|ends| now <= ends))
    }

    /// The grant that was made, if one was.
    pub(crate) fn granted(&self) -> Option<&Lock> {
        let same = |lock: &Lock, old: &Lock| lock.lease == old.lease && lock.token == old.token;
        let held = self.held_before();
        self.after.lock.as_ref().filter(|lock| held.is_none_or(|old| !same(lock, old)))
    }

    /// The grant that was made to a waiter.
    pub(crate) fn handed_over(&self) -> Option<&Lock> {
        self.granted().filter(|lock| lock.state == b'g')
    }
}

/// A lease that a client was given.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    pub(crate) key: String,
    pub(crate) lease: String,
    pub(crate) token: u64,
    pub(crate) view: LeaseView,
    pub(crate) clock: HostClock,
    pub(crate) process: ProcessId,
    /// Whether it was once seen to be over.
    pub(crate) over: bool,
}

impl Watched {
    /// Whether its holder believes in it now.
    pub(crate) fn believes(&self) -> bool {
        self.view.believed_until().is_some_and(|until| self.clock.now() < until)
    }
}

/// A call that waits for a key.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) process: ProcessId,
    pub(crate) key: String,
    pub(crate) since: Micros,
    /// How long it may take; nothing for one without end.
    pub(crate) budget: Option<u64>,
}

/// A bid that was sent before another one for the same posting.
#[derive(Debug, Clone)]
pub(crate) struct Earlier {
    pub(crate) attempt: String,
    /// Whether the marketplace has it, or will.
    pub(crate) stands: bool,
}

/// Something that happened since the last step.
#[derive(Debug, Clone)]
pub(crate) enum Happened {
    /// A client was given a lease.
    Acquired(u64),
    /// A call that waited has ended.
    Told(Waiting),
    /// The server ran a script.
    Changed(Box<Change>),
    /// A bid has left its sender.
    Sent { posting: String, attempt: String, earlier: Vec<Earlier> },
    /// The ledger let an attempt begin, or begin again.
    Begun { info: Box<AttemptInfo>, again: bool },
    /// The ledger has changed an attempt.
    Attempt(Box<AttemptInfo>),
    /// The ledger was told how an attempt went that it had let begin; why it did not take that.
    Outcome { attempt: String, refused: Option<String> },
    /// A step of a task, or a piece that arrived.
    Step,
    /// Some time has passed.
    Tick,
    /// All work is done, and all that ends by itself has ended.
    End,
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) now: Micros,
    pub(crate) leases: BTreeMap<u64, Watched>,
    pub(crate) waiting: BTreeMap<u64, Waiting>,
    pub(crate) keys: BTreeMap<String, KeyView>,
    pub(crate) happened: Vec<Happened>,
    pub(crate) coverage: Coverage,
    /// When the server last forgot something, or let it end too soon.
    pub(crate) forgot: Option<Micros>,
    /// Whether the server has come back with old data: places and grants whose leases have left.
    pub(crate) restored: bool,
    /// Whether the server's clock has jumped forward.
    pub(crate) jumped: bool,
    /// Leases that an operator has freed at once.
    pub(crate) revoked: BTreeSet<String>,
    /// Processes that stand still, or stood still not long ago, and until when.
    pub(crate) frozen: BTreeMap<ProcessId, Micros>,
    /// Processes that have run and reached the server for a while.
    pub(crate) well: BTreeSet<ProcessId>,
    /// Whether the clients that listen at the server are alive, run and can be reached.
    pub(crate) hears: BTreeMap<String, bool>,
    /// Since when the server answers everybody who can reach it.
    pub(crate) answers_since: Option<Micros>,
    /// Processes that have ended.
    pub(crate) dead: BTreeSet<ProcessId>,
    /// When the last call for a key of a process ended.
    pub(crate) last_told: BTreeMap<(ProcessId, String), Micros>,
    /// Whose the channels at the server are.
    pub(crate) owners: BTreeMap<String, ProcessId>,
    /// What a client has found wrong.
    pub(crate) wrong: Option<String>,
    /// What is left in the server at the end.
    pub(crate) left: Vec<String>,
    next: u64,
}

/// Whether a process ran all the time of late, for those who change the other facts meanwhile.
pub(crate) fn ran(frozen: &BTreeMap<ProcessId, Micros>, now: Micros, process: ProcessId) -> bool {
    frozen.get(&process).is_none_or(|until| *until < now)
}

/// The longest TTL of a lease here, and a little more.
const FORGETTING: Micros = 4_000_000;

impl Facts {
    /// Whether what P2 and P6 rest on has held for as long as it matters now.
    pub(crate) fn remembers(&self) -> bool {
        !self.jumped && self.forgot.is_none_or(|at| at + FORGETTING < self.now)
    }

    /// Whether a process ran all the time of late.
    pub(crate) fn runs(&self, process: ProcessId) -> bool {
        ran(&self.frozen, self.now, process)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Where clients tell what they do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<Mutex<Facts>>);

impl Watch {
    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins to wait.
    pub(crate) fn waits(&self, waiting: Waiting) -> u64 {
        let mut facts = self.facts();
        let number = facts.number();
        facts.waiting.insert(number, waiting);
        number
    }

    /// A call has ended, one way or the other.
    pub(crate) fn told(&self, number: u64) {
        let mut facts = self.facts();
        if let Some(waiting) = facts.waiting.remove(&number) {
            let now = facts.now;
            facts.last_told.insert((waiting.process, waiting.key.clone()), now);
            facts.happened.push(Happened::Told(waiting));
        }
    }

    /// A call was dropped: nobody waits for it.
    pub(crate) fn dropped(&self, number: u64) {
        let mut facts = self.facts();
        if let Some(waiting) = facts.waiting.remove(&number) {
            let now = facts.now;
            facts.last_told.insert((waiting.process, waiting.key), now);
        }
    }

    /// A client was given a lease.
    pub(crate) fn acquired(&self, lease: &Lease, clock: &HostClock, process: ProcessId) -> u64 {
        let mut facts = self.facts();
        let number = facts.number();
        let watched = Watched {
            key: lease.key().as_str().to_owned(),
            lease: lease.id().expose(),
            token: lease.token().get(),
            view: lease.view(),
            clock: clock.clone(),
            process,
            over: false,
        };
        facts.leases.insert(number, watched);
        facts.happened.push(Happened::Acquired(number));
        number
    }

    /// A lease is of no interest any more.
    pub(crate) fn ended(&self, number: u64) {
        self.facts().leases.remove(&number);
    }

    /// A bid has left its sender.
    pub(crate) fn sent(&self, posting: &str, attempt: &str, earlier: Vec<Earlier>) {
        let (posting, attempt) = (posting.to_owned(), attempt.to_owned());
        self.facts().happened.push(Happened::Sent { posting, attempt, earlier });
    }

    /// The ledger let an attempt begin.
    pub(crate) fn started(&self, info: &AttemptInfo) {
        let info = Box::new(info.clone());
        self.facts().happened.push(Happened::Begun { info, again: false });
    }

    /// The ledger let an attempt begin again.
    pub(crate) fn resent(&self, info: &AttemptInfo) {
        let info = Box::new(info.clone());
        self.facts().happened.push(Happened::Begun { info, again: true });
    }

    /// The ledger has changed an attempt.
    pub(crate) fn attempt(&self, info: &AttemptInfo) {
        self.facts().happened.push(Happened::Attempt(Box::new(info.clone())));
    }

    /// The ledger was told how an attempt went.
    pub(crate) fn outcome(&self, attempt: &AttemptId, refused: Option<String>) {
        let attempt = attempt.to_string();
        self.facts().happened.push(Happened::Outcome { attempt, refused });
    }

    /// Whether the lock of an attempt's posting is still the one that it was reserved under.
    pub(crate) fn holds(&self, info: &AttemptInfo) -> bool {
        let Ok(key) = Key::new(&info.marketplace, &info.posting) else { return false };
        let facts = self.facts();
        let lock = facts.keys.get(key.as_str()).and_then(|view| view.lock.as_ref());
        lock.is_some_and(|lock| lock.token == info.token.get())
    }

    /// Whether a process has ended, as whoever walks to its machine sees it.
    pub(crate) fn has_ended(&self, mark: &str) -> bool {
        let number = mark.split_once('/').and_then(|(_, number)| number.parse().ok());
        number.is_some_and(|number| self.facts().dead.contains(&number))
    }

    /// An operator frees a key at once.
    pub(crate) fn revokes(&self, key: &Key, token: u64) {
        let mut facts = self.facts();
        let lease = match facts.keys.get(key.as_str()).and_then(|view| view.lock.as_ref()) {
            Some(lock) if lock.token == token => Some(lock.lease.clone()),
            _ => None,
        };
        facts.revoked.extend(lease);
    }

    /// Something is as it must not be, and its finder says so.
    pub(crate) fn wrong(&self, what: String) {
        self.facts().wrong.get_or_insert(what);
    }

    /// A process has ended, and believes and waits for nothing.
    pub(crate) fn died(&self, process: ProcessId) {
        let mut facts = self.facts();
        facts.leases.retain(|_, watched| watched.process != process);
        facts.waiting.retain(|_, waiting| waiting.process != process);
        facts.dead.insert(process);
    }
}
