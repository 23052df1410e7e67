//! What this process knows of the keys that its leases wait for, so that it asks once for all of
//! them (P4).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bidlock_core::{Attempt, FencingToken, Holder, Key, LeaseId, Moment, limits};

/// A lock of a client that tells nobody when it is done is looked at by one process this often.
const FOREIGN: Duration = Duration::from_millis(100);
/// While one lease asks, the others of its process rely on it for so long.
const ASKING: Duration = Duration::from_millis(250);

#[derive(Debug, Default)]
pub(crate) struct Places {
    keys: Mutex<BTreeMap<Key, Waited>>,
}

/// One key, and who in this process waits for it.
#[derive(Debug, Default)]
struct Waited {
    places: BTreeMap<u64, Place>,
    seen: Option<Seen>,
    /// When a lease began to ask, whose answer has not come.
    asked: Option<Moment>,
}

#[derive(Debug)]
struct Place {
    lease: LeaseId,
    ahead: u32,
    /// Whether the server is known to have this place.
    known: bool,
    /// The token of a grant that a message brought, until the server was asked about it.
    pushed: Option<FencingToken>,
}

/// What the server said last, to whichever lease asked.
#[derive(Debug)]
struct Seen {
    holder: Holder,
    at: Moment,
    /// `None` for a lock without an end.
    ends: Option<Moment>,
    /// Whether it shows what became of the places of this process: the lease that asked was known
    /// to have one. Who only enters the queue is told nothing of that, and could be told so again
    /// and again after the server has lost the others.
    shows_places: bool,
}

/// An answer that somebody else has the key.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) holder: Holder,
    pub(crate) remaining: Duration,
    pub(crate) ahead: u32,
    /// The lease had no place until now.
    pub(crate) anew: bool,
}

impl Places {
    /// Answers a look from what is known, when the server was asked not long ago and has nothing
    /// new to say: its messages tell of every change.
    pub(crate) fn recent(&self, key: &Key, lease: &LeaseId, now: Moment) -> Option<Attempt> {
        let mut keys = self.lock();
        let waited = keys.get_mut(key)?;
        let place = waited.places.get(&lease.unique()).filter(|place| place.known)?;
        let seen = waited.seen.as_ref()?;
        let foreign = seen.holder.is_foreign();
        let fresh = if foreign { FOREIGN } else { limits::LOOK_INTERVAL_MAX };
        let left = seen.ends.map(|ends| ends.since(now));
        // Without an end it is looked at as often as may be.
        let mut remaining = left.unwrap_or(limits::TTL_MAX);
        if remaining.is_zero() || now >= seen.at + fresh || !seen.shows_places {
            let until = waited.asked.map(|asked| asked + ASKING).filter(|until| now < *until);
            let Some(until) = until else {
                waited.asked = Some(now);
                return None;
            };
            remaining = until.since(now);
        }
        if foreign {
            // Who waits for such a client looks at times of its own, and is told what is known.
            remaining = left.unwrap_or_default();
        }
        Some(Attempt::Held { holder: seen.holder.clone(), remaining, ahead: place.ahead })
    }

    /// Keeps what the server told a lease that waits. Returns the leases whose places the server
    /// has lost too, if it had lost this one.
    pub(crate) fn told(
        &self,
        key: &Key,
        lease: &LeaseId,
        told: &Told,
        now: Moment,
    ) -> Vec<LeaseId> {
        let mut keys = self.lock();
        let waited = keys.entry(key.clone()).or_default();
        let place = Place { lease: lease.clone(), ahead: told.ahead, known: true, pushed: None };
        let before = waited.places.insert(lease.unique(), place);
        let shows_places = before.as_ref().is_some_and(|place| place.known);
        let lost = before.is_some_and(|place| place.pushed.is_some() || (told.anew && place.known));
        let ends = (!told.remaining.is_zero()).then(|| now + told.remaining);
        waited.seen = Some(Seen { holder: told.holder.clone(), at: now, ends, shows_places });
        waited.asked = None;
        if lost { waited.doubt_others(lease) } else { Vec::new() }
    }

    /// A message brought the lease a grant, of which nobody knows yet whether it still stands.
    pub(crate) fn pushed(&self, key: &Key, lease: &LeaseId, token: FencingToken) {
        let mut keys = self.lock();
        let place = keys.get_mut(key).and_then(|waited| waited.places.get_mut(&lease.unique()));
        if let Some(place) = place {
            (place.known, place.pushed) = (false, Some(token));
        }
    }

