use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use bidlock_core::{
    FencingToken, Holder, Key, Label, LeaseId, Listener, Liveness, Moment, News, Platform,
    ProcessMark, Ttl, Wake, WallTime, grant_window, limits, next_token,
};

use super::Fault;

/// Everything that the small store knows.
#[derive(Debug)]
pub(super) struct State {
    pub(super) fault: Option<Fault>,
    pub(super) locks: BTreeMap<String, Lock>,
    pub(super) listeners: Vec<(usize, Weak<dyn Listener>)>,
    pub(super) clients: usize,
    counter: u64,
    news: Vec<(usize, Wake)>,
}

/// One key: who has it, and who waits, longest first.
#[derive(Debug)]
pub(super) struct Lock {
    pub(super) key: Key,
    pub(super) grant: Option<Grant>,
    pub(super) queue: Vec<Waiter>,
    /// Leases that were taken at once, and until when they were promised.
    pub(super) taken: Vec<(LeaseId, Moment)>,
    /// By a fault, whoever comes first gets the key, and the queue does not count.
    pub(super) free_for_all: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) asker: Asker,
    pub(super) token: FencingToken,
    pub(super) since: Moment,
    pub(super) until: Moment,
    pub(super) confirmed: bool,
    pub(super) revoked: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) asker: Asker,
    /// When it will have waited long enough.
    pub(super) deadline: Moment,
    /// Until when its last look counts.
    pub(super) looked_until: Moment,
}

#[derive(Debug, Clone)]
pub(super) struct Asker {
    pub(super) lease: LeaseId,
    pub(super) label: Option<Label>,
    pub(super) ttl: Ttl,
    pub(super) client: usize,
    pub(super) process: ProcessMark,
}

