//! A bidder's process: the real `Locker` over the real Redis backend, and work for it.

use std::sync::Arc;
use std::time::Duration;

use bidlock::{Error, Lease, Locker, Revocation, Wait};
use bidlock_core::{FencingToken, Key, Liveness, Platform, Prefix, ProcessMark, Processes, Ttl};
use bidlock_redis::{Config, Redis, Scripts};

use crate::bidder;
use crate::exec::{ProcessId, Queue, SimSpawn};
use crate::facts::{Waiting, Watch};
use crate::faulty::{self, Switches};
use crate::ledger::Way;
use crate::market::Market;
use crate::net::{Host, Net, SimConnector};
use crate::plan::WORK_END;
use crate::rand::{Rand, SimRng};
use crate::time::{HostClock, Time};
use crate::trace::{Trace, note};

/// What one run of a client's process has.
#[derive(Debug, Clone)]
pub(crate) struct Env {
    pub(crate) seed: u64,
    pub(crate) host: Host,
    pub(crate) process: ProcessId,
    pub(crate) name: String,
    pub(crate) clock: HostClock,
    pub(crate) time: Time,
    pub(crate) net: Net,
    pub(crate) queue: Queue,
    pub(crate) watch: Watch,
    pub(crate) trace: Trace,
    pub(crate) processes: Arc<SimProcesses>,
    pub(crate) scripts: Scripts,
    pub(crate) way: Way,
    pub(crate) market: Market,
    pub(crate) mutants: Switches,
    /// Whether it asks for keys, and whether it bids.
    pub(crate) locks: bool,
    pub(crate) bids: bool,
}

/// The processes of one machine.
#[derive(Debug)]
pub(crate) struct SimProcesses {
    pub(crate) host: String,
    pub(crate) pid: ProcessId,
}

impl Processes for SimProcesses {
    fn current(&self) -> ProcessMark {
        ProcessMark::new(format!("{}/{}", self.host, self.pid))
    }

    /// Each machine of the simulation has one process at a time.
    fn liveness(&self, process: &ProcessMark) -> Liveness {
        match process.as_str().split_once('/') {
            Some((host, _)) if host != self.host => Liveness::Unknown,
            _ if *process == self.current() => Liveness::Alive,
            _ => Liveness::Gone,
        }
    }

    fn boot_id(&self) -> &str {
        &self.host
    }

    fn host(&self) -> &str {
        &self.host
    }

    fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or(0)
    }
}

impl Env {
    pub(crate) fn platform(&self) -> Platform {
        let rand = Rand::new(self.seed, &format!("process {}", self.process));
        Platform {
            clock: Arc::new(self.clock.clone()),
            rng: Arc::new(SimRng::new(rand)),
            spawn: Arc::new(SimSpawn { process: self.process, queue: self.queue.clone() }),
            processes: Arc::<SimProcesses>::clone(&self.processes),
        }
    }

    pub(crate) fn rand(&self, purpose: &str) -> Rand {
        Rand::new(self.seed, &format!("{purpose} {}", self.process))
    }

    fn works(&self) -> bool {
        self.time.now() < WORK_END
    }
}

/// A process from its start to its end.
pub(crate) async fn process(env: Env) {
    let Some(locker) = connect(&env).await else { return };
    for number in (0..2).filter(|_| env.locks) {
        let work = Worker { env: env.clone(), locker: locker.clone(), number };
        env.queue.spawn(env.process, Box::pin(work.run()));
    }
    if env.bids {
        let bids = bidder::bid_on_all(env.clone(), locker.clone());
        env.queue.spawn(env.process, Box::pin(bids));
    }
    if env.host == 0 && env.locks {
        env.queue.spawn(env.process, Box::pin(revoke(env.clone(), locker)));
    }
}

/// Connects, however often that takes.
async fn connect(env: &Env) -> Option<Locker> {
    let config = Config::from_parts("redis", 6379, 0, None).ok()?;
    let platform = env.platform();
    loop {
        let connector = SimConnector { net: env.net.clone(), host: env.host, process: env.process };
        let scripts = env.scripts.clone();
        let prefix = Prefix::default();
        let connected =
            Redis::connect_by(Arc::new(connector), &config, &prefix, &platform, scripts).await;
        match connected {
            Ok(redis) => {
                let builder = Locker::builder().platform(platform);
                return builder.backend(faulty::backend(Arc::new(redis), env)).ok();
            }
            Err(error) => {
                note!(env.trace, &env.name, "cannot connect: {error}");
                env.time.after(300_000).await;
            }
        }
        if !env.works() {
            return None;
        }
    }
}

struct Worker {
    env: Env,
    locker: Locker,
    number: u64,
}

/// The keys that everybody wants.
fn hot_key(rand: &mut Rand) -> Option<Key> {
    Key::named(&format!("hot-{}", rand.below(3))).ok()
}

impl Worker {
    async fn run(self) {
        let mut rand = self.env.rand(&format!("worker {}", self.number));
        while self.env.works() {
            self.env.time.after(rand.below(400_000)).await;
            let Some(key) = hot_key(&mut rand) else { return };
            let work = rand.next();
            self.once(key, Rand::new(work, "once")).await;
        }
    }

