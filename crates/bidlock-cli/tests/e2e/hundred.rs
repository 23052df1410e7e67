use std::collections::BTreeMap;

use bidlock_testkit::{Process, SubmissionLog};

use crate::{Ran, User, end, objects, text};

const PROCESSES: usize = 100;

/// Starts all of them before any is waited for, in a folder where nothing is yet.
fn at_once(user: &User, words: &[&str]) -> Vec<Ran> {
    let all: Vec<Process> = (0..PROCESSES).map(|_| user.start(words)).collect();
    let all: Vec<Ran> = all.into_iter().map(end).collect();
    for ran in &all {
        for bad in ["locked", "panicked", "busy_timeout", "SQLITE"] {
            assert!(!ran.stderr.contains(bad), "{ran:?}");
        }
    }
    all
}

fn codes(all: &[Ran]) -> BTreeMap<i32, usize> {
    let mut codes = BTreeMap::new();
    for ran in all {
        *codes.entry(ran.code).or_default() += 1;
    }
    codes
}

#[test]
fn of_a_hundred_at_once_one_bids_and_the_others_hear_of_it() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let script = log.shell_line();
    let all = at_once(&user, &["bid", "upwork", "j", "--wait", "60s", "--", "sh", "-c", &script]);
    assert_eq!(codes(&all), BTreeMap::from([(0, 1), (10, 99)]), "{all:#?}");
    // L1
    let sent = log.all().unwrap();
    assert_eq!(sent.len(), 1, "{sent:?}");
    let bids = user.bids("j");
    assert_eq!(bids.len(), 1, "{bids:?}");
    assert_eq!(text(&bids[0], "attempt"), sent[0].attempt);
    assert_eq!(text(&bids[0], "state"), "placed");
    for ran in all.iter().filter(|ran| ran.code == 10) {
        assert!(ran.stderr.starts_with("already bid: upwork j, "), "{ran:?}");
        assert!(ran.stderr.contains(&sent[0].attempt), "{ran:?}");
    }
    assert_eq!(user.json(&["locks"]), [] as [serde_json::Value; 0], "everything was released");
}

#[test]
fn of_a_hundred_impatient_ones_one_bids_and_the_others_are_busy_or_hear_of_it() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    // The command goes on until every other one has ended.
    let script = format!("{}; while ! [ -e go ]; do sleep 0.02; done", log.shell_line());
    let words = ["bid", "upwork", "j", "--wait", "3s", "--", "sh", "-c", &script];
    let mut all: Vec<Process> = (0..PROCESSES).map(|_| user.start(&words)).collect();
    bidlock_testkit::wait_until("all but one have ended", crate::SOON, || {
        all.iter_mut().map(|one| one.ended().unwrap()).filter(Option::is_none).count() <= 1
    });
    std::fs::write(user.path("go"), "").unwrap();
    let all: Vec<Ran> = all.into_iter().map(end).collect();
    assert_eq!(codes(&all), BTreeMap::from([(0, 1), (75, 99)]), "{all:#?}");
    assert_eq!(log.all().unwrap().len(), 1);
    for ran in all.iter().filter(|ran| ran.code == 75) {
        assert!(ran.stderr.contains("bid_lock:upwork:j"), "{ran:?}");
        assert!(!ran.stderr.contains("locked"), "{ran:?}");
    }
}

#[test]
fn a_hundred_postings_at_once_are_all_bid_on() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let script = log.shell_line();
    let postings: Vec<String> = (0..PROCESSES).map(|n| format!("job_{n}")).collect();
    let words = |posting| ["--json", "bid", "upwork", posting, "--", "sh", "-c", &script];
    let all: Vec<Process> = postings.iter().map(|posting| user.start(&words(posting))).collect();
    for (posting, process) in postings.iter().zip(all) {
        let ran = end(process);
        assert_eq!(ran.code, 0, "{posting}: {ran:?}");
        assert_eq!(text(&objects(&ran.stderr)[0], "posting"), *posting);
    }
    assert_eq!(log.all().unwrap().len(), PROCESSES);
    assert!(log.doubles().unwrap().is_empty());
}
