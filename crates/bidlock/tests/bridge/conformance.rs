//! A bridge keeps all rules of the suite, whatever store is behind it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bidlock::{Backend, Memory, Platform, Prefix};
use bidlock_core::BoxFuture;
use bidlock_redis::{Config, Redis};
use bidlock_sqlite::Sqlite;
use bidlock_sqlite::legacy::{Bridge, OldLocks};
use bidlock_testkit::conformance::PlatformFixture;
use bidlock_testkit::servers::{ServerFixture, ServerKind, ServerOptions};
use bidlock_testkit::{Faults, Lossy, block_on, temp_dir};

use crate::kit::{OldFile, TABLE};

async fn bridged(inner: Arc<dyn Backend>, old: &Path, platform: &Platform) -> Arc<dyn Backend> {
    let old = OldLocks::connect(old, TABLE, platform).await.expect("the old table opens");
    Arc::new(Bridge::new(inner, old, &Prefix::default(), platform))
}

/// The suite opens clients within its own runtime.
fn bridged_here(inner: Arc<dyn Backend>, old: &Path, platform: &Platform) -> Arc<dyn Backend> {
    std::thread::scope(|scope| {
        let opened = scope.spawn(|| block_on(bridged(inner, old, platform)));
        opened.join().expect("it opens")
    })
}

fn over_memory() -> PlatformFixture<(Arc<Memory>, OldFile)> {
    PlatformFixture::new(
        |platform| (Arc::new(Memory::new(platform)), OldFile::new()),
        |(memory, old), platform| bridged_here(Arc::clone(memory) as _, &old.path, platform),
    )
    .in_one_process()
}

/// The way to the new store is bad: grants are lost between the two steps.
fn over_lossy(seed: u64) -> PlatformFixture<(Arc<Memory>, OldFile)> {
    let clients = AtomicU64::new(seed);
    PlatformFixture::new(
        |platform| (Arc::new(Memory::new(platform)), OldFile::new()),
        move |(memory, old), platform| {
            let seed = clients.fetch_add(1_000_003, Ordering::Relaxed);
            let lossy = Lossy::new(Arc::clone(memory) as _, Faults::many(), seed);
            bridged_here(Arc::new(lossy), &old.path, platform)
        },
    )
    .in_one_process()
    .losing_wakes()
}

fn over_sqlite() -> PlatformFixture<(tempfile::TempDir, OldFile)> {
    PlatformFixture::new(
        |_| (temp_dir(), OldFile::new()),
        |(folder, old), platform| {
            let file = folder.path().join("locks.db");
            let store = Sqlite::open(&file, platform).expect("the file opens");
            bridged_here(Arc::new(store), &old.path, platform)
        },
    )
    .keeping()
}

fn over_server(kind: ServerKind) -> ServerFixture {
    let old = Arc::new(OldFile::new());
    let options = ServerOptions::new().append_only(true);
    ServerFixture::new(kind, options, move |server, platform| -> BoxFuture<'static, _> {
        let (url, platform, old) = (server.url(), platform.clone(), Arc::clone(&old));
        Box::pin(async move {
            let config = Config::from_url(&url).expect("the server's own URL");
            let store = Redis::connect(&config, &Prefix::default(), &platform).await;
            bridged(Arc::new(store.expect("the server answers")), &old.path, &platform).await
        })
    })
}

fn over_redis62() -> ServerFixture {
    over_server(ServerKind::Redis62)
}

fn over_valkey9() -> ServerFixture {
    over_server(ServerKind::Valkey9)
}

bidlock_testkit::conformance!(memory, over_memory());
bidlock_testkit::conformance!(lossy, over_lossy(1));
bidlock_testkit::conformance!(sqlite, over_sqlite());
bidlock_testkit::conformance!(redis62, over_redis62());
bidlock_testkit::conformance!(valkey9, over_valkey9());
