//! What these tests share: a server while any test needs it, and ledgers on it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bidlock_core::Platform;
use bidlock_ledger::{LedgerError, LedgerRole, PostgresConfig, PostgresStore};
use bidlock_testkit::servers::Postgres;
use bidlock_testkit::{block_on, test_platform};

/// The server that is running for other tests already, or a new one; it ends with the last.
pub(crate) fn shared_server() -> Arc<Postgres> {
    static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let server = Arc::new(Postgres::start());
    *shared = Arc::downgrade(&server);
    server
}

/// A schema that nobody else has, which is made faster than a database.
pub(crate) fn new_schema() -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", MADE.fetch_add(1, Ordering::Relaxed))
}

/// Opens a ledger, from inside a runtime or outside.
pub(crate) fn try_open(url: &str, platform: &Platform) -> Result<PostgresStore, LedgerError> {
    let config = PostgresConfig::from_url(url).unwrap();
    let connect = || block_on(PostgresStore::connect(&config, platform));
    std::thread::scope(|scope| scope.spawn(connect).join().unwrap())
}

/// A new ledger's schema, and a role with what a writer of it needs and no more.
pub(crate) fn writer(server: &Postgres) -> (String, String) {
    let schema = new_schema();
    let url = format!("{}?schema={schema}", server.url("postgres"));
    drop(open(&url, &test_platform().platform()));
    let role = format!("writer_of_{schema}");
    server.sql("postgres", &format!("CREATE ROLE {role} LOGIN"));
    let config = PostgresConfig::from_url(&url).unwrap();
    server.sql("postgres", &config.rights(LedgerRole::Writer, &role));
    (schema, role)
}

/// The sessions that sleep and hold a schema's attempts meanwhile, as a `FROM` and what follows it.
pub(crate) fn sleepers(schema: &str) -> String {
    format!(
        "FROM pg_stat_activity
         WHERE wait_event = 'PgSleep' AND query LIKE '%{schema}.attempts%'"
    )
}

#[track_caller]
pub(crate) fn open(url: &str, platform: &Platform) -> PostgresStore {
    try_open(url, platform).unwrap_or_else(|error| panic!("{url}: {error:?}"))
}
