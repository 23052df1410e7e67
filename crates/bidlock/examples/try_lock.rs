//! Does a piece of work only if nobody else is at it.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bidlock::{Key, Locker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let locker = Locker::connect("memory:").await?;
    let key = Key::named("nightly-report")?;

    let first = locker.try_acquire(&key).await?;
    let second = locker.try_acquire(&key).await?;
    assert!(first.is_some() && second.is_none());
    println!("the first has it, the second goes home");
    Ok(())
}
