//! The doctor finds what could lose or repeat a bid, and says what to do about it.

use bidlock_core::{Diagnose as _, Finding, Severity, Ttl};
use bidlock_ledger::{LedgerRole, PostgresConfig, PostgresDoctor};
use bidlock_testkit::servers::{PgBouncer, Postgres, PostgresOptions};
use bidlock_testkit::{block_on, test_platform};

use crate::support::open;

fn look(url: &str) -> Vec<Finding> {
    let config = PostgresConfig::from_url(url).unwrap();
    let platform = bidlock_platform::system().unwrap();
    let findings = block_on(PostgresDoctor::new(&config, &platform).diagnose(Ttl::default()));
    for finding in &findings {
        let whole = finding.severity == Severity::Good
            || (!finding.why.is_empty() && !finding.mend.is_empty());
        assert!(whole, "{finding:?}");
    }
    findings
}

#[track_caller]
fn severity(findings: &[Finding], check: &str, found: &str) -> Severity {
    let fits = |it: &&Finding| it.check == check && it.found.contains(found);
    let finding = findings.iter().find(fits);
    finding.unwrap_or_else(|| panic!("{check} with {found:?} in {findings:#?}")).severity
}

#[test]
fn a_sound_ledger_is_well() {
    let server = Postgres::start_with(PostgresOptions::new().durable(true));
    let url = server.url("postgres");
    assert_eq!(severity(&look(&url), "schema", "there is no ledger"), Severity::Warning);
    assert_eq!(server.text("postgres", "SELECT to_regnamespace('bidlock')"), "", "left as it was");
    drop(open(&url, &test_platform().platform()));
    for finding in look(&url) {
        assert_eq!(finding.severity, Severity::Good, "{finding:?}");
    }
    let bouncer = PgBouncer::before(&server, 2, &[]);
    let through = look(&bouncer.url_as("postgres", "postgres"));
    assert_eq!(severity(&through, "pooler", "stands in between"), Severity::Good);
}

#[test]
fn tls_between_a_pooler_and_its_server_is_none_of_ours() {
    let server = Postgres::start_with(PostgresOptions::new().tls(true));
    drop(open(&server.url("postgres"), &test_platform().platform()));
    let bouncer = PgBouncer::before(&server, 2, &[]);
    let found = look(&bouncer.url_as("postgres", "postgres"));
    // The pooler speaks TLS with its server, and we speak none with the pooler.
    let over = "SELECT count(*) > 0 FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
        WHERE s.ssl AND a.application_name = 'bidlock'";
    assert_eq!(server.text("postgres", over), "t");
    let said = "none, on this machine; the pooler's own way";
    assert_eq!(severity(&found, "tls", said), Severity::Good);
    assert_eq!(severity(&look(&server.url("postgres")), "tls", "not verified"), Severity::Warning);
    let ca = server.tls_files().ca.display().to_string();
    let verified = format!("{}?sslmode=verify-full&sslrootcert={ca}", server.url("postgres"));
    assert_eq!(severity(&look(&verified), "tls", "TLSv1.3, with"), Severity::Good);
}

#[test]
fn each_ill_is_found() {
    let server = Postgres::start_with(PostgresOptions::new().set("synchronous_commit=off"));
    let (url, platform) = (server.url("postgres"), test_platform().platform());
    drop(open(&url, &platform));
    let standby = server.start_standby();
    server.wait_for(&standby);
    server.sql(
        "postgres",
        "DROP INDEX bidlock.attempts_open;
         ALTER TABLE bidlock.attempts DISABLE TRIGGER attempts_update;
         UPDATE bidlock.meta SET timeline = '00000009'",
    );
    let follower = look(&standby.url("postgres"));
    assert_eq!(severity(&follower, "failover", "in recovery"), Severity::Failure);
    let isolation = "ALTER ROLE postgres SET default_transaction_isolation = serializable";
    server.sql("postgres", isolation);
    let found = look(&url);
    for (check, said, expected) in [
        ("fsync", "fsync is off", Severity::Failure),
        ("fsync", "full_page_writes is off", Severity::Warning),
        ("commit", "the ledger overrides it", Severity::Good),
        ("failover", "no commit waits", Severity::Warning),
        ("sessions", "serializable", Severity::Warning),
        ("rules", "index attempts_open is missing", Severity::Failure),
        ("rules", "attempts_update is switched off", Severity::Failure),
        ("copy", "timeline 00000001, and was on 00000009", Severity::Failure),
    ] {
        assert_eq!(severity(&found, check, said), expected, "{check}");
    }
    server.sql(
        "postgres",
        "BEGIN ISOLATION LEVEL READ COMMITTED;
         UPDATE bidlock.meta SET version = 9, compatible_from = 9; COMMIT",
    );
    assert_eq!(severity(&look(&url), "schema", "version 9"), Severity::Failure);
}

