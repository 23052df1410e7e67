//! The memory store of the core keeps all rules.

use std::sync::Arc;

use bidlock_core::{Memory, Platform};
use bidlock_testkit::conformance::PlatformFixture;

fn fixture() -> PlatformFixture<Arc<Memory>> {
    let start = |platform: &Platform| Arc::new(Memory::new(platform));
    PlatformFixture::new(start, |store, _| Arc::clone(store) as _).in_one_process()
}

bidlock_testkit::conformance!(memory, fixture());
