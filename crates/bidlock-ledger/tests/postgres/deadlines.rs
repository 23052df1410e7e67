//! No call waits for ever: not for locks of others, not for a server that has stopped.

use std::time::Duration;

use bidlock_core::Refusal;
use bidlock_ledger::LedgerError;
use bidlock_testkit::servers::Postgres;
use bidlock_testkit::{block_on, test_platform, wait_until};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server, sleepers, try_open};

const SOON: Duration = Duration::from_secs(30);
/// Nearly as long as a statement may take before it is cancelled: 5 s.
const NEARLY: Duration = Duration::from_millis(4_900);
const MOMENT: Duration = Duration::from_millis(200);

/// How many of a schema's statements are under way.
fn busy(server: &Postgres, schema: &str) -> bool {
    let query = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
             AND query LIKE '%\"{schema}\".%' AND pid <> pg_backend_pid()"
    );
    server.text("postgres", &query) != "0"
}

#[test]
fn a_lock_of_another_session_is_not_waited_for_longer_than_a_statement_may_take() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let store = open(&format!("{}?schema={schema}", server.url("postgres")), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.started(&key("job"), 5));
    let recorded = std::thread::scope(|scope| {
        let hold =
            format!("BEGIN; SELECT FROM {schema}.attempts FOR UPDATE; SELECT pg_sleep(12); COMMIT");
        let server = &server;
        scope.spawn(move || server.sql("postgres", &hold));
        let sleeps = format!("SELECT count(*) {}", sleepers(&schema));
        wait_until("it is held", SOON, || server.text("postgres", &sleeps) != "0");
        block_on(bidder.try_record(&id))
    });
    // The server has taken it back for certain, so that it may be repeated.
    let refused = matches!(
        &recorded,
        Err(LedgerError::Refused { reason: Refusal::NotReady(why), .. }) if why.contains("55P03")
    );
    assert!(refused, "{recorded:?}");
    block_on(bidder.try_record(&id)).unwrap();
}

#[test]
fn a_statement_without_an_answer_is_given_up_and_cancelled() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let store = open(&format!("{}?schema={schema}", server.url("postgres")), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.started(&key("job"), 5));
    // The index is locked against everybody, which no lock of ours waits a bounded time for.
    let slow = format!(
        "CREATE FUNCTION {schema}.slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON {schema}.history
             FOR EACH ROW EXECUTE FUNCTION {schema}.slow()"
    );
    server.sql("postgres", &slow);
    let recorded = std::thread::scope(|scope| {
        let recording = scope.spawn(|| block_on(bidder.try_record(&id)));
        wait_until("it is under way", SOON, || busy(&server, &schema));
        machine.clock.advance(NEARLY);
        assert!(busy(&server, &schema) && !recording.is_finished(), "it has its time");
        machine.clock.advance(MOMENT);
        wait_until("it is given up", SOON, || recording.is_finished());
        recording.join().unwrap()
    });
    assert!(matches!(recorded, Err(LedgerError::Unknown { .. })), "{recorded:?}");
    wait_until("it is cancelled", SOON, || !busy(&server, &schema));
    server.sql("postgres", &format!("DROP TRIGGER slow ON {schema}.history"));
    block_on(bidder.try_record(&id)).unwrap();
}

#[test]
fn a_server_that_has_stopped_is_no_reason_to_wait() {
    let (server, machine) = (Postgres::start(), test_platform());
    let store = open(&server.url("postgres"), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    server.stop();
    let started = std::thread::scope(|scope| {
        let starting = scope.spawn(|| block_on(bidder.try_start(&id, 5)));
        // Time passes until it gives up.
        wait_until("it gives up", SOON, || {
            machine.clock.advance(Duration::from_secs(1));
            starting.is_finished()
        });
        starting.join().unwrap()
    });
    assert!(matches!(started, Err(LedgerError::Unknown { .. })), "{started:?}");
    let opened = std::thread::scope(|scope| {
        let url = server.url("postgres");
        let platform = machine.platform();
        let opening = scope.spawn(move || try_open(&url, &platform).map(drop));
        wait_until("it gives up", SOON, || {
            machine.clock.advance(Duration::from_secs(1));
            opening.is_finished()
        });
        opening.join().unwrap()
    });
    assert!(matches!(opened, Err(LedgerError::Unreachable { .. })), "{opened:?}");
    server.go_on();
    block_on(bidder.try_reserve(&key("other"), 5)).unwrap();
}

#[test]
fn a_dead_server_is_told_at_once() {
    let (server, machine) = (Postgres::start(), test_platform());
    let store = open(&server.url("postgres"), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    server.kill();
    // The first may have been on its way; the next has nowhere to go.
    drop(block_on(bidder.try_start(&id, 5)));
    let started = block_on(bidder.try_start(&id, 5));
    assert!(matches!(started, Err(LedgerError::Unreachable { .. })), "{started:?}");
    server.restart();
    block_on(bidder.try_start(&id, 5)).unwrap();
}