impl State {
    pub(super) fn new(fault: Option<Fault>) -> Self {
        Self {
            fault,
            locks: BTreeMap::new(),
            listeners: Vec::new(),
            clients: 0,
            counter: 0,
            news: Vec::new(),
        }
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn shows(&self, asker: &Asker) -> Holder {
        let label = asker.label.clone().filter(|_| !self.has(Fault::LabelIsForgotten));
        match asker.lease.holder(label) {
            Holder::Lease { host, pid, label, .. } if self.has(Fault::HolderShowsSecret) => {
                let short = format!("{:016x}", asker.lease.unique());
                Holder::Lease { host, pid, short, label }
            }
            holder => holder,
        }
    }

    pub(super) fn name(&self, key: &Key) -> String {
        let shared = self.has(Fault::KeysShareState);
        if shared { key.posting() } else { key.as_str().to_owned() }
    }

    /// Takes the lock of a key out, as it is at this moment: what ended is gone, and a key that
    /// nobody has is handed to the next live waiter (I6, I7).
    pub(super) fn take(&mut self, key: &Key, platform: &Platform, now: Moment) -> Lock {
        let new = || Lock {
            key: key.clone(),
            grant: None,
            queue: Vec::new(),
            taken: Vec::new(),
            free_for_all: false,
        };
        let mut lock = self.locks.remove(&self.name(key)).unwrap_or_else(new);
        self.settle(&mut lock, platform, now, Fault::ExpiryDoesNotHandOver);
        lock
    }

    /// Puts the lock back; a free key that nobody waits for leaves no trace.
    pub(super) fn put(&mut self, lock: Lock) {
        if lock.grant.is_some() || !lock.queue.is_empty() || !lock.taken.is_empty() {
            self.locks.insert(self.name(&lock.key), lock);
        }
    }

    /// `unless` is the fault under which the key is not handed over here.
    pub(super) fn settle(
        &mut self,
        lock: &mut Lock,
        platform: &Platform,
        now: Moment,
        unless: Fault,
    ) {
        let (no_deadline, no_silence) =
            (self.has(Fault::DeadlineIsIgnored), self.has(Fault::SilenceIsIgnored));
        lock.queue.retain(|waiter| {
            (waiter.deadline > now || no_deadline) && (waiter.looked_until > now || no_silence)
        });
        if let Some(grant) = lock.grant.take_if(|grant| self.is_over(grant, now))
            && !grant.confirmed
            && self.has(Fault::WindowKeepsThePlace)
        {
            let deadline = now + Duration::from_hours(1);
            let waiter = Waiter { asker: grant.asker, deadline, looked_until: deadline };
            lock.queue.insert(0, waiter);
        }
        lock.free_for_all |= lock.grant.is_none() && self.has(unless);
        while lock.grant.is_none() && !lock.queue.is_empty() && !lock.free_for_all {
            let newest = self.has(Fault::NewestIsServedFirst);
            let next = lock.queue.remove(if newest { lock.queue.len() - 1 } else { 0 });
            let gone = platform.processes.liveness(&next.asker.process) == Liveness::Gone;
            if gone && !self.has(Fault::DeathIsIgnored) {
                continue;
            }
            if !self.hand_over(lock, next.asker.clone(), platform.clock.wall(), now) {
                lock.queue.insert(0, next);
                return;
            }
        }
    }

    fn is_over(&self, grant: &Grant, now: Moment) -> bool {
        let stuck = self.has(Fault::NothingExpires)
            || (!grant.confirmed && self.has(Fault::WindowNeverEnds));
        grant.until <= now && !stuck
    }

    /// Gives the key to a waiter under a window; returns false when no token is left (I1).
    fn hand_over(&mut self, lock: &mut Lock, asker: Asker, wall: WallTime, now: Moment) -> bool {
        let last = FencingToken::new(self.counter);
        let keep = self.has(Fault::HandOverKeepsToken);
        let token = if keep { Some(last) } else { self.next_token(wall) };
        let Some(token) = token else { return false };
        let window = match self.fault {
            Some(Fault::WindowIsTooShort) => limits::TTL_MIN,
            Some(Fault::WindowIsTheTtl) => asker.ttl.get(),
            _ => grant_window(asker.ttl),
        };
        let believed = now + window.saturating_sub(window / limits::DRIFT_PARTS);
        let told =
            if self.has(Fault::WakeNamesAnotherToken) { last.get() + 7 } else { token.get() };
        let token_told = FencingToken::new(told);
        self.tell(&lock.key, &asker, News::Granted { token: token_told, until: believed });
        let until = now + window;
        let grant = Grant { asker, token, since: now, until, confirmed: false, revoked: false };
        lock.grant = Some(grant);
        true
    }

    pub(super) fn next_token(&mut self, wall: WallTime) -> Option<FencingToken> {
        let token = match self.fault {
            Some(Fault::TokensStandStill) => FencingToken::new(self.counter.max(1)),
            Some(Fault::TokensFromCounterAlone) => next_token(self.counter, WallTime::default())?,
            Some(Fault::TokensFromClockAlone) => FencingToken::new(wall.as_micros()),
            Some(Fault::TokensAreUnbounded) => {
                FencingToken::new(wall.as_micros().max(self.counter + 1))
            }
            _ => next_token(self.counter, wall)?,
        };
        self.counter = token.get();
        Some(token)
    }

    pub(super) fn tell(&mut self, key: &Key, asker: &Asker, news: News) {
        let wake = Wake { key: key.clone(), lease: asker.lease.clone(), news };
        self.news.push((asker.client, wake));
    }

    /// What is to be said once nothing is locked any more (I14), and to whom.
    pub(super) fn take_news(&mut self) -> Vec<(Weak<dyn Listener>, Wake)> {
        let news = std::mem::take(&mut self.news);
        if self.has(Fault::NobodyIsWoken) {
            return Vec::new();
        }
        let everybody = self.has(Fault::EverybodyIsWoken);
        news.into_iter()
            .flat_map(|(client, wake)| {
                let hears = move |listener: &&(usize, _)| everybody || listener.0 == client;
                let listeners = self.listeners.iter().filter(hears);
                listeners.map(move |(_, listener)| (Weak::clone(listener), wake.clone()))
            })
            .collect()
    }
}
