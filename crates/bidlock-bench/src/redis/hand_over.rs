//! From the call that releases to the next holder's start, on two connections.

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bidlock::platform::system;
use bidlock::{Key, Locker, Platform, Wait};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::cycles::{Bare, micros};
use super::server::Server;
use super::{runtime, until_waiting};
use crate::Context;
use crate::round::{Contender, quantile};

pub(crate) fn contenders(context: &Context) -> Result<Vec<Contender>> {
    let server = context.server()?;
    Ok(vec![
        round_trip(&server, "bare PING", |_| redis::cmd("PING"))?,
        round_trip(&server, "bare script", Bare::release_nothing)?,
        hand_written(&server)?,
        ours(&server)?,
    ])
}

/// Takes samples for so long: their median and 99th percentile.
struct Samples {
    runtime: Runtime,
    platform: Platform,
}

impl Samples {
    fn new() -> Result<Self> {
        Ok(Self { runtime: runtime()?, platform: system()? })
    }

    fn take(
        &self,
        length: Duration,
        mut sample: impl AsyncFnMut(&Platform) -> Result<Duration>,
    ) -> Result<Vec<f64>> {
        self.runtime.block_on(async {
            let (start, mut taken) = (self.platform.clock.now(), Vec::new());
            while self.platform.clock.now().since(start) < length {
                taken.push(micros(sample(&self.platform).await?));
            }
            Ok(vec![quantile(&mut taken, 0.5), quantile(&mut taken, 0.99)])
        })
    }
}

/// One round trip.
fn round_trip(
    server: &Server,
    who: &'static str,
    command: fn(&Bare) -> redis::Cmd,
) -> Result<Contender> {
    let samples = Samples::new()?;
    let bare = samples.runtime.block_on(Bare::connect(&server.client()?))?;
    let run = move |length| {
        let (command, mut connection) = (command(&bare), bare.connection.clone());
        samples.take(length, async |platform| {
            let start = platform.clock.now();
            command.exec_async(&mut connection).await?;
            Ok(platform.clock.now().since(start))
        })
    };
    Ok(Contender { who, run: Box::new(run) })
}

/// Passes the key to who waits longest, and tells him: no clocks, no fencing, nobody is ever dead.
const PASS_ON: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end \
    local next = redis.call('LPOP', KEYS[2]) \
    if not next then return redis.call('DEL', KEYS[1]) end \
    redis.call('SET', KEYS[1], next, 'PX', ARGV[2]) \
    redis.call('PUBLISH', 'own:' .. next, KEYS[1]) return 1";

/// The least that a hand-over can be.
fn hand_written(server: &Server) -> Result<Contender> {
    let samples = Samples::new()?;
    let client = server.client()?;
    let (told, mut hears) = mpsc::unbounded_channel::<PushInfo>();
    let (mut first, release, second) = samples.runtime.block_on(async {
        let mut first = Bare::connect(&client).await?.connection;
        let load = redis::cmd("SCRIPT").arg("LOAD").arg(PASS_ON).clone();
        let release: String = load.query_async(&mut first).await?;
        let mut info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        info = info.set_redis_settings(settings);
        let config = AsyncConnectionConfig::new().set_push_sender(told);
        let client = redis::Client::open(info)?;
        let mut second = client.get_multiplexed_async_connection_with_config(&config).await?;
        second.subscribe("own:second").await?;
        Ok::<_, anyhow::Error>((first, release, second))
    })?;
    let run = move |length| {
        let _subscribed: &MultiplexedConnection = &second;
        samples.take(length, async |platform| {
            redis::pipe()
                .set("passed", "first")
                .rpush("passed:queue", "second")
                .exec_async(&mut first)
                .await?;
            let mut pass = redis::cmd("EVALSHA");
            pass.arg(&release).arg(2).arg(&["passed", "passed:queue"]).arg("first").arg(300_000);
            let next_starts = async {
                while hears.recv().await.context("the connection is up")?.kind != PushKind::Message
                {
                }
                Ok::<_, anyhow::Error>(platform.clock.now())
            };
            let start = platform.clock.now();
            let passed = async { Ok(pass.query_async::<i64>(&mut first).await?) };
            let (_, started) = tokio::try_join!(passed, next_starts)?;
            Ok(started.since(start))
        })
    };
    Ok(Contender { who: "hand-written", run: Box::new(run) })
}

fn ours(server: &Rc<Server>) -> Result<Contender> {
    let samples = Samples::new()?;
    let (first, second) = samples.runtime.block_on(async {
        let first = Locker::connect(&server.url()).await?;
        Ok::<_, anyhow::Error>((first, Locker::connect(&server.url()).await?))
    })?;
    let control = samples.runtime.block_on(Bare::connect(&server.client()?))?.connection;
    let mut next = 0_u64;
    let run = move |length| {
        samples.take(length, async |platform| {
            next += 1;
            let key = Key::new("upwork", &format!("passed_{next}"))?;
            let lease = first.acquire(&key).await?;
            let (waits, clock) = (second.acquire(&key).wait(Wait::Forever), platform.clock.clone());
            let waiter = tokio::spawn(async move { waits.await.map(|lease| (lease, clock.now())) });
            until_waiting(&control, lease.key(), 1).await?;
            let start = platform.clock.now();
            lease.release().await?;
            let (lease, started) = waiter.await??;
            lease.release().await?;
            Ok(started.since(start))
        })
    };
    Ok(Contender { who: "bidlock", run: Box::new(run) })
}
