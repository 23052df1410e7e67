//! Counts what a locker does, by marketplace, for a metrics library of one's choice.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use bidlock::{Event, Key, Locker, Observer};

#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<String, u32>>);

impl Observer for Counts {
    fn on(&self, event: &Event<'_>) {
        let name = match event {
            Event::Acquire { class, outcome, .. } => format!("acquire {class} {outcome:?}"),
            Event::Released { class, outcome, .. } => format!("release {class} {outcome:?}"),
            Event::Lost { class, reason, .. } => format!("lost {class} {reason}"),
            _ => return,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let counts = Arc::new(Counts::default());
    let observer = Arc::clone(&counts) as Arc<dyn Observer>;
    let locker = Locker::builder().observer(observer).connect("memory:").await?;
    let key = Key::new("upwork", "job_123")?;

    let lease = locker.acquire(&key).await?;
    assert!(locker.try_acquire(&key).await?.is_none());
    lease.release().await?;

    let counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, count) in counts.iter() {
        println!("{name}: {count}");
    }
    assert_eq!(counts.get("acquire upwork Acquired"), Some(&1));
    assert_eq!(counts.get("acquire upwork Busy"), Some(&1));
    Ok(())
}
