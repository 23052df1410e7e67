//! The ledger: whole bids (reserve, start, record) beside a hand-written loop of the same three
//! durable commits, on SQLite here.

mod postgres;
mod server;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use bidlock::ledger::{AttemptId, Ledger, Outcome, ReserveRequest, StartRequest};
use bidlock::platform::system;
use bidlock::{FencingToken, Key, Platform, ProcessMark};

use crate::Context;
use crate::lock::{open, per_second};
use crate::round::{self, Bench, Contender, rate};

pub(crate) fn benches() -> Vec<Bench> {
    let bench = |name, aim, make| {
        let measures = vec![round::per_second("bids/s", aim)];
        Bench { name, measures, rounds_max: usize::MAX, make }
    };
    vec![
        bench("ledger/1-bidder", None, |_: &Context| pair(1)),
        bench("ledger/16-bidders", Some(0.8), |_| pair(16)),
        bench("postgres/1-bidder", None, |_| postgres::pair(1)),
        bench("postgres/16-bidders", Some(0.8), |_| postgres::pair(16)),
    ]
}

fn pair(bidders: usize) -> Result<Vec<Contender>> {
    Ok(vec![bare()?, ledger(bidders)?])
}

fn bare() -> Result<Contender> {
    let folder = tempfile::tempdir()?;
    let connection = open(&folder.path().join("bare.db"), "full")?;
    connection.execute_batch(
        "CREATE TABLE bids (posting TEXT PRIMARY KEY, attempt TEXT NOT NULL, state TEXT NOT NULL)",
    )?;
    let platform = system()?;
    let mut next = 0_u64;
    Ok(rate("bare rusqlite", move |length| {
        let _folder = &folder;
        let mut reserve =
            connection.prepare_cached("INSERT INTO bids VALUES (?1, ?2, 'reserved')")?;
        let mut go_on =
            connection.prepare_cached("UPDATE bids SET state = ?2 WHERE posting = ?1")?;
        per_second(&platform, length, || {
            next += 1;
            let posting = format!("upwork:job_{next}");
            reserve.execute((&posting, AttemptId::random(&*platform.rng).to_string()))?;
            go_on.execute((&posting, "started"))?;
            go_on.execute((&posting, "placed"))?;
            Ok(())
        })
    }))
}

fn ledger(bidders: usize) -> Result<Contender> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let platform = system()?;
    let ledger = Ledger::open_sqlite(&folder.path().join("ledger.db"), &platform)?;
    let mut round = 0_u64;
    Ok(rate("bidlock", move |length| {
        let _folder = &folder;
        round += 1;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, bids(&ledger, &platform, (bidders, round), length))
    }))
}

async fn bids(
    ledger: &Ledger,
    platform: &Platform,
    (bidders, round): (usize, u64),
    length: Duration,
) -> Result<f64> {
    let done = Rc::new(Cell::new(0.0));
    let process = platform.processes.current();
    let start = platform.clock.now();
    let mut running = Vec::new();
    for bidder in 0..bidders {
        let (ledger, platform, done) = (ledger.clone(), platform.clone(), Rc::clone(&done));
        let process = process.clone();
        running.push(tokio::task::spawn_local(async move {
            let mut next = 0_u64;
            while platform.clock.now().since(start) < length {
                next += 1;
                let key = Key::new("upwork", &format!("job_{round}_{bidder}_{next}"))?;
                bid(&ledger, &platform, &process, &key).await?;
                done.set(done.get() + 1.0);
            }
            Ok::<(), anyhow::Error>(())
        }));
    }
    for bidder in running {
        bidder.await??;
    }
    Ok(done.get() / platform.clock.now().since(start).as_secs_f64())
}

async fn bid(ledger: &Ledger, platform: &Platform, process: &ProcessMark, key: &Key) -> Result<()> {
    let token = FencingToken::new(platform.clock.wall().as_micros());
    let attempt = AttemptId::random(&*platform.rng);
    let process = process.clone();
    let holder = "host:1:01234567".to_owned();
    let reserve = ReserveRequest { attempt, token, holder, process, seen_at: None };
    ledger.reserve(key, &reserve).await?;
    let send_by = platform.clock.wall() + Duration::from_mins(1);
    ledger.start(&attempt, &StartRequest { token, send_by, payload: None }).await?;
    ledger.record(&attempt, &Outcome::Placed { reference: None }).await?;
    Ok(())
}
