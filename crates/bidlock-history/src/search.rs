use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{Call, Did, NEVER};

/// So many steps are tried before the search gives up.
const STEPS_MAX: u64 = 3_000_000;
/// A store may notice an end so much later than it is, in microseconds: servers look now and then,
/// and count in milliseconds.
const LATE: u64 = 20_000;
/// How long a grant that was passed on may wait for its confirmation, in microseconds.
const WINDOW: u64 = 3_000_000;

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order in which one lock would have said all this.
    Linearizable,
    /// There is none. These calls could not be put next, in the longest order that was found.
    Not(Vec<Call>),
    /// Too many orders are possible.
    Undecided,
}

/// Looks for an order of the calls of one key in which one lock would have said what was said,
/// each call taking effect at some instant between its beginning and its end.
///
/// The method is that of Wing and Gong, which tries every call that may come next, with Lowe's
/// memory of what was tried.
// Source: Lowe17 §3
#[must_use]
pub fn search(calls: &[Call]) -> Verdict {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| (call.invoked, call.returned));
    let queue = queue(&calls);
    let mut search = Search {
        queue,
        done: vec![0; calls.len().div_ceil(64)],
        calls,
        seen: HashSet::new(),
        steps: 0,
        longest: 0,
        stuck: Vec::new(),
    };
    match search.run() {
        Some(true) => Verdict::Linearizable,
        Some(false) => Verdict::Not(search.stuck),
        None => Verdict::Undecided,
    }
}

/// A lock, as far as calls can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Lock {
    held: Option<Hold>,
    /// The highest token so far.
    last: u64,
}

/// Who may stand in the queue while a call is under way. That is told from the times alone: to try
/// who stood there and who had left would take for ever, and decide little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Queue {
    own: bool,
    others: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Hold {
    lease: u64,
    /// Unknown for a grant whose answer never came.
    token: Option<u64>,
    /// It may have ended from here on …
    earliest: u64,
    /// … and has ended from here on.
    latest: u64,
}

struct Search {
    calls: Vec<Call>,
    /// What the queue may be to each call.
    queue: Vec<Queue>,
    /// Which calls have their place, as bits.
    done: Vec<u64>,
    seen: HashSet<u64>,
    steps: u64,
    longest: usize,
    stuck: Vec<Call>,
}

/// A place in the order, and what else could stand there.
struct Frame {
    placed: Option<usize>,
    next: Vec<(usize, Lock)>,
}

impl Search {
    fn run(&mut self) -> Option<bool> {
        let first = self.next(&Lock::default());
        let mut stack = vec![Frame { placed: None, next: first }];
        if self.is_over() {
            return Some(true);
        }
        while let Some(frame) = stack.last_mut() {
            let Some((at, lock)) = frame.next.pop() else {
                if let Some(at) = frame.placed {
                    self.done[at / 64] &= !(1 << (at % 64));
                }
                stack.pop();
                continue;
            };
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return None;
            }
            self.done[at / 64] |= 1 << (at % 64);
            if self.is_over() {
                return Some(true);
            }
            let next =
                if self.seen.insert(self.place(&lock)) { self.next(&lock) } else { Vec::new() };
            stack.push(Frame { placed: Some(at), next });
            if stack.len() > self.longest {
                self.longest = stack.len();
                self.stuck = self.frontier().into_iter().map(|at| self.calls[at]).collect();
            }
        }
        Some(false)
    }

    fn is_done(&self, at: usize) -> bool {
        self.done[at / 64] & (1 << (at % 64)) != 0
    }

    /// Whether all calls that were answered have their place.
    fn is_over(&self) -> bool {
        (0..self.calls.len()).all(|at| self.is_done(at) || self.calls[at].is_optional())
    }

    fn place(&self, lock: &Lock) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.done, lock).hash(&mut hasher);
        hasher.finish()
    }

    /// The calls of which one has to come next: those that began before any other ended.
    fn frontier(&self) -> Vec<usize> {
        let open = || (0..self.calls.len()).filter(|at| !self.is_done(*at));
        let must = open().filter(|at| !self.calls[*at].is_optional());
        let first = must.map(|at| self.calls[at].returned).min().unwrap_or(NEVER);
        open().take_while(|at| self.calls[*at].invoked <= first).collect()
    }

    /// What may come next, and the lock after it; the likeliest last.
    fn next(&self, lock: &Lock) -> Vec<(usize, Lock)> {
        // Nothing goes behind a call that began after it could take effect no more.
        let latest = (0..self.calls.len()).rfind(|at| self.is_done(*at));
        let since = latest.map_or(0, |at| self.calls[at].invoked);
        let mut frontier = self.frontier();
        frontier.retain(|at| self.calls[*at].returned >= since);
        frontier.sort_by_key(|at| std::cmp::Reverse(self.calls[*at].returned));
        let open = self.calls.iter().enumerate().filter(|(at, _)| !self.is_done(*at));
        let lowest = open.filter_map(|(_, call)| call.token()).min().unwrap_or(NEVER);
        let mut next = Vec::new();
        let mut looks: Option<usize> = None;
        for at in frontier {
            let call = &self.calls[at];
            if call.token().is_some_and(|token| token > lowest) {
                continue; // Tokens rise: another grant was before it.
            }
            match lock.after(call, self.queue[at]) {
                None => {}
                Some(after) if after != *lock => next.push((at, after)),
                Some(_) if call.is_optional() => {}
                // It leaves the queue here, and a grant that comes first it would end.
                Some(after) if call.did == Did::Released => next.push((at, after)),
                Some(_) => looks = Some(at),
            }
        }
        // What changes nothing can as well come now. Only what would be too late after it goes
        // before it.
        if let Some(at) = looks {
            let invoked = self.calls[at].invoked;
            next.retain(|(other, _)| self.calls[*other].returned < invoked);
            next.push((at, *lock));
        }
        next
    }
}

