//! Processes that stand still (SIGSTOP, a swapped-out machine) for longer than their leases.

use bidlock_testkit::{Process, SeededRng, SubmissionLog, wait_until};
use nix::sys::signal::Signal;
use rusqlite::Connection;

use crate::{Ran, SOON, User, end, measure, pause, pid_in, runs, scaled, signal};

/// Locks and bids in two files, so that one can be blocked and the other not.
const FILES: [&str; 4] = ["--url", "sqlite:lock.db", "--ledger-url", "sqlite:ledger.db"];

/// Keeps everybody else from writing to the ledger until it is dropped.
fn block_ledger(user: &User) -> Connection {
    let file = Connection::open(user.path("ledger.db")).unwrap();
    file.busy_timeout(SOON).unwrap();
    file.execute_batch("BEGIN IMMEDIATE").unwrap();
    file
}

fn is_locked(user: &User, key: &str) -> bool {
    user.json(&[&FILES[..], &["locks"]].concat()).iter().any(|lock| lock["key"] == key)
}

/// Starts a bid and stops it when it has the lock and waits for the ledger: between lock and
/// start. Returns it with what blocks the ledger.
fn stopped_before_its_start(user: &User, log: &SubmissionLog) -> (Process, Connection) {
    for words in [&["ledger", "migrate"][..], &["lock", "--key", "made", "true"]] {
        assert_eq!(user.run(&[&FILES[..], words].concat()).code, 0, "{words:?}");
    }
    let blocked = block_ledger(user);
    let script = log.shell_line();
    let words = ["bid", "upwork", "j", "--ttl", "300ms", "--", "sh", "-c", &script];
    let bid = user.start(&[&FILES[..], &words].concat());
    wait_until("it has the lock", SOON, || is_locked(user, "bid_lock:upwork:j"));
    bid.stop().unwrap();
    wait_until("it stands still", SOON, || state_of(&bid) == 'T');
    // Whoever gets the lock now proves that the lease has ended.
    let words = ["lock", "upwork", "j", "--wait", "50s", "true"];
    let next = user.run(&[&FILES[..], &words].concat());
    assert_eq!(next.code, 0, "{next:?}");
    assert_eq!(state_of(&bid), 'T');
    (bid, blocked)
}

/// The letter that the system shows for a process's state.
fn state_of(process: &Process) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().chars().next().unwrap()
}

#[test]
fn a_bid_that_stood_still_past_its_lease_is_not_sent() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let (bid, blocked) = stopped_before_its_start(&user, &log);
    drop(blocked);
    bid.go_on().unwrap();
    let ended = end(bid);
    assert_eq!(ended.code, 76, "{ended:?}");
    for word in ["bid_lock:upwork:j", "lost", "hint:", "nothing was"] {
        assert!(ended.stderr.contains(word), "{word} is not in {}", ended.stderr);
    }
    assert_eq!((log.all().unwrap().len(), ended.stdout.as_str()), (0, ""));
    let started = user.json(&[&FILES[..], &["bids"]].concat());
    assert!(started.iter().all(|bid| bid["started_at"].is_null()), "{started:?}");
    // The posting is not barred by it.
    let script = log.shell_line();
    let again = user.run(&[&FILES[..], &["bid", "upwork", "j", "sh", "-c", &script]].concat());
    assert_eq!((again.code, log.all().unwrap().len()), (0, 1), "{again:?}");
}

#[test]
fn a_bid_that_stood_still_while_another_bid_is_not_sent() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let (bid, blocked) = stopped_before_its_start(&user, &log);
    drop(blocked);
    let script = log.shell_line();
    let other = user.run(&[&FILES[..], &["bid", "upwork", "j", "sh", "-c", &script]].concat());
    assert_eq!((other.code, log.all().unwrap().len()), (0, 1), "{other:?}");
    bid.go_on().unwrap();
    let ended = end(bid);
    // It is told of the bid, or that its lock is lost, whichever it meets first.
    let told = match ended.code {
        10 => "already bid",
        76 => "nothing was",
        _ => panic!("{ended:?}"),
    };
    assert!(ended.stderr.contains(told), "{ended:?}");
    assert_eq!(log.all().unwrap().len(), 1, "{ended:?}");
    assert_eq!(user.json(&[&FILES[..], &["bids"]].concat()).len(), 1);
}

