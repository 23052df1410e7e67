//! Who is let in, how, and to do what.

use bidlock_core::Refusal;
use bidlock_ledger::{LedgerError, LedgerRole, PostgresConfig, Store as _};
use bidlock_testkit::servers::{Postgres, PostgresOptions};
use bidlock_testkit::{block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server, try_open, writer};

#[test]
fn tls_is_spoken_and_a_certificate_verified_as_the_url_says() {
    let server = Postgres::start_with(
        PostgresOptions::new().tls(true).hba("local all all trust\nhostssl all all all trust\n"),
    );
    let platform = test_platform().platform();
    let ca = server.tls_files().ca.display().to_string();
    let url = |host: &str, rest: &str| {
        format!("postgres://postgres@{host}:{}/postgres?{rest}", server.port())
    };
    let verified = format!("sslmode=verify-full&sslrootcert={ca}");
    for (host, rest) in [
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", verified.as_str()),
        ("localhost", verified.as_str()),
    ] {
        let store = open(&url(host, rest), &platform);
        let over = "SELECT count(*) > 0 FROM pg_stat_ssl WHERE ssl AND version LIKE 'TLSv1.%'";
        assert_eq!(server.text("postgres", over), "t", "{rest}");
        block_on(store.ping()).unwrap();
    }
    let refused = try_open(&url("127.0.0.1", "sslmode=disable"), &platform).unwrap_err();
    assert!(
        matches!(refused, LedgerError::Refused { reason: Refusal::Permission(_), .. }),
        "{refused:?}"
    );
    // Signed by nobody that browsers know.
    let unknown = try_open(&url("localhost", "sslmode=verify-full"), &platform).unwrap_err();
    let LedgerError::Unreachable { source, .. } = unknown else { panic!("{unknown:?}") };
    assert!(source.to_string().contains("sslrootcert=FILE"), "{source}");
    let missing = url("localhost", "sslmode=verify-full&sslrootcert=/nowhere.pem");
    let missing = try_open(&missing, &platform).unwrap_err();
    let LedgerError::Unreachable { source, .. } = missing else { panic!("{missing:?}") };
    assert!(source.to_string().contains("/nowhere.pem"), "{source}");
}

#[test]
fn without_tls_in_the_server_only_those_that_insist_are_refused() {
    let server = shared_server();
    let (schema, platform) = (new_schema(), test_platform().platform());
    let url = |mode: &str| format!("{}?schema={schema}&sslmode={mode}", server.url("postgres"));
    drop(open(&url("prefer"), &platform));
    drop(open(&url("disable"), &platform));
    for mode in ["require", "verify-full"] {
        let refused = try_open(&url(mode), &platform).unwrap_err();
        assert!(matches!(refused, LedgerError::Unreachable { .. }), "{mode}: {refused:?}");
    }
}

#[test]
fn a_password_is_asked_for_and_never_shown() {
    let server = Postgres::start_with(
        PostgresOptions::new().hba("local all all trust\nhost all all all scram-sha-256\n"),
    );
    let platform = test_platform().platform();
    server.sql("postgres", "CREATE ROLE bots LOGIN SUPERUSER PASSWORD 's3c/ret'");
    let url = |account: &str| format!("postgres://{account}@127.0.0.1:{}/postgres", server.port());
    drop(open(&url("bots:s3c%2Fret"), &platform));
    for account in ["bots:wr0ng", "bots", "nobody:wr0ng"] {
        let refused = try_open(&url(account), &platform).unwrap_err();
        let denied = matches!(refused, LedgerError::Refused { reason: Refusal::Permission(_), .. });
        assert!(denied, "{account}: {refused:?}");
        assert!(!format!("{refused:?} {refused}").contains("wr0ng"), "{refused:?}");
    }
    let nowhere = url("bots:s3c%2Fret").replace("/postgres", "/nowhere");
    let nowhere = try_open(&nowhere.replace("nowhere://", "postgres://"), &platform);
    assert!(nowhere.unwrap_err().to_string().contains("does not exist"));
}

