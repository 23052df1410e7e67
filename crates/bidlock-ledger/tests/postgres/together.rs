//! Calls that wait at the same time share a transaction, and no call suffers from another one's.

use std::sync::atomic::{AtomicUsize, Ordering};

use bidlock_core::{Clock as _, Refusal};
use bidlock_ledger::{LedgerError, Outcome, Recorded, Reservation, Start, State, Store as _};
use bidlock_testkit::{TestPlatform, block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server, sleepers};

const BIDDERS: u64 = 24;
const ROUNDS: u64 = 20;

/// Every bidder makes whole bids of its own, and a third of the calls ask for what is refused.
fn bid_with_others(url: &str, url_of: impl Fn(u64) -> String) -> usize {
    let machine = test_platform();
    let store = open(url, &machine.platform());
    let placed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for number in 0..BIDDERS {
            let (store, placed, prefix) = (&store, &placed, url_of(number));
            scope.spawn(move || {
                let machine = TestPlatform::seeded(number + 1_000);
                let bidder = Bidder { store, machine: &machine };
                block_on(async {
                    for round in 0..ROUNDS {
                        let posting = key(&format!("{prefix}-{round}"));
                        let now = machine.clock.wall();
                        let request = bidder.request(5);
                        let reserved = store.reserve(&posting, &request, now).await.unwrap();
                        let Reservation::Reserved(info) = reserved else { panic!("{reserved:?}") };
                        // The id is taken: the database takes back whatever came with this.
                        let other = key(&format!("{prefix}-{round}-again"));
                        let twice = store.reserve(&other, &request, now).await.unwrap_err();
                        assert!(matches!(twice, LedgerError::Invalid(_)), "{twice:?}");
                        let start = bidder.try_start(&info.id, 5).await.unwrap();
                        assert!(matches!(start, Start::Yes(_)), "{start:?}");
                        let again = bidder.try_start(&info.id, 5).await.unwrap();
                        assert!(matches!(again, Start::No(_)), "{again:?}");
                        let done = bidder.try_record(&info.id).await.unwrap();
                        assert!(matches!(done, Recorded::Written(_)), "{done:?}");
                        let unknown = bidlock_ledger::AttemptId::random(machine.rng.as_ref());
                        let none = Outcome::NotSent { reason: None };
                        let none = store.record(&unknown, &none, now).await.unwrap_err();
                        assert!(matches!(none, LedgerError::NotFound { .. }), "{none:?}");
                        placed.fetch_add(1, Ordering::SeqCst);
                    }
                });
            });
        }
    });
    placed.load(Ordering::SeqCst)
}

#[test]
fn each_of_many_gets_its_own_answer() {
    let (server, schema) = (shared_server(), new_schema());
    let url = format!("{}?schema={schema}&pool=4", server.url("postgres"));
    let commits = "SELECT pg_stat_force_next_flush(), xact_commit FROM pg_stat_database
        WHERE datname = 'postgres'";
    let before: u64 = count(&server.text("postgres", commits.trim_start()));
    let placed = bid_with_others(&url, |number| format!("job-{number}"));
    assert_eq!(placed as u64, BIDDERS * ROUNDS);
    let after = count(&server.text("postgres", commits));
    let ask = |query: &str| server.text("postgres", &query.replace("IN.", &format!("{schema}.")));
    assert_eq!(ask("SELECT count(*) FROM IN.attempts WHERE state = 'placed'"), placed.to_string());
    assert_eq!(ask("SELECT count(*) FROM IN.attempts"), placed.to_string());
    assert_eq!(ask("SELECT count(*) FROM IN.history"), (3 * placed).to_string());
    // Of six calls for each bid, several went together.
    assert!(after - before < 5 * placed as u64, "{} commits", after - before);
}

/// The number behind the bar.
fn count(row: &str) -> u64 {
    row.rsplit('|').next().unwrap().parse().unwrap()
}

#[test]
fn a_lock_of_another_session_holds_up_nobody_else() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let url = format!("{}?schema={schema}", server.url("postgres"));
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let held = block_on(bidder.started(&key("held"), 5));
    std::thread::scope(|scope| {
        // Longer than anything here takes: it is ended once it was seen to be in nobody's way.
        let statements = format!(
            "BEGIN; SELECT FROM {schema}.attempts WHERE id = '{held}' FOR UPDATE;
             SELECT pg_sleep(120); COMMIT"
        );
        let holding = scope.spawn({
            let server = &server;
            move || server.try_sql("postgres", "postgres", &statements)
        });
        let sleeps = format!("SELECT count(*) {}", sleepers(&schema));
        bidlock_testkit::wait_until("it is held", std::time::Duration::from_secs(30), || {
            server.text("postgres", &sleeps) != "0"
        });
        let record = || loop {
            match block_on(bidder.try_record(&held)) {
                // It has waited for as long as a statement may.
                Err(LedgerError::Refused { reason: Refusal::NotReady(_), .. }) => {}
                recorded => break recorded.unwrap(),
            }
        };
        let waiting: Vec<_> = (0..4).map(|_| scope.spawn(record)).collect();
        for round in 0..10 {
            block_on(bidder.placed(&key(&format!("free-{round}")), 5));
        }
        assert!(!holding.is_finished(), "they did not wait for it");
        let end = format!("SELECT pg_terminate_backend(pid) {}", sleepers(&schema));
        assert_eq!(server.text("postgres", &end), "t");
        assert!(holding.join().unwrap().is_err(), "it went on to its end");
        for waited in waiting {
            let recorded = waited.join().unwrap();
            assert_eq!(recorded.attempt().state, State::Placed);
        }
    });
}
