//! `--also`: a command under a lock that old workers respect as well.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::{User, end, text};

const SCHEMA: &str = "CREATE TABLE distributed_locks (
    id TEXT PRIMARY KEY, lock_key TEXT UNIQUE NOT NULL, holder_id TEXT NOT NULL,
    acquired_at REAL NOT NULL, expires_at REAL NOT NULL)";

/// A user, beside whose locks lies the file of an older system.
struct Scene {
    user: User,
    old: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let user = User::new();
        let old = user.path("old.db");
        Connection::open(&old).unwrap().execute_batch(SCHEMA).unwrap();
        Self { user, old }
    }

    fn url(&self) -> String {
        format!("sqlite:{}?table=distributed_locks", self.old.display())
    }

    /// `bidlock` with these words, over the bridge.
    fn run(&self, words: &[&str]) -> crate::Ran {
        let words = [&["--also", "sqlite:old.db?table=distributed_locks"], words].concat();
        self.user.run(&words)
    }

    /// What an old worker does to take a posting, for a long time; whether it has it.
    fn old_takes(&self, posting: &str) -> bool {
        let insert = "INSERT INTO distributed_locks
            VALUES (?1, 'bid:lock:upwork:' || ?1, 'old-worker', unixepoch(), unixepoch() + 600)";
        Connection::open(&self.old).unwrap().execute(insert, [posting]).is_ok()
    }

    fn rows(&self) -> Vec<String> {
        let connection = Connection::open(&self.old).unwrap();
        let mut statement =
            connection.prepare("SELECT holder_id FROM distributed_locks ORDER BY 1").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }
}

#[test]
fn a_command_runs_under_both_locks_and_leaves_neither() {
    let scene = Scene::new();
    let words = ["lock", "--also", &scene.url(), "upwork", "a", "--", "sh", "-c"];
    let script = "touch inside; while ! test -e go; do sleep 0.01; done";
    let inside = scene.user.start_until("inside", &[&words[..], &[script]].concat());
    assert!(!scene.old_takes("a"), "an old worker is kept out");
    assert!(scene.rows()[0].starts_with("bidlock:"), "{:?}", scene.rows());
    std::fs::write(scene.user.path("go"), "").unwrap();
    assert_eq!(end(inside).code, 0);
    assert!(scene.rows().is_empty() && scene.old_takes("a"));

    // The variable means the same.
    let mut command =
        scene.user.command(&["lock", "upwork", "a", "--wait", "0", "--", "touch", "no"]);
    let ran =
        end(bidlock_testkit::Process::spawn(command.env("BIDLOCK_ALSO", scene.url())).unwrap());
    assert_eq!(ran.code, 75, "{ran:?}");
    assert!(ran.stderr.contains("old-worker in distributed_locks"), "{ran:?}");
    assert!(!scene.user.path("no").exists());
    let ran = scene.run(&["bid", "upwork", "a", "--wait", "200ms", "--", "touch", "no"]);
    assert_eq!(ran.code, 75, "{ran:?}");
    assert!(!scene.user.path("no").exists());
}

#[test]
fn leases_of_scripts_are_renewed_released_and_lost_in_both() {
    let scene = Scene::new();
    let ran = scene.run(&["acquire", "upwork", "a", "--ttl", "60s", "--json"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let lease = text(&crate::objects(&ran.stdout)[0], "lease");
    assert_eq!(scene.run(&["renew", "upwork", "a", "--lease", &lease]).code, 0);
    assert_eq!(scene.rows().len(), 1);
    assert!(!lease.is_empty() && !scene.rows()[0].contains(&lease), "its secret stays here");
    let clear = "DELETE FROM distributed_locks";
    Connection::open(&scene.old).unwrap().execute(clear, []).unwrap();
    assert_eq!(scene.run(&["renew", "upwork", "a", "--lease", &lease]).code, 76);
    assert_eq!(scene.run(&["release", "upwork", "a", "--lease", &lease]).code, 0);
}

#[test]
fn lists_and_doctor_show_both_sides() {
    let scene = Scene::new();
    assert!(scene.old_takes("a"));
    assert_eq!(scene.run(&["acquire", "upwork", "b"]).code, 0);
    let locks = scene.run(&["locks", "--json"]);
    let locks = crate::objects(&locks.stdout);
    assert_eq!(locks.len(), 2, "{locks:?}");
    let shown = locks[0].to_string();
    assert!(shown.contains("old-worker in distributed_locks"), "{shown}");
    let doctor = scene.run(&["doctor"]);
    assert_eq!(doctor.code, 0, "{doctor:?}");
    let line = doctor.stdout.lines().find(|line| line.contains("\tbridge\t")).unwrap();
    assert!(line.starts_with("good") && line.contains("1 of old workers, 1 of bidlock"), "{line}");
}

#[test]
fn an_old_table_that_is_not_there_is_a_wrong_configuration_before_anything_is_done() {
    let scene = Scene::new();
    for (also, said) in [
        ("sqlite:nowhere.db?table=t", "is not there"),
        ("sqlite:old.db?table=other", "no table other"),
        ("sqlite:old.db", "?table="),
        ("redis://h?table=t", "SQLite file"),
    ] {
        let ran = scene.user.run(&["--also", also, "lock", "upwork", "a", "--", "touch", "no"]);
        assert_eq!(ran.code, 78, "{ran:?}");
        assert!(ran.stderr.contains(said) && ran.stderr.contains("--also"), "{ran:?}");
    }
    let ran = scene.user.run(&["--also", "sqlite:nowhere.db?table=t", "doctor"]);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stdout.contains("failure\tbridge\t"), "{ran:?}");
    for name in ["no", "nowhere.db"] {
        assert!(!scene.user.path(name).exists(), "{name}");
    }
}
