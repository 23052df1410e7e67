//! Locks on Redis and Valkey: beside the two commands that a lock needs at the least, and beside
//! the locks of other libraries.

mod counts;
mod cycles;
mod hand_over;
mod python;
pub(crate) mod server;
mod waiters;

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use bidlock::platform::system;
use bidlock::{Key, Locker};
use redis::aio::MultiplexedConnection;
use rslock::LockManager;
use tokio::runtime::{Builder, Runtime};

use self::cycles::{Bare, Lock, cycles};
use self::python::Python;
use self::server::Server;
use crate::Context;
use crate::round::{Aim, Bench, Contender, Measure, per_second};

pub(crate) fn benches() -> Vec<Bench> {
    let all = usize::MAX;
    let measure = |what, unit, aim| Measure { what, unit, aim };
    vec![
        Bench {
            name: "redis/lock/1-task",
            measures: vec![
                per_second("cycles/s", None),
                measure("/p50", "us", Some(Aim::AtMost(1.15))),
                measure("/p99", "us", None),
            ],
            rounds_max: all,
            make: |context| lock(context, 1),
        },
        Bench {
            name: "redis/lock/100-tasks",
            measures: vec![per_second("cycles/s", Some(0.55))],
            rounds_max: all,
            make: |context| lock(context, 100),
        },
        Bench {
            name: "redis/hand-over",
            measures: vec![
                measure("/p50", "us", Some(Aim::AtMost(1.2))),
                measure("/p99", "us", None),
            ],
            rounds_max: all,
            make: hand_over::contenders,
        },
        Bench {
            name: "redis/50-waiters",
            measures: vec![
                measure("", "total/held", Some(Aim::ValueAtMost(1.15))),
                measure("/each", "us", None),
                measure("/held", "us", None),
            ],
            rounds_max: 5,
            make: waiting,
        },
        Bench {
            name: "redis/cycle",
            measures: vec![
                measure("/calls", "calls", Some(Aim::ValueAtMost(2.0))),
                measure("/commands", "commands", None),
                measure("/server", "us", None),
            ],
            rounds_max: 1,
            make: counts::cycle,
        },
        Bench {
            name: "redis/waiting",
            measures: vec![
                measure("/hand-over", "calls", Some(Aim::ValueAtMost(2.0))),
                measure("/100-for-3-s", "calls", None),
            ],
            rounds_max: 1,
            make: counts::waiting,
        },
        Bench {
            name: "redis/memory",
            measures: vec![measure("", "bytes/lock", Some(Aim::ValueAtMost(220.0)))],
            rounds_max: 1,
            make: counts::memory,
        },
    ]
}

/// One thread, as most programs that bid have, with everything that their tasks may need.
fn runtime() -> Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn rslock(server: &Server) -> Result<LockManager> {
    Ok(LockManager::from_clients(vec![server.client()?]))
}

/// Returns once so many wait for a key.
async fn until_waiting(control: &MultiplexedConnection, key: &Key, number: u32) -> Result<()> {
    let mut control = control.clone();
    let mut count = redis::cmd("ZCARD");
    count.arg(format!("{{{}}}:waiters", key.as_str()));
    while count.query_async::<u32>(&mut control).await? < number {}
    Ok(())
}

/// Cycles on keys of their own, all on one connection; redis-py has no shared one, and takes as
/// many as it wants.
fn lock(context: &Context, tasks: usize) -> Result<Vec<Contender>> {
    let server = context.server()?;
    let bare = {
        let runtime = runtime()?;
        let bare = runtime.block_on(Bare::connect(&server.client()?))?;
        timed("bare redis", runtime, bare, tasks)?
    };
    let ours = {
        let runtime = runtime()?;
        let locker = runtime.block_on(Locker::connect(&server.url()))?;
        timed("bidlock", runtime, locker, tasks)?
    };
    let rslock = timed("rslock", runtime()?, rslock(&server)?, tasks)?;
    let mut python = Python::start(&server)?;
    let python = Contender {
        who: "redis-py",
        run: Box::new(move |length| {
            let _server = &server;
            python.figures(&format!("cycles {tasks} {}", length.as_secs_f64()))
        }),
    };
    Ok(vec![bare, ours, rslock, python])
}

fn timed<L: Lock>(who: &'static str, runtime: Runtime, lock: L, tasks: usize) -> Result<Contender> {
    let (platform, mut round) = (system()?, 0);
    let run = move |length| {
        round += 1;
        runtime.block_on(cycles(&lock, &platform, (tasks, round), length))
    };
    Ok(Contender { who, run: Box::new(run) })
}

/// Fifty waiters for one key.
fn waiting(context: &Context) -> Result<Vec<Contender>> {
    let server = context.server()?;
    let ours = {
        let runtime = runtime()?;
        let locker = runtime.block_on(Locker::connect(&server.url()))?;
        served("bidlock", runtime, locker)?
    };
    let rslock = served("rslock", runtime()?, rslock(&server)?)?;
    let mut python = Python::start(&server)?;
    let python = Contender {
        who: "redis-py",
        run: Box::new(move |_| {
            let _server: &Rc<Server> = &server;
            let (number, each) = (waiters::WAITERS, waiters::HOLD.as_secs_f64());
            let taken = python.figures(&format!("waiters {number} {each}"))?;
            let [total, held] = [taken[0], taken[1]].map(Duration::from_secs_f64);
            Ok(waiters::figures(total, held))
        }),
    };
    Ok(vec![ours, rslock, python])
}

fn served<L: Lock>(who: &'static str, runtime: Runtime, lock: L) -> Result<Contender> {
    let (platform, mut round) = (system()?, 0);
    let run = move |_| {
        round += 1;
        runtime.block_on(waiters::serve(&lock, &platform, round))
    };
    Ok(Contender { who, run: Box::new(run) })
}
