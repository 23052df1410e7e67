//! The lock protocol as reads and writes of one transaction. Nothing in here waits, and what is
//! decided takes effect with the commit.

mod queue;

use std::time::Duration;

use bidlock_core::{
    AcquireRequest, Attempt, FencingToken, Holder, Key, Label, LeaseId, Moment, Ownership,
    Platform, ProcessMark, Refusal, RenewRequest, Renewal, Revocation, Ttl, grant_window, limits,
    next_token,
};
use rusqlite::{Connection, params};

use self::queue::Waiter;

/// A waiter of another process that was not heard of for this long is passed over: it is stopped,
/// or too busy to use the lock. It enters again when it looks again.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(5);

/// What a call answers, or why it will not.
pub(crate) type Answer<T> = rusqlite::Result<Result<T, Refusal>>;

/// What the protocol needs to know of the world around the file.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) platform: Platform,
    pub(crate) boot: String,
    pub(crate) process: ProcessMark,
}

impl World {
    pub(crate) fn new(platform: &Platform) -> Self {
        Self {
            platform: platform.clone(),
            boot: platform.processes.boot_id().to_owned(),
            process: platform.processes.current(),
        }
    }
}

/// The calls of one transaction.
#[derive(Debug)]
pub(crate) struct Store<'a> {
    connection: &'a Connection,
    world: &'a World,
    /// Leases that were given a key, or had it revoked: to be told after the commit (I14).
    news: Vec<(Key, String)>,
    now: i64,
}

/// A grant, as its row says.
#[derive(Debug)]
struct Grant {
    lease: String,
    token: u64,
    ends_us: i64,
    state: State,
    label: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Held = 0,
    Offered = 1,
    Revoked = 2,
}

/// What lies under a key: the grant, if it is live, and the fencing counter.
#[derive(Debug)]
struct Found {
    live: Option<Grant>,
    /// Whether there is a row, live or not.
    any: bool,
    counter: u64,
}

impl<'a> Store<'a> {
    pub(crate) fn new(connection: &'a Connection, world: &'a World) -> Self {
        Self { connection, world, news: Vec::new(), now: 0 }
    }

    /// Sets the time at which the next calls happen.
    pub(crate) fn at(&mut self, now: Moment) {
        self.now = micros(now.since_boot());
    }

    /// Takes out whom to tell since the last time.
    pub(crate) fn take_news(&mut self) -> Vec<(Key, String)> {
        std::mem::take(&mut self.news)
    }

    pub(crate) fn acquire(&mut self, request: &AcquireRequest) -> Answer<Attempt> {
        let lease = request.lease.expose();
        let found = self.find(&request.key)?;
        let holding = match found.live {
            Some(grant) if grant.lease == lease => return self.acquire_again(request, &grant),
            Some(grant) => grant,
            None => match self.first_waiter(&request.key, Some(&lease))? {
                // I6: a live waiter is never overtaken; the key is handed to it by this look.
                Some(waiter) if waiter.lease != lease => {
                    match self.offer(&request.key, waiter, found.counter)? {
                        Ok(grant) => grant,
                        Err(refusal) => return Ok(Err(refusal)),
                    }
                }
                own => {
                    let granted = self.grant(request, &lease, found.counter)?;
                    if let (Ok(_), Some(own)) = (&granted, own) {
                        self.forget_place(&request.key, own.place)?;
                    }
                    return Ok(granted);
                }
            },
        };
        let ahead = match self.queue(request, &lease)? {
            Ok(ahead) => ahead,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(self.held(&holding, ahead)))
    }

    /// I8: the same token, a confirmed window, a rest that is never shortened.
    fn acquire_again(&mut self, request: &AcquireRequest, grant: &Grant) -> Answer<Attempt> {
        if grant.state == State::Revoked {
            // I12: the operator's word stands until the holder gives the key up.
            return Ok(Ok(self.held(grant, 0)));
        }
        self.extend(&request.key, grant, request.ttl)?;
        Ok(Ok(Attempt::Granted { token: FencingToken::new(grant.token) }))
    }

