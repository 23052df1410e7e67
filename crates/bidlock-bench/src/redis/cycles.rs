//! Who takes locks, and cycles of acquire and release on keys of their own.

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, ensure};
use bidlock::{Key, Locker, Platform};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Value};
use rslock::LockManager;

use crate::round::quantile;

/// No answer takes longer, however busy the machine is.
const ANSWER: Duration = Duration::from_secs(10);
const TTL: Duration = Duration::from_mins(5);
const TTL_MS: u64 = 300_000;

/// What a user writes around the work that a lock guards.
pub(crate) trait Lock: Clone + Send + 'static {
    /// What is held.
    type Lease: Send;

    /// Takes a key, however long that takes.
    fn acquire(&mut self, job: &str) -> impl Future<Output = Result<Self::Lease>> + Send;

    fn release(&mut self, lease: Self::Lease) -> impl Future<Output = Result<()>> + Send;
}

/// The floor: two commands without fencing, queue or renewal.
#[derive(Clone)]
pub(crate) struct Bare {
    pub(crate) connection: MultiplexedConnection,
    release: String,
    number: u64,
}

const DELETE_OURS: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                           return redis.call('DEL', KEYS[1]) end return 0";

impl Bare {
    pub(crate) async fn connect(client: &Client) -> Result<Self> {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(ANSWER));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let release =
            redis::cmd("SCRIPT").arg("LOAD").arg(DELETE_OURS).query_async(&mut connection).await?;
        Ok(Self { connection, release, number: 0 })
    }

    /// A script that finds nothing to do.
    pub(crate) fn release_nothing(&self) -> redis::Cmd {
        redis::cmd("EVALSHA").arg(&self.release).arg(1).arg("no such key").arg("").clone()
    }
}

impl Lock for Bare {
    type Lease = (String, String);

    async fn acquire(&mut self, job: &str) -> Result<Self::Lease> {
        self.number += 1;
        let (key, value) = (format!("bid_lock:upwork:{job}"), format!("{:032x}", self.number));
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&value).arg("NX").arg("PX").arg(TTL_MS);
        let answer: Value = set.query_async(&mut self.connection).await?;
        ensure!(answer == Value::Okay, "{key} is held");
        Ok((key, value))
    }

    async fn release(&mut self, (key, value): Self::Lease) -> Result<()> {
        let mut delete = redis::cmd("EVALSHA");
        delete.arg(&self.release).arg(1).arg(&key).arg(&value);
        let deleted: i64 = delete.query_async(&mut self.connection).await?;
        ensure!(deleted == 1, "{key} is not ours");
        Ok(())
    }
}

impl Lock for Locker {
    type Lease = bidlock::Lease;

    async fn acquire(&mut self, job: &str) -> Result<Self::Lease> {
        let key = Key::new("upwork", job)?;
        Ok((*self).acquire(&key).wait(bidlock::Wait::Forever).await?)
    }

    async fn release(&mut self, lease: Self::Lease) -> Result<()> {
        Ok(lease.release().await?)
    }
}

impl Lock for LockManager {
    type Lease = rslock::LockGuard;

    async fn acquire(&mut self, job: &str) -> Result<Self::Lease> {
        Ok((*self).acquire(format!("bid_lock:upwork:{job}").as_str(), TTL).await?)
    }

    async fn release(&mut self, lease: Self::Lease) -> Result<()> {
        lease.release().await;
        Ok(())
    }
}

/// Runs cycles on so many tasks for so long. Returns how many there were in a second, and the
/// median and the 99th percentile of one, in microseconds.
pub(crate) async fn cycles<L: Lock>(
    lock: &L,
    platform: &Platform,
    (tasks, round): (usize, u64),
    length: Duration,
) -> Result<Vec<f64>> {
    let start = platform.clock.now();
    let mut running = Vec::new();
    for task in 0..tasks {
        let (mut lock, clock) = (lock.clone(), platform.clock.clone());
        running.push(tokio::spawn(async move {
            let (mut next, mut last, mut taken) = (0_u64, clock.now(), Vec::new());
            while last.since(start) < length {
                next += 1;
                let lease = lock.acquire(&format!("job_{round}_{task}_{next}")).await?;
                lock.release(lease).await?;
                let now = clock.now();
                taken.push(micros(now.since(last)));
                last = now;
            }
            Ok::<_, anyhow::Error>(taken)
        }));
    }
    let mut taken = Vec::new();
    for task in running {
        taken.append(&mut task.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let rate = taken.len() as f64 / platform.clock.now().since(start).as_secs_f64();
    Ok(vec![rate, quantile(&mut taken, 0.5), quantile(&mut taken, 0.99)])
}

pub(crate) fn micros(length: Duration) -> f64 {
    length.as_secs_f64() * 1e6
}
