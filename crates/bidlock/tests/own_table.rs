//! A table `bids` that was there before bidlock, as docs/own-table.md shows it.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up shall fail")]

#[path = "../examples/own_bids_table/main.rs"]
#[allow(dead_code, reason = "its `main` is for people")]
mod example;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bidlock::ledger::{Outcome, State, Verdict};
use bidlock::{BidGuard, Key, Locker, Placement, StoreUrl};
use bidlock_testkit::servers::Postgres;
use tokio_postgres::{Client, NoTls};

const SETUP: &str = include_str!("../examples/own_bids_table/setup.sql");
const SETTLE: &str = include_str!("../examples/own_bids_table/settle.sql");
const PAGE: &str = include_str!("../../../docs/own-table.md");

/// What such a table often looks like, with a bid of the time before.
const BEFORE: &str = "CREATE TABLE bids (
        id           bigserial PRIMARY KEY,
        marketplace  text NOT NULL,
        posting      text NOT NULL,
        amount_cents bigint NOT NULL,
        status       text NOT NULL,
        reference    text
    );
    INSERT INTO bids (marketplace, posting, amount_cents, status, reference)
        VALUES ('upwork', 'old', 100, 'placed', 'R-0')";

struct Scene {
    server: Postgres,
    database: String,
    folder: tempfile::TempDir,
}

impl Scene {
    /// Sets the table up by psql, as an operator would.
    fn new() -> Self {
        let start = || {
            let server = Postgres::start();
            let database = server.new_database();
            (server, database)
        };
        // Not on the test's own thread, which may drive a runtime.
        let (server, database) = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
        let scene = Self { server, database, folder: tempfile::tempdir().unwrap() };
        scene.psql(BEFORE, &[]);
        scene.psql(SETUP, &[]);
        scene
    }

