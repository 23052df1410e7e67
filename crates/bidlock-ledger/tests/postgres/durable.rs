//! What is acknowledged is kept, whatever happens to the server.

use std::time::Duration;

use bidlock_core::Refusal;
use bidlock_ledger::{Event, LedgerError, Reservation, Start, State, Store as _};
use bidlock_testkit::servers::{Postgres, PostgresOptions, Proxy};
use bidlock_testkit::{block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::open;

fn durable() -> Postgres {
    Postgres::start_with(PostgresOptions::new().durable(true).set("wal_writer_delay=10s"))
}

#[test]
fn what_was_acknowledged_is_there_after_every_kill() {
    let (server, machine) = (durable(), test_platform());
    let store = open(&server.url("postgres"), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    for round in 0..2 {
        let posting = key(&format!("job-{round}"));
        let id = block_on(bidder.reserve(&posting, 5));
        server.restart();
        assert_eq!(block_on(bidder.info(&id)).state, State::Reserved);
        let start = block_on(bidder.try_start(&id, 5)).unwrap();
        assert!(matches!(start, Start::Yes(_)), "{start:?}");
        server.restart();
        assert_eq!(block_on(bidder.info(&id)).state, State::Started);
        let again = block_on(bidder.try_start(&id, 5)).unwrap();
        assert!(matches!(again, Start::No(_)), "once, also after a crash: {again:?}");
        block_on(bidder.try_record(&id)).unwrap();
        server.restart();
        assert_eq!(block_on(bidder.info(&id)).state, State::Placed);
    }
}

#[test]
fn a_server_that_writes_later_is_overruled() {
    let (server, machine) = (durable(), test_platform());
    let database = server.new_database();
    server.sql("postgres", &format!("ALTER DATABASE {database} SET synchronous_commit = off"));
    server.sql(&database, "CREATE TABLE control (it int); CHECKPOINT");
    let store = open(&server.url(&database), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let (id, placed) = block_on(async {
        (bidder.started(&key("job"), 5).await, bidder.placed(&key("other"), 5).await)
    });
    // Another program's commit, which nobody overrules: the server has not put it on disk yet.
    server.sql(&database, "INSERT INTO control VALUES (1)");
    server.restart();
    assert_eq!(server.text(&database, "SELECT count(*) FROM control"), "0", "the fault is real");
    assert_eq!(block_on(bidder.info(&id)).state, State::Started);
    assert_eq!(block_on(bidder.info(&placed)).state, State::Placed);
}

#[test]
fn a_kill_in_the_middle_of_record_leaves_it_placed_or_in_doubt() {
    let (server, machine) = (durable(), test_platform());
    let proxy = Proxy::to(server.address());
    let url = format!("postgres://postgres@{}/postgres", proxy.address());
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let (mut unanswered, mut kept) = (0, 0);
    for round in 0..6 {
        // Sometimes it does not get there in time; else the server is killed at some step of it.
        let late = if round % 2 == 0 { 400 } else { round };
        let posting = key(&format!("job-{round}"));
        let id = block_on(bidder.started(&posting, 5));
        proxy.delay(Duration::from_millis(late), Duration::ZERO);
        let recorded = std::thread::scope(|scope| {
            let recording = scope.spawn(|| block_on(bidder.try_record(&id)));
            server.kill();
            recording.join().unwrap()
        });
        server.restart();
        proxy.delay(Duration::ZERO, Duration::ZERO);
        let state = block_on(bidder.info(&id)).state;
        match recorded {
            Ok(_) => assert_eq!(state, State::Placed, "it was acknowledged"),
            Err(error) => {
                assert!(
                    matches!(
                        error,
                        LedgerError::Unknown { .. }
                            | LedgerError::Unreachable { .. }
                            | LedgerError::Refused { .. }
                    ),
                    "{error:?}"
                );
                assert!(matches!(state, State::Started | State::Placed), "{state}");
                unanswered += 1;
                // Repeating it is harmless, and nobody else may bid meanwhile.
                let other = block_on(bidder.try_reserve(&posting, 4)).unwrap();
                assert!(!matches!(other, Reservation::Reserved(_)), "{other:?}");
                block_on(bidder.try_record(&id)).unwrap();
            }
        }
        kept += usize::from(block_on(bidder.info(&id)).state == State::Placed);
    }
    assert!(unanswered > 0, "the server was killed in time at least once");
    assert_eq!(kept, 6);
    let history = block_on(store.history(&key("job-0"))).unwrap();
    let placed = history.iter().filter(|entry| entry.event == Event::Placed);
    assert_eq!(placed.count(), 1, "{history:?}");
}

/// Whether the server had no room for it, so that it is not in the ledger for certain.
fn is_full(error: &LedgerError) -> bool {
    matches!(
        error,
        LedgerError::Refused { reason: Refusal::Full(said), .. }
            if said.contains("No space left on device")
    )
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let options = PostgresOptions::new().durable(true).small_disk();
    let (server, machine) = (Postgres::start_with(options), test_platform());
    let store = open(&server.url("postgres"), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let mut told = vec![(block_on(bidder.reserve(&key("first"), 5)), State::Reserved)];
    server.fill_disk(true);
    // What is in the files already may be written over, so that some more find a place.
    let refused = loop {
        let posting = key(&format!("job-{}", told.len()));
        match block_on(bidder.try_reserve(&posting, 5)) {
            Ok(Reservation::Reserved(info)) => told.push((info.id, State::Reserved)),
            Ok(other) => panic!("{posting} is free, not {other:?}"),
            Err(error) => break error,
        }
        assert!(told.len() < 10_000, "the disk is not full");
    };
    assert!(is_full(&refused), "{refused:?}");
    for (id, state) in &mut told {
        match block_on(bidder.try_start(id, 5)) {
            Ok(Start::Yes(_)) => *state = State::Started,
            Err(error) if is_full(&error) => continue,
            other => panic!("{other:?}"),
        }
        match block_on(bidder.try_record(id)) {
            Ok(_) => *state = State::Placed,
            Err(error) => assert!(is_full(&error), "{error:?}"),
        }
    }
    server.fill_disk(false);
    for (id, state) in &told {
        assert_eq!(block_on(bidder.info(id)).state, *state);
    }
    block_on(bidder.placed(&key(&format!("job-{}", told.len())), 5));
}
