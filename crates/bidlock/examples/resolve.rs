//! Ends a doubt by hand: a submitter went away between sending and recording.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use bidlock::ledger::{Ledger, OperatorNote, Outcome, Resolution, Verdict};
use bidlock::{BidGuard, BidOptions, Key, Locker, Placement};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let locker = Locker::connect("sqlite:example-resolve.db").await?;
    let file = Path::new("example-resolve.db");
    let ledger = Ledger::connect_sqlite(file, locker.platform()).await?;
    let guard = BidGuard::new(locker, ledger.clone());
    let posting = Key::new("fiverr", "gig 7")?;

    // The reply of the marketplace was lost: nobody knows whether the bid is there.
    let options = BidOptions::default().submit_timeout(Duration::from_millis(100));
    let lost = |_| async { Outcome::Unknown { reason: Some("no reply".to_owned()) } };
    guard.place(&posting, &options, lost).await?;

    // From now on nobody bids on the posting …
    let again = guard.place(&posting, &options, |_| async { unreachable!() }).await?;
    assert!(matches!(again, Placement::Not(Verdict::InDoubt(_))));

    // … until somebody has looked there, not before the send-by of the attempt.
    let note = OperatorNote {
        actor: "ops".to_owned(),
        because: "the marketplace shows bid 4711".to_owned(),
    };
    let found = Resolution::Placed { reference: Some("4711".to_owned()) };
    let clock = &guard.locker().platform().clock;
    clock.sleep_until(clock.now() + Duration::from_millis(150)).await;
    let attempt = ledger.resolve(&posting, &found, &note, Duration::ZERO).await?;
    println!("{}: {:?}", attempt.state, attempt.reference);
    for entry in ledger.history(&posting).await? {
        println!("{} by {}", entry.event, entry.by);
    }
    Ok(())
}
