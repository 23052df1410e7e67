//! Control c: a row in an SQLite file, as the first system had it; each host has its own file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, params};

use super::crash::{Point, reach};
use super::set_nx::identity;
use super::submit::{Answer, from_now, submit};
use super::{Shared, TTL, Tried, WAIT};
use crate::event::Event;
use crate::feed::Feed;
use crate::time;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS locks (id INTEGER PRIMARY KEY, \
                     lock_key TEXT NOT NULL UNIQUE, holder_id TEXT NOT NULL, \
                     acquired_at INTEGER NOT NULL, expires_at INTEGER NOT NULL)";
const EXPIRE: &str = "DELETE FROM locks WHERE lock_key = ?1 AND expires_at <= ?2";
const TAKE: &str = "INSERT OR IGNORE INTO locks (lock_key, holder_id, acquired_at, expires_at) \
                    VALUES (?1, ?2, ?3, ?4)";
const RELEASE: &str = "DELETE FROM locks WHERE lock_key = ?1 AND holder_id = ?2";

pub(super) struct SqliteRow {
    shared: Arc<Shared>,
    file: Arc<Mutex<Connection>>,
}

impl SqliteRow {
    pub(super) fn open(shared: &Arc<Shared>) -> Result<Self> {
        let file = Connection::open(shared.setup.folder.join("locks.db"))?;
        file.busy_timeout(Duration::from_secs(5))?;
        file.pragma_update(None, "journal_mode", "wal")?;
        file.execute(TABLE, [])?;
        Ok(Self { shared: Arc::clone(shared), file: Arc::new(Mutex::new(file)) })
    }

    pub(super) async fn bid(&self, number: u64) -> Tried {
        match self.try_bid(number).await {
            Ok(()) => Tried::Over,
            Err(failed) => self.shared.failed(number, format!("{failed:#}")),
        }
    }

    async fn try_bid(&self, number: u64) -> Result<()> {
        let (key, holder) = (format!("bid:lock:fake:{}", Feed::name(number)), identity());
        let give_up = time::boot() + time::micros(WAIT);
        while !self.take(&key, &holder).await? {
            if time::boot() >= give_up {
                return Ok(());
            }
            time::sleep(Duration::from_millis(100)).await;
        }
        reach(&self.shared.log, Point::Granted);
        let answer = submit(&self.shared, number, &holder, from_now()).await;
        if matches!(answer, Answer::Placed(_)) {
            let (attempt, state) = (holder.clone(), "placed".to_owned());
            self.shared.log.say(Event::Recorded { attempt, state });
        }
        self.run(move |file| file.execute(RELEASE, params![key, holder])).await?;
        reach(&self.shared.log, Point::Released);
        Ok(())
    }

    async fn take(&self, key: &str, holder: &str) -> Result<bool> {
        let (key, holder, now) = (key.to_owned(), holder.to_owned(), time::boot().cast_signed());
        let until = now.saturating_add_unsigned(time::micros(TTL));
        self.run(move |file| {
            file.execute(EXPIRE, params![key, now])?;
            Ok(file.execute(TAKE, params![key, holder, now, until])? == 1)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let file = Arc::clone(&self.file);
        let done = tokio::task::spawn_blocking(move || {
            work(&file.lock().unwrap_or_else(PoisonError::into_inner))
        });
        Ok(done.await??)
    }
}
