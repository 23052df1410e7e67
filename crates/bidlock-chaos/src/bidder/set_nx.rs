//! Controls a and b: the lock that most systems have, with and without a table of bids.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bidlock_core::Rng as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands as _, AsyncConnectionConfig, Script};
use tokio::sync::Mutex;

use super::crash::{Point, reach};
use super::submit::{Answer, from_now, submit};
use super::table::Bids;
use super::{Shared, TTL, Tried, WAIT};
use crate::event::Event;
use crate::feed::Feed;
use crate::time;

const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

pub(super) struct SetNx {
    shared: Arc<Shared>,
    client: redis::Client,
    link: Mutex<Option<MultiplexedConnection>>,
    /// Control b's; control a has no memory.
    bids: Option<Bids>,
}

impl SetNx {
    pub(super) async fn open(shared: &Arc<Shared>, remembers: bool) -> Result<Self> {
        let client = redis::Client::open(shared.setup.redis.as_str())?;
        let bids = if remembers { Some(Bids::open(&shared.setup.ledger).await?) } else { None };
        Ok(Self { shared: Arc::clone(shared), client, link: Mutex::default(), bids })
    }

    pub(super) async fn bid(&self, number: u64) -> Tried {
        match self.try_bid(number).await {
            Ok(()) => Tried::Over,
            Err(failed) => {
                *self.link.lock().await = None;
                self.shared.failed(number, format!("{failed:#}"))
            }
        }
    }

    async fn try_bid(&self, number: u64) -> Result<()> {
        let posting = Feed::name(number);
        let (key, holder) = (format!("bid_lock:fake:{posting}"), identity());
        if !self.acquire(&key, &holder).await? {
            return Ok(());
        }
        reach(&self.shared.log, Point::Granted);
        let open = match &self.bids {
            Some(bids) => bids.should_bid(&posting).await?,
            None => true,
        };
        if open {
            self.place(number, &posting, &holder).await?;
        }
        self.release(&key, &holder).await?;
        reach(&self.shared.log, Point::Released);
        Ok(())
    }

    async fn place(&self, number: u64, posting: &str, attempt: &str) -> Result<()> {
        let answer = submit(&self.shared, number, attempt, from_now()).await;
        let state = match answer {
            Answer::Placed(_) => "placed",
            Answer::Refused(_) => "refused",
            // It does not know, and does not know that it does not know.
            Answer::NotSent(_) | Answer::Lost(_) => return Ok(()),
        };
        if let Some(bids) = &self.bids {
            bids.record(posting).await?;
        }
        let (attempt, state) = (attempt.to_owned(), state.to_owned());
        self.shared.log.say(Event::Recorded { attempt, state });
        reach(&self.shared.log, Point::Recorded);
        Ok(())
    }

    /// Polls with a growing pause, as the old client did.
    async fn acquire(&self, key: &str, holder: &str) -> Result<bool> {
        let (mut link, seconds) = (self.link().await?, TTL.as_secs().max(1));
        let (give_up, mut pause) = (time::boot() + time::micros(WAIT), 20);
        loop {
            let mut set = redis::cmd("SET");
            set.arg(key).arg(holder).arg("NX").arg("EX").arg(seconds);
            if set.query_async::<Option<String>>(&mut link).await?.is_some() {
                return Ok(true);
            }
            if time::boot() >= give_up {
                return Ok(false);
            }
            time::sleep(Duration::from_millis(pause)).await;
            pause = (pause * 2).min(200);
        }
    }

    async fn release(&self, key: &str, holder: &str) -> Result<()> {
        let mut link = self.link().await?;
        if self.bids.is_some() {
            let script = Script::new(RELEASE);
            let _deleted: i64 = script.key(key).arg(holder).invoke_async(&mut link).await?;
        } else if link.get::<_, Option<String>>(key).await?.as_deref() == Some(holder) {
            let _deleted: i64 = link.del(key).await?;
        }
        Ok(())
    }

    async fn link(&self) -> Result<MultiplexedConnection> {
        let mut link = self.link.lock().await;
        if let Some(open) = &*link {
            return Ok(open.clone());
        }
        let second = Some(Duration::from_secs(1));
        let config = AsyncConnectionConfig::new();
        let config = config.set_connection_timeout(second).set_response_timeout(second);
        let opened = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let opened = opened.context("connecting to Redis")?;
        *link = Some(opened.clone());
        Ok(opened)
    }
}

/// A name that nobody has had.
pub(super) fn identity() -> String {
    let rng = bidlock::platform::OsRng;
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}
