//! L12: a ledger that is another copy than before gives nothing out until somebody accepts it.

use bidlock_core::{Clock as _, Refusal};
use bidlock_ledger::{Archive as _, LedgerError, OperatorNote, PostgresStore, Start, Store as _};
use bidlock_testkit::servers::{Postgres, PostgresOptions};
use bidlock_testkit::{TestPlatform, block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::open;

/// That bids are refused, that outcomes and reads are not, and that an acceptance ends it.
fn gives_nothing_out(url: &str, machine: &TestPlatform, why: &str) {
    let store = open(url, &machine.platform());
    let bidder = Bidder { store: &store, machine };
    let refused = |answer: Result<(), LedgerError>| match answer {
        Err(LedgerError::Refused { reason: Refusal::Restored(said), .. }) => {
            assert!(said.contains(why), "{said}");
        }
        other => panic!("nothing is given out, but {other:?}"),
    };
    block_on(async {
        let (reserved, started) = attempts(&store, machine).await;
        refused(bidder.try_reserve(&key("new"), 9).await.map(drop));
        refused(bidder.try_start(&reserved, 9).await.map(drop));
        bidder.try_record(&started).await.unwrap();
        assert!(store.standing().await.unwrap().changed.is_some_and(|said| said.contains(why)));
        let note = OperatorNote { actor: "ann".to_owned(), because: "looked".to_owned() };
        store.accept(&note, machine.clock.wall()).await.unwrap();
        assert_eq!(store.standing().await.unwrap().changed, None);
        bidder.reserve(&key("new"), 9).await;
        let start = bidder.try_start(&reserved, 9).await.unwrap();
        assert!(matches!(start, Start::Yes(_)), "{start:?}");
    });
}

async fn attempts(
    store: &PostgresStore,
    machine: &TestPlatform,
) -> (bidlock_ledger::AttemptId, bidlock_ledger::AttemptId) {
    let open = async |posting: &str| {
        let found = store.open_attempt(&key(posting), machine.clock.wall()).await.unwrap();
        found.unwrap().id
    };
    (open("reserved").await, open("started").await)
}

/// A ledger with one attempt that is reserved, and one that has started.
fn fill(url: &str, machine: &TestPlatform) {
    let store = open(url, &machine.platform());
    let bidder = Bidder { store: &store, machine };
    block_on(async {
        bidder.reserve(&key("reserved"), 5).await;
        bidder.started(&key("started"), 5).await;
    });
}

#[test]
fn a_dump_that_was_restored_is_another_copy() {
    let (server, machine) = (Postgres::start(), test_platform());
    let database = server.new_database();
    fill(&server.url(&database), &machine);
    let (dump, beside) = (server.dump(&database), server.new_database());
    server.restore(&dump, &beside);
    gives_nothing_out(&server.url(&beside), &machine, "database number");
    // Also where the database has the same name, and in another cluster the same number.
    let other = Postgres::start_with(PostgresOptions::new().own_identity());
    assert_eq!(other.new_database(), database);
    other.restore(&dump, &database);
    gives_nothing_out(&other.url(&database), &machine, "cluster");
}

#[test]
fn a_promoted_standby_is_another_copy_unless_failover_is_trusted() {
    let (primary, machine) = (Postgres::start(), test_platform());
    fill(&primary.url("postgres"), &machine);
    let standby = primary.start_standby();
    primary.wait_for(&standby);
    let follows = open(&standby.url("postgres"), &machine.platform());
    let bidder = Bidder { store: &follows, machine: &machine };
    let refused = block_on(bidder.try_reserve(&key("new"), 9)).unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Refused { reason: Refusal::ReadOnly(_), .. }),
        "a standby takes no bids: {refused:?}"
    );
    assert!(block_on(follows.open_attempt(&key("started"), machine.clock.wall())).is_ok());
    primary.kill();
    standby.promote();
    // The same connection, that was there before the promotion.
    let refused = block_on(bidder.try_reserve(&key("new"), 9)).unwrap_err();
    assert!(
        matches!(&refused, LedgerError::Refused { reason: Refusal::Restored(_), .. }),
        "{refused:?}"
    );
    let trusting = format!("{}?failover=trusted", standby.url("postgres"));
    let trusting = open(&trusting, &machine.platform());
    block_on(Bidder { store: &trusting, ..bidder }.reserve(&key("trusted"), 9));
    gives_nothing_out(&standby.url("postgres"), &machine, "timeline");
}

#[test]
fn several_hosts_are_tried_and_the_one_that_takes_writes_is_used() {
    let (primary, machine) = (Postgres::start(), test_platform());
    fill(&primary.url("postgres"), &machine);
    let standby = primary.start_standby();
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?failover=trusted",
        standby.port(),
        primary.port()
    );
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    block_on(bidder.reserve(&key("first"), 9));
    primary.wait_for(&standby);
    primary.kill();
    standby.promote();
    drop(block_on(bidder.try_reserve(&key("second"), 9)));
    block_on(bidder.reserve(&key("third"), 9));
}

#[test]
fn a_copy_of_the_files_is_told_by_what_was_begun_since_and_not_by_the_server() {
    let (server, machine) = (Postgres::start(), test_platform());
    fill(&server.url("postgres"), &machine);
    server.shut_down();
    let copy = server.start_copy();
    let store = open(&copy.url("postgres"), &machine.platform());
    // The cluster says that it is the same, and it is: only a memory of what was begun can tell
    // that something is missing, which is above this store.
    assert_eq!(block_on(store.standing()).unwrap().changed, None);
}
