//! The suite itself is tested: a sound store passes, and each fault is caught by its rules.

use std::panic;
use std::sync::Mutex;
use std::thread;

use bidlock_testkit::conformance::{RULES, Rule};
use bidlock_testkit::saboteurs::{FAULTS, Fault, sabotaged, sound};

bidlock_testkit::conformance!(reference, sound());

#[test]
fn each_fault_is_caught_by_the_rules_that_it_breaks() {
    expect_panics_of_saboteurs();
    let mut missed = Vec::new();
    for (fault, rules) in FAULTS {
        for name in *rules {
            let rule = Rule::named(name).unwrap_or_else(|| panic!("{name} is not a rule"));
            if !catches(rule, *fault) {
                missed.push((fault, name));
            }
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// A rule has caught a fault when the rule itself says so, not when the store falls over.
fn catches(rule: &'static Rule, fault: Fault) -> bool {
    let thread = thread::Builder::new().name(SABOTEUR.to_owned());
    let run = thread.spawn(move || rule.check(&sabotaged(fault))).expect("a thread starts");
    run.join().is_err() && PANICKED_AT.lock().expect("a file").contains("conformance")
}

const SABOTEUR: &str = "saboteur";
static PANICKED_AT: Mutex<String> = Mutex::new(String::new());

/// Their panics are what is wanted; their backtraces would hide those that are not.
fn expect_panics_of_saboteurs() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if thread::current().name() == Some(SABOTEUR) {
            let file = info.location().map(|place| place.file().to_owned());
            *PANICKED_AT.lock().expect("a file") = file.unwrap_or_default();
        } else {
            usual(info);
        }
    }));
}

#[test]
fn each_rule_catches_a_fault() {
    let is_target = |rule: &Rule| FAULTS.iter().any(|(_, rules)| rules.contains(&rule.name));
    let idle: Vec<_> = RULES.iter().filter(|rule| !is_target(rule)).collect();
    assert!(idle.is_empty(), "nothing fails these rules: {idle:?}");
}

#[test]
fn each_rule_has_one_name_and_cites_invariants() {
    for rule in RULES {
        assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1, "{rule:?}");
        let number = |cite: &str| cite.strip_prefix('I').and_then(|n| n.parse::<u8>().ok());
        let known = |cite: &str| number(cite).is_some_and(|n| (1..=14).contains(&n));
        assert!(!rule.cites.is_empty() && rule.cites.split(' ').all(known), "{rule:?}");
    }
}
