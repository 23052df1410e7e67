//! Ends a doubt by hand: a submitter went away between sending and recording.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use bidlock::ledger::{Ledger, OperatorNote, Outcome, Resolution, ResolveRequest, Verdict};
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
    let Placement::Not(again) = again else { return Err("bid on twice".into()) };
    assert!(matches!(again, Verdict::InDoubt(_)));

    // … until somebody has looked there. A bid that was found is proof. «Not sent» would have to
    // wait for the send-by, and for the time that the marketplace may take to show a bid.
    let request = ResolveRequest {
        attempt: again.attempt().map(|attempt| attempt.id),
        resolution: Resolution::Placed { reference: Some("4711".to_owned()) },
        note: OperatorNote {
            actor: "ops".to_owned(),
            because: "the marketplace shows bid 4711".to_owned(),
        },
        visibility_lag: Duration::from_mins(10),
    };
    let attempt = ledger.resolve(&posting, &request).await?;
    println!("{}: {:?}", attempt.state, attempt.reference);
    for entry in ledger.history(&posting).await? {
        println!("{} by {}", entry.event, entry.by);
    }
    Ok(())
}
