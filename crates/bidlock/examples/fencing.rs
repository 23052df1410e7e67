//! Guards a resource by fencing tokens: a holder that was paused past its lease cannot write.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;

use bidlock::{FencingToken, Key, Locker};

/// A resource that remembers the highest token it has seen.
#[derive(Debug, Default)]
struct Sheet {
    highest: u64,
    text: String,
}

impl Sheet {
    fn write(&mut self, token: FencingToken, text: &str) -> bool {
        if token.get() < self.highest {
            return false;
        }
        self.highest = token.get();
        text.clone_into(&mut self.text);
        true
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let locker = Locker::connect("memory:").await?;
    let key = Key::named("sheet")?;
    let mut sheet = Sheet::default();

    let old = locker.acquire(&key).await?;
    let stale = old.token();
    old.release().await?;
    let new = locker.acquire(&key).await?;

    assert!(sheet.write(new.token(), "by the new holder"));
    assert!(!sheet.write(stale, "by the old holder"), "a lower token is refused");
    println!("{} (token {})", sheet.text, sheet.highest);
    Ok(())
}
