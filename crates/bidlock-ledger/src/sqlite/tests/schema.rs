//! What the file's own rules refuse, and how a file of version 1 comes to version 2.

use rusqlite::Connection;

use super::*;

const ROW: &str = "id, marketplace, posting, state, event, token, token_seen, holder, process,
     seen_at_us, reserved_at_us, started_at_us, send_by_us, decided_at_us, reference, payload,
     reason";

/// An attempt in each state, as bidlock of version 1 has written it.
fn of_version_1(bench: &Bench) {
    let db = bench.raw();
    db.execute_batch(include_str!("../schema/0001_start.sql")).unwrap();
    db.execute_batch(
        "CREATE TABLE ledger_schema (
             one INTEGER PRIMARY KEY CHECK (one = 1), version INTEGER NOT NULL) STRICT;
         INSERT INTO ledger_schema VALUES (1, 1)",
    )
    .unwrap();
    for (n, state) in State::ALL.into_iter().enumerate() {
        let id = format!("{n:08x}-0000-4000-8000-000000000000");
        let insert = format!(
            "INSERT INTO ledger_attempts ({ROW}) VALUES (?1, 'upwork', ?2, 'reserved', 'reserved',
                 5, 5, 'host:1:a1b2c3d4', 'p', 7, 8, NULL, NULL, NULL, NULL, NULL, NULL)"
        );
        db.execute(&insert, [&id, &format!("{state}%20job")]).unwrap();
        let start = "UPDATE ledger_attempts SET state = 'started', event = 'started',
             started_at_us = 9, send_by_us = 10, payload = ?2 WHERE id = ?1";
        let step = |to: &str, event: &str| {
            let sql = "UPDATE ledger_attempts SET state = ?2, event = ?3, decided_at_us = 11,
                 token_seen = 6, reference = 'r', reason = 'why' WHERE id = ?1";
            db.execute(sql, [id.as_str(), to, event]).unwrap();
        };
        let payload = crate::Fingerprint::of(b"offer").to_string();
        if state != State::Reserved {
            db.execute(start, [&id, &payload]).unwrap();
        }
        match state {
            State::Reserved | State::Started => {}
            State::Withdrawn => {
                step("placed", "placed");
                step("withdrawn", "withdrawn");
            }
            State::Abandoned => step("abandoned", "not_sent"),
            State::Unknown => step("unknown", "doubted"),
            other => step(other.as_str(), other.as_str()),
        }
        db.execute(
            "INSERT INTO ledger_history (at_us, marketplace, posting, attempt, event, token, actor)
             VALUES (8, 'upwork', ?2, ?1, 'reserved', 5, 'host:1:a1b2c3d4')",
            [&id, &format!("{state}%20job")],
        )
        .unwrap();
    }
    let audit = "INSERT INTO ledger_audit (at_us, actor, act, because) VALUES (1, 'a', 'b', 'c')";
    db.execute(audit, []).unwrap();
}

/// Every row of every table that version 1 has.
fn rows(db: &Connection) -> Vec<String> {
    let tables = [
        format!("SELECT seq, {ROW} FROM ledger_attempts ORDER BY seq"),
        "SELECT * FROM ledger_history ORDER BY seq".to_owned(),
        "SELECT * FROM ledger_audit ORDER BY seq".to_owned(),
    ];
    let mut all = Vec::new();
    for sql in tables {
        let mut statement = db.prepare(&sql).unwrap();
        let columns = statement.column_count();
        let read = statement.query_map([], |row| {
            let cells = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at));
            Ok(format!("{:?}", cells.collect::<rusqlite::Result<Vec<_>>>()?))
        });
        all.extend(read.unwrap().map(|row| row.unwrap()));
    }
    all
}

