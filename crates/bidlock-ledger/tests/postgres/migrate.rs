//! The schema is made once, by whoever may, and several versions live side by side.

use bidlock_core::Refusal;
use bidlock_ledger::{
    Archive as _, LedgerError, LedgerRole, PostgresConfig, PostgresStore, Store as _,
};
use bidlock_testkit::servers::Postgres;
use bidlock_testkit::{TestPlatform, block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server, try_open};

fn refusal(opened: Result<PostgresStore, LedgerError>) -> Refusal {
    match opened {
        Err(LedgerError::Refused { reason, .. }) => reason,
        other => panic!("refused, but {other:?}"),
    }
}

#[test]
fn twenty_that_come_at_once_make_one_ledger() {
    let server = Postgres::start();
    let database = server.new_database();
    let url = format!("{}?pool=1", server.url(&database));
    let ids: Vec<_> = std::thread::scope(|scope| {
        let open = |seed| {
            let store = open(&url, &TestPlatform::seeded(seed).platform());
            block_on(store.standing()).unwrap().id
        };
        let opening: Vec<_> = (0..20).map(|seed| scope.spawn(move || open(seed))).collect();
        opening.into_iter().map(|opened| opened.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(server.text(&database, "SELECT count(*), max(version) FROM bidlock.meta"), "1|1");
}

#[test]
fn of_eight_that_migrate_at_once_one_has_made_it() {
    let server = Postgres::start();
    let config = PostgresConfig::from_url(&server.url(&server.new_database())).unwrap();
    let found: Vec<_> = std::thread::scope(|scope| {
        let migrate = |seed| {
            let platform = TestPlatform::seeded(seed).platform();
            block_on(PostgresStore::migrate(&config, &platform)).unwrap()
        };
        let migrating: Vec<_> = (0..8).map(|seed| scope.spawn(move || migrate(seed))).collect();
        migrating.into_iter().map(|migrated| migrated.join().unwrap()).collect()
    });
    assert_eq!(found.iter().filter(|found| found.is_none()).count(), 1, "{found:?}");
    assert!(found.iter().flatten().all(|version| *version == 1), "{found:?}");
}

#[test]
fn who_looks_for_a_ledger_makes_none() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let url = format!("{}?schema={schema}", server.url("postgres"));
    let config = PostgresConfig::from_url(&url).unwrap();
    let find = || block_on(PostgresStore::find(&config, &machine.platform())).unwrap();
    assert!(find().is_none());
    let there = format!("SELECT to_regnamespace('{schema}') IS NULL");
    assert_eq!(server.text("postgres", &there), "t");
    let id = block_on(open(&url, &machine.platform()).standing()).unwrap().id;
    assert_eq!(block_on(find().unwrap().standing()).unwrap().id, id);
}

#[test]
fn a_role_that_may_not_make_the_schema_is_told_who_may() {
    let (server, platform) = (shared_server(), test_platform().platform());
    let database = server.new_database();
    let role = format!("bidder_of_{database}");
    server.sql(&database, &format!("CREATE ROLE {role} LOGIN"));
    let url = server.url_as(&role, &database);
    let Refusal::Permission(why) = refusal(try_open(&url, &platform)) else {
        panic!("it may not");
    };
    assert!(why.contains("bidlock ledger migrate"), "{why}");
    let config = PostgresConfig::from_url(&server.url(&database)).unwrap();
    block_on(PostgresStore::migrate(&config, &platform)).unwrap();
    block_on(PostgresStore::migrate(&config, &platform)).unwrap();
    // It is made, and this role may not look at it yet.
    assert!(matches!(refusal(try_open(&url, &platform)), Refusal::Permission(_)));
    server.sql(&database, &config.rights(LedgerRole::Writer, &role));
    drop(open(&url, &platform));
}

#[test]
fn an_older_program_works_on_a_newer_schema_that_says_so() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let url = format!("{}?schema={schema}", server.url("postgres"));
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    // What the next version will do: new columns, new functions beside the old ones.
    let step = format!(
        "ALTER TABLE {schema}.attempts ADD COLUMN currency text DEFAULT 'EUR';
         CREATE FUNCTION {schema}.start_v2(p_id uuid) RETURNS void LANGUAGE sql
             AS 'SELECT NULL::void';
         UPDATE {schema}.meta SET version = 2"
    );
    server.sql("postgres", &step);
    // One that is open goes on, and one that comes later begins.
    block_on(bidder.try_start(&id, 5)).unwrap();
    let later = open(&url, &machine.platform());
    block_on(Bidder { store: &later, ..bidder }.try_record(&id)).unwrap();
    block_on(Bidder { store: &later, ..bidder }.placed(&key("other"), 6));
    assert_eq!(block_on(later.standing()).unwrap().schema, 2);
    server.sql("postgres", &format!("UPDATE {schema}.meta SET compatible_from = 2"));
    assert!(matches!(refusal(try_open(&url, &machine.platform())), Refusal::Newer(_)));
}

#[test]
fn a_database_of_another_encoding_is_refused() {
    let (server, platform) = (shared_server(), test_platform().platform());
    server.sql("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0");
    let Refusal::Other(why) = refusal(try_open(&server.url("latin"), &platform)) else {
        panic!("it cannot keep every name");
    };
    assert!(why.contains("LATIN1") && why.contains("UTF8"), "{why}");
}

#[test]
fn a_ledger_that_was_removed_or_replaced_is_not_gone_on_with() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let url = format!("{}?schema={schema}", server.url("postgres"));
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    block_on(bidder.placed(&key("job"), 5));
    server.sql("postgres", &format!("DROP SCHEMA {schema} CASCADE"));
    let gone = block_on(bidder.try_reserve(&key("job"), 9)).unwrap_err();
    assert!(matches!(gone, LedgerError::Refused { reason: Refusal::Corrupt(_), .. }), "{gone:?}");
    drop(open(&url, &TestPlatform::seeded(99).platform()));
    let other = block_on(bidder.try_reserve(&key("job"), 9)).unwrap_err();
    let LedgerError::Refused { reason: Refusal::Restored(why), .. } = other else {
        panic!("it is another ledger, but {other:?}");
    };
    assert!(why.contains("it is the ledger"), "{why}");
    // Also by a new connection, which looks whose it is before anything else.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'bidlock' AND query LIKE '%SCHEMA%'";
    server.sql("postgres", &end.replace("SCHEMA", &schema));
    let other = block_on(bidder.store.ping());
    assert!(
        matches!(&other, Err(LedgerError::Refused { reason: Refusal::Corrupt(_), .. })),
        "{other:?}"
    );
}