impl Call {
    /// Whether it may have had no effect at all.
    const fn is_optional(&self) -> bool {
        matches!(
            self.did,
            Did::MaybeAcquired { .. } | Did::MaybeRenewed { .. } | Did::MaybeReleased
        )
    }
}

impl Lock {
    /// The lock after the call; none when it would not have said so.
    fn after(&self, call: &Call, queue: Queue) -> Option<Self> {
        let lease = call.lease;
        let held = self.held;
        let own = held.filter(|held| held.lease == lease && call.invoked <= held.latest);
        // It may have ended, and so may whatever was handed over since.
        let may_be_free = held.is_none_or(|held| held.earliest <= call.returned);
        match call.did {
            Did::Granted { token, .. } | Did::Pushed { token, .. } => {
                let same = own.filter(|own| own.token.is_none_or(|known| known == token));
                let new = may_be_free && token > self.last;
                let repeats = same.is_some_and(|own| own.token.is_some() || token > self.last);
                (repeats || new).then(|| self.granted(call, Some(token)))
            }
            Did::MaybeAcquired { .. } => {
                let own_token = own.and_then(|own| own.token);
                let can = own.is_some() || may_be_free;
                can.then(|| self.granted(call, own_token))
            }
            Did::Held { .. } => {
                let by_other =
                    held.is_some_and(|held| held.lease != lease && call.invoked <= held.latest);
                let passed_on = may_be_free && queue.others;
                (by_other || passed_on).then_some(*self)
            }
            Did::Renewed { .. } | Did::MaybeRenewed { .. } => {
                own.map(|own| self.extended(own, call))
            }
            Did::Lost => {
                let ended = held.is_none_or(|held| held.lease != lease) || may_be_free;
                ended.then_some(*self)
            }
            Did::Released => {
                let had = own.is_some() || queue.own;
                had.then(|| self.released(lease))
            }
            Did::NotOurs => {
                let none = held.is_none_or(|held| held.lease != lease) || may_be_free;
                none.then_some(*self)
            }
            Did::MaybeReleased => Some(self.released(lease)),
        }
    }

    fn granted(&self, call: &Call, token: Option<u64>) -> Self {
        let mut after = *self;
        let known = self.held.filter(|held| held.lease == call.lease && held.token == token);
        let until = call.believed_until().unwrap_or_default();
        let earliest = known.map_or(until, |known| known.earliest.max(until));
        let latest = known.map_or(0, |known| known.latest).max(call.latest_end());
        after.held = Some(Hold { lease: call.lease, token, earliest, latest });
        after.last = after.last.max(token.unwrap_or_default());
        after
    }

    fn extended(&self, own: Hold, call: &Call) -> Self {
        let earliest = own.earliest.max(call.believed_until().unwrap_or_default());
        let latest = own.latest.max(call.latest_end());
        Self { held: Some(Hold { earliest, latest, ..own }), ..*self }
    }

    fn released(&self, lease: u64) -> Self {
        let mut after = *self;
        after.held = after.held.filter(|held| held.lease != lease);
        after
    }
}

/// Works out who may stand in the queue: from the request of a waiter on, up to the answer to its
/// release.
fn queue(calls: &[Call]) -> Vec<Queue> {
    let mut waits: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    for call in calls {
        if let Did::Held { waits: true } | Did::MaybeAcquired { waits: true, .. } = call.did {
            waits.entry(call.lease).or_insert((call.invoked, NEVER));
        }
    }
    for call in calls {
        if let (Did::Released | Did::NotOurs, Some((_, until))) =
            (call.did, waits.get_mut(&call.lease))
        {
            *until = (*until).min(call.returned);
        }
    }
    let meets =
        |call: &Call, (from, until): &(u64, u64)| *from <= call.returned && call.invoked <= *until;
    let of = |call: &Call| Queue {
        own: waits.get(&call.lease).is_some_and(|time| meets(call, time)),
        others: waits.iter().any(|(lease, time)| *lease != call.lease && meets(call, time)),
    };
    calls.iter().map(of).collect()
}

impl Call {
    /// When what it granted has ended for certain.
    const fn latest_end(&self) -> u64 {
        match self.did {
            Did::Granted { ttl, .. }
            | Did::Renewed { ttl }
            | Did::MaybeAcquired { ttl, .. }
            | Did::MaybeRenewed { ttl } => self.returned.saturating_add(ttl).saturating_add(LATE),
            // A window and its way; its confirmation says more.
            Did::Pushed { until, .. } => until.saturating_add(WINDOW).saturating_add(LATE),
            _ => 0,
        }
    }
}
