//! With 200,000 rows, what every bid asks is one look-up in an index each; with ten million at full
//! size, by `BIDLOCK_SOAK`.

use std::time::{Duration, Instant};

use bidlock_testkit::{block_on, test_platform};

use crate::bids::{Bidder, key};
use crate::support::open;

/// Higher than those of all rows.
const TOKEN: u64 = 20_000_000;

fn rows() -> u32 {
    if std::env::var_os("BIDLOCK_SOAK").is_some() { 10_000_000 } else { 200_000 }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a real server takes real time")]
fn asking_and_reserving_are_one_index_look_up_each() {
    let server = bidlock_testkit::servers::Postgres::start_with(
        bidlock_testkit::servers::PostgresOptions::new()
            .set("shared_preload_libraries=auto_explain")
            .set("auto_explain.log_min_duration=0")
            .set("auto_explain.log_nested_statements=on"),
    );
    let machine = test_platform();
    let store = open(&server.url("postgres"), &machine.platform());
    let rows = rows();
    let fill = format!(
        "ALTER TABLE bidlock.attempts DISABLE TRIGGER attempts_insert;
         INSERT INTO bidlock.attempts (seq, id, marketplace, posting, state, event, token,
             token_seen, holder, process, reserved_at_us, started_at_us, send_by_us)
         SELECT n, gen_random_uuid(), 'upwork', 'job-' || n, 'placed', 'placed', n, n, 'h', 'p', n,
             n, n FROM generate_series(1, {rows}) AS n;
         ALTER TABLE bidlock.attempts ENABLE TRIGGER attempts_insert;
         SELECT setval('bidlock.attempts_seq', {rows});
         ANALYZE bidlock.attempts"
    );
    server.sql("postgres", &fill);
    // What is asked then does not wait for the disk to take in the rows.
    server.sql("postgres", "CHECKPOINT");
    let bidder = Bidder { store: &store, machine: &machine };
    let began = Instant::now();
    block_on(async {
        use bidlock_core::Clock as _;
        use bidlock_ledger::Store as _;
        // More than five times, so that plans for any value are seen as well.
        for round in 0..8 {
            let fresh = key(&format!("fresh-{round}"));
            store.open_attempt(&key("job-777"), machine.clock.wall()).await.unwrap();
            bidder.try_reserve(&key("job-778"), TOKEN).await.unwrap();
            bidder.placed(&fresh, TOKEN).await;
        }
    });
    let each: Duration = began.elapsed() / (8 * 5);
    println!("{rows} rows: {each:?} for each question and step of a bid, with its plan logged");
    let log = server.log();
    // Each with its plan, and without what called it.
    let plans = log.split("Query Text:").skip(1);
    let plans: Vec<&str> = plans.filter_map(|plan| plan.split("CONTEXT:").next()).collect();
    let about = |plan: &&&str| plan.contains("bidlock\".attempts") || plan.contains("on attempts");
    let seen: Vec<&&str> =
        plans.iter().filter(about).filter(|plan| !plan.contains("generate_series")).collect();
    assert!(seen.len() > 40, "plans are logged: {}", seen.len());
    for plan in &seen {
        assert!(!plan.contains("Seq Scan on attempts"), "{plan}");
    }
    let of = |text: &str, index: &str| {
        let mut plans = seen.iter().filter(|plan| plan.contains(text)).peekable();
        assert!(plans.peek().is_some(), "{text}");
        for plan in plans {
            assert!(plan.contains(index), "{text}: {plan}");
            let scans =
                plan.matches("Scan using").count() + plan.matches("Scan Backward using").count();
            assert_eq!(scans, 1, "{plan}");
        }
    };
    of("a.state <> 'abandoned'", "Index Scan using attempts_open");
    of("ORDER BY a.token_seen DESC", "using attempts_seen");
    of("(a.state = 'reserved') IS TRUE AND a.token_seen <=", "using attempts_id");
    of("SET state = p_next", "using attempts_id");
}
