//! What is counted, not timed: calls and memory.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bidlock::{Key, Locker, Ttl, Wait};

use super::cycles::{Bare, Lock};
use super::python::Python;
use super::server::Server;
use super::{rslock, runtime, until_waiting};
use crate::Context;
use crate::round::Contender;

/// Cycles whose calls are counted.
const CYCLES: u32 = 1_000;
/// Locks whose memory is measured.
const LOCKS: u32 = 100_000;
/// Tasks that take them.
const TAKERS: u32 = 100;
/// How long each of many waiters holds the key.
const CONFIRMED: Duration = Duration::from_millis(5);
/// How long the key is held that many wait for.
const HELD: Duration = Duration::from_secs(3);

/// What clients send; everything else in the server's statistics is called by scripts. Both floor
/// and peers send `SET`, and none of their scripts calls it.
const BY_SCRIPTS_TOO: &[&str] = &["set", "evalsha", "eval", "script|load"];
const BY_BIDLOCK: &[&str] = &["evalsha", "eval", "script|load", "ping", "subscribe", "hello"];

/// How many calls a client made, what the server ran for them in all, and for how many
/// microseconds; since the last reset.
fn calls(server: &Server, sent: &[&str]) -> Result<[f64; 3]> {
    let mut counted = [0.0; 3];
    for (name, (calls, micros)) in server.stats()? {
        // What this bench asks itself.
        if name.starts_with("config") || name.starts_with("client|") || name == "info" {
            continue;
        }
        counted[1] += calls;
        if sent.contains(&name.as_str()) {
            counted[0] += calls;
            counted[2] += micros;
        }
    }
    Ok(counted)
}

fn per_cycle(server: &Server, sent: &[&str], run: impl FnOnce() -> Result<()>) -> Result<Vec<f64>> {
    server.reset_stats()?;
    run()?;
    Ok(calls(server, sent)?.map(|count| count / f64::from(CYCLES)).to_vec())
}

async fn some_cycles<L: Lock>(mut lock: L) -> Result<()> {
    for n in 0..CYCLES {
        let lease = lock.acquire(&format!("counted_{n}")).await?;
        lock.release(lease).await?;
    }
    Ok(())
}

/// Calls of a cycle that nobody disturbs.
pub(crate) fn cycle(context: &Context) -> Result<Vec<Contender>> {
    let server = context.server()?;
    let mut contenders = Vec::new();
    let counted = Rc::clone(&server);
    contenders.push(Contender {
        who: "bare redis",
        run: Box::new(move |_| {
            let runtime = runtime()?;
            let bare = runtime.block_on(Bare::connect(&counted.client()?))?;
            per_cycle(&counted, BY_SCRIPTS_TOO, || runtime.block_on(some_cycles(bare)))
        }),
    });
    let counted = Rc::clone(&server);
    contenders.push(Contender {
        who: "bidlock",
        run: Box::new(move |_| {
            let runtime = runtime()?;
            let locker = runtime.block_on(Locker::connect(&counted.url()))?;
            per_cycle(&counted, BY_BIDLOCK, || runtime.block_on(some_cycles(locker)))
        }),
    });
    let counted = Rc::clone(&server);
    contenders.push(Contender {
        who: "rslock",
        run: Box::new(move |_| {
            let (runtime, manager) = (runtime()?, rslock(&counted)?);
            per_cycle(&counted, BY_SCRIPTS_TOO, || runtime.block_on(some_cycles(manager)))
        }),
    });
    let mut python = Python::start(&server)?;
    contenders.push(Contender {
        who: "redis-py",
        run: Box::new(move |_| {
            per_cycle(&server, BY_SCRIPTS_TOO, || {
                python.figures(&format!("count {CYCLES}")).map(drop)
            })
        }),
    });
    Ok(contenders)
}

