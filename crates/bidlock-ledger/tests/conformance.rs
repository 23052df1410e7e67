//! The SQLite store passes the suite, and the suite catches every saboteur around it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::panic;
use std::sync::Arc;
use std::thread;

use bidlock_ledger::SqliteStore;
use bidlock_testkit::ledger::saboteurs::{LEDGER_FAULTS, LedgerFault, sabotaged};
use bidlock_testkit::ledger::{LEDGER_RULES, LedgerFixture, LedgerRule};

fn sqlite() -> LedgerFixture {
    let folder = tempfile::tempdir().unwrap();
    LedgerFixture::new(move |machine| {
        let path = folder.path().join("ledger.db");
        Arc::new(SqliteStore::open(&path, &machine.platform()).unwrap())
    })
}

bidlock_testkit::ledger_conformance!(sqlite_store, sqlite());

#[test]
fn each_fault_is_caught_by_the_rules_that_it_breaks() {
    expect_panics_of_saboteurs();
    let mut missed = Vec::new();
    for (fault, rules) in LEDGER_FAULTS {
        for name in *rules {
            let rule = LedgerRule::named(name).unwrap_or_else(|| panic!("{name} is not a rule"));
            if !catches(rule, *fault) {
                missed.push((fault, name));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// A fault that shows only when threads meet at the right moment is given more than one chance.
fn catches(rule: &'static LedgerRule, fault: LedgerFault) -> bool {
    const TRIES: usize = 20;
    (0..TRIES).any(|_| {
        let thread = thread::Builder::new().name("saboteur".to_owned());
        thread.spawn(move || rule.check(sabotaged(sqlite(), fault))).unwrap().join().is_err()
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

#[test]
fn each_rule_catches_a_fault() {
    let is_target =
        |rule: &LedgerRule| LEDGER_FAULTS.iter().any(|(_, rules)| rules.contains(&rule.name));
    let idle: Vec<_> = LEDGER_RULES.iter().filter(|rule| !is_target(rule)).collect();
    assert!(idle.is_empty(), "nothing fails these rules: {idle:?}");
}

#[test]
fn each_rule_has_one_name_and_cites_invariants() {
    for rule in LEDGER_RULES {
        let same = LEDGER_RULES.iter().filter(|other| other.name == rule.name);
        assert_eq!(same.count(), 1, "{rule:?}");
        let number = |cite: &str| cite.strip_prefix('L').and_then(|n| n.parse::<u8>().ok());
        let known = |cite: &str| number(cite).is_some_and(|n| (1..=12).contains(&n));
        assert!(!rule.cites.is_empty() && rule.cites.split(' ').all(known), "{rule:?}");
    }
}
