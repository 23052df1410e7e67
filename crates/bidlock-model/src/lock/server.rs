//! The scripts of the Redis store as steps of a model: each runs at once, and does what the `.lua`
//! file of its name does. Times are ticks from now, so that nothing depends on when it happens. A
//! request that comes too late (I9) does not come at all: see `State::tick`.

use arrayvec::ArrayVec;
use bidlock_core::{WallTime, next_token};

use super::{Clients, FOREVER, Mutant, TASKS, TTL, WINDOW};

/// A lease: which task asked for it, and the how many-th of that task it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lease {
    pub(crate) task: u8,
    pub(crate) number: u8,
}

/// The state that is written into a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mark {
    Held,
    Waited,
    Granted,
    Revoked,
}

/// The value of a lock's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Grant {
    pub(crate) lease: Lease,
    pub(crate) token: u8,
    pub(crate) mark: Mark,
    /// Ticks until it ends; `None` for one that never does, which must not be.
    pub(crate) left: Option<u8>,
}

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) lease: Lease,
    /// Ticks until its waiter gives up; dead at zero.
    pub(crate) left: u8,
}

/// All that a server keeps of one lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Server {
    pub(crate) key: Option<Grant>,
    pub(crate) queue: ArrayVec<Place, TASKS>,
    /// The client of a grant that is not confirmed yet.
    pub(crate) window: Option<u8>,
    /// For how long those who wait know that the key may end.
    pub(crate) told: Option<u8>,
    /// A lease that was revoked at once, until what it was promised has passed.
    pub(crate) revoked: Option<(Lease, u8)>,
    /// The counter of tokens; absent on an empty server.
    pub(crate) counter: Option<u8>,
}

/// What a script answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Granted { token: u8 },
    Held { left: u8 },
    Renewed,
    Lost,
}

/// What a script publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum News {
    Granted { token: u8 },
    Ends,
    Look,
}

/// What a script sees of the world around its keys.
#[derive(Debug)]
pub(crate) struct World<'a> {
    /// The client of each task.
    pub(crate) clients: &'a [u8],
    /// The clients to whom a message is counted as not heard.
    pub(crate) deaf: Clients,
    /// The wall clock, which no token has reached yet unless it was set back.
    pub(crate) wall: u8,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) pushed: Vec<(Lease, News)>,
}

impl World<'_> {
    fn client(&self, lease: Lease) -> u8 {
        self.clients[lease.task as usize]
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn tell(&mut self, lease: Lease, news: News) -> bool {
        let heard = !self.deaf.has(self.client(lease));
        if heard {
            self.pushed.push((lease, news));
        }
        heard
    }
}

impl Server {
    /// `acquire.lua`, `acquire_contended.lua`, `enqueue.lua`.
    pub(crate) fn acquire(&mut self, lease: Lease, wait: u8, world: &mut World<'_>) -> Reply {
        let before = self.key;
        if let Some(held) = before
            && held.lease == lease
            && held.mark != Mark::Revoked
            && !world.is(Mutant::OwnRepeatIsAnother)
        {
            // I8: a repeat, or the confirmation of a window.
            let left = held.left.map(|left| left.max(TTL));
            self.key = Some(Grant { mark: self.waited(), left, ..held });
            self.confirmed();
            return Reply::Granted { token: held.token };
        }
        if before.is_none() {
            self.drop_silent(world);
            let barges = world.is(Mutant::NewcomerFirst);
            if barges || !self.pass_on(Some(lease), world) {
                let token = self.next_token(world); // I6: nobody who waits can take it before
                self.leave(lease);
                let (mark, left) = (self.waited(), Some(TTL));
                self.key = Some(Grant { lease, token, mark, left });
                return Reply::Granted { token };
            }
        }
        let left = self.key.and_then(|held| held.left).unwrap_or(TTL);
        if before.is_some_and(|held| held.lease == lease) {
            return Reply::Held { left };
        }
        self.enqueue(Place { lease, left: wait }, before.map(|held| held.mark), world);
        Reply::Held { left }
    }

    fn enqueue(&mut self, own: Place, mark: Option<Mark>, world: &World<'_>) {
        let lease = own.lease;
        while self.queue.first().is_some_and(|first| first.left == 0 && first.lease != lease) {
            self.queue.remove(0);
        }
        if let Some(place) = self.queue.iter_mut().find(|place| place.lease == lease) {
            *place = own;
        } else {
            self.queue.push(own);
            self.told = None;
        }
        if mark == Some(Mark::Held)
            && let Some(held) = &mut self.key
        {
            held.mark = Mark::Waited; // its release has to look for waiters now
            if world.is(Mutant::KeyWithoutEnd) {
                held.left = None;
            }
        }
    }

    /// `renew.lua`.
    pub(crate) fn renew(&mut self, lease: Lease, world: &World<'_>) -> Reply {
        match self.key {
            Some(held) if held.lease == lease => {
                if held.mark == Mark::Revoked {
                    return Reply::Lost;
                }
                let mark = if held.mark == Mark::Granted { self.waited() } else { held.mark };
                let left = held.left.map(|left| left.max(TTL)); // I5
                self.key = Some(Grant { mark, left, ..held });
                if held.mark == Mark::Granted {
                    self.confirmed();
                }
                Reply::Renewed
            }
            None if world.is(Mutant::RenewRevives) && self.counter.is_some() => {
                let token = self.counter.unwrap_or(1);
                let (mark, left) = (self.waited(), Some(TTL));
                self.key = Some(Grant { lease, token, mark, left });
                Reply::Renewed
            }
            None if world.is(Mutant::RenewOfNothingIsYes) => Reply::Renewed,
            _ => Reply::Lost,
        }
    }

