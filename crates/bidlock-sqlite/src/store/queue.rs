//! The waiters of a key, in the order in which they came.

use std::time::Duration;

use bidlock_core::{AcquireRequest, Key, Label, Liveness, ProcessMark, Refusal, Ttl, limits};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Answer, STALE_AFTER, Store, micros, unsigned};

/// A waiter's row is not written again within this long, unless the wait itself changed.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// Waiters are counted one by one up to this many; each look of each waiter counts.
const COUNTED_MAX: i64 = 1_000;

/// A waiter, as its row says.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) place: i64,
    pub(super) lease: String,
    pub(super) label: Option<String>,
    pub(super) ttl: Ttl,
    process: ProcessMark,
    boot_is_ours: bool,
    deadline_us: i64,
    seen_us: i64,
}

impl Store<'_> {
    /// The longest-waiting live waiter; those before it are gone and leave the queue. The one
    /// that is `asking` is alive, whatever its row says.
    pub(super) fn first_waiter(
        &self,
        key: &Key,
        asking: Option<&str>,
    ) -> rusqlite::Result<Option<Waiter>> {
        let sql = "SELECT place, lease, label, ttl_ms, process, boot = ?2, deadline_us, seen_us
                   FROM lock_waiters WHERE key = ?1 ORDER BY place LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        loop {
            let args = params![key.as_str(), self.world.boot];
            let Some(waiter) = statement.query_row(args, Waiter::read).optional()? else {
                return Ok(None);
            };
            if asking == Some(waiter.lease.as_str()) || self.is_live(&waiter) {
                return Ok(Some(waiter));
            }
            tracing::debug!(%key, place = waiter.place, "waiter passed over");
            self.forget_place(key, waiter.place)?;
        }
    }

    fn is_live(&self, waiter: &Waiter) -> bool {
        let ours = waiter.process == self.world.process;
        let stale_after = micros(if ours { limits::WAITER_LEASE } else { STALE_AFTER });
        waiter.boot_is_ours
            && waiter.deadline_us > self.now
            && waiter.seen_us.saturating_add(stale_after) > self.now
            && (ours || self.world.platform.processes.liveness(&waiter.process) != Liveness::Gone)
    }

    pub(super) fn forget_place(&self, key: &Key, place: i64) -> rusqlite::Result<()> {
        let sql = "DELETE FROM lock_waiters WHERE key = ?1 AND place = ?2";
        self.connection.prepare_cached(sql)?.execute(params![key.as_str(), place])?;
        Ok(())
    }

    /// Leaves the queue; says whether the lease had a place that still counted.
    pub(super) fn leave(&self, key: &Key, lease: &str) -> rusqlite::Result<bool> {
        let Some(waiter) = self.place_of(key, lease)? else { return Ok(false) };
        self.forget_place(key, waiter.place)?;
        Ok(waiter.boot_is_ours && waiter.deadline_us > self.now)
    }

    fn place_of(&self, key: &Key, lease: &str) -> rusqlite::Result<Option<Waiter>> {
        let sql = "SELECT place, lease, label, ttl_ms, process, boot = ?3, deadline_us, seen_us
                   FROM lock_waiters WHERE lease = ?2 AND key = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let args = params![key.as_str(), lease, self.world.boot];
        statement.query_row(args, Waiter::read).optional()
    }

    /// Enters the queue, or keeps the place there, or, for a caller that will not wait, has none.
    /// Returns how many stand before.
    pub(super) fn queue(&self, request: &AcquireRequest, lease: &str) -> Answer<u32> {
        let key = &request.key;
        let Some(wait) = request.wait.filter(|wait| !wait.is_zero()) else {
            self.leave(key, lease)?;
            return self.count_before(key, i64::MAX).map(Ok);
        };
        let deadline_us = self.now.saturating_add(micros(wait));
        let place = match self.place_of(key, lease)? {
            Some(own) if self.is_fresh(&own, request.ttl, deadline_us) => {
                return self.count_before(key, own.place).map(Ok);
            }
            Some(own) => own.place,
            None => match self.new_place(key)? {
                Ok(place) => place,
                Err(refusal) => return Ok(Err(refusal)),
            },
        };
        let sql = "INSERT OR REPLACE INTO lock_waiters
                       (key, place, lease, label, ttl_ms, process, boot, deadline_us, seen_us)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        self.connection.prepare_cached(sql)?.execute(params![
            key.as_str(),
            place,
            lease,
            request.label.as_ref().map(Label::as_str),
            request.ttl.as_millis().cast_signed(),
            self.world.process.as_str(),
            self.world.boot,
            deadline_us,
            self.now
        ])?;
        self.count_before(key, place).map(Ok)
    }

    /// Whether a look has nothing to add to the waiter's row, so that looks seldom write.
    fn is_fresh(&self, own: &Waiter, ttl: Ttl, deadline_us: i64) -> bool {
        let near = micros(FRESH_FOR);
        own.boot_is_ours
            && own.process == self.world.process
            && own.ttl == ttl
            && own.seen_us.saturating_add(near) > self.now
            && own.deadline_us.abs_diff(deadline_us) < near.unsigned_abs()
    }

    /// A place at the end of the queue; the queue is bounded (I10).
    fn new_place(&self, key: &Key) -> Answer<i64> {
        let (mut length, mut last) = self.span(key)?;
        if length >= i64::from(limits::WAITERS_MAX) {
            self.forget_the_gone(key)?;
            last = self.span(key)?.1;
            let sql = "SELECT count(*) FROM lock_waiters WHERE key = ?1";
            let mut statement = self.connection.prepare_cached(sql)?;
            length = statement.query_row([key.as_str()], |row| row.get(0))?;
        }
        if length >= i64::from(limits::WAITERS_MAX) {
            let why = format!("{} already wait; try again later", limits::WAITERS_MAX);
            return Ok(Err(Refusal::Limit(why)));
        }
        Ok(Ok(last.saturating_add(1)))
    }

    /// The most waiters that there can be between the first place and the last, and the last.
    fn span(&self, key: &Key) -> rusqlite::Result<(i64, i64)> {
        let sql = "SELECT (SELECT min(place) FROM lock_waiters WHERE key = ?1),
                          (SELECT max(place) FROM lock_waiters WHERE key = ?1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let ends: (Option<i64>, Option<i64>) =
            statement.query_row([key.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(match ends {
            (Some(first), Some(last)) => (last.saturating_sub(first).saturating_add(1), last),
            _ => (0, 0),
        })
    }

    fn forget_the_gone(&self, key: &Key) -> rusqlite::Result<()> {
        let sql = "SELECT place, lease, label, ttl_ms, process, boot = ?2, deadline_us, seen_us
                   FROM lock_waiters WHERE key = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let args = params![key.as_str(), self.world.boot];
        let waiters: Vec<Waiter> =
            statement.query_map(args, Waiter::read)?.collect::<rusqlite::Result<_>>()?;
        for waiter in waiters.iter().filter(|waiter| !self.is_live(waiter)) {
            self.forget_place(key, waiter.place)?;
        }
        Ok(())
    }

    /// How many live waiters stand before a place, as far as their rows say; far back in a long
    /// queue, the most that there can be.
    fn count_before(&self, key: &Key, place: i64) -> rusqlite::Result<u32> {
        let (length, last) = self.span(key)?;
        if length > COUNTED_MAX {
            let before = length - last.saturating_sub(place).max(0) - 1;
            if before > COUNTED_MAX {
                return Ok(u32::try_from(before).unwrap_or(u32::MAX));
            }
        }
        let sql = "SELECT count(*) FROM lock_waiters
                   WHERE key = ?1 AND place < ?2 AND boot = ?3 AND deadline_us > ?4
                     AND seen_us > ?4 - CASE WHEN process = ?5 THEN ?6 ELSE ?7 END";
        let mut statement = self.connection.prepare_cached(sql)?;
        let args = params![
            key.as_str(),
            place,
            self.world.boot,
            self.now,
            self.world.process.as_str(),
            micros(limits::WAITER_LEASE),
            micros(STALE_AFTER)
        ];
        statement.query_row(args, |row| row.get(0))
    }
}

impl Waiter {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let ttl_ms = unsigned(row.get(3)?);
        Ok(Self {
            place: row.get(0)?,
            lease: row.get(1)?,
            label: row.get(2)?,
            ttl: Ttl::new(Duration::from_millis(ttl_ms)).unwrap_or_default(),
            process: ProcessMark::new(row.get::<_, String>(4)?),
            boot_is_ours: row.get(5)?,
            deadline_us: row.get(6)?,
            seen_us: row.get(7)?,
        })
    }
}
