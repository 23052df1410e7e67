//! The ledger on PostgreSQL: whole bids beside a hand-written loop of the same three durable
//! commits, each one prepared statement that also writes a line of history.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use bidlock::ledger::AttemptId;
use bidlock::platform::system;
use bidlock::{Platform, StoreUrl, open_ledger};
use tokio_postgres::{Client, NoTls, Statement};

use super::bids;
use super::server::Server;
use crate::round::{Contender, rate};

pub(super) fn pair(bidders: usize) -> Result<Vec<Contender>> {
    let server = Rc::new(Server::start()?);
    Ok(vec![bare(&server, bidders)?, ledger(&server, bidders)?])
}

/// The same rows as the ledger keeps, with the indexes that whoever writes this by hand makes: by
/// id, by what is open, by state, and a posting's history.
const TABLES: &str = "CREATE TABLE bids (
        id uuid PRIMARY KEY, marketplace text NOT NULL, posting text NOT NULL,
        state text NOT NULL, event text NOT NULL, token bigint NOT NULL,
        token_seen bigint NOT NULL, holder text NOT NULL, process text NOT NULL,
        seen_at_us bigint, reserved_at_us bigint NOT NULL, started_at_us bigint,
        send_by_us bigint, decided_at_us bigint, reference text, payload text, reason text);
    CREATE UNIQUE INDEX bids_open ON bids (marketplace, posting) WHERE state <> 'abandoned';
    CREATE INDEX bids_by_state ON bids (state, reserved_at_us);
    CREATE TABLE bids_history (
        seq bigint GENERATED ALWAYS AS IDENTITY, marketplace text NOT NULL,
        posting text NOT NULL, bid uuid NOT NULL, event text NOT NULL, token bigint,
        at_us bigint NOT NULL, actor text NOT NULL, detail text,
        PRIMARY KEY (marketplace, posting, seq));";

const RESERVE: &str = "WITH made AS (
        INSERT INTO bids (id, marketplace, posting, state, event, token, token_seen, holder,
            process, reserved_at_us)
        VALUES ($1::text::uuid, 'upwork', $2, 'reserved', 'reserved', $3, $3, 'host:1:01234567',
            'linux:01234567', $3) RETURNING *)
    INSERT INTO bids_history (marketplace, posting, bid, event, token, at_us, actor)
        SELECT marketplace, posting, id, event, token, $3, holder FROM made";

const START: &str = "WITH made AS (
        UPDATE bids SET state = 'started', event = 'started', started_at_us = $2,
            send_by_us = $2::bigint + 60000000
        WHERE id = $1::text::uuid AND state = 'reserved' RETURNING *)
    INSERT INTO bids_history (marketplace, posting, bid, event, token, at_us, actor)
        SELECT marketplace, posting, id, event, token, $2, holder FROM made";

const RECORD: &str = "WITH made AS (
        UPDATE bids SET state = 'placed', event = 'placed', decided_at_us = $2
        WHERE id = $1::text::uuid AND state = 'started' RETURNING *)
    INSERT INTO bids_history (marketplace, posting, bid, event, at_us, actor)
        SELECT marketplace, posting, id, event, $2, holder FROM made";

/// One connection, and what is prepared on it.
struct Hand {
    client: Client,
    steps: [Statement; 3],
}

fn bare(server: &Rc<Server>, bidders: usize) -> Result<Contender> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let (platform, server) = (system()?, Rc::clone(server));
    let hands: Vec<Rc<Hand>> = local.block_on(&runtime, async {
        let mut hands = Vec::new();
        for number in 0..bidders {
            let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await?;
            drop(tokio::task::spawn_local(connection));
            if number == 0 {
                client.batch_execute(TABLES).await?;
            }
            let steps = [
                client.prepare(RESERVE).await?,
                client.prepare(START).await?,
                client.prepare(RECORD).await?,
            ];
            hands.push(Rc::new(Hand { client, steps }));
        }
        Ok::<_, anyhow::Error>(hands)
    })?;
    let mut round = 0_u64;
    Ok(rate("bare driver", move |length| {
        let _runs = &server;
        round += 1;
        local.block_on(&runtime, by_hand(&hands, &platform, round, length))
    }))
}

async fn by_hand(
    hands: &[Rc<Hand>],
    platform: &Platform,
    round: u64,
    length: Duration,
) -> Result<f64> {
    let done = Rc::new(Cell::new(0.0));
    let start = platform.clock.now();
    let mut running = Vec::new();
    for (number, hand) in hands.iter().enumerate() {
        let (hand, platform, done) = (Rc::clone(hand), platform.clone(), Rc::clone(&done));
        running.push(tokio::task::spawn_local(async move {
            let mut next = 0_u64;
            while platform.clock.now().since(start) < length {
                next += 1;
                let id = AttemptId::random(&*platform.rng).to_string();
                let posting = format!("job_{round}_{number}_{next}");
                let now = || i64::try_from(platform.clock.wall().as_micros());
                let [reserve, begin, record] = &hand.steps;
                hand.client.execute(reserve, &[&id, &posting, &now()?]).await?;
                hand.client.execute(begin, &[&id, &now()?]).await?;
                hand.client.execute(record, &[&id, &now()?]).await?;
                done.set(done.get() + 1.0);
            }
            Ok::<(), anyhow::Error>(())
        }));
    }
    for hand in running {
        hand.await??;
    }
    Ok(done.get() / platform.clock.now().since(start).as_secs_f64())
}

fn ledger(server: &Rc<Server>, bidders: usize) -> Result<Contender> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (platform, server) = (system()?, Rc::clone(server));
    let url = StoreUrl::ledger(&format!("{}?pool={bidders}&sslmode=disable", server.url()))?;
    let ledger = runtime.block_on(open_ledger(&url, &platform))?;
    let mut round = 0_u64;
    Ok(rate("bidlock", move |length| {
        let _runs = &server;
        round += 1;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, bids(&ledger, &platform, (bidders, round), length))
    }))
}