    /// Asks for a key, and holds it for a while.
    async fn once(&self, key: Key, mut rand: Rand) {
        let (env, trace) = (&self.env, &self.env.trace);
        let Ok(ttl) = Ttl::new(Duration::from_millis(rand.range(1_000, 3_000))) else { return };
        let (wait, budget) = match rand.below(10) {
            0 | 1 => (Wait::No, Some(0)),
            2 => (Wait::Forever, None),
            _ => {
                let millis = rand.range(100, 4_000);
                (Wait::For(Duration::from_millis(millis)), Some(millis * 1_000))
            }
        };
        let mut acquire = self.locker.acquire(&key).wait(wait).ttl(ttl).renew(!rand.chance(100));
        if rand.chance(100) {
            acquire = acquire.max_hold(Duration::from_millis(rand.range(200, 3_000)));
        }
        let waiting = Waiting {
            process: env.process,
            key: key.as_str().to_owned(),
            since: env.time.now(),
            budget,
        };
        let number = env.watch.waits(waiting);
        let cancels = rand.chance(200);
        let cancel_at = if cancels { rand.below(1_500_000) } else { u64::MAX / 2 };
        let acquired = tokio::select! {
            biased;
            acquired = acquire => Some(acquired),
            () = env.time.after(cancel_at) => None,
        };
        let Some(acquired) = acquired else {
            env.watch.dropped(number);
            note!(trace, &env.name, "{key}: wait cancelled");
            return;
        };
        env.watch.told(number);
        match acquired {
            Ok(lease) => {
                let watched = env.watch.acquired(&lease, &env.clock, env.process);
                note!(trace, &env.name, "{key}: acquired with token {}", lease.token());
                self.hold(lease, &mut rand).await;
                env.watch.ended(watched);
            }
            Err(Error::Held { .. }) => note!(trace, &env.name, "{key}: held"),
            Err(Error::TimedOut { .. }) => note!(trace, &env.name, "{key}: waited in vain"),
            Err(error) => note!(trace, &env.name, "{key}: {error}"),
        }
    }

    /// Works under a lease, then gives it up in one way or another.
    async fn hold(&self, lease: Lease, rand: &mut Rand) {
        let (env, trace) = (&self.env, &self.env.trace);
        let key = lease.key().clone();
        let length = match rand.below(40) {
            // Longer than what a loss of data is forgiven for.
            39 => rand.range(6_000_000, 9_000_000),
            0..=3 => rand.range(1_500_000, 4_000_000),
            4..=18 => rand.range(5_000, 100_000),
            _ => rand.range(100_000, 1_000_000),
        };
        let until = env.time.now() + length;
        while env.time.now() < until {
            if rand.chance(100)
                && let Err(error) = lease.renew().await
            {
                note!(trace, &env.name, "{key}: renewal: {error}");
            }
            let slice = env.time.until(until.min(env.time.now() + 150_000));
            let lost = tokio::select! {
                biased;
                reason = lease.lost() => Some(reason),
                () = slice => None,
            };
            if let Some(reason) = lost {
                note!(trace, &env.name, "{key}: lost, {reason}");
                break;
            }
        }
        match rand.below(20) {
            0..=13 => {
                let done = lease.release().await;
                match done {
                    Ok(()) => note!(trace, &env.name, "{key}: released"),
                    Err(error) => note!(trace, &env.name, "{key}: release: {error}"),
                }
            }
            14..=18 => {
                note!(trace, &env.name, "{key}: dropped");
                drop(lease);
            }
            _ => {
                // A release that its caller gives up goes on in the background.
                let release = lease.release();
                tokio::select! {
                    biased;
                    _ = release => {}
                    () = env.time.after(rand.below(3_000)) => {}
                }
                note!(trace, &env.name, "{key}: release left alone");
            }
        }
    }
}

/// An operator who takes keys from their holders.
async fn revoke(env: Env, locker: Locker) {
    let mut rand = env.rand("operator");
    while env.works() {
        env.time.after(rand.range(500_000, 3_000_000)).await;
        let (Some(key), Some(browse), Some(revoker)) =
            (hot_key(&mut rand), locker.browse(), locker.revoker())
        else {
            return;
        };
        let Ok(Some(info)) = browse.inspect(&key).await else { continue };
        let Some(token) = info.token else { continue };
        let (now, wrong) = (rand.chance(500), rand.chance(200));
        let named = if wrong { FencingToken::new(token.get() - 1) } else { token };
        if now && !wrong {
            env.watch.revokes(&key, token.get());
        }
        let done = revoker.revoke(&key, named, now).await;
        if wrong && matches!(done, Ok(Revocation::Marked { .. } | Revocation::Freed)) {
            env.watch.wrong(format!("{key}: token {named} was revoked, which nobody holds"));
        }
        match done {
            Ok(Revocation::NotHeld { .. }) => note!(env.trace, "operator", "{key}: not held"),
            Ok(how) => note!(env.trace, "operator", "{key}: token {named} revoked: {how:?}"),
            Err(error) => note!(env.trace, "operator", "{key}: {error}"),
        }
    }
}
