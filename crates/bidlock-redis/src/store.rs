//! The store itself: each request is one script.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bidlock_core::{
    AcquireRequest, Attempt, Backend, BackendError, Browse, Cleanup, Endpoint, FencingToken,
    Health, Key, LeaseId, Listener, Moment, Op, Ownership, Platform, Prefix, RenewRequest, Renewal,
    Result, Revocation, Revoke,
};

use crate::config::Config;
use crate::core::{Core, Parts, limit, lock, marked};
use crate::dial::{Connector, Dialer};
use crate::driver::{Account, Driver};
use crate::holding::Holding;
use crate::names::Names;
use crate::places::Told;
use crate::resp::Value;
use crate::scripts::Scripts;
use crate::wire::{Failed, Status};

/// What a server is told of longer waits: a double holds the end of it exactly.
const WAIT_MAX: Duration = Duration::from_hours(24 * 365);

/// A lock store on one Redis or Valkey primary.
///
/// It has one connection, which it keeps up from the platform's background thread until the last
/// handle is dropped.
#[derive(Debug)]
pub struct Redis {
    pub(crate) core: Arc<Core>,
}

impl Redis {
    /// Connects, and checks that the server is a primary and that this user may do what locks
    /// need.
    ///
    /// # Errors
    /// [`BackendError::Unreachable`] with the cause; [`BackendError::Refused`] for a wrong
    /// password, a missing right (which it names), or a replica.
    ///
    /// # Cancel safety
    /// The connection is closed.
    pub async fn connect(config: &Config, prefix: &Prefix, platform: &Platform) -> Result<Self> {
        let endpoint = config.endpoint();
        let dialer = Dialer::new(config).map_err(|error| BackendError::Unreachable {
            op: Op::Open,
            key: None,
            endpoint,
            source: Box::new(error),
        })?;
        let scripts = Scripts::default();
        Self::connect_by(Arc::new(dialer), config, prefix, platform, scripts).await
    }

    /// Connects over streams of the caller's, such as a simulator's, with scripts of his choice.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    ///
    /// # Cancel safety
    /// The connection is closed.
    pub async fn connect_by(
        connector: Arc<dyn Connector>,
        config: &Config,
        prefix: &Prefix,
        platform: &Platform,
        scripts: Scripts,
    ) -> Result<Self> {
        let core = Core::new(Parts {
            clock: Arc::clone(&platform.clock),
            spawn: Arc::clone(&platform.spawn),
            rng: &*platform.rng,
            endpoint: config.endpoint(),
            prefix: prefix.clone(),
            scripts,
        });
        let name = format!("bidlock:{}:{}", platform.processes.host(), platform.processes.pid());
        // A name with a space, or anything else unusual, would be refused.
        let name = name.replace(|c: char| !c.is_ascii_graphic(), "-");
        let driver = Driver {
            wire: Arc::clone(&core.wire),
            connector,
            account: Account::new(config, name, format!("{}{}", core.channels, core.client)),
            clock: Arc::clone(&platform.clock),
            rng: Arc::clone(&platform.rng),
        };
        let mut status = core.wire.status();
        status.mark_unchanged();
        let hears: Weak<Core> = Arc::downgrade(&core);
        platform.spawn.spawn(Box::pin(driver.run(hears)));
        let about = core.about(Op::Open, None);
        // The first word of the driver counts: connected, or why not.
        let first = status.changed().await.map(|()| status.borrow().clone());
        match first {
            Ok(Status::Up) => {}
            Ok(Status::Down { why, .. }) => {
                return Err(about.failed(crate::rights::named(prefix, why)));
            }
            Ok(Status::Closed) | Err(_) => {
                return Err(about.failed(Failed::NotSent("the background thread ended".into())));
            }
        }
        crate::rights::check(&core).await?;
        Ok(Self { core })
    }
}

