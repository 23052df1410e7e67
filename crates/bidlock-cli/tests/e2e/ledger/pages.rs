//! Lists and exports of large ledgers, in little memory.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use bidlock_testkit::wait_until;
use rusqlite::{Connection, params};

use crate::{SOON, User, measure, scaled};

/// Puts so many placed postings into the user's ledger, past the rules of bidding.
fn fill(user: &User, postings: i64) {
    assert_eq!(user.run(&["ledger", "status"]).code, 0);
    let db = Connection::open(user.database()).unwrap();
    db.execute_batch(
        "PRAGMA synchronous = OFF; BEGIN; INSERT INTO ledger_pass VALUES (1, 'import', 0)",
    )
    .unwrap();
    let numbers = "WITH RECURSIVE count (n) AS
        (SELECT 1 UNION ALL SELECT n + 1 FROM count WHERE n < ?1)";
    db.execute(
        &format!(
            "INSERT INTO ledger_attempts (id, marketplace, posting, state, event, token, token_seen,
                 holder, process, reserved_at_us, started_at_us, send_by_us, decided_at_us,
                 reference)
             {numbers} SELECT printf('%08x-0000-4000-8000-000000000000', n), 'upwork',
                 'job_' || n, 'placed', 'placed', n, n, 'web-1:7:a1b2c3d4', 'boot/pid:[1]/7/1',
                 1700000000000000 + n, 1700000000000000 + n, 1700000060000000 + n,
                 1700000000000000 + n, 'R-' || n FROM count"
        ),
        params![postings],
    )
    .unwrap();
    db.execute(
        &format!(
            "INSERT INTO ledger_history (at_us, marketplace, posting, attempt, event, token, actor)
             {numbers} SELECT 1700000000000000 + n, 'upwork', 'job_' || n,
                 printf('%08x-0000-4000-8000-000000000000', n), 'placed', n, 'web-1:7:a1b2c3d4'
                 FROM count"
        ),
        params![postings],
    )
    .unwrap();
    db.execute_batch("DELETE FROM ledger_pass; COMMIT").unwrap();
}

/// Runs `bidlock` with these words; returns the lines of its output and its peak memory in KiB.
fn peak(user: &User, words: &[&str]) -> (usize, u64) {
    let file = user.path("out");
    let mut command = user.command(words);
    command.stdout(File::create(&file).unwrap()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut peak = 0;
    let status = format!("/proc/{}/status", child.id());
    wait_until(&format!("{words:?} ends"), 40 * SOON, || {
        // It only grows, so the last look before the end is next to the truth.
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(number.unwrap_or(0));
        child.try_wait().unwrap().is_some()
    });
    assert!(child.wait().unwrap().success(), "{words:?}");
    (BufReader::new(File::open(&file).unwrap()).lines().count(), peak)
}

#[test]
fn lists_and_exports_of_any_length_take_the_same_memory() {
    let few = User::new();
    fill(&few, 2_000);
    let many = User::new();
    let all = scaled(10_000_000, 50);
    fill(&many, i64::try_from(all).unwrap());
    for (words, more) in [(&["bids", "--all"][..], 0), (&["ledger", "export"], 2)] {
        let (lines, small) = peak(&few, words);
        assert_eq!(lines, 2_000 + more, "{words:?}");
        let (lines, large) = peak(&many, words);
        assert_eq!(lines, all + more, "{words:?}");
        println!("{words:?}: {small} KiB with 2,000 postings, {large} KiB with {all}");
        // SQLite's own cache may fill up; a hundred times the rows would be 100 MiB and more.
        assert!(small > 0 && large < small + 16 * 1_024, "{words:?}: {small} KiB, {large} KiB");
    }
    let (lines, _) = peak(&many, &["bids", "--limit", "1500"]);
    assert_eq!(lines, 1_500);
    for (user, postings) in [(&few, 2_000), (&many, all)] {
        println!("a bid among {postings} postings: {} us", measure(user, "new"));
    }
}