/// Stops a bid at a random moment for several times its lease, while another one bids. Whoever
/// stands still in the middle of a change of the file is in everybody's way until it goes on, so
/// that it does before the other one gives up.
fn stopped_at_random(user: &User, log: &SubmissionLog, rng: &SeededRng, posting: &str) -> [Ran; 2] {
    let script = log.shell_line();
    let words =
        |ttl| ["bid", "upwork", posting, "--ttl", ttl, "--wait", "50s", "sh", "-c", &script];
    let whole = measure(user, &format!("{posting}-measured"));
    let first = user.start(&words("100ms"));
    pause(rng.below(whole));
    first.stop().unwrap();
    let mut second = user.start(&words("5s"));
    for _ in 0..50 {
        if second.ended().unwrap().is_some() {
            break;
        }
        pause(10_000);
    }
    first.go_on().unwrap();
    [end(first), end(second)]
}

#[test]
fn stopped_at_any_moment_a_bid_is_never_sent_twice() {
    let seed = 0x5709;
    println!("seed {seed}");
    let rng = SeededRng::new(seed);
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    for round in 0..scaled(200, 10) {
        let posting = format!("job_{round}");
        let both = stopped_at_random(&user, &log, &rng, &posting);
        let codes = [both[0].code, both[1].code];
        println!("{posting}: {codes:?}");
        // A stopped one that had started counts as in doubt (11) for those who come meanwhile.
        assert!(matches!(codes, [0, 10 | 11] | [10 | 76, 0] | [76, 11]), "{both:?}");
        if codes == [76, 11] {
            // It stood still between its start and its command, and says that it sent nothing.
            assert_eq!(log.count(&posting).unwrap(), 0, "{both:?}");
            let third = user.run(&["bid", "upwork", &posting, "sh", "-c", &log.shell_line()]);
            assert_eq!(third.code, 0, "{third:?}");
        }
        assert_eq!(log.count(&posting).unwrap(), 1, "{both:?}");
        assert!(!both.iter().any(|ran| ran.stderr.contains("database is locked")), "{both:?}");
    }
    assert!(log.doubles().unwrap().is_empty());
}

#[test]
fn a_holder_that_stood_still_gives_way_and_stops_its_command() {
    let user = User::new();
    let script = "echo $$ > pid; echo $BIDLOCK_TOKEN > first; trap '' TERM; sleep 1000; sleep 1000";
    let words = ["lock", "--key", "n", "--ttl", "400ms", "--", "sh", "-c", script];
    let holder = user.start_until("first", &words);
    let pid = pid_in(&user.path("pid"));
    let busy = user.run(&["lock", "-n", "--key", "n", "touch", "ran"]);
    assert_eq!(busy.code, 75, "{busy:?}");
    holder.stop().unwrap();
    let words = ["lock", "--key", "n", "--wait", "50s", "sh", "-c", "echo $BIDLOCK_TOKEN > second"];
    let next = user.run(&words);
    assert_eq!(next.code, 0, "{next:?}");
    signal(&holder, Signal::SIGCONT);
    let ended = end(holder);
    assert_eq!(ended.code, 76, "{ended:?}");
    assert!(ended.stderr.contains("bid_lock::n") && ended.stderr.contains("stopped"), "{ended:?}");
    assert!(!runs(pid), "its command is stopped");
    // I1
    assert!(token_in(&user, "first") < token_in(&user, "second"));
    assert!(!user.path("ran").exists());
}

fn token_in(user: &User, file: &str) -> u64 {
    std::fs::read_to_string(user.path(file)).unwrap().trim().parse().unwrap()
}

#[test]
fn a_waiter_that_stood_still_past_its_turn_is_passed_over() {
    let user = User::new();
    let log = SubmissionLog::new(&user.path("sent"));
    let holder =
        user.start_until("held", &["lock", "upwork", "j", "sh", "-c", "touch held; sleep 1000"]);
    let script = log.shell_line();
    let words = ["bid", "upwork", "j", "--wait", "2s", "--ttl", "500ms", "--", "sh", "-c", &script];
    let waiter = user.start(&words);
    wait_until("it waits", SOON, || user.json(&["locks"])[0]["waiters"] == 1);
    waiter.stop().unwrap();
    holder.terminate().unwrap();
    end(holder);
    // Its turn and its wait pass while it stands still; the next one is served after it.
    let next = user.run(&["lock", "upwork", "j", "--wait", "50s", "true"]);
    assert_eq!(next.code, 0, "{next:?}");
    waiter.go_on().unwrap();
    let ended = end(waiter);
    // It may still have wait left, and then it may bid: its lock is a new one.
    match ended.code {
        0 => assert_eq!(log.all().unwrap().len(), 1),
        75 | 76 => assert!(log.all().unwrap().is_empty()),
        _ => panic!("{ended:?}"),
    }
    assert!(user.json(&["locks"]).is_empty());
}