#[test]
fn a_file_of_version_1_is_brought_up_without_loss() {
    let bench = Bench::new();
    of_version_1(&bench);
    let before = rows(&bench.raw());
    assert_eq!(before.len(), State::ALL.len() * 2 + 1);
    let ledger = bench.open();
    assert_eq!(rows(&bench.raw()), before);
    let standing = wait(ledger.standing()).unwrap();
    assert_eq!((standing.schema, standing.pruned_before), (2, None));
    assert_eq!(wait(bench.open().standing()).unwrap(), standing, "it has one identity");
    let counts = wait(ledger.counts()).unwrap();
    let expected = State::ALL.map(|state| match state {
        State::Started => (state, 0),
        State::Unknown => (state, 2),
        _ => (state, 1),
    });
    assert_eq!(counts, expected, "the one that started did so long ago");
    let dossiers = wait(ledger.dossiers(None, 100)).unwrap();
    assert_eq!(dossiers.len(), State::ALL.len());
    // Each goes on from where it was.
    let started = "00000001-0000-4000-8000-000000000000".parse().unwrap();
    let placed = Outcome::Placed { reference: None };
    wait(ledger.record(&started, &placed)).unwrap();
    let again = wait(ledger.reserve(&key("abandoned job"), &bench.request(6))).unwrap();
    assert!(matches!(again, Reservation::Reserved(_)), "{again:?}");
}

