//! Histories of a correct lock that does one thing after the other, as clients see it.

use bidlock_history::{Call, Did, NEVER};
use proptest::prelude::*;

pub(crate) const MS: u64 = 1_000;
const TTL: u64 = 300 * MS;
const WINDOW: u64 = 100 * MS;
const CLIENTS: usize = 6;

/// One thing that some client does.
#[derive(Debug, Clone, Copy)]
struct Act {
    client: usize,
    /// How long after the thing before, in microseconds.
    gap: u64,
    /// How long the request and the answer take.
    ways: (u64, u64),
    kind: u8,
    /// In percent, how likely the answer is lost, or the request.
    luck: u8,
}

fn acts(most: usize, waits: bool) -> impl Strategy<Value = Vec<Call>> {
    let gap = prop_oneof![8 => 0..2 * MS, 1 => 0..120 * MS];
    let ways = (0..3 * MS, 0..3 * MS);
    let act = (0..CLIENTS, gap, ways, 0..10_u8, 0..100_u8)
        .prop_map(|(client, gap, ways, kind, luck)| Act { client, gap, ways, kind, luck });
    prop::collection::vec(act, 1..most).prop_map(move |acts| play(&acts, waits))
}

/// Calls of any kind.
pub(crate) fn calls(most: usize) -> impl Strategy<Value = Vec<Call>> {
    acts(most, true)
}

/// Calls of clients that enter no queue.
pub(crate) fn without_waits(most: usize) -> impl Strategy<Value = Vec<Call>> {
    acts(most, false)
}

#[derive(Debug, Default)]
struct Lock {
    held: Option<(u64, u64, u64)>,
    queue: Vec<u64>,
    last: u64,
}

impl Lock {
    fn expire(&mut self, now: u64) {
        while let Some((_, _, ends)) = self.held.filter(|held| held.2 <= now) {
            self.held = None;
            self.hand_over(ends);
        }
    }

    fn hand_over(&mut self, now: u64) {
        if !self.queue.is_empty() {
            self.last += 1;
            self.held = Some((self.queue.remove(0), self.last, now + WINDOW));
        }
    }

    fn acquire(&mut self, lease: u64, waits: bool, now: u64) -> Did {
        match self.held {
            Some((holder, token, ends)) if holder == lease => {
                self.held = Some((lease, token, ends.max(now + TTL)));
                Did::Granted { token, ttl: TTL }
            }
            Some(_) => {
                if waits && !self.queue.contains(&lease) {
                    self.queue.push(lease);
                } else if !waits {
                    self.queue.retain(|other| *other != lease);
                }
                Did::Held { waits }
            }
            None => {
                self.last += 1;
                self.held = Some((lease, self.last, now + TTL));
                Did::Granted { token: self.last, ttl: TTL }
            }
        }
    }

    fn renew(&mut self, lease: u64, now: u64) -> Did {
        match &mut self.held {
            Some((holder, _, ends)) if *holder == lease => {
                *ends = (*ends).max(now + TTL);
                Did::Renewed { ttl: TTL }
            }
            _ => Did::Lost,
        }
    }

    fn release(&mut self, lease: u64, now: u64) -> Did {
        if self.held.is_some_and(|held| held.0 == lease) {
            self.held = None;
            self.hand_over(now);
            return Did::Released;
        }
        let before = self.queue.len();
        self.queue.retain(|other| *other != lease);
        if self.queue.len() < before { Did::Released } else { Did::NotOurs }
    }
}

/// What one client is at.
#[derive(Debug, Clone, Copy, Default)]
struct Client {
    lease: u64,
    free_at: u64,
    granted: bool,
    asked: bool,
}

fn play(acts: &[Act], waits: bool) -> Vec<Call> {
    let mut lock = Lock::default();
    let mut clients = [Client::default(); CLIENTS];
    let (mut now, mut next_lease, mut calls) = (1_000 * MS, 0, Vec::new());
    for act in acts {
        now += act.gap;
        let client = &mut clients[act.client];
        if client.lease == 0 {
            next_lease += 1;
            *client = Client { lease: next_lease, ..*client };
        }
        now = now.max(client.free_at + 1);
        lock.expire(now);
        let (lease, invoked) = (client.lease, (now - act.ways.0).max(client.free_at));
        let returned = now + act.ways.1;
        client.free_at = returned + 1;
        let waits = waits && act.kind.is_multiple_of(2);
        let renews = client.granted && act.kind < 3;
        let asks = !client.asked || !client.granted && act.kind < 6;
        // A request that is lost has no effect, an answer that is lost has all of it.
        let (effect, answered) = (act.luck != 0, act.luck > 1);
        let unknown = if renews {
            Did::MaybeRenewed { ttl: TTL }
        } else if asks {
            Did::MaybeAcquired { ttl: TTL, waits }
        } else {
            Did::MaybeReleased
        };
        let did = match unknown {
            _ if !effect => unknown,
            Did::MaybeRenewed { .. } => lock.renew(lease, now),
            Did::MaybeAcquired { .. } => lock.acquire(lease, waits, now),
            _ => lock.release(lease, now),
        };
        client.asked = true;
        client.granted |= matches!(did, Did::Granted { .. });
        let over = !renews && !asks || did == Did::Lost;
        if answered {
            calls.push(Call { lease, invoked, returned, did });
        } else {
            let dies = if unknown == Did::MaybeReleased { NEVER } else { returned + 5 * MS };
            calls.push(Call { lease, invoked, returned: dies, did: unknown });
        }
        if over || !answered {
            // It goes on with a lease of its own.
            let free_at = client.free_at;
            *client = Client { free_at, ..Client::default() };
        }
    }
    calls
}