    pub(crate) fn renew(&mut self, request: &RenewRequest) -> rusqlite::Result<Renewal> {
        let found = self.find(&request.key)?;
        let lease = request.lease.expose();
        let grant = match found.live {
            Some(grant) if grant.lease == lease => grant,
            // I5: what has ended is never revived, not even while nobody else wants it.
            other => {
                return Ok(match other {
                    _ if self.was_revoked(&lease)? => Renewal::Revoked,
                    Some(_) => Renewal::Taken,
                    None => Renewal::Expired,
                });
            }
        };
        if grant.state == State::Revoked {
            return Ok(Renewal::Revoked);
        }
        self.extend(&request.key, &grant, request.ttl)?;
        Ok(Renewal::Renewed)
    }

    pub(crate) fn release(&mut self, key: &Key, lease: &LeaseId) -> rusqlite::Result<Ownership> {
        let lease = lease.expose();
        let found = self.find(key)?;
        // I2: a live grant of somebody else stays as it is.
        let ours = found.live.as_ref().is_some_and(|grant| grant.lease == lease);
        // I11: its place goes too, before the key could be handed to it.
        let left = self.leave(key, &lease)?;
        if ours || (found.any && found.live.is_none()) {
            self.pass_on(key, found.counter)?;
        }
        Ok(if ours || left { Ownership::Ours } else { Ownership::NotOurs })
    }

    pub(crate) fn revoke(
        &mut self,
        key: &Key,
        token: FencingToken,
        now: bool,
    ) -> rusqlite::Result<Revocation> {
        let found = self.find(key)?;
        let grant = match found.live {
            Some(grant) if grant.token == token.get() => grant,
            other => {
                let current = other.map(|grant| FencingToken::new(grant.token));
                return Ok(Revocation::NotHeld { current });
            }
        };
        // Nobody believes in a key that was handed over and not confirmed: nothing to wait for.
        if now || grant.state == State::Offered {
            self.remember_revoked(&grant)?;
            self.pass_on(key, found.counter)?;
            self.news.push((key.clone(), grant.lease));
            return Ok(Revocation::Freed);
        }
        let sql = "UPDATE lock_keys SET state = ?2 WHERE key = ?1";
        let args = params![key.as_str(), State::Revoked as i64];
        self.connection.prepare_cached(sql)?.execute(args)?;
        self.news.push((key.clone(), grant.lease));
        Ok(Revocation::Marked { remaining: self.until(grant.ends_us) })
    }

    /// Keeps that an operator took the key at once, for as long as its holder may ask (I12).
    fn remember_revoked(&self, grant: &Grant) -> rusqlite::Result<()> {
        let sql = "DELETE FROM lock_revoked WHERE boot <> ?1 OR ends_us <= ?2";
        self.connection.prepare_cached(sql)?.execute(params![self.world.boot, self.now])?;
        let sql = "INSERT OR REPLACE INTO lock_revoked (lease, boot, ends_us) VALUES (?1, ?2, ?3)";
        let args = params![grant.lease, self.world.boot, grant.ends_us];
        self.connection.prepare_cached(sql)?.execute(args)?;
        Ok(())
    }

