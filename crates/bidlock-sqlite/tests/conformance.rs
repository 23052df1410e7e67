//! Locks in a file keep all rules of the suite.

use std::path::PathBuf;
use std::sync::Arc;

use bidlock_core::Backend;
use bidlock_sqlite::Sqlite;
use bidlock_testkit::conformance::PlatformFixture;
use bidlock_testkit::temp_dir;

fn fixture() -> PlatformFixture<Folder> {
    PlatformFixture::new(
        |_| Folder::new(),
        |folder, platform| -> Arc<dyn Backend> {
            Arc::new(Sqlite::open(&folder.file, platform).expect("the file opens"))
        },
    )
    .keeping()
}

/// A folder of its own for each store; dropping it takes the file from under its clients.
struct Folder {
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let folder = temp_dir();
        Self { file: folder.path().join("locks.db"), _folder: folder }
    }
}

bidlock_testkit::conformance!(sqlite, fixture());