#[test]
fn a_socket_leads_to_the_same_ledger() {
    let (server, machine, schema) = (shared_server(), test_platform(), new_schema());
    let over_tcp =
        open(&format!("{}?schema={schema}", server.url("postgres")), &machine.platform());
    let by_socket = format!("{}&schema={schema}", server.socket_url("postgres"));
    let by_socket = open(&by_socket, &machine.platform());
    let bidder = Bidder { store: &over_tcp, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    block_on(Bidder { store: &by_socket, ..bidder }.info(&id));
}

#[test]
fn a_reader_reads_everything_and_changes_nothing() {
    let (server, machine, schema) = (shared_server(), test_platform(), new_schema());
    let url = format!("{}?schema={schema}", server.url("postgres"));
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.placed(&key("job"), 5));
    let reader = format!("reader_of_{schema}");
    server.sql("postgres", &format!("CREATE ROLE {reader} LOGIN"));
    let config = PostgresConfig::from_url(&url).unwrap();
    server.sql("postgres", &config.rights(LedgerRole::Reader, &reader));
    for table in ["attempts", "history", "audit", "meta"] {
        let select = format!("SELECT count(*) FROM {schema}.{table}");
        server.try_sql(&reader, "postgres", &select).unwrap();
        for change in [
            format!("DELETE FROM {schema}.{table}"),
            format!("INSERT INTO {schema}.{table} SELECT * FROM {schema}.{table}"),
            format!("TRUNCATE {schema}.{table}"),
            format!("DROP TABLE {schema}.{table}"),
        ] {
            let said = server.try_sql(&reader, "postgres", &change).unwrap_err();
            assert!(said.contains("permission denied") || said.contains("must be owner"), "{said}");
        }
    }
    let call = format!("SELECT {schema}.record_v1('{id}', 'refused', NULL, 'x', 1)");
    // It is placed, so that this would be a late outcome: one more line of history.
    server.try_sql(&reader, "postgres", &call).unwrap_err();
    let url = format!("{}?schema={schema}", server.url_as(&reader, "postgres"));
    let store = open(&url, &machine.platform());
    let reading = Bidder { store: &store, machine: &machine };
    block_on(reading.info(&id));
    let refused = block_on(reading.try_reserve(&key("other"), 5)).unwrap_err();
    assert!(
        matches!(refused, LedgerError::Refused { reason: Refusal::Permission(_), .. }),
        "{refused:?}"
    );
}

#[test]
fn who_may_not_record_a_bid_begins_none() {
    let (server, machine) = (shared_server(), test_platform());
    let (schema, role) = writer(&server);
    let record = format!("EXECUTE ON FUNCTION {schema}.record_v1");
    server.sql("postgres", &format!("REVOKE {record} FROM PUBLIC, {role}"));
    let url = format!("{}?schema={schema}", server.url_as(&role, "postgres"));
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let refused = block_on(bidder.try_reserve(&key("job"), 5)).unwrap_err();
    let LedgerError::Refused { reason: Refusal::Permission(why), .. } = refused else {
        panic!("{refused:?}");
    };
    assert!(why.contains("bidlock doctor --acl"), "{why}");
    let made = format!("SELECT count(*) FROM {schema}.attempts");
    assert_eq!(server.text("postgres", &made), "0");
    // It goes on with the right, without being opened again.
    server.sql("postgres", &format!("GRANT {record} TO {role}"));
    block_on(bidder.placed(&key("job"), 5));
    // The right is taken away under a bid: that one stays in doubt, and no other begins.
    let id = block_on(bidder.started(&key("late"), 6));
    server.sql("postgres", &format!("REVOKE {record} FROM {role}"));
    block_on(bidder.try_record(&id)).unwrap_err();
    let refused = block_on(bidder.try_reserve(&key("next"), 7)).unwrap_err();
    let is_refused =
        matches!(&refused, LedgerError::Refused { reason: Refusal::Permission(_), .. });
    assert!(is_refused, "{refused:?}");
    assert_eq!(server.text("postgres", &made), "2");
}

#[test]
fn a_writer_cannot_undo_the_rules() {
    let server = shared_server();
    let (schema, writer) = writer(&server);
    for statement in [
        "ALTER TABLE IN.attempts DISABLE TRIGGER ALL",
        "DROP INDEX IN.attempts_open",
        "TRUNCATE IN.history",
        "UPDATE IN.history SET detail = 'x'",
        "DELETE FROM IN.audit",
        "UPDATE IN.meta SET version = 9",
        "SET session_replication_role = replica",
        "CREATE TABLE IN.mine (it int)",
    ] {
        let statement = statement.replace("IN.", &format!("{schema}."));
        server.try_sql(&writer, "postgres", &statement).unwrap_err();
    }
}