/// Calls of each hand-over among 50 waiters, and of 100 waiters while the key is held.
pub(crate) fn waiting(context: &Context) -> Result<Vec<Contender>> {
    let server = context.server()?;
    let run = move |_| {
        runtime()?.block_on(async {
            // Teaches the server the scripts.
            waiters(&server, 1, Duration::ZERO).await?;
            let (handed, _) = waiters(&server, 50, Duration::ZERO).await?;
            let (_, idle) = waiters(&server, 100, HELD).await?;
            Ok(vec![handed, idle])
        })
    };
    Ok(vec![Contender { who: "bidlock", run: Box::new(run) }])
}

/// Lets so many wait for a key that is held for so long from when all are queued. Returns the
/// calls of each hand-over, and all calls while it was held.
async fn waiters(server: &Server, number: u32, held: Duration) -> Result<(f64, f64)> {
    let locker = Locker::connect(&server.url()).await?;
    let control = Bare::connect(&server.client()?).await?.connection;
    let key = Key::new("upwork", &format!("counted_{number}"))?;
    let lease = locker.acquire(&key).await?;
    let mut running = Vec::new();
    for _ in 0..number {
        let waits = locker.acquire(&key).wait(Wait::Forever);
        let clock = Arc::clone(&locker.platform().clock);
        running.push(tokio::spawn(async move {
            let lease = waits.await?;
            // As long as it takes to confirm a grant that came by message.
            clock.sleep_until(clock.now() + CONFIRMED).await;
            lease.release().await
        }));
    }
    until_waiting(&control, lease.key(), number).await?;
    server.reset_stats()?;
    let clock = &locker.platform().clock;
    clock.sleep_until(clock.now() + held).await;
    let [idle, ..] = calls(server, BY_BIDLOCK)?;
    server.reset_stats()?;
    lease.release().await?;
    for task in running {
        task.await??;
    }
    locker.close().await;
    let [all, ..] = calls(server, BY_BIDLOCK)?;
    // The last release hands nothing over.
    Ok(((all - 1.0) / f64::from(number), idle))
}

/// Memory of a lock that is held and that nobody waits for.
pub(crate) fn memory(context: &Context) -> Result<Vec<Contender>> {
    let server = context.server()?;
    let bare = Rc::clone(&server);
    let bare = move |_| {
        grown(&bare, async |server| {
            let bare = Bare::connect(&server.client()?).await?;
            for task in 0..TAKERS {
                let mut bare = bare.clone();
                for n in 0..LOCKS / TAKERS {
                    drop(bare.acquire(&format!("job_{task:03}_{n:04}")).await?);
                }
            }
            Ok(())
        })
    };
    let ours = move |_| grown(&server, hold_many);
    Ok(vec![
        Contender { who: "bare redis", run: Box::new(bare) },
        Contender { who: "bidlock", run: Box::new(ours) },
    ])
}

/// Takes locks and leaves them, which keeps them in the store until their TTL ends.
async fn hold_many(server: &Server) -> Result<()> {
    let locker = Locker::connect(&server.url()).await?;
    let ttl = Ttl::new(Duration::from_mins(5))?;
    let mut running = Vec::new();
    for task in 0..TAKERS {
        let locker = locker.clone();
        running.push(tokio::spawn(async move {
            for n in 0..LOCKS / TAKERS {
                let key = Key::new("upwork", &format!("job_{task:03}_{n:04}"))?;
                drop(locker.acquire(&key).ttl(ttl).await?.detach());
            }
            Ok::<_, anyhow::Error>(())
        }));
    }
    for task in running {
        task.await??;
    }
    Ok(())
}

/// By how many bytes for each lock the server's memory grows.
fn grown(server: &Server, take: impl AsyncFnOnce(&Server) -> Result<()>) -> Result<Vec<f64>> {
    server.empty()?;
    let before = server.used_memory()?;
    // Whatever the connections need is gone with them.
    runtime()?.block_on(take(server)).context("taking many locks")?;
    let grown = server.used_memory()? - before;
    server.empty()?;
    Ok(vec![grown / f64::from(LOCKS)])
}
