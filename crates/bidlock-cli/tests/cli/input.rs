use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::{Ran, User};

#[test]
fn bad_postings_are_refused_and_nothing_is_made() {
    let user = User::new();
    let long = "x".repeat(10_000);
    for posting in ["", " j", "j ", "a\nb", "a\tb", "a\u{200b}b", "a\u{202e}b", "\u{feff}a", &long]
    {
        let ran = user.run(&["bid", "upwork", posting, "touch", "ran"]);
        assert_eq!(ran.code, 2, "{posting:?}: {ran:?}");
        assert!(ran.stderr.contains("posting id") && ran.stderr.len() < 500, "{ran:?}");
    }
    let upper = user.run(&["bid", "Upwork", "j", "touch", "ran"]);
    assert_eq!(upper.code, 2);
    assert!(upper.stderr.contains("\"upwork\""), "{upper:?}");
    assert!(!user.path("ran").exists() && !user.path(".local").exists());
}

#[test]
fn odd_but_valid_postings_are_accepted() {
    let user = User::new();
    for posting in [":{}%", "a b", "späť 🚀", "#"] {
        assert_eq!(user.run(&["bid", "upwork", posting, "true"]).code, 0, "{posting}");
        assert_eq!(user.run(&["bid", "upwork", posting, "true"]).code, 10, "{posting}");
    }
}

#[test]
fn a_command_that_cannot_run_is_found_out_before_anything_is_reserved() {
    let user = User::new();
    fs::write(user.path("plain"), "text").unwrap();
    for (command, code) in [("no-such-command", 127), ("./missing", 127), ("./plain", 126)] {
        let ran = user.run(&["bid", "upwork", "j", command]);
        assert_eq!(ran.code, code, "{ran:?}");
        assert!(ran.stderr.contains("hint:"), "{ran:?}");
        assert_eq!(user.run(&["lock", "upwork", "j", command]).code, code);
    }
    assert!(!user.path(".local").exists(), "no store was opened");
}

#[test]
fn a_command_that_fails_to_start_was_not_sent() {
    let user = User::new();
    fs::write(user.path("bad"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(user.path("bad"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(user.run(&["bid", "upwork", "j", "./bad"]).code, 126);
    assert!(user.run(&["bids", "--json"]).stdout.contains("\"state\":\"abandoned\""));
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
}

#[test]
fn bad_settings_are_78_and_name_the_way_out() {
    let user = User::new();
    for url in ["mysql://h/db", "nonsense", "sqlite:", "redis://u:s3cret@h:port/0"] {
        let ran = user.run(&["bid", "--url", url, "upwork", "j", "touch", "ran"]);
        assert_eq!(ran.code, 78, "{url}: {ran:?}");
        assert!(ran.stderr.contains("--url") && ran.stderr.contains("hint:"), "{ran:?}");
        assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    }
    let ran = Ran::from(user.command(&["locks"]).env("REDIS_HOST", "h:6379").output().unwrap());
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains("REDIS_HOST") && ran.stderr.contains("REDIS_PORT"), "{ran:?}");
    let words = ["bids", "--ledger-url", "postgres://u:s3cret@h/db?sslmode=allow"];
    let ran = user.run(&words);
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.stderr.contains("sslmode is disable") && !ran.stderr.contains("s3cret"));
    let ran = Ran::from(user.command(&["locks"]).env_remove("HOME").output().unwrap());
    assert_eq!(ran.code, 78, "{ran:?}");
    fs::write(user.path(".env"), "BIDLOCK_URL=sqlite:mine.db\n").unwrap();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    assert!(user.path("mine.db").exists());
    // Only the last bid is remembered there.
    assert!(!user.path("ran").exists() && !user.path(".local/state/bidlock/bidlock.db").exists());
}

#[test]
fn a_file_that_is_no_store_is_refused_untouched() {
    let user = User::new();
    let text = "this is no database, but it is long enough to be taken for one at first sight";
    fs::write(user.path("notes"), text).unwrap();
    let ran = user.run(&["bid", "--url", "sqlite:notes", "upwork", "j", "touch", "ran"]);
    assert_eq!(ran.code, 69, "{ran:?}");
    assert_eq!(fs::read_to_string(user.path("notes")).unwrap(), text);
    let missing =
        user.run(&["bid", "--url", "sqlite:///proc/no/x.db", "upwork", "j", "touch", "ran"]);
    assert!(missing.code == 69 || missing.code == 77, "{missing:?}");
    assert!(!user.path("ran").exists());
}

#[test]
fn the_default_store_is_its_users_own() {
    let user = User::new();
    assert_eq!(user.run(&["bid", "upwork", "j", "true"]).code, 0);
    let mode = |name: &str| fs::metadata(user.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".local/state/bidlock"), 0o700);
    assert_eq!(mode(".local/state/bidlock/bidlock.db"), 0o600);
}

#[test]
fn a_relative_store_is_named_in_full() {
    let user = User::new();
    let ran = user.run(&["bid", "--url", "sqlite:./mine.db", "upwork", "j", "true"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let endpoint = format!("sqlite://{}", user.path("mine.db").display());
    assert!(ran.stderr.contains(&format!("kept in {endpoint}\n")), "{ran:?}");
    let health = user.run(&["health", "--json", "--url", "sqlite:mine.db"]);
    let stores: Vec<serde_json::Value> =
        health.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |field: &str| -> Vec<&str> {
        stores.iter().map(|store| store[field].as_str().unwrap()).collect()
    };
    assert_eq!(of("endpoint"), [&endpoint, &endpoint]);
    assert_eq!(of("origin"), ["the command line", "beside the locks"]);
}

#[test]
fn a_sighting_in_the_future_is_told_as_it_was_given() {
    let user = User::new();
    let words = ["bid", "upwork", "j", "--seen-at", "2099-01-01T10:00:00+02:00", "touch", "ran"];
    let ran = user.run(&words);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stderr.contains("--seen-at 2099-01-01T08:00:00.000Z lies"), "{ran:?}");
    assert!(
        ran.stderr.contains("at most 5m is allowed") && ran.stderr.contains("clocks"),
        "{ran:?}"
    );
    assert!(!user.path("ran").exists() && !user.path(".local").exists());
}
