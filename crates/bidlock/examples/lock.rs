//! Takes a lock on a posting, works while it is held, and gives it back.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::Duration;

use bidlock::{Key, Label, Locker, Ttl, Wait};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let locker = Locker::connect("sqlite:example-lock.db").await?;
    let lease = locker
        .acquire(&Key::new("upwork", "job_123")?)
        .wait(Wait::For(Duration::from_secs(5)))
        .ttl(Ttl::new(Duration::from_secs(30))?)
        .holder_label(Label::new("example")?)
        .await?;

    // Renewed in the background from here on. Look before each step that must not be done twice.
    let left = lease.check()?;
    println!("{} is ours, token {}, {left:?} left", lease.key(), lease.token());

    lease.release().await?;
    // Before a process ends: what was only dropped is released in the background.
    locker.close().await;
    Ok(())
}
