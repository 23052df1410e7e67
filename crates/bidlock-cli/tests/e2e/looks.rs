//! Who looks makes nothing: no schema, no file, and no ledger that would say that nothing was bid.

use bidlock_testkit::servers::Postgres;
use bidlock_testkit::wait_until;
use nix::sys::signal::Signal;

use crate::postgres::empty_database;
use crate::{SOON, User, end, objects, signal};

/// Every command that needs a ledger which is there.
const LOOKS: [&[&str]; 14] = [
    &["bids"],
    &["bids", "upwork", "j"],
    &["bids", "upwork", "j", "--history"],
    &["audit"],
    &["ledger", "status"],
    &["ledger", "export"],
    &["ledger", "prune"],
    &["ledger", "prune", "--yes"],
    &["reconcile", "--dry-run"],
    &["reconcile", "touch", "ran"],
    &["resolve", "upwork", "j", "--refused", "--because", "x"],
    &["withdraw", "upwork", "j"],
    &["reopen", "upwork", "j", "--because", "x"],
    &["ledger", "accept", "--because", "x"],
];

#[test]
fn a_look_at_an_empty_database_makes_no_ledger_in_it() {
    let user = User::new();
    let (server, database, url) = empty_database();
    let made = || server.text(&database, "SELECT to_regnamespace('bidlock') IS NOT NULL");
    for words in LOOKS {
        let ran = user.run(&[&["--ledger-url", &url], words].concat());
        assert_eq!((ran.code, made().as_str()), (78, "f"), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("there is no ledger there"), "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(&url), "it is named: {ran:?}");
        assert!(ran.stderr.contains("bidlock ledger migrate"), "{words:?}: {ran:?}");
    }
    assert!(!user.path("ran").exists());
    let doctor = user.run(&["doctor", "--ledger-url", &url]);
    assert_eq!(made(), "f", "{doctor:?}");
    assert_eq!(user.run(&["ledger", "migrate", "--ledger-url", &url]).code, 0);
    for words in &LOOKS[..10] {
        let ran = user.run(&[&["--ledger-url", &url][..], words].concat());
        assert_eq!(ran.code, 0, "{words:?}: {ran:?}");
    }
}

#[test]
fn a_look_at_a_named_file_makes_none() {
    let user = User::new();
    let stores = ["--url", "sqlite:locks.db", "--ledger-url", "sqlite:bids.db"];
    for words in LOOKS.into_iter().chain([&["locks"][..], &["cleanup"]]) {
        let ran = user.run(&[&stores, words].concat());
        assert_eq!(ran.code, 78, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains("there is no such file"), "{words:?}: {ran:?}");
    }
    let doctor = user.run(&[&["doctor"], &stores[..]].concat());
    assert_eq!(doctor.code, 0, "{doctor:?}");
    assert!(doctor.stdout.contains("locks.db is not there"), "{doctor:?}");
    assert!(doctor.stdout.contains("bids.db is not there"), "{doctor:?}");
    for file in ["locks.db", "bids.db", "ran"] {
        assert!(!user.path(file).exists(), "{file}");
    }
    // A file for locks is no ledger yet, and is left as it is.
    assert_eq!(user.run(&[&stores[..2], &["lock", "--key", "n", "true"]].concat()).code, 0);
    let bids = user.run(&[&["bids"], &stores[..2]].concat());
    assert_eq!(bids.code, 78, "{bids:?}");
    assert!(bids.stderr.contains("there is no ledger there"), "{bids:?}");
    assert_eq!(user.run(&[&stores[..2], &["bid", "upwork", "j", "true"]].concat()).code, 0);
    assert_eq!(user.run(&[&["bids"], &stores[..2]].concat()).code, 0);
}

#[test]
fn a_new_deployment_is_well_before_its_first_bid() {
    let user = User::new();
    let (server, database, url) = empty_database();
    let stores = ["--url", "sqlite:locks.db", "--ledger-url", &url];
    let health = user.run(&[&["health"], &stores[..]].concat());
    assert_eq!(health.code, 0, "{health:?}");
    assert!(health.stdout.contains("lock\tnone yet\t"), "{health:?}");
    assert!(health.stdout.contains("ledger\tnone yet\t"), "{health:?}");
    assert!(health.stderr.contains("the first lock, or bid, makes it"), "{health:?}");
    assert!(health.stderr.contains("bidlock ledger migrate"), "{health:?}");
    let health = user.run(&[&["health", "--json"], &stores[..]].concat());
    let told: Vec<_> = objects(&health.stdout).iter().map(|one| one["ok"].clone()).collect();
    assert_eq!((health.code, told), (0, vec![true.into(), true.into()]), "{health:?}");
    // Who asks again and again begins when there is something to ask about.
    let words = ["--every", "100ms", "--visibility-delay", "0", "--", "echo", "not-found"];
    let watch = user.start(&[&["reconcile"], &stores[..], &words].concat());
    wait_until("it waits", SOON, || watch.stderr().contains("nothing to ask about"));
    assert_eq!(server.text(&database, "SELECT to_regnamespace('bidlock') IS NULL"), "t");
    let words = ["--submit-timeout", "100ms", "--", "sh", "-c", "exit 3"];
    let bid = user.run(&[&["bid", "upwork", "j"], &stores[..], &words].concat());
    assert_eq!(bid.code, 11, "{bid:?}");
    wait_until("it asks", SOON, || watch.stdout().contains("not_found"));
    signal(&watch, Signal::SIGTERM);
    let ended = end(watch);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("nothing to ask about").count(), 1, "told once: {ended:?}");
}

