//! Runs work under a lock, and drops it unfinished should the lock be lost.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bidlock::{Key, Locker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let locker = Locker::connect("memory:").await?;
    let acquire = locker.acquire(&Key::named("cleanup")?);
    let removed = locker
        .with_lock(acquire, |lease| async move {
            println!("cleaning under {} with token {}", lease.key(), lease.token());
            3
        })
        .await?;
    assert_eq!(removed, 3);
    Ok(())
}
