//! Locks on SQLite: acquire and release, beside a bare loop that inserts and deletes one row.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bidlock::platform::system;
use bidlock::{Key, Locker, Platform};
use bidlock_sqlite::{Durability, Sqlite};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::Context;
use crate::round::{self, Bench, Contender, rate};

pub(crate) fn benches() -> Vec<Bench> {
    let bench = |name, aim, make| {
        let measures = vec![round::per_second("cycles/s", Some(aim))];
        Bench { name, measures, rounds_max: usize::MAX, make }
    };
    vec![
        bench("lock/1-task", 0.5, |_: &Context| pair(1, "normal")),
        bench("lock/100-tasks", 0.8, |_| pair(100, "normal")),
        bench("lock/1-task/full", 0.8, |_| pair(1, "full")),
        bench("lock/100-tasks/full", 0.8, |_| pair(100, "full")),
    ]
}

fn pair(tasks: usize, synchronous: &'static str) -> Result<Vec<Contender>> {
    Ok(vec![bare(synchronous)?, locker(tasks, synchronous)?])
}

/// What a row lock of one's own costs: the table of the old kind, statements prepared once, and
/// no fencing, queue or expiry.
fn bare(synchronous: &str) -> Result<Contender> {
    let folder = tempfile::tempdir()?;
    let connection = open(&folder.path().join("bare.db"), synchronous)?;
    connection.execute_batch(
        "CREATE TABLE locks (key TEXT PRIMARY KEY, holder TEXT NOT NULL, ends INTEGER NOT NULL)",
    )?;
    let clock = system()?;
    let mut next = 0_u64;
    Ok(rate("bare rusqlite", move |length| {
        let _folder: &TempDir = &folder;
        let mut insert = connection.prepare_cached("INSERT INTO locks VALUES (?1, ?2, ?3)")?;
        let mut delete = connection.prepare_cached("DELETE FROM locks WHERE key = ?1")?;
        per_second(&clock, length, || {
            next += 1;
            let key = format!("bid_lock:upwork:job_{next}");
            insert.execute((&key, "host:1:0123456789abcdef", 1))?;
            delete.execute([&key])?;
            Ok(())
        })
    }))
}

/// Opens a file in WAL mode.
pub(crate) fn open(path: &Path, synchronous: &str) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    Ok(connection)
}

/// Repeats `work` for so long.
pub(crate) fn per_second(
    platform: &Platform,
    length: Duration,
    mut work: impl FnMut() -> Result<()>,
) -> Result<f64> {
    let start = platform.clock.now();
    let mut done = 0.0;
    loop {
        work()?;
        done += 1.0;
        let taken = platform.clock.now().since(start);
        if taken >= length {
            return Ok(done / taken.as_secs_f64());
        }
    }
}

/// Cycles of the real locker, each task on keys of its own.
fn locker(tasks: usize, synchronous: &'static str) -> Result<Contender> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let path = folder.path().join("locks.db");
    let platform = system()?;
    let durability =
        if synchronous == "full" { Durability::PowerCut } else { Durability::Processes };
    let store = Sqlite::open_with(&path, &platform, durability)?;
    let locker = Locker::builder().platform(platform).backend(Arc::new(store))?;
    Ok(rate("bidlock", move |length| {
        let _folder: &TempDir = &folder;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, cycles(&locker, tasks, length))
    }))
}

async fn cycles(locker: &Locker, tasks: usize, length: Duration) -> Result<f64> {
    let clock = Arc::clone(&locker.platform().clock);
    let done = Rc::new(Cell::new(0.0));
    let start = clock.now();
    let mut running = Vec::new();
    for task in 0..tasks {
        let (locker, clock, done) = (locker.clone(), Arc::clone(&clock), Rc::clone(&done));
        running.push(tokio::task::spawn_local(async move {
            let mut next = 0_u64;
            while clock.now().since(start) < length {
                next += 1;
                let key = Key::new("upwork", &format!("job_{task}_{next}"))?;
                locker.acquire(&key).await?.release().await?;
                done.set(done.get() + 1.0);
            }
            Ok::<(), anyhow::Error>(())
        }));
    }
    for task in running {
        task.await??;
    }
    Ok(done.get() / clock.now().since(start).as_secs_f64())
}
