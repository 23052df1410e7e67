//! The database keeps the rules against any other writer, too.

use bidlock_testkit::{block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server};

#[test]
fn no_sql_makes_a_second_bid_possible_or_changes_what_was_done() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let store = open(&format!("{}?schema={schema}", server.url("postgres")), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let (started, placed) = block_on(async {
        (bidder.started(&key("open"), 5).await, bidder.placed(&key("placed"), 5).await)
    });
    let refused = |statement: &str, code: &str| {
        let statement = statement
            .replace("ITS", &format!("UPDATE {schema}.attempts SET"))
            .replace("OPEN", &format!("WHERE id = '{started}'"))
            .replace("PLACED", &format!("WHERE id = '{placed}'"))
            .replace("IN.", &format!("{schema}."));
        // Whoever asks learns why, by a code of ours or of the database's own constraint.
        let asked = format!(
            "DO $$ BEGIN {statement}; EXCEPTION WHEN OTHERS THEN
            RAISE EXCEPTION '%', SQLSTATE; END $$"
        );
        let said = server.try_sql("postgres", "postgres", &asked).unwrap_err();
        assert!(said.ends_with(code), "{statement}: {said}");
    };
    let new = |posting: &str, state: &str, token: u32| {
        format!(
            "INSERT INTO IN.attempts (id, marketplace, posting, state, event, token, token_seen, \
             holder, process, reserved_at_us) VALUES (gen_random_uuid(), 'upwork', '{posting}', \
             '{state}', 'reserved', {token}, {token}, 'h', 'p', 1)"
        )
    };
    refused(&new("open", "reserved", 9), "23505"); // L1
    refused(&new("open", "reserved", 4), "BL003"); // L3
    refused(&new("other", "placed", 9), "BL004"); // L4
    refused("ITS state = 'reserved' OPEN", "BL004");
    refused("ITS state = 'abandoned' PLACED", "BL004");
    refused("ITS token_seen = 1 PLACED", "BL003");
    refused("ITS payload = 'other' OPEN", "BL009"); // L9
    refused("ITS send_by_us = send_by_us + 1 OPEN", "BL009");
    refused("ITS posting = 'another' PLACED", "BL009");
    refused("ITS process = 'another' OPEN", "BL009");
    refused("ITS state = 'unknown', event = 'resent' OPEN", "BL011"); // L11
    refused("ITS reason = repeat('x', 1025), state = 'placed' OPEN", "BL004");
    refused("ITS reference = repeat('x', 513), state = 'placed' OPEN", "BL004");
    refused("ITS token_seen = 4503599627370497 OPEN", "BL004");
    refused("ITS state = 'elsewhere' OPEN", "BL004");
    refused("DELETE FROM IN.attempts PLACED", "BL010"); // L10
    refused("DELETE FROM IN.history", "BL007"); // L7
    refused("UPDATE IN.history SET detail = NULL", "BL007");
    refused("TRUNCATE IN.attempts", "BL007");
    refused("UPDATE IN.meta SET id = gen_random_uuid()", "BL012"); // L12
    refused("DELETE FROM IN.meta", "BL007");
    let serial = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; {}; COMMIT",
        new("other", "reserved", 9).replace("IN.", &format!("{schema}."))
    );
    let said = server.try_sql("postgres", "postgres", &serial).unwrap_err();
    assert!(said.contains("READ COMMITTED"), "{said}");
}

#[test]
fn a_pass_lasts_for_its_transaction_only() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let store = open(&format!("{}?schema={schema}", server.url("postgres")), &machine.platform());
    let bidder = Bidder { store: &store, machine: &machine };
    let placed = block_on(bidder.placed(&key("placed"), 5));
    let delete = format!("DELETE FROM {schema}.attempts WHERE id = '{placed}'");
    let horizon = format!("UPDATE {schema}.meta SET pruned_before_us = 4000000000000000");
    let pass = "SELECT set_config('bidlock.pass', 'prune', true)";
    let left = format!("BEGIN; {horizon}; {pass}; COMMIT; {delete}");
    server.try_sql("postgres", "postgres", &left).unwrap_err();
    let history = delete.replace("attempts WHERE id", "history WHERE attempt");
    server.sql("postgres", &format!("BEGIN; {pass}; {history}; {delete}; COMMIT"));
}
