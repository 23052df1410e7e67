//! An answer that is lost says nothing; what happened is read back by the attempt's id.

use std::time::Duration;

use bidlock_ledger::{LedgerError, Start, State};
use bidlock_testkit::servers::{Direction, Proxy};
use bidlock_testkit::{block_on, test_platform, wait_until};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server};

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_start_whose_answer_is_lost_is_read_back_by_its_id() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let proxy = Proxy::to(server.address());
    let url = format!("postgres://postgres@{}/postgres?schema={schema}", proxy.address());
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    proxy.on_request(b"start_v1", |step| step.black_hole(Direction::ToClient));
    let started = std::thread::scope(|scope| {
        let starting = scope.spawn(|| block_on(bidder.try_start(&id, 5)));
        let state = format!("SELECT state FROM {schema}.attempts");
        wait_until("it is committed", SOON, || server.text("postgres", &state) == "started");
        proxy.cut();
        starting.join().unwrap()
    });
    assert!(matches!(started, Err(LedgerError::Unknown { .. })), "{started:?}");
    proxy.forget_actions();
    assert_eq!(block_on(bidder.info(&id)).state, State::Started);
    let again = block_on(bidder.try_start(&id, 5)).unwrap();
    assert!(matches!(again, Start::No(_)), "no second yes: {again:?}");
}

#[test]
fn a_start_that_did_not_get_there_has_not_begun() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let proxy = Proxy::to(server.address());
    let url = format!("postgres://postgres@{}/postgres?schema={schema}", proxy.address());
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    proxy.on_request(b"start_v1", bidlock_testkit::servers::Step::cut);
    let started = block_on(bidder.try_start(&id, 5));
    // From here nobody can tell; the next look can.
    assert!(matches!(started, Err(LedgerError::Unknown { .. })), "{started:?}");
    proxy.forget_actions();
    assert_eq!(block_on(bidder.info(&id)).state, State::Reserved);
    let again = block_on(bidder.try_start(&id, 5)).unwrap();
    assert!(matches!(again, Start::Yes(_)), "{again:?}");
}

#[test]
fn a_lost_connection_is_replaced_and_reads_notice_nothing() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let proxy = Proxy::to(server.address());
    let url = format!("postgres://postgres@{}/postgres?schema={schema}", proxy.address());
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let id = block_on(bidder.reserve(&key("job"), 5));
    for _ in 0..3 {
        proxy.cut();
        assert_eq!(block_on(bidder.info(&id)).state, State::Reserved);
    }
    proxy.refuse(true);
    proxy.cut();
    let refused = block_on(bidder.try_start(&id, 5)).unwrap_err();
    assert!(!matches!(refused, LedgerError::Refused { .. }), "{refused:?}");
    proxy.refuse(false);
    wait_until("it is there again", SOON, || block_on(bidder.try_start(&id, 5)).is_ok());
}

#[test]
fn what_was_asked_is_done_although_its_caller_and_the_store_are_gone() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let url = format!("{}?schema={schema}", server.url("postgres"));
    let store = open(&url, &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    block_on(async {
        let id = bidder.started(&key("job"), 5).await;
        let recording = std::pin::pin!(bidder.try_record(&id));
        // Polled once, and left.
        let left = futures_poll(recording);
        assert!(left, "it takes longer than one poll");
    });
    drop(store);
    let state = format!("SELECT state FROM {schema}.attempts");
    wait_until("it is recorded", SOON, || server.text("postgres", &state) == "placed");
}

/// Polls a future once; whether it has more to do.
fn futures_poll<F: Future>(future: std::pin::Pin<&mut F>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    future.poll(&mut context).is_pending()
}