    fn was_revoked(&self, lease: &str) -> rusqlite::Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM lock_revoked
                   WHERE lease = ?1 AND boot = ?2 AND ends_us > ?3)";
        let args = params![lease, self.world.boot, self.now];
        self.connection.prepare_cached(sql)?.query_row(args, |row| row.get(0))
    }

    /// Reads the grant and the counter in one go.
    fn find(&self, key: &Key) -> rusqlite::Result<Found> {
        let sql = "SELECT key, lease, token, ends_us, state, label, boot = ?2 FROM lock_keys
                   WHERE key IN ('', ?1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![key.as_str(), self.world.boot])?;
        let mut found = Found { live: None, any: false, counter: u64::MAX };
        while let Some(row) = rows.next()? {
            if row.get_ref(0)?.as_str()?.is_empty() {
                found.counter = unsigned(row.get(2)?);
                continue;
            }
            found.any = true;
            let ends_us: i64 = row.get(3)?;
            let boot_is_ours: bool = row.get(6)?;
            if boot_is_ours && ends_us > self.now {
                found.live = Some(Grant {
                    lease: row.get(1)?,
                    token: unsigned(row.get(2)?),
                    ends_us,
                    state: State::read(row.get(4)?),
                    label: row.get(5)?,
                });
            }
        }
        Ok(found)
    }

    fn grant(&self, request: &AcquireRequest, lease: &str, counter: u64) -> Answer<Attempt> {
        let ends_us = self.now.saturating_add(micros(request.ttl.get()));
        let label = request.label.as_ref().map(Label::as_str);
        let key = &request.key;
        let token = match self.write_grant(key, lease, counter, ends_us, State::Held, label)? {
            Ok(token) => token,
            Err(refusal) => return Ok(Err(refusal)),
        };
        Ok(Ok(Attempt::Granted { token }))
    }

    /// Writes a new grant and, with it, the counter (I1).
    fn write_grant(
        &self,
        key: &Key,
        lease: &str,
        counter: u64,
        ends_us: i64,
        state: State,
        label: Option<&str>,
    ) -> Answer<FencingToken> {
        let Some(token) = next_token(counter, self.world.platform.clock.wall()) else {
            return Ok(Err(Refusal::Limit(format!(
                "the wall clock or the token counter ({counter}) is past {}; set the clock right",
                limits::TOKEN_MAX
            ))));
        };
        let number = token.get().cast_signed();
        let sql = "UPDATE lock_keys SET token = ?1 WHERE key = ''";
        self.connection.prepare_cached(sql)?.execute([number])?;
        let sql = "INSERT OR REPLACE INTO lock_keys
                       (key, lease, token, boot, granted_us, ends_us, state, label)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        self.connection.prepare_cached(sql)?.execute(params![
            key.as_str(),
            lease,
            number,
            self.world.boot,
            self.now,
            ends_us,
            state as i64,
            label
        ])?;
        Ok(Ok(token))
    }

    /// Makes a live grant last `ttl` from now, and confirms it; never shortens it (I5, I8).
    fn extend(&self, key: &Key, grant: &Grant, ttl: Ttl) -> rusqlite::Result<()> {
        let asked = self.now.saturating_add(micros(ttl.get()));
        if asked <= grant.ends_us && grant.state == State::Held {
            return Ok(());
        }
        let sql = "UPDATE lock_keys SET ends_us = ?2, state = ?3 WHERE key = ?1";
        let ends_us = asked.max(grant.ends_us);
        let args = params![key.as_str(), ends_us, State::Held as i64];
        self.connection.prepare_cached(sql)?.execute(args)?;
        Ok(())
    }

    /// Hands the key to the first live waiter, or frees it.
    fn pass_on(&mut self, key: &Key, counter: u64) -> rusqlite::Result<()> {
        if let Some(waiter) = self.first_waiter(key, None)?
            && self.offer(key, waiter, counter)?.is_ok()
        {
            return Ok(());
        }
        let sql = "DELETE FROM lock_keys WHERE key = ?1";
        self.connection.prepare_cached(sql)?.execute([key.as_str()])?;
        Ok(())
    }

    /// Gives the key to a waiter under a grant window; the waiter leaves the queue (I6, I7).
    fn offer(&mut self, key: &Key, waiter: Waiter, counter: u64) -> Answer<Grant> {
        let ends_us = self.now.saturating_add(micros(grant_window(waiter.ttl)));
        let label = waiter.label.as_deref();
        let state = State::Offered;
        let written = self.write_grant(key, &waiter.lease, counter, ends_us, state, label)?;
        let token = match written {
            Ok(token) => token.get(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.forget_place(key, waiter.place)?;
        self.news.push((key.clone(), waiter.lease.clone()));
        Ok(Ok(Grant { lease: waiter.lease, token, ends_us, state, label: waiter.label }))
    }

    fn held(&self, grant: &Grant, ahead: u32) -> Attempt {
        let holder = holder(&grant.lease, grant.label.as_deref());
        Attempt::Held { holder, remaining: self.until(grant.ends_us), ahead }
    }

    fn until(&self, ends_us: i64) -> Duration {
        duration(ends_us.saturating_sub(self.now))
    }
}

impl State {
    fn read(number: i64) -> Self {
        match number {
            1 => Self::Offered,
            2 => Self::Revoked,
            _ => Self::Held,
        }
    }
}

/// Whom people see for a lease in a row.
pub(crate) fn holder(lease: &str, label: Option<&str>) -> Holder {
    let label = label.and_then(|label| Label::new(label).ok());
    lease.parse::<LeaseId>().map_or_else(|_| Holder::foreign(lease), |lease| lease.holder(label))
}

/// Microseconds, as columns hold them.
pub(crate) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// The length that a difference of columns means; zero when it is negative.
pub(crate) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A number that is never negative in a sound file: a damaged one must not grant anything.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
