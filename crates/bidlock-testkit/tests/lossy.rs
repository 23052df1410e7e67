//! The rules hold behind a bad way too, for callers that repeat what got no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bidlock_core::{Backend, Memory, Platform};
use bidlock_testkit::conformance::{PlatformFixture, RULES};
use bidlock_testkit::{Faults, Lossy};

/// Its clients have seeds of their own, made from the fixture's.
fn lossy(seed: u64) -> PlatformFixture<Arc<Memory>> {
    let clients = AtomicU64::new(seed);
    let start = |platform: &Platform| Arc::new(Memory::new(platform));
    let open = move |store: &Arc<Memory>, _: &Platform| -> Arc<dyn Backend> {
        let seed = clients.fetch_add(1_000_003, Ordering::Relaxed);
        Arc::new(Lossy::new(Arc::clone(store) as _, Faults::many(), seed))
    };
    PlatformFixture::new(start, open).in_one_process().losing_wakes()
}

bidlock_testkit::conformance!(one_seed, lossy(1));

#[test]
fn the_rules_hold_under_many_seeds() {
    const SEEDS: u64 = 200;
    let slow = "the_queue_is_bounded"; // 10,000 waiters; one seed is enough
    for rule in RULES.iter().filter(|rule| rule.name != slow) {
        for seed in 2..SEEDS {
            let run = thread::Builder::new().name(format!("{} with seed {seed}", rule.name));
            let ended = run.spawn(move || rule.check(&lossy(seed))).expect("a thread starts");
            assert!(ended.join().is_ok(), "{rule:?} is broken with seed {seed}");
        }
    }
}
