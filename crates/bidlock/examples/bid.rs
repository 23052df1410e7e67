//! Bids on a posting at most once, however often and from wherever this is run.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;

use bidlock::ledger::{Ledger, Outcome};
use bidlock::{BidGuard, BidOptions, Key, Locker, Placement, Submission};

/// Sends the bid. A real one hands the attempt id to the marketplace as idempotency key, looks at
/// `left()` right before the first byte, and answers `Unknown` whenever it is not sure.
async fn send(submission: Submission) -> Outcome {
    if submission.left().is_zero() {
        return Outcome::NotSent { reason: Some("too late".to_owned()) };
    }
    Outcome::Placed { reference: Some(format!("bid-for-{}", submission.attempt())) }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let locker = Locker::connect("sqlite:example-bid.db").await?;
    let ledger = Ledger::connect_sqlite(Path::new("example-bid.db"), locker.platform()).await?;
    let guard = BidGuard::new(locker, ledger);
    let posting = Key::new("upwork", "job_123")?;

    for _ in 0..2 {
        match guard.place(&posting, &BidOptions::default(), send).await? {
            Placement::Recorded(attempt) => println!("{}: {:?}", attempt.state, attempt.reference),
            Placement::Late(attempt) => println!("closed before as {}: look there", attempt.state),
            Placement::Not(verdict) => println!("nothing was done: {}", verdict.as_str()),
        }
    }
    Ok(())
}