    /// The lease waits no more: it has the key by that token, or nothing. When a message had
    /// brought it another grant, the window passed unused, and the server has dropped all of this
    /// process: returns who has to look.
    pub(crate) fn settled(
        &self,
        key: &Key,
        lease: &LeaseId,
        has: Option<FencingToken>,
    ) -> Vec<LeaseId> {
        let mut keys = self.lock();
        let Some(waited) = keys.get_mut(key) else { return Vec::new() };
        let place = waited.places.remove(&lease.unique());
        waited.asked = None;
        let passed = place.and_then(|place| place.pushed).is_some_and(|token| has != Some(token));
        let others = if passed { waited.doubt_others(lease) } else { Vec::new() };
        if waited.places.is_empty() {
            keys.remove(key);
        }
        others
    }

    /// A key ends sooner than it was told.
    pub(crate) fn ends(&self, key: &Key, at: Moment) {
        if let Some(seen) = self.lock().get_mut(key).and_then(|waited| waited.seen.as_mut()) {
            seen.ends = Some(seen.ends.map_or(at, |ends| ends.min(at)));
        }
    }

    /// Nobody knows any more whether the server has this place.
    pub(crate) fn doubt(&self, key: &Key, lease: &LeaseId) {
        let mut keys = self.lock();
        let place = keys.get_mut(key).and_then(|waited| waited.places.get_mut(&lease.unique()));
        if let Some(place) = place {
            place.known = false;
        }
    }

    /// The lease waits no more, and the grant that a message brought it stands.
    pub(crate) fn leave(&self, key: &Key, lease: &LeaseId) {
        let pushed = {
            let keys = self.lock();
            let place = keys.get(key).and_then(|waited| waited.places.get(&lease.unique()));
            place.and_then(|place| place.pushed)
        };
        self.settled(key, lease, pushed);
    }