#[async_trait]
impl Backend for Redis {
    async fn acquire(&self, request: &AcquireRequest) -> Result<Attempt> {
        let core = &*self.core;
        let now = core.clock.now();
        if request.routine
            && request.wait.is_some()
            && let Some(held) = core.places.recent(&request.key, &request.lease, now)
        {
            return Ok(held);
        }
        let answer = self.ask(request, now + request.within).await;
        match &answer {
            Ok(Attempt::Granted { token }) => {
                core.settle(&request.key, &request.lease, Some(*token));
            }
            Ok(Attempt::Held { .. }) => {}
            Err(_) => core.places.doubt(&request.key, &request.lease),
        }
        core.listens();
        answer
    }

    async fn renew(&self, request: &RenewRequest) -> Result<Renewal> {
        let answer = self.extend(request).await;
        let core = &*self.core;
        if core.places.is_empty() {
            return answer;
        }
        match answer {
            Ok(Renewal::Renewed) => core.places.leave(&request.key, &request.lease),
            Ok(_) => core.settle(&request.key, &request.lease, None),
            Err(_) => {}
        }
        core.listens();
        answer
    }

    async fn release(&self, key: &Key, lease: &LeaseId) -> Result<Ownership> {
        self.core.release(key, lease).await
    }

    fn subscribe(&self, listener: Weak<dyn Listener>) {
        self.core.subscribe(listener);
    }