    fn start_psql(&self, variables: &[(&str, &str)]) -> std::process::Child {
        let mut psql = Command::new("psql");
        psql.arg(self.server.url(&self.database)).args(["-XqAt", "-v", "ON_ERROR_STOP=1"]);
        for (name, value) in variables {
            psql.arg("-v").arg(format!("{name}={value}"));
        }
        psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn psql(&self, sql: &str, variables: &[(&str, &str)]) -> String {
        let mut psql = self.start_psql(variables);
        psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let ended = psql.wait_with_output().unwrap();
        assert!(ended.status.success(), "{sql}: {ended:?}");
        String::from_utf8(ended.stdout).unwrap().trim().to_owned()
    }

    /// A bidder of the fleet, with a connection of its own to the table.
    async fn bidder(&self) -> (BidGuard, Client) {
        let url = self.server.url(&self.database);
        let (table, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        let file = self.folder.path().join("locks.db");
        let locker = Locker::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        let named = StoreUrl::ledger(&url).unwrap();
        let ledger = bidlock::open_ledger(&named, locker.platform()).await.unwrap();
        (BidGuard::new(locker, ledger), table)
    }
}

#[test]
fn the_page_shows_what_runs_here() {
    for file in [
        SETUP,
        SETTLE,
        include_str!("../examples/own_bids_table/send.sh"),
        "SELECT claim_bid(:'marketplace', :'posting', :token, :'attempt', 25000)",
    ] {
        assert!(PAGE.contains(file.trim_end()), "docs/own-table.md lacks:\n{file}");
    }
}

#[tokio::test]
async fn many_bidders_make_one_row_and_one_bid_for_each_posting() {
    let scene = Scene::new();
    let total = Arc::new(AtomicUsize::new(0));
    let mut bidders = Vec::new();
    for _ in 0..4 {
        let ((guard, table), total) = (scene.bidder().await, Arc::clone(&total));
        bidders.push(tokio::spawn(async move {
            for n in 0..10 {
                let key = Key::new("upwork", &format!("job_{n}")).unwrap();
                let total = Arc::clone(&total);
                let send = move |_| async move {
                    let number = total.fetch_add(1, SeqCst);
                    Outcome::Placed { reference: Some(format!("R-{number}")) }
                };
                example::bid(&guard, &table, &key, 500, send)
                    .await
                    .map_err(|e| e.to_string())
                    .unwrap();
            }
        }));
    }
    for bidder in bidders {
        bidder.await.unwrap();
    }
    assert_eq!(total.load(SeqCst), 10);
    let agree = "SELECT count(*), count(DISTINCT (b.marketplace, b.posting)) FROM bids b
        JOIN bidlock.attempts a ON a.id = b.attempt AND a.reference = b.reference
            AND a.token = b.token WHERE b.status = 'placed' AND a.state = 'placed'";
    assert_eq!(scene.psql(agree, &[]), "10|10");
}

#[tokio::test]
async fn bids_of_the_time_before_count() {
    let scene = Scene::new();
    let (guard, table) = scene.bidder().await;
    let never = |_| async { panic!("it was bid on before") };
    let old = Key::new("upwork", "old").unwrap();
    assert_eq!(example::bid(&guard, &table, &old, 500, never).await.unwrap(), None);
    // Of a row that comes between the look and the start, the insert finds out.
    scene.psql(
        "CREATE OR REPLACE FUNCTION may_bid(its_marketplace text, its_posting text)
            RETURNS boolean LANGUAGE sql AS
            'SELECT true'",
        &[],
    );
    let met = example::bid(&guard, &table, &old, 500, never).await.unwrap();
    let Some(Placement::Recorded(info)) = met else { panic!("{met:?}") };
    assert_eq!(info.state, State::Abandoned, "nothing was sent");
    assert_eq!(scene.psql("SELECT count(*), min(reference) FROM bids", &[]), "1|R-0");
}

#[tokio::test]
async fn what_nobody_knows_is_settled_in_the_ledger_and_then_in_the_table() {
    let scene = Scene::new();
    let (guard, table) = scene.bidder().await;
    let key = Key::new("upwork", "j").unwrap();
    let lost = |_| async { Outcome::Unknown { reason: Some("no reply".to_owned()) } };
    let first = example::bid(&guard, &table, &key, 500, lost).await.unwrap();
    let Some(Placement::Recorded(info)) = first else { panic!("{first:?}") };
    assert_eq!(scene.psql("SELECT status FROM bids WHERE posting = 'j'", &[]), "unknown");
    let never = |_| async { panic!("in doubt") };
    assert_eq!(example::bid(&guard, &table, &key, 500, never).await.unwrap(), None);
    let verdict = guard.ledger().should_bid(&key, &bidlock::ledger::Freshness::default()).await;
    assert!(matches!(verdict.unwrap(), Verdict::InDoubt(_)));
    let placed = Outcome::Placed { reference: Some("R-9".to_owned()) };
    guard.ledger().record(&info.id, &placed).await.unwrap();
    scene.psql(SETTLE, &[]);
    assert_eq!(
        scene.psql("SELECT status, reference FROM bids WHERE posting = 'j'", &[]),
        "placed|R-9"
    );
}

#[test]
fn plain_sql_refuses_a_second_row_and_an_old_token() {
    let scene = Scene::new();
    let claim = "SELECT claim_bid(:'marketplace', :'posting', :token, :'attempt', 25000)";
    let attempt = |n: usize| format!("{n:08x}-0000-4000-8000-000000000000");
    let with = |posting: &str, token: usize| {
        let (token, id) = (token.to_string(), attempt(token));
        let variables =
            [("marketplace", "upwork"), ("posting", posting), ("token", &token), ("attempt", &id)];
        scene.psql(claim, &variables)
    };
    // Many at the same moment, each with a token of its own.
    let mut together = Vec::new();
    for n in 1..=8_usize {
        let (token, id) = (n.to_string(), attempt(n));
        let variables =
            [("marketplace", "upwork"), ("posting", "j"), ("token", &token), ("attempt", &*id)];
        together.push(scene.start_psql(&variables));
    }
    for psql in &mut together {
        psql.stdin.take().unwrap().write_all(claim.as_bytes()).unwrap();
    }
    let claimed = together.into_iter().map(|psql| psql.wait_with_output().unwrap());
    assert_eq!(claimed.filter(|ended| ended.stdout == b"t\n").count(), 1);
    assert_eq!(scene.psql("SELECT count(*) FROM bids WHERE posting = 'j'", &[]), "1");
    // What was not sent may be tried again, and by no token of the past.
    assert_eq!(with("k", 20), "t");
    assert_eq!(with("k", 30), "f", "a row is there");
    scene.psql(&format!("SELECT close_bid('{}', 'not sent', NULL)", attempt(20)), &[]);
    assert_eq!(with("k", 29), "f", "30 was seen");
    assert_eq!(with("k", 31), "t");
    assert_eq!(scene.psql("SELECT may_bid('upwork', 'k'), may_bid('upwork', 'l')", &[]), "f|t");
}