#[test]
fn two_processes_bring_a_file_up_once() {
    let bench = Bench::new();
    of_version_1(&bench);
    let ids: Vec<_> = std::thread::scope(|threads| {
        let open = || wait(bench.open().standing()).unwrap().id;
        let opening: Vec<_> = (0..4).map(|_| threads.spawn(open)).collect();
        opening.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

/// A file of today with an attempt that has started, at its send-by 10, and one that is placed.
fn today(bench: &Bench) -> Connection {
    of_version_1(bench);
    drop(bench.open());
    let db = bench.raw();
    db.pragma_update(None, "foreign_keys", true).unwrap();
    db
}

/// What the file says to some statements, which are taken back.
fn said(db: &Connection, sql: &str) -> String {
    let whole = db.unchecked_transaction().unwrap();
    let answer = match db.execute_batch(sql) {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    };
    whole.rollback().unwrap();
    answer
}

const IMPORT: &str = "INSERT INTO ledger_pass (one, what) VALUES (1, 'import');";
const PRUNE: &str = "INSERT INTO ledger_pass (one, what) VALUES (1, 'prune');";

#[test]
fn a_pass_cannot_outlive_its_transaction() {
    let bench = Bench::new();
    let db = today(&bench);
    for pass in [IMPORT, PRUNE] {
        db.execute_batch("BEGIN").unwrap();
        db.execute_batch(pass).unwrap();
        let refused = db.execute_batch("COMMIT").unwrap_err().to_string();
        assert!(refused.contains("FOREIGN KEY constraint failed"), "{refused}");
        db.execute_batch("ROLLBACK").unwrap();
        assert!(said(&db, &format!("{pass}{pass}")).contains("UNIQUE"), "one at a time");
    }
    let any = "INSERT INTO ledger_pass (one, what) VALUES (1, 'anything')";
    assert!(said(&db, any).contains("ledger_pass_what"));
    let kept = "INSERT INTO ledger_pass (one, what, never) VALUES (1, 'prune', 1)";
    assert!(said(&db, kept).contains("ledger_pass_never"));
    // The connections of a ledger look; that is a setting of each of them.
    let patience = Patience::new(&bench.platform);
    let (connection, ..) = file::open_for_writing(&bench.path(), &patience).unwrap();
    let looks: bool = connection.pragma_query_value(None, "foreign_keys", |r| r.get(0)).unwrap();
    assert!(looks);
}

#[test]
fn only_an_import_puts_attempts_in_as_they_are() {
    let bench = Bench::new();
    let db = today(&bench);
    let insert = |state: &str, posting: &str| {
        format!(
            "INSERT INTO ledger_attempts ({ROW}) VALUES ('x', 'm', '{posting}', '{state}', 'placed',
                 5, 5, 'h', 'p', 7, 8, 9, 10, 11, 'r', NULL, NULL);"
        )
    };
    let placed = insert("placed", "new");
    assert!(said(&db, &placed).contains("begins reserved"));
    assert!(said(&db, &format!("{PRUNE}{placed}")).contains("begins reserved"));
    assert_eq!(said(&db, &format!("{IMPORT}{placed}")), "done");
    // Neither L1 nor the table's own constraints give way.
    let second = insert("placed", "placed%20job").replace("'m'", "'upwork'");
    assert!(said(&db, &format!("{IMPORT}{second}")).contains("takes the place of another"));
    let nonsense = placed.replace("5, 5,", "5, 4,");
    assert!(said(&db, &format!("{IMPORT}{nonsense}")).contains("ledger_attempts_token"));
}

#[test]
fn an_import_takes_several_steps_and_none_back() {
    let bench = Bench::new();
    let db = today(&bench);
    let step = |from: State, to: State| {
        format!("UPDATE ledger_attempts SET state = '{to}', event = '{to}' WHERE state = '{from}';")
    };
    for from in State::ALL {
        for to in State::ALL {
            let sql = step(from, to);
            // Only what has started may come to an outcome; the row's own constraint says so.
            let started = sql.replace(
                " WHERE",
                ", started_at_us = ifnull(started_at_us, 9), send_by_us =
                    ifnull(send_by_us, 10) WHERE",
            );
            let may = from == to || from.may_lead_to(to);
            let answer = said(&db, &format!("{IMPORT}{started}"));
            assert_eq!(answer == "done", may, "import, {from} to {to}: {answer}");
            let answer = said(&db, &started);
            assert_eq!(answer == "done", from.may_become(to), "{from} to {to}: {answer}");
        }
    }
    for (fixed, why) in [
        ("payload = NULL", "fixed at the start"),
        ("started_at_us = 1", "fixed at the start"),
        ("seen_at_us = 1", "keeps its identity"),
        ("reserved_at_us = 1", "keeps its identity"),
        ("id = 'x'", "keeps its identity"),
        ("posting = 'x'", "keeps its identity"),
        ("token_seen = 5", "stays seen"),
    ] {
        let sql = format!("{IMPORT}UPDATE ledger_attempts SET {fixed} WHERE state = 'placed'");
        let answer = said(&db, &sql);
        assert!(answer.contains(why), "{fixed}: {answer}");
    }
}

#[test]
fn an_attempt_is_sent_again_as_the_rule_says_and_in_no_other_way() {
    // L11
    let bench = Bench::new();
    let db = today(&bench);
    let again = "UPDATE ledger_attempts SET state = 'unknown', event = 'resent', token = 7,
             token_seen = 7, send_by_us = 20, holder = 'h', process = 'q', decided_at_us = 10
         WHERE state = 'started'";
    assert_eq!(said(&db, again), "done");
    let doubt = again.replace("'started'", "'unknown'");
    assert_eq!(said(&db, &doubt), "done");
    assert_eq!(
        said(
            &db,
            &format!(
                "{doubt}; {}",
                doubt.replace('7', "8").replace("20", "30").replace("us = 10", "us = 20")
            )
        ),
        "done"
    );
    for (from, to) in [
        ("state = 'unknown', event", "event"), // a start that is under way
        ("token = 7", "token = 5"),
        ("token = 7,\n             token_seen = 7", "token = 5, token_seen = 7"),
        ("token_seen = 7", "token_seen = 9"),
        ("send_by_us = 20", "send_by_us = 10"),
        ("decided_at_us = 10", "decided_at_us = 9"),
        ("decided_at_us = 10", "decided_at_us = NULL"),
        ("holder = 'h'", "payload = NULL"),
        ("WHERE state = 'started'", "WHERE state = 'placed'"),
        ("WHERE state = 'started'", "WHERE state = 'abandoned'"),
        ("WHERE state = 'started'", "WHERE state = 'reserved'"),
    ] {
        let wrong = again.replace(from, to);
        assert_ne!(wrong, again);
        let answer = said(&db, &wrong);
        let refused = ["not sent again", "no such step", "fixed at the start"]
            .iter()
            .any(|why| answer.contains(why));
        assert!(refused, "{wrong}: {answer}");
    }
    // Without the event nothing of it moves.
    for (moved, why) in [
        ("send_by_us = 20", "fixed at the start"),
        ("token = 6", "fixed at the start"),
        ("holder = 'h'", "keeps its identity"),
        ("process = 'q'", "keeps its identity"),
    ] {
        let answer =
            said(&db, &format!("UPDATE ledger_attempts SET {moved} WHERE state = 'unknown'"));
        assert!(answer.contains(why), "{moved}: {answer}");
    }
}

#[test]
fn nothing_leaves_but_below_a_horizon_of_the_same_transaction() {
    // L10
    let bench = Bench::new();
    let db = today(&bench);
    let horizon = |at: u32| format!("UPDATE ledger_meta SET pruned_before_us = {at};");
    for table in ["ledger_attempts", "ledger_history"] {
        let remove = |posting: &str| format!("DELETE FROM {table} WHERE posting = '{posting}';");
        for over in ["placed%20job", "refused%20job", "withdrawn%20job", "abandoned%20job"] {
            let remove = remove(over);
            let refused = |sql: &str| {
                let answer = said(&db, sql);
                assert!(
                    answer.contains("keeps others from bidding") || answer.contains("append-only"),
                    "{sql}: {answer}"
                );
            };
            refused(&remove);
            refused(&format!("{}{remove}", horizon(12)));
            refused(&format!("{PRUNE}{remove}"));
            refused(&format!("{IMPORT}{}{remove}", horizon(12)));
            // Its last step was at 11.
            refused(&format!("{PRUNE}{}{remove}", horizon(11)));
            assert_eq!(said(&db, &format!("{PRUNE}{}{remove}", horizon(12))), "done");
            // A word that came late is a step too.
            let late = format!(
                "INSERT INTO ledger_history (at_us, marketplace, posting, attempt, event, actor)
                 VALUES (12, 'upwork', '{over}', 'x', 'late_placed', 'h');"
            );
            refused(&format!("{late}{PRUNE}{}{remove}", horizon(12)));
        }
        for open in ["reserved%20job", "started%20job", "unknown%20job"] {
            let answer = said(&db, &format!("{PRUNE}{}{}", horizon(1_000), remove(open)));
            assert_ne!(answer, "done", "{open}");
        }
    }
    let audit = said(&db, &format!("{PRUNE}{}DELETE FROM ledger_audit", horizon(1_000)));
    assert!(audit.contains("append-only"), "{audit}");
}

#[test]
fn a_ledger_keeps_its_identity_and_its_horizon() {
    let bench = Bench::new();
    let db = today(&bench);
    for sql in [
        "UPDATE ledger_meta SET id = 'x'",
        "UPDATE ledger_meta SET created_at_us = 1",
        "DELETE FROM ledger_meta",
        "INSERT OR REPLACE INTO ledger_meta (one, id, created_at_us, compatible_from)
         VALUES (1, 'x', 1, 1)",
    ] {
        assert!(said(&db, sql).contains("keeps its identity"), "{sql}");
    }
    db.execute("UPDATE ledger_meta SET pruned_before_us = 10", []).unwrap();
    for back in ["9", "NULL"] {
        let sql = format!("UPDATE ledger_meta SET pruned_before_us = {back}");
        assert!(said(&db, &sql).contains("never goes back"), "{back}");
    }
    assert_eq!(said(&db, "UPDATE ledger_meta SET pruned_before_us = 11"), "done");
}

#[test]
fn what_is_asked_before_a_bid_and_by_pages_never_reads_a_whole_table() {
    let bench = Bench::new();
    drop(bench.open());
    let db = bench.raw();
    let plan = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.raw_query().mapped(|row| row.get("detail"));
        steps.collect::<rusqlite::Result<_>>().unwrap()
    };
    // L10, L12: one row by its key.
    for sql in [super::super::archive::HORIZON, super::super::archive::STANDING] {
        let steps = plan(sql);
        assert!(
            steps.iter().all(|step| !step.contains("SCAN") || step.contains("CONSTANT")),
            "{steps:?}"
        );
        assert!(steps.iter().any(|step| step.contains("PRIMARY KEY (rowid=?)")), "{steps:?}");
    }
    for (sql, index) in [
        (
            super::super::archive::POSTINGS.to_owned(),
            "ledger_attempts_seen ((marketplace,posting)>(?,?))",
        ),
        (super::super::archive::over_sql(), "ledger_attempts_reserved (reserved_at_us<?)"),
    ] {
        let steps = plan(&sql);
        assert!(steps.iter().any(|step| step.contains(index)), "{sql}: {steps:?}");
        let whole = |step: &String| step.contains("SCAN") || step.contains("TEMP B-TREE");
        assert!(!steps.iter().any(whole), "{sql}: {steps:?}");
    }
}

#[test]
fn among_200_000_postings_a_bid_is_still_one_look_up() {
    const POSTINGS: u32 = 200_000;
    let bench = Bench::new();
    let ledger = bench.open();
    let db = bench.raw();
    let now = bench.platform.clock.wall().as_micros();
    // All but the last ten are over.
    db.execute_batch(&format!(
        "BEGIN; {IMPORT}
         INSERT INTO ledger_attempts ({ROW})
         WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {POSTINGS})
         SELECT printf('%08x-0000-4000-8000-000000000000', n), 'upwork', 'job' || n,
             iif(n > {POSTINGS} - 10, 'reserved', 'abandoned'), 'reserved', 5, 5,
             'host:1:a1b2c3d4', 'p', NULL, {now}, NULL, NULL, NULL, NULL, NULL, NULL FROM n;
         DELETE FROM ledger_pass;
         COMMIT;
         ANALYZE;"
    ))
    .unwrap();
    let plan = |sql: &str| -> Vec<String> {
        let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.raw_query().mapped(|row| row.get("detail"));
        steps.collect::<rusqlite::Result<_>>().unwrap()
    };
    for (sql, index) in [
        (read::open_sql(), "ledger_attempts_open (marketplace=? AND posting=?)"),
        (read::latest_sql(), "ledger_attempts_seen (marketplace=? AND posting=?)"),
        (super::super::archive::HORIZON.to_owned(), "PRIMARY KEY (rowid=?)"),
    ] {
        let steps = plan(&sql);
        assert!(steps.len() == 1 && steps[0].contains(index), "{sql}: {steps:?}");
    }
    // What is asked and done stays right, whatever the planner thinks.
    let verdict = |posting: &str| {
        let fresh =
            crate::Freshness { seen_at: Some(bench.platform.clock.wall()), ..Default::default() };
        wait(ledger.should_bid(&key(posting), &fresh)).unwrap()
    };
    assert_eq!(verdict("job1"), Verdict::Yes);
    assert!(matches!(verdict(&format!("job{POSTINGS}")), Verdict::InProgress(_)));
    let counts = wait(ledger.counts()).unwrap();
    assert!(counts.contains(&(State::Reserved, 10)), "{counts:?}");
    assert!(counts.contains(&(State::Abandoned, u64::from(POSTINGS) - 10)), "{counts:?}");
    let page = wait(ledger.bids(&BidQuery::default())).unwrap();
    assert_eq!(page.len(), 100);
    let pruned = wait(ledger.prune(bench.platform.clock.wall(), 1_000)).unwrap();
    assert_eq!((pruned.attempts, pruned.more), (1_000, true));
}

