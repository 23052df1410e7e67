//! The suite that every store passes, and the saboteurs that it catches.

use std::sync::Arc;

use bidlock_testkit::ledger::LedgerFixture;

use crate::support::{open, shared_server};

fn postgres() -> LedgerFixture {
    let server = shared_server();
    let database = server.new_database();
    LedgerFixture::new(move |machine| Arc::new(open(&server.url(&database), &machine.platform())))
}

bidlock_testkit::ledger_conformance!(postgres_store, postgres());
