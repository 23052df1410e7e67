use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bidlock::{
    AcquireOutcome, Browse, Clock, Error, Event, Key, Locker, Moment, Observer, Ttl, Wait,
};
use tokio::task::{JoinSet, yield_now};

use crate::exit::{Failure, code};

/// How long a lease lives that an interrupted bench leaves behind.
pub(super) const TTL: Duration = Duration::from_secs(10);
/// How many wait for a key that is handed over.
pub(super) const WAITERS: usize = 8;
/// The longest that a waiter is watched while nothing changes.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(2);
/// How long a waiter waits for its turn; only a store that forgot it takes so long.
const TURN: Duration = Duration::from_secs(30);
/// How often the store is asked whether a waiter stands in its queue.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Remembers how often the last acquire asked that waited in vain.
#[derive(Debug, Default)]
pub(super) struct Asks(AtomicU64);

impl Observer for Asks {
    fn on(&self, event: &Event<'_>) {
        if let Event::Acquire { outcome: AcquireOutcome::TimedOut, attempts, .. } = event {
            self.0.store(u64::from(*attempts), Ordering::SeqCst);
        }
    }
}

/// How long each of many things took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    /// In microseconds, shortest first.
    each_us: Vec<u64>,
    /// From the first beginning to the last end.
    all: Duration,
}

impl Sample {
    fn new(mut each_us: Vec<u64>, all: Duration) -> Self {
        each_us.sort_unstable();
        Self { each_us, all }
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.each_us.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn per_second(&self) -> u64 {
        let micros = self.all.as_micros().max(1);
        u64::try_from(u128::from(self.count()) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }

    /// What so many of a hundred did not exceed, in microseconds.
    pub(super) fn percentile(&self, of_100: usize) -> u64 {
        let rank = (self.each_us.len() * of_100).div_ceil(100).max(1);
        self.each_us.get(rank - 1).copied().unwrap_or_default()
    }
}

/// What is measured, and with what.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) one: Locker,
    /// With a connection of its own.
    pub(super) two: Locker,
    pub(super) clock: Arc<dyn Clock>,
    /// What the names of all keys begin with.
    pub(super) name: String,
    /// How long each measurement takes.
    pub(super) length: Duration,
    pub(super) asks: Arc<Asks>,
}

impl Bench {
    /// Acquires and releases, by tasks with keys of their own.
    pub(super) async fn cycles(&self, tasks: u16) -> Result<Sample, Failure> {
        let begun = self.clock.now();
        let until = begun + self.length;
        let mut running = JoinSet::new();
        for task in 0..tasks {
            let (locker, clock) = (self.one.clone(), Arc::clone(&self.clock));
            let key = self.key(&format!("cycle-{task}"))?;
            running.spawn(async move {
                let mut each = Vec::new();
                loop {
                    let before = clock.now();
                    locker.acquire(&key).ttl(ttl()?).await?.release().await?;
                    let after = clock.now();
                    each.push(micros(after.since(before)));
                    if after >= until {
                        return Ok::<_, Error>(each);
                    }
                    // A store in memory never makes anybody wait.
                    yield_now().await;
                }
            });
        }
        let mut all = Vec::new();
        while let Some(done) = running.join_next().await {
            all.extend(done.map_err(std::io::Error::other)??);
        }
        Ok(Sample::new(all, self.clock.now().since(begun)))
    }

    /// Hands a key from waiter to waiter, each on the other connection; from the moment before
    /// the release to that at which the next one has the key.
    pub(super) async fn hand_overs(&self) -> Result<Option<Sample>, Failure> {
        let Some(browse) = self.one.browse() else { return Ok(None) };
        let key = self.key("hand-over")?;
        let begun = self.clock.now();
        let until = begun + self.length;
        let mut all = Vec::new();
        while self.clock.now() < until {
            let first = self.one.acquire(&key).ttl(ttl()?).await?;
            let released = Arc::new(Mutex::new(begun));
            let mut waiting = JoinSet::new();
            for n in 0..WAITERS {
                let locker = if n % 2 == 0 { &self.two } else { &self.one };
                let (clock, released) = (Arc::clone(&self.clock), Arc::clone(&released));
                waiting.spawn(wait_for_turn(locker.clone(), key.clone(), clock, released));
                self.until_queued(&*browse, &key, n + 1).await?;
            }
            mark(&released, self.clock.now());
            first.release().await?;
            while let Some(done) = waiting.join_next().await {
                all.push(micros(done.map_err(std::io::Error::other)??));
            }
        }
        Ok(Some(Sample::new(all, self.clock.now().since(begun))))
    }

    /// Waits for a key that stays held: how long, and how often the store was asked.
    pub(super) async fn idle(&self) -> Result<(Duration, u64), Failure> {
        let (key, length) = (self.key("idle")?, self.length.min(IDLE_MAX));
        let held = self.one.acquire(&key).ttl(ttl()?).await?;
        let waited = self.two.acquire(&key).ttl(ttl()?).wait(Wait::For(length)).await;
        held.release().await?;
        match waited {
            Err(Error::TimedOut { .. }) => Ok((length, self.asks.0.load(Ordering::SeqCst))),
            Err(error) => Err(error.into()),
            Ok(_) => Err(unqueued("a key was given to two at once")),
        }
    }

    /// Nobody tells when a waiter has its place: the store is asked.
    async fn until_queued(
        &self,
        browse: &dyn Browse,
        key: &Key,
        waiters: usize,
    ) -> Result<(), Failure> {
        let key = key.with_prefix(self.one.prefix());
        let until = self.clock.now() + TURN;
        while self.clock.now() < until {
            let lock = browse.inspect(&key).await?;
            if lock.is_some_and(|lock| lock.waiters as usize >= waiters) {
                return Ok(());
            }
            self.clock.sleep_until(self.clock.now() + LOOK_EVERY).await;
        }
        Err(unqueued("the store does not show who waits"))
    }

    fn key(&self, what: &str) -> Result<Key, Failure> {
        Ok(Key::named(&format!("{}-{what}", self.name))?)
    }
}

/// Waits for the key, and hands it on; tells how long the hand-over took.
async fn wait_for_turn(
    locker: Locker,
    key: Key,
    clock: Arc<dyn Clock>,
    released: Arc<Mutex<Moment>>,
) -> Result<Duration, Error> {
    let lease = locker.acquire(&key).ttl(ttl()?).wait(Wait::For(TURN)).await?;
    let now = clock.now();
    let took = now.since(*released.lock().unwrap_or_else(PoisonError::into_inner));
    mark(&released, clock.now());
    lease.release().await?;
    Ok(took)
}

fn mark(released: &Mutex<Moment>, now: Moment) {
    *released.lock().unwrap_or_else(PoisonError::into_inner) = now;
}

fn ttl() -> Result<Ttl, Error> {
    Ok(Ttl::new(TTL)?)
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn unqueued(why: &str) -> Failure {
    Failure::new(code::UNAVAILABLE, "bench", why).hint("see `bidlock doctor`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_tells_its_rate_and_percentiles() {
        let sample = Sample::new((1..=200).rev().collect(), Duration::from_millis(500));
        assert_eq!((sample.count(), sample.per_second()), (200, 400));
        assert_eq!((sample.percentile(50), sample.percentile(99)), (100, 198));
        let one = Sample::new(vec![7], Duration::from_secs(1));
        assert_eq!((one.percentile(50), one.percentile(99)), (7, 7));
        let none = Sample::new(vec![], Duration::ZERO);
        assert_eq!((none.count(), none.per_second(), none.percentile(99)), (0, 0, 0));
    }
}