    async fn ping(&self) -> Result<Health> {
        let core = &*self.core;
        let about = core.about(Op::Ping, None);
        let reply = core.command(about, core.soon(), &[b"PING"]).await?;
        let server = lock(&core.server).clone();
        let server = server.ok_or_else(|| about.odd(&reply.value))?;
        Ok(Health {
            server: server.name,
            version: server.version,
            role: server.role,
            latency: reply.received.since(reply.sent),
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.core.endpoint
    }

    fn browse(self: Arc<Self>) -> Option<Arc<dyn Browse>> {
        Some(self)
    }

    fn revoke(self: Arc<Self>) -> Option<Arc<dyn Revoke>> {
        Some(self)
    }

    fn cleanup(self: Arc<Self>) -> Option<Arc<dyn Cleanup>> {
        Some(self)
    }
}

impl Redis {
    /// Asks the server to extend a lease; once more when its clock is another than thought.
    async fn extend(&self, request: &RenewRequest) -> Result<Renewal> {
        let core = &*self.core;
        let about = core.about(Op::Renew, Some(&request.key));
        let deadline = core.clock.now() + request.within;
        let (names, lease) = (Names::of(&request.key), marked(&request.lease));
        let ttl = request.ttl.as_millis().to_string();
        for _ in 0..2 {
            let until = deadline_text(core.server_deadline(deadline));
            let argv = [lease.as_bytes(), ttl.as_bytes(), until.as_bytes()];
            let script = &core.scripts.renew;
            let order = [0, 1, 2, 3, 4];
            let reply = core.run(about, deadline, script, &names, &order, &argv).await?;
            match numbers(&reply.value)[..] {
                [1, now] => {
                    core.learn(&reply, now);
                    return Ok(Renewal::Renewed);
                }
                [2, now] => {
                    core.learn(&reply, now);
                    if core.clock.now() >= deadline {
                        break;
                    }
                }
                [3] => return Ok(Renewal::Expired),
                [4] => return Ok(Renewal::Taken),
                [5] => return Ok(Renewal::Revoked),
                [6] => return Ok(Renewal::DataLost),
                _ => return Err(about.odd(&reply.value)),
            }
        }
        Err(about.too_late())
    }

    /// Asks the server for a key; once more when its clock turns out to be another than thought.
    async fn ask(&self, request: &AcquireRequest, deadline: Moment) -> Result<Attempt> {
        let core = &*self.core;
        let about = core.about(Op::Acquire, Some(&request.key));
        let (names, lease) = (Names::of(&request.key), marked(&request.lease));
        let ttl = request.ttl.as_millis().to_string();
        let wait = request.wait.map(|wait| wait.min(WAIT_MAX).as_millis().to_string());
        let label = request.label.as_ref().map_or("", |label| label.as_str());
        let tail = format!("{};{label}", core.client);
        for _ in 0..2 {
            let until = deadline_text(core.server_deadline(deadline));
            let mut argv =
                vec![lease.as_bytes(), ttl.as_bytes(), until.as_bytes(), tail.as_bytes()];
            argv.extend(wait.as_ref().map(String::as_bytes));
            let script = &core.scripts.acquire;
            let reply = core.run(about, deadline, script, &names, &[0, 1, 2, 3], &argv).await?;
            if let Some(token) = reply.value.text().and_then(|digits| digits.parse().ok()) {
                // The free path: the token is the server's time.
                core.learn(&reply, i64::try_from(token).unwrap_or(i64::MAX));
                return Ok(Attempt::Granted { token: FencingToken::new(token) });
            }
            let parts = reply.value.list().unwrap_or_default();
            match parts {
                [Value::Int(1), token, now] => {
                    let (Some(token), Some(now)) = (token.int(), now.int()) else { break };
                    core.learn(&reply, now);
                    let token = u64::try_from(token).map_err(|_| about.odd(&reply.value))?;
                    return Ok(Attempt::Granted { token: FencingToken::new(token) });
                }
                [Value::Int(0), holder, rest @ ..] => {
                    let [left, ahead, now, anew] = numbers_of(rest)[..] else { break };
                    core.learn(&reply, now);
                    let Value::Text(holder) = holder else { break };
                    let told = Told {
                        holder: Holding::read(&String::from_utf8_lossy(holder)).holder,
                        remaining: left_of(left),
                        ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
                        anew: anew == 1,
                    };
                    return Ok(self.held(request, told, reply.received));
                }
                [Value::Int(2), now] => {
                    let Some(now) = now.int() else { break };
                    core.learn(&reply, now);
                    if core.clock.now() >= deadline {
                        return Err(about.too_late());
                    }
                }
                [Value::Int(3), what] => {
                    return Err(about.refused(limit(what.text().unwrap_or_default())));
                }
                _ => return Err(about.odd(&reply.value)),
            }
        }
        Err(about.too_late())
    }

    fn held(&self, request: &AcquireRequest, told: Told, now: Moment) -> Attempt {
        if request.wait.is_some() {
            let lost = self.core.places.told(&request.key, &request.lease, &told, now);
            self.core.look(&request.key, lost);
        } else {
            self.core.places.leave(&request.key, &request.lease);
        }
        let Told { holder, remaining, ahead, .. } = told;
        Attempt::Held { holder, remaining, ahead }
    }
}

#[async_trait]
impl Revoke for Redis {
    async fn revoke(&self, key: &Key, token: FencingToken, now: bool) -> Result<Revocation> {
        let core = &*self.core;
        let about = core.about(Op::Revoke, Some(key));
        let (names, token) = (Names::of(key), token.get().to_string());
        let at_once = if now { b"1" } else { b"0" };
        let argv = [token.as_bytes(), at_once];
        let script = &core.scripts.revoke;
        let order = [0, 1, 2, 3, 4];
        let reply = core.run(about, core.soon(), script, &names, &order, &argv).await?;
        match numbers(&reply.value)[..] {
            [0, current] => {
                let current = u64::try_from(current).ok().map(FencingToken::new);
                Ok(Revocation::NotHeld { current })
            }
            [1, left] => Ok(Revocation::Marked { remaining: left_of(left) }),
            [2] => Ok(Revocation::Freed),
            _ => Err(about.odd(&reply.value)),
        }
    }
}

/// A time of the server as its scripts compare it: 16 digits.
fn deadline_text(micros: i64) -> String {
    format!("{:016}", micros.clamp(0, 9_999_999_999_999_999))
}

/// What is left of a key that ends so many milliseconds from now; zero for one without an end,
/// and for no other: a key in its last millisecond, of which a server says 0, is looked at soon.
pub(crate) fn left_of(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).map_or(0, |left| left.max(1)))
}

pub(crate) fn numbers(value: &Value) -> Vec<i64> {
    numbers_of(value.list().unwrap_or_default())
}

fn numbers_of(values: &[Value]) -> Vec<i64> {
    values.iter().map_while(Value::int).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_in_its_last_millisecond_is_not_taken_for_one_without_an_end() {
        // P4: its waiters would not look again for 30 s.
        assert_eq!(left_of(0), Duration::from_millis(1));
        assert_eq!(left_of(250), Duration::from_millis(250));
        assert_eq!(left_of(-1), Duration::ZERO);
    }
}