    /// Messages may have been lost, and the server may have forgotten everything: returns who has
    /// to look.
    pub(crate) fn doubt_all(&self) -> Vec<(Key, LeaseId)> {
        let mut keys = self.lock();
        let mut all = Vec::new();
        for (key, waited) in keys.iter_mut() {
            for place in waited.places.values_mut() {
                place.known = false;
                all.push((key.clone(), place.lease.clone()));
            }
        }
        all
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Waited>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waited {
    /// Puts the places of all but one in doubt; returns whose they are.
    fn doubt_others(&mut self, lease: &LeaseId) -> Vec<LeaseId> {
        let others = self.places.values_mut().filter(|place| place.lease != *lease);
        others
            .map(|place| {
                place.known = false;
                place.lease.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use bidlock_testkit::SeededRng;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_boot(Duration::from_secs(seconds))
    }

    fn key() -> Key {
        Key::new("upwork", "job_1").unwrap()
    }

    fn told(remaining: u64, anew: bool) -> Told {
        let holder = LeaseId::random("other", 1, &SeededRng::new(9)).holder(None);
        Told { holder, remaining: Duration::from_secs(remaining), ahead: 3, anew }
    }

    fn leases<const N: usize>() -> [LeaseId; N] {
        let rng = SeededRng::new(1);
        std::array::from_fn(|_| LeaseId::random("h", 1, &rng))
    }

    #[test]
    fn one_look_answers_for_all_until_it_is_old_or_the_key_ends() {
        let (places, [first, second, third]) = (Places::default(), leases());
        assert_eq!(places.recent(&key(), &first, at(0)), None);
        places.told(&key(), &first, &told(300, true), at(0));
        assert_eq!(places.recent(&key(), &second, at(1)), None, "it has no place yet");
        places.told(&key(), &second, &told(299, true), at(1));
        places.told(&key(), &first, &told(298, false), at(2));
        let known = places.recent(&key(), &second, at(31)).unwrap();
        let Attempt::Held { remaining, .. } = known else { panic!("{known:?}") };
        assert_eq!(remaining, Duration::from_secs(269));
        assert_eq!(places.recent(&key(), &first, at(32)), None, "old");
        places.told(&key(), &first, &told(5, false), at(31));
        assert!(places.recent(&key(), &second, at(35)).is_some());
        assert_eq!(places.recent(&key(), &second, at(36)), None, "the key has ended");
        assert_eq!(places.recent(&key(), &third, at(35)), None);
    }

    #[test]
    fn who_enters_the_queue_answers_for_nobody_else() {
        let (places, [first, second, third]) = (Places::default(), leases());
        places.told(&key(), &first, &told(3, true), at(0));
        // The server loses everything. Newcomers find the key held, and the queue empty.
        places.told(&key(), &second, &told(3, true), at(2));
        assert_eq!(places.recent(&key(), &first, at(3)), None, "it asks, and is queued again");
        places.told(&key(), &third, &told(3, true), at(3));
        let lost = places.told(&key(), &first, &told(3, true), at(3));
        assert_eq!(lost.len(), 2, "all the others look as well");
        assert!(places.recent(&key(), &first, at(4)).is_some());
    }

    #[test]
    fn a_foreign_lock_without_an_end_stays_one() {
        let (places, [first, second]) = (Places::default(), leases());
        let told = || Told { holder: Holder::foreign("somebody"), ..told(0, false) };
        let since = |millis| at(0) + Duration::from_millis(millis);
        for lease in [&first, &second, &first] {
            places.told(&key(), lease, &told(), at(0));
        }
        let endless = |now| match places.recent(&key(), &second, now) {
            Some(Attempt::Held { remaining, .. }) => remaining.is_zero(),
            other => panic!("{other:?}"),
        };
        assert!(endless(since(50)), "nobody can tell when it ends");
        assert_eq!(places.recent(&key(), &first, since(100)), None, "it asks");
        assert!(endless(since(101)), "nor while somebody asks");
    }

    #[test]
    fn one_asks_while_the_others_rely_on_it() {
        let (places, [first, second]) = (Places::default(), leases());
        places.told(&key(), &first, &told(300, true), at(0));
        places.told(&key(), &second, &told(300, true), at(0));
        assert_eq!(places.recent(&key(), &first, at(30)), None, "it asks");
        let relied = places.recent(&key(), &second, at(30)).unwrap();
        let Attempt::Held { remaining, .. } = relied else { panic!("{relied:?}") };
        assert_eq!(remaining, ASKING, "it looks again if nothing comes of it");
        assert_eq!(places.recent(&key(), &second, at(31)), None, "nothing came of it");
        places.leave(&key(), &first);
        assert_eq!(places.recent(&key(), &second, at(31)), None, "whoever asked has gone");
        places.told(&key(), &second, &told(300, false), at(31));
        assert!(places.recent(&key(), &second, at(60)).is_some());
    }

    #[test]
    fn a_lost_place_puts_the_others_in_doubt() {
        let (places, [first, second]) = (Places::default(), leases());
        assert!(places.told(&key(), &first, &told(300, true), at(0)).is_empty());
        assert!(places.told(&key(), &second, &told(300, true), at(0)).is_empty(), "new, not lost");
        let lost = places.told(&key(), &first, &told(300, true), at(31));
        assert_eq!(lost, std::slice::from_ref(&second));
        assert_eq!(places.recent(&key(), &second, at(32)), None);
        assert!(places.recent(&key(), &first, at(32)).is_some());
        assert_eq!(places.doubt_all().len(), 2);
        assert_eq!(places.recent(&key(), &first, at(32)), None);
    }

    #[test]
    fn a_window_that_passed_unused_puts_the_others_in_doubt() {
        let (places, [first, second]) = (Places::default(), leases());
        let token = FencingToken::new;
        let wait = || {
            places.told(&key(), &first, &told(300, true), at(0));
            places.told(&key(), &second, &told(300, true), at(0));
            places.told(&key(), &second, &told(300, false), at(0));
            places.pushed(&key(), &first, token(7));
        };
        wait();
        assert!(places.settled(&key(), &first, Some(token(7))).is_empty(), "confirmed");
        wait();
        assert_eq!(
            places.settled(&key(), &first, Some(token(8))),
            std::slice::from_ref(&second),
            "anew"
        );
        assert_eq!(places.recent(&key(), &second, at(1)), None);
        wait();
        assert_eq!(places.settled(&key(), &first, None), std::slice::from_ref(&second), "lost");
        wait();
        let lost = places.told(&key(), &first, &told(300, true), at(5));
        assert_eq!(lost, std::slice::from_ref(&second));
        wait();
        places.leave(&key(), &first);
        assert!(places.recent(&key(), &second, at(1)).is_some(), "it stands");
        assert!(places.settled(&key(), &second, None).is_empty());
        assert!(places.is_empty());
    }

    #[test]
    fn nothing_is_left_when_nobody_waits() {
        let (places, [first, second]) = (Places::default(), leases());
        places.told(&key(), &first, &told(300, true), at(0));
        places.told(&key(), &second, &told(300, true), at(0));
        places.leave(&key(), &first);
        assert!(!places.is_empty());
        places.leave(&key(), &second);
        places.leave(&key(), &second);
        assert!(places.is_empty());
    }
}
