//! The suite that every store passes, and the saboteurs that it catches: directly, through a
//! pooler, as the role with the least rights, and where sessions begin at another isolation.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::{panic, thread};

use bidlock_testkit::ledger::saboteurs::{LEDGER_FAULTS, LedgerFault, sabotaged};
use bidlock_testkit::ledger::{LedgerFixture, LedgerRule};
use bidlock_testkit::servers::{PgBouncer, Postgres};

use crate::support::{new_schema, open, shared_server, writer};

fn direct() -> LedgerFixture {
    let server = shared_server();
    let database = server.new_database();
    LedgerFixture::new(move |machine| Arc::new(open(&server.url(&database), &machine.platform())))
}

/// A pooler that is running for other tests already, or a new one.
fn shared_bouncer(server: &Postgres) -> Arc<PgBouncer> {
    static SHARED: Mutex<Weak<PgBouncer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(running) = shared.upgrade().filter(|running| running.leads_to(server)) {
        return running;
    }
    let bouncer = Arc::new(PgBouncer::before(server, 4, &["bidder"]));
    *shared = Arc::downgrade(&bouncer);
    bouncer
}

fn pooled() -> LedgerFixture {
    let server = shared_server();
    let bouncer = shared_bouncer(&server);
    let url = format!("{}?schema={}", bouncer.url_as("postgres", "postgres"), new_schema());
    LedgerFixture::new(move |machine| {
        let _run = (&server, &bouncer);
        Arc::new(open(&url, &machine.platform()))
    })
}

/// A role that may bid, and nothing else.
fn as_writer() -> LedgerFixture {
    let server = shared_server();
    let (schema, role) = writer(&server);
    let url = format!("{}?schema={schema}", server.url_as(&role, "postgres"));
    LedgerFixture::new(move |machine| {
        let _runs = &server;
        Arc::new(open(&url, &machine.platform()))
    })
}

/// Sessions begin serializable here, and write later than they say.
fn unlike() -> LedgerFixture {
    let server = shared_server();
    let database = server.new_database();
    for setting in ["default_transaction_isolation = serializable", "synchronous_commit = off"] {
        server.sql("postgres", &format!("ALTER DATABASE {database} SET {setting}"));
    }
    LedgerFixture::new(move |machine| Arc::new(open(&server.url(&database), &machine.platform())))
}

bidlock_testkit::ledger_conformance!(postgres_store, direct());
bidlock_testkit::ledger_conformance!(postgres_store_behind_a_pooler, pooled());
bidlock_testkit::ledger_conformance!(postgres_store_with_least_rights, as_writer());
bidlock_testkit::ledger_conformance!(postgres_store_at_another_isolation, unlike());

#[test]
fn each_fault_is_caught_by_the_rules_that_it_breaks() {
    expect_panics_of_saboteurs();
    let server = shared_server();
    let mut missed = Vec::new();
    for (fault, rules) in LEDGER_FAULTS {
        for name in *rules {
            let rule = LedgerRule::named(name).unwrap_or_else(|| panic!("{name} is not a rule"));
            if !catches(rule, *fault) {
                missed.push((fault, name));
            }
        }
    }
    drop(server);
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// A fault that shows only when threads meet at the right moment is given more than one chance.
fn catches(rule: &'static LedgerRule, fault: LedgerFault) -> bool {
    const TRIES: usize = 20;
    (0..TRIES).any(|_| {
        let thread = thread::Builder::new().name("saboteur".to_owned());
        thread.spawn(move || rule.check(sabotaged(direct(), fault))).unwrap().join().is_err()
    })
}

/// Their panics are what is wanted; their backtraces would hide those that are not.
fn expect_panics_of_saboteurs() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() != Some("saboteur") {
            usual(info);
        }
    }));
}
