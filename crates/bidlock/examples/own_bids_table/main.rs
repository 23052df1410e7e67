//! Bids with bidlock beside a table `bids` that was there before, on PostgreSQL: the ledger keeps
//! one bid per posting, and the table refuses a second row and an old token by itself.
//! `BIDS_URL` names the database, for the table and for the ledger.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bidlock::ledger::Outcome;
use bidlock::{Begin, BidGuard, BidOptions, Key, Locker, Placement, StoreUrl, Submission};
use tokio_postgres::{Client, NoTls};

/// Bids on a posting, unless the table or the ledger knows better.
pub(crate) async fn bid<Fut: Future<Output = Outcome>>(
    guard: &BidGuard,
    table: &Client,
    key: &Key,
    cents: i64,
    send: impl FnOnce(Submission) -> Fut,
) -> Result<Option<Placement>, Box<dyn Error>> {
    // Bids from before bidlock are in the table alone.
    let (marketplace, posting) = (key.marketplace(), key.posting());
    let asked = table.query_one("SELECT may_bid($1, $2)", &[&marketplace, &posting]).await?;
    if !asked.get::<_, bool>(0) {
        return Ok(None);
    }
    let started = match guard.begin(key, &BidOptions::default()).await? {
        Begin::Started(started) => started,
        Begin::Not(verdict) => return Ok(Some(Placement::Not(verdict))),
    };
    let submission = started.submission().clone();
    let attempt = submission.attempt().to_string();
    let token = i64::try_from(submission.token().get())?;
    let claim = "SELECT claim_bid($1, $2, $3, $4::text::uuid, $5)";
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&marketplace, &posting, &token, &attempt, &cents];
    let outcome = match table.query_one(claim, &values).await {
        Ok(claimed) if claimed.get::<_, bool>(0) => send(submission).await,
        Ok(_) => Outcome::NotSent { reason: Some("the table has a row, or a token".to_owned()) },
        Err(error) => Outcome::NotSent { reason: Some(format!("the table: {error}")) }.fitted(),
    };
    let status = match &outcome {
        Outcome::Placed { .. } => "placed",
        Outcome::Refused { .. } => "refused",
        Outcome::NotSent { .. } => "not sent",
        Outcome::Unknown { .. } | Outcome::GivenUp { .. } => "unknown",
    };
    let reference = outcome.reference().map(str::to_owned);
    // The ledger's word counts, so it comes first; the table may be brought up to date later.
    let placement = started.finish(outcome).await?;
    let close = "SELECT close_bid($1::text::uuid, $2, $3)";
    if let Err(error) = table.execute(close, &[&attempt, &status, &reference]).await {
        println!("the table does not know yet: {error}");
    }
    Ok(Some(placement))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("BIDS_URL")?;
    let (table, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    let locker = Locker::connect("sqlite:example-locks.db").await?;
    let ledger = bidlock::open_ledger(&StoreUrl::ledger(&url)?, locker.platform()).await?;
    let guard = BidGuard::new(locker, ledger);
    let key = Key::new("upwork", "job_123")?;
    let send = |submission: Submission| async move {
        // A real one hands the attempt id to the marketplace, and looks at `left()` before that.
        Outcome::Placed { reference: Some(format!("bid-for-{}", submission.attempt())) }
    };
    match bid(&guard, &table, &key, 25_000, send).await? {
        None => println!("the table has a bid from before"),
        Some(placement) => println!("{placement:?}"),
    }
    Ok(())
}