    /// `release.lua`, `release_contended.lua`.
    pub(crate) fn release(&mut self, lease: Lease, world: &mut World<'_>) {
        let held = self.key;
        let ours = held.is_some_and(|held| {
            let crossed = held.mark == Mark::Granted && world.is(Mutant::CancelForgetsGrant);
            held.lease == lease && !crossed || world.is(Mutant::ReleaseWithoutCompare)
        });
        let mut left = false;
        if ours {
            self.key = None;
            if held.is_some_and(|held| held.mark == Mark::Held) {
                return;
            }
            if held.is_some_and(|held| held.mark == Mark::Granted) {
                self.window = None;
            }
        } else {
            left = self.queue.iter().any(|place| place.lease == lease); // I11
            self.leave(lease);
            if left {
                self.told = None;
            }
        }
        if ours {
            self.pass_on(None, world);
        } else if held.is_none() && (!self.queue.is_empty() || self.window.is_some()) {
            self.drop_silent(world);
            self.pass_on(None, world);
        } else if left && self.queue.is_empty() {
            self.forget_places();
        }
    }

    /// `revoke.lua`.
    pub(crate) fn revoke(&mut self, now: bool, world: &mut World<'_>) {
        let Some(held) = self.key else { return };
        let left = held.left.unwrap_or(TTL).max(1);
        self.window = None;
        if now {
            self.key = None;
            self.revoked = Some((held.lease, left));
            self.pass_on(None, world);
        } else {
            self.key = Some(Grant { mark: Mark::Revoked, ..held });
        }
        world.tell(held.lease, News::Look);
    }

    /// Everything that is over is gone (I10).
    pub(crate) fn tick(&mut self) {
        if let Some(left) = self.key.as_mut().and_then(|held| held.left.as_mut()) {
            *left -= 1;
        }
        self.key = self.key.filter(|held| held.left != Some(0));
        for place in self.queue.iter_mut().filter(|place| place.left != FOREVER) {
            place.left = place.left.saturating_sub(1);
        }
        self.told = self.told.and_then(|left| left.checked_sub(1)).filter(|left| *left > 0);
        let revoked = self.revoked.map(|(lease, left)| (lease, left - 1));
        self.revoked = revoked.filter(|(_, left)| *left > 0);
    }

    /// `pass_on.lua`: gives the free key to the waiter that has waited longest, lives, and hears
    /// (I6). Returns whether somebody else than `own` has it now.
    fn pass_on(&mut self, own: Option<Lease>, world: &mut World<'_>) -> bool {
        let (mut at, mut deaf) = (0, Vec::new());
        while let Some(first) = self.queue.get(at).copied() {
            let lives = first.left > 0 || world.is(Mutant::WindowIgnoresDeadline);
            if !lives {
                self.queue.remove(at);
                continue;
            }
            if own == Some(first.lease) {
                return false;
            }
            let client = world.client(first.lease);
            if !deaf.contains(&client) {
                let token = self.next_token(world);
                let (lease, mark, left) = (first.lease, Mark::Granted, Some(WINDOW));
                self.key = Some(Grant { lease, token, mark, left });
                if world.tell(lease, News::Granted { token }) {
                    self.window = Some(client);
                    self.leave(lease);
                    if self.queue.len() > at {
                        self.tell_others(world);
                    }
                    return true;
                }
                self.key = None; // nobody heard of it
                deaf.push(client);
            }
            at += 1;
        }
        if self.queue.is_empty() {
            self.forget_places();
        }
        false
    }

    /// I13: the last waiter of each client looks when the window ends.
    fn tell_others(&mut self, world: &mut World<'_>) {
        if self.told.is_some() {
            return;
        }
        self.told = Some(WINDOW);
        let mut heard = Vec::new();
        for place in self.queue.clone().into_iter().rev() {
            let client = world.client(place.lease);
            if place.left > 0 && !heard.contains(&client) {
                heard.push(client);
                world.tell(place.lease, News::Ends);
            }
        }
    }

    /// I7: the client that let its window pass does not hear.
    fn drop_silent(&mut self, world: &World<'_>) {
        if let Some(silent) = self.window.take() {
            self.queue.retain(|place| world.client(place.lease) != silent);
        }
    }

    fn next_token(&mut self, world: &World<'_>) -> u8 {
        let last = self.counter.unwrap_or(0);
        let wall = if world.is(Mutant::TokenFromCounterAlone) { 0 } else { world.wall };
        // I1, by the function of the embedded stores. Tokens of the model stay small.
        let next = next_token(last.into(), WallTime::from_micros(wall.into()));
        let token = next.and_then(|token| u8::try_from(token.get()).ok()).unwrap_or(u8::MAX);
        self.counter = Some(token);
        token
    }

    fn waited(&self) -> Mark {
        if self.queue.is_empty() { Mark::Held } else { Mark::Waited }
    }

    /// A grant's holder has heard of it.
    fn confirmed(&mut self) {
        self.window = None;
        if self.queue.is_empty() {
            self.forget_places();
        }
    }

    fn leave(&mut self, lease: Lease) {
        self.queue.retain(|place| place.lease != lease);
    }

    fn forget_places(&mut self) {
        (self.window, self.told) = (None, None);
    }
}