#[test]
fn who_looks_for_a_ledger_makes_and_changes_none() {
    let bench = Bench::new();
    let platform = bidlock_testkit::test_platform().platform();
    let is_there = || SqliteStore::find(&bench.path(), &platform).unwrap().is_some();
    assert!(!is_there() && !bench.path().exists());
    of_version_1(&bench);
    let before = std::fs::read(bench.path()).unwrap();
    assert!(!is_there(), "an older one is not brought up to date");
    assert_eq!(std::fs::read(bench.path()).unwrap(), before);
    assert_eq!(SqliteStore::open(&bench.path(), &platform).unwrap().found(), Some(1));
    assert!(is_there());
    assert_eq!(SqliteStore::open(&bench.path(), &platform).unwrap().found(), Some(2));
}

#[test]
fn of_eight_that_open_a_new_file_at_once_one_has_made_it() {
    let bench = Bench::new();
    let (path, platform) = (bench.path(), bidlock_testkit::test_platform().platform());
    let found: Vec<_> = std::thread::scope(|scope| {
        let open = || SqliteStore::open(&path, &platform).unwrap().found();
        let opening: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        opening.into_iter().map(|opened| opened.join().unwrap()).collect()
    });
    assert_eq!(found.iter().filter(|found| found.is_none()).count(), 1, "{found:?}");
}