#[test]
fn what_keeps_a_doctor_out_is_told_with_what_mends_it() {
    let server = Postgres::start();
    for (url, mend) in [
        (server.url("nowhere"), "make the database"),
        ("postgres://h/x?sslmode=verify-full&sslrootcert=/nowhere.pem".into(), "correct the file"),
        ("postgres://127.0.0.1:1/x".into(), "check host and port"),
    ] {
        let found = look(&url);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Failure), "{found:?}");
        assert!(found[0].mend.contains(mend), "{found:?}");
    }
}

#[test]
fn a_role_without_rights_is_told_what_it_lacks() {
    let server = Postgres::start();
    let url = server.url("postgres");
    drop(open(&url, &test_platform().platform()));
    server.sql("postgres", "CREATE ROLE reader LOGIN");
    let config = PostgresConfig::from_url(&url).unwrap();
    server.sql("postgres", &config.rights(LedgerRole::Reader, "reader"));
    let found = look(&server.url_as("reader", "postgres"));
    assert_eq!(
        severity(&found, "rights", "lacks INSERT on attempts, UPDATE on attempts"),
        Severity::Failure
    );
    server.sql("postgres", "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC");
    let found = look(&server.url_as("reader", "postgres"));
    assert_eq!(severity(&found, "copy", "may not ask which cluster"), Severity::Warning);
    let nobody = look(&server.url_as("nobody", "postgres"));
    assert_eq!(severity(&nobody, "reach", "does not exist"), Severity::Failure);
    let rights =
        bidlock_core::Diagnose::rights(&PostgresDoctor::new(&config, &test_platform().platform()));
    assert!(rights.is_some_and(|text| text.contains("bidlock_writer")));
}

#[test]
fn a_role_that_could_send_a_bid_and_not_record_it_is_a_failure() {
    let server = Postgres::start();
    let url = server.url("postgres");
    drop(open(&url, &test_platform().platform()));
    server.sql("postgres", "CREATE ROLE bidder LOGIN");
    let config = PostgresConfig::from_url(&url).unwrap();
    server.sql("postgres", &config.rights(LedgerRole::Writer, "bidder"));
    // What everybody may do by default, whoever is careful takes away.
    server.sql("postgres", "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA bidlock FROM PUBLIC");
    let url = server.url_as("bidder", "postgres");
    assert_eq!(severity(&look(&url), "rights", "may bid and record"), Severity::Good);
    for (right, lacks, expected) in [
        ("EXECUTE ON FUNCTION bidlock.record_v1", "EXECUTE on record_v1", Severity::Failure),
        ("EXECUTE ON FUNCTION bidlock.begin_change", "EXECUTE on begin_change", Severity::Failure),
        ("UPDATE ON bidlock.attempts", "UPDATE on attempts", Severity::Failure),
        ("INSERT ON bidlock.history", "INSERT on history", Severity::Failure),
        ("USAGE ON SEQUENCE bidlock.history_seq", "USAGE on history_seq", Severity::Failure),
        ("EXECUTE ON FUNCTION bidlock.lock_audit", "EXECUTE on lock_audit", Severity::Warning),
        ("DELETE ON bidlock.history", "DELETE on history", Severity::Warning),
        ("USAGE ON SEQUENCE bidlock.audit_seq", "USAGE on audit_seq", Severity::Warning),
        ("UPDATE (timeline) ON bidlock.meta", "UPDATE on meta", Severity::Warning),
        // Triggers ask nobody for it.
        ("EXECUTE ON FUNCTION bidlock.attempts_update", "may bid and record", Severity::Good),
    ] {
        server.sql("postgres", &format!("REVOKE {right} FROM bidder"));
        let found = look(&url);
        let said = if expected == Severity::Good { lacks } else { &format!("role lacks {lacks}") };
        assert_eq!(severity(&found, "rights", said), expected, "{right}");
        let rights = found.iter().find(|it| it.check == "rights").unwrap();
        assert!(!rights.found.contains(','), "nothing else is missing: {rights:?}");
        server.sql("postgres", &format!("GRANT {right} TO bidder"));
    }
}