#[test]
fn of_eight_that_migrate_at_once_one_says_that_it_has_made_the_ledger() {
    let user = User::new();
    let server = Postgres::start();
    for url in [server.url(&server.new_database()), "sqlite:new.db".to_owned()] {
        let words = ["ledger", "migrate", "--ledger-url", &url];
        let all: Vec<_> = (0..8).map(|_| user.start(&words)).collect();
        let all: Vec<_> = all.into_iter().map(end).collect();
        assert!(all.iter().all(|ran| ran.code == 0), "{all:?}");
        let says = |what: &str| all.iter().filter(|ran| ran.stderr.contains(what)).count();
        assert_eq!((says("made new"), says("already")), (1, 7), "{url}: {all:?}");
    }
}

#[test]
fn a_role_that_cannot_record_a_bid_sends_none() {
    let user = User::new();
    let (server, database, url) = empty_database();
    assert_eq!(user.run(&["ledger", "migrate", "--ledger-url", &url]).code, 0);
    server.sql(&database, "CREATE ROLE bidlock_writer LOGIN");
    let rights = user.run(&["doctor", "--acl", "--ledger-url", &url]).stdout;
    server.sql(&database, rights.split("-- For reports.").next().unwrap());
    let record = "EXECUTE ON FUNCTION bidlock.record_v1";
    server.sql(&database, &format!("REVOKE {record} FROM PUBLIC, bidlock_writer"));
    let url = server.url_as("bidlock_writer", &database);
    let bid = || user.run(&["bid", "upwork", "j", "--ledger-url", &url, "touch", "ran"]);
    let refused = bid();
    assert_eq!(refused.code, 77, "{refused:?}");
    assert!(refused.stderr.contains("bidlock doctor --acl"), "{refused:?}");
    assert!(!user.path("ran").exists());
    let doctor = user.run(&["doctor", "--ledger-url", &url]);
    assert_eq!(doctor.code, 77, "{doctor:?}");
    assert!(doctor.stdout.contains("lacks EXECUTE on record_v1"), "{doctor:?}");
    server.sql(&database, &format!("GRANT {record} TO bidlock_writer"));
    assert_eq!(bid().code, 0);
}
