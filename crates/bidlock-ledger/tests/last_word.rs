//! A sender that records its outcome and ends while somebody else reads about it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::sync::{Arc, Mutex};

use bidlock_core::{FencingToken, Key, Liveness, Platform, ProcessMark, Processes};
use bidlock_ledger::{
    AttemptId, BidQuery, Freshness, Ledger, Outcome, Reservation, ReserveRequest, StartRequest,
    State, Verdict,
};
use bidlock_testkit::{block_on, test_platform};

/// A process table in which every process says its last word just before it is looked up, and has
/// ended then.
#[derive(Debug)]
struct LastWords {
    sender: Ledger,
    words: Mutex<Vec<AttemptId>>,
    mark: ProcessMark,
}

impl Processes for LastWords {
    fn current(&self) -> ProcessMark {
        self.mark.clone()
    }

    fn liveness(&self, _: &ProcessMark) -> Liveness {
        let words = std::mem::take(&mut *self.words.lock().unwrap());
        let sender = self.sender.clone();
        let said = std::thread::spawn(move || {
            for attempt in words {
                let placed = Outcome::Placed { reference: None };
                block_on(sender.record(&attempt, &placed)).unwrap();
            }
        });
        said.join().unwrap();
        Liveness::Gone
    }

    fn boot_id(&self) -> &'static str {
        "boot"
    }

    fn host(&self) -> &'static str {
        "host"
    }
}

#[test]
fn the_last_word_of_a_sender_counts_though_it_was_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bids.db");
    let machine = test_platform();
    let sender = Ledger::open_sqlite(&path, &machine.platform()).unwrap();
    let key = Key::new("upwork", "job_1").unwrap();
    let attempt = block_on(started(&sender, &machine.platform(), &key));
    let reader = |words| {
        let mark = machine.platform().processes.current();
        let processes = LastWords { sender: sender.clone(), words: Mutex::new(words), mark };
        let platform = Platform { processes: Arc::new(processes), ..machine.platform() };
        Ledger::open_sqlite(&path, &platform).unwrap()
    };
    // Without a last word it is in doubt.
    let silent = block_on(reader(vec![]).should_bid(&key, &Freshness::default())).unwrap();
    assert!(matches!(silent, Verdict::InDoubt { .. }), "{silent:?}");
    // L5: with one it is not, although the row was read before.
    let told = block_on(reader(vec![attempt]).should_bid(&key, &Freshness::default())).unwrap();
    assert!(matches!(told, Verdict::AlreadyPlaced { .. }), "{told:?}");

    let other = Key::new("upwork", "job_2").unwrap();
    let attempt = block_on(started(&sender, &machine.platform(), &other));
    let query = BidQuery { state: Some(State::Unknown), ..BidQuery::default() };
    let listed = block_on(reader(vec![attempt]).bids(&query)).unwrap();
    assert_eq!(listed, []);
}

async fn started(ledger: &Ledger, platform: &Platform, key: &Key) -> AttemptId {
    let attempt = AttemptId::random(&*platform.rng);
    let token = FencingToken::new(platform.clock.wall().as_micros());
    let process = platform.processes.current();
    let request =
        ReserveRequest { attempt, token, holder: "h:1:0".to_owned(), process, seen_at: None };
    let reserved = ledger.reserve(key, &request).await.unwrap();
    assert!(matches!(reserved, Reservation::Reserved(_)), "{reserved:?}");
    let send_by = platform.clock.wall() + std::time::Duration::from_mins(1);
    ledger.start(&attempt, &StartRequest { token, send_by, payload: None }).await.unwrap();
    attempt
}
