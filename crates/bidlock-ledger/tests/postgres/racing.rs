//! Many writers at once: at most one bid of a posting is begun, whatever they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bidlock_core::Clock as _;
use bidlock_ledger::{LedgerError, Outcome, Reservation, Start, Store as _};
use bidlock_testkit::servers::Postgres;
use bidlock_testkit::{TestPlatform, block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::{new_schema, open, shared_server};

const BIDDERS: u64 = 16;
const ROUNDS: u64 = 40;
const POSTINGS: u64 = 6;

/// What must hold of the tables when all is over.
fn check(server: &Postgres, schema: &str, yes: u64) {
    let ask = |query: &str| server.text("postgres", &query.replace("IN.", &format!("{schema}.")));
    // L1
    let open = "SELECT count(*) FROM (SELECT FROM IN.attempts WHERE state <> 'abandoned'
        GROUP BY marketplace, posting HAVING count(*) > 1) AS twice";
    assert_eq!(ask(open), "0");
    // L2: one line for each yes, and never two of one attempt.
    assert_eq!(ask("SELECT count(*) FROM IN.history WHERE event = 'started'"), yes.to_string());
    let twice = "SELECT count(*) FROM (SELECT FROM IN.history WHERE event = 'started'
        GROUP BY attempt HAVING count(*) > 1) AS twice";
    assert_eq!(ask(twice), "0");
    // L3: of each posting, in the order in which attempts were made.
    let falls = "SELECT count(*) FROM (SELECT token, lag(token_seen) OVER (
            PARTITION BY marketplace, posting ORDER BY seq) AS before FROM IN.attempts) AS pairs
        WHERE token < before";
    assert_eq!(ask(falls), "0");
    // P1: none was started while another one may have been sent.
    let over = "SELECT count(*) FROM IN.history s JOIN IN.history o
            ON o.marketplace = s.marketplace AND o.posting = s.posting AND o.attempt <> s.attempt
                AND o.event = 'started' AND o.seq < s.seq
        WHERE s.event = 'started' AND NOT EXISTS (SELECT FROM IN.history e
            WHERE e.attempt = o.attempt AND e.seq > o.seq AND e.seq < s.seq
                AND e.event IN ('not_sent', 'reopened', 'resolved_not_sent'))";
    assert_eq!(ask(over), "0");
}

/// Everybody reserves with rising tokens, starts, and says that nothing was sent, so that the
/// next one has its turn; now and then it is placed.
fn race(server: &Arc<Postgres>, url: &str, schema: &str) -> u64 {
    let (tokens, yes) = (AtomicU64::new(1), AtomicU64::new(0));
    let platform = test_platform().platform();
    drop(open(url, &platform));
    std::thread::scope(|scope| {
        for number in 0..BIDDERS {
            let (tokens, yes) = (&tokens, &yes);
            scope.spawn(move || {
                // Each draws its own ids.
                let machine = TestPlatform::seeded(number + 100);
                let store = open(url, &machine.platform());
                let bidder = Bidder { store: &store, machine: &machine };
                block_on(async {
                    for round in 0..ROUNDS {
                        let posting = key(&format!("job-{}", (number + round) % POSTINGS));
                        let token = tokens.fetch_add(1, Ordering::SeqCst);
                        let reserved = bidder.try_reserve(&posting, token).await.unwrap();
                        let Reservation::Reserved(info) = reserved else { continue };
                        if !matches!(
                            bidder.try_start(&info.id, token).await.unwrap(),
                            Start::Yes(_)
                        ) {
                            continue;
                        }
                        yes.fetch_add(1, Ordering::SeqCst);
                        let outcome = Outcome::NotSent { reason: None };
                        let now = machine.clock.wall();
                        store.record(&info.id, &outcome, now).await.unwrap();
                    }
                });
            });
        }
        scope.spawn(|| raw_writer(server, schema, &tokens));
    });
    yes.load(Ordering::SeqCst)
}

/// Somebody else's program, which knows the tables and not the functions.
fn raw_writer(server: &Postgres, schema: &str, tokens: &AtomicU64) {
    for round in 0..ROUNDS {
        let token = tokens.fetch_add(1, Ordering::SeqCst);
        let posting = round % POSTINGS;
        let statement = format!(
            "INSERT INTO {schema}.attempts (id, marketplace, posting, state, event, token,
                 token_seen, holder, process, reserved_at_us)
             VALUES (gen_random_uuid(), 'upwork', 'job-{posting}', 'reserved', 'reserved', {token},
                 {token}, 'raw', 'raw', 1)"
        );
        // It is told that the posting is taken, or that its token is too low.
        if let Err(said) = server.try_sql("postgres", "postgres", &statement) {
            assert!(said.contains("attempts_open") || said.contains("higher token"), "{said}");
        }
    }
}

#[test]
fn racing_writers_never_begin_two_bids_of_one_posting() {
    let (server, schema) = (shared_server(), new_schema());
    let url = format!("{}?schema={schema}&pool=2", server.url("postgres"));
    let yes = race(&server, &url, &schema);
    assert!(yes > POSTINGS, "{yes} were begun");
    check(&server, &schema, yes);
}

#[test]
fn of_many_starts_of_one_attempt_one_is_answered_yes() {
    let (server, schema, machine) = (shared_server(), new_schema(), test_platform());
    let url = format!("{}?schema={schema}&pool=16", server.url("postgres"));
    let store = open(&url, &machine.platform());
    for round in 0..20 {
        let bidder = Bidder { store: &store, machine: &machine };
        let id = block_on(bidder.reserve(&key(&format!("job-{round}")), 5));
        let yes: usize = std::thread::scope(|scope| {
            let start = || {
                let started: Result<Start, LedgerError> = block_on(bidder.try_start(&id, 5));
                usize::from(matches!(started.unwrap(), Start::Yes(_)))
            };
            let starts: Vec<_> = (0..BIDDERS).map(|_| scope.spawn(start)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).sum()
        });
        assert_eq!(yes, 1);
    }
    check(&server, &schema, 20);
}
