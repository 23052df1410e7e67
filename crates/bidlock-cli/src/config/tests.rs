use std::ffi::OsString;
use std::fs;

use super::*;
use crate::args::{Cli, Global};

fn flags(line: &str) -> Global {
    let words = std::iter::once("bidlock").chain(line.split_whitespace()).chain(["health"]);
    Cli::read(words.map(OsString::from).collect()).unwrap().global
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    let home = [("HOME", "/home/u")];
    let pairs = home.iter().chain(pairs);
    Environment {
        variables: pairs.map(|(n, v)| (OsString::from(n), OsString::from(v))).collect(),
        folder: "/nonexistent".into(),
    }
}

fn load(line: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&flags(line), &environment(pairs))
}

#[test]
fn with_nothing_set_the_embedded_file_is_used_and_said_so() {
    let config = load("", &[]).unwrap();
    let file = "sqlite:///home/u/.local/state/bidlock/bidlock.db";
    assert_eq!(config.lock.built().unwrap().to_string(), file);
    assert_eq!(config.ledger.built().unwrap().to_string(), file);
    assert_eq!(config.lock.origin, Origin::Default);
    assert!(config.default_file.unwrap().ends_with(".local/state/bidlock/bidlock.db"));

    let state = load("", &[("XDG_STATE_HOME", "/state")]).unwrap();
    assert_eq!(state.lock.built().unwrap().to_string(), "sqlite:///state/bidlock/bidlock.db");
    let relative = load("", &[("XDG_STATE_HOME", "state")]).unwrap();
    assert_eq!(relative.lock.built().unwrap().to_string(), file);
}

#[test]
fn without_a_home_the_error_shows_the_way_out() {
    let refused = load("", &[("HOME", "")]).unwrap_err();
    assert_eq!(refused, ConfigError::NoHome);
    assert!(refused.hint().contains("--url"));
    assert!(load("--url sqlite:///x.db", &[("HOME", "")]).is_ok());
}

#[test]
fn flags_beat_the_environment_which_beats_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    fs::write(&file, "# settings\nexport BIDLOCK_URL=sqlite:///file.db\nBIDLOCK_PREFIX='p'\n")
        .unwrap();
    let mut surroundings = environment(&[]);
    surroundings.folder = folder.path().to_owned();

    let config = Config::load(&flags(""), &surroundings).unwrap();
    assert_eq!(config.lock.built().unwrap().to_string(), "sqlite:///file.db");
    assert_eq!(config.lock.origin, Origin::File(file.clone()));
    assert_eq!(config.prefix.value.as_str(), "p");
    assert_eq!(config.ledger.built().unwrap().to_string(), "sqlite:///file.db");

    surroundings.variables.insert("BIDLOCK_URL".into(), "sqlite:///env.db".into());
    let config = Config::load(&flags(""), &surroundings).unwrap();
    assert_eq!(config.lock.built().unwrap().to_string(), "sqlite:///env.db");
    assert_eq!(config.lock.origin, Origin::Environment);

    let config = Config::load(&flags("--url sqlite:flag.db"), &surroundings).unwrap();
    let flag = format!("sqlite://{}", folder.path().join("flag.db").display());
    assert_eq!(config.lock.built().unwrap().to_string(), flag);

    // An empty variable counts as unset, so the file's is used.
    surroundings.variables.insert("BIDLOCK_URL".into(), "".into());
    let config = Config::load(&flags(""), &surroundings).unwrap();
    assert_eq!(config.lock.built().unwrap().to_string(), "sqlite:///file.db");
    let config = Config::load(&flags("--no-env-file"), &surroundings).unwrap();
    assert_eq!(config.lock.origin, Origin::Default);
}

#[test]
fn a_bad_file_of_settings_names_file_and_line_but_no_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(".env");
    fs::write(&file, "A=1\n\nthis is s3cret\n").unwrap();
    let mut surroundings = environment(&[]);
    surroundings.folder = folder.path().to_owned();
    let refused = Config::load(&flags(""), &surroundings).unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(".env") && text.contains("line 3"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
    assert!(refused.hint().contains("--no-env-file"));

    fs::write(&file, b"A=1\nB=\xff\n").unwrap();
    let text = Config::load(&flags(""), &surroundings).unwrap_err().to_string();
    assert!(text.contains("line 2: not UTF-8"), "{text}");

    let missing = Config::load(&flags("--env-file /nonexistent/env"), &surroundings);
    assert!(missing.unwrap_err().to_string().contains("no such file"));
}

#[test]
fn slashes_collapse_and_relative_paths_start_in_the_current_folder() {
    for (url, canonical) in [
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
        ("sqlite:////a/b.db", "sqlite:///a/b.db"),
        ("sqlite:/a/b.db", "sqlite:///a/b.db"),
        ("sqlite:b.db", "sqlite:///nonexistent/b.db"),
        ("SQLITE:b.db", "sqlite:///nonexistent/b.db"),
        ("sqlite:./c/./b.db", "sqlite:///nonexistent/c/b.db"),
        ("sqlite:../b.db", "sqlite:///nonexistent/../b.db"),
        ("memory:", "memory:"),
        ("memory://", "memory:"),
    ] {
        let config = load("", &[("BIDLOCK_URL", url)]).unwrap();
        assert_eq!(config.lock.built().unwrap().to_string(), canonical, "{url}");
        if url != "memory:" && url != "memory://" {
            // The ledger is the same file, because the locks' was named.
            assert_eq!(config.ledger.to_string(), format!("{canonical} (beside the locks)"));
        }
    }
    assert_eq!(load("", &[]).unwrap().ledger.origin, Origin::Default);
}

#[test]
fn a_bad_url_names_variable_value_and_what_is_accepted() {
    for url in
        ["mysql://h/db", "x.db", "sqlite:", "sqlite:///", "sqlite:///a/", "sqlite://a", "memory:x"]
    {
        let refused = load("", &[("BIDLOCK_URL", url)]).unwrap_err().to_string();
        for part in ["BIDLOCK_URL", url, "the environment", "sqlite:///PATH"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
    }
    let refused = load("--url=", &[]).unwrap_err().to_string();
    assert!(refused.contains("--url") && refused.contains("empty"), "{refused}");
    let ledger = load("--ledger-url memory:", &[]).unwrap_err().to_string();
    assert!(ledger.contains("outlive"), "{ledger}");
}

#[test]
fn redis_is_named_by_a_url_or_by_its_parts_and_shown_without_the_password() {
    for (pairs, shown) in [
        (&[("REDIS_URL", "redis://u:s3cret@h:6379/0")][..], "redis://u:***@h:6379/0"),
        (&[("REDIS_HOST", "h"), ("REDIS_PASSWORD", "s3cret")], "redis://:***@h:6379/0"),
        (&[("REDIS_PASSWORD", "s3cret")], "redis://:***@localhost:6379/0"),
        (
            &[("REDIS_PASSWORD", "s3cret"), ("REDIS_USER", "u"), ("REDIS_TLS", "False")],
            "redis://u:***@localhost:6379/0",
        ),
        (
            &[("REDIS_HOST", "::1"), ("REDIS_PASSWORD", "s3cret"), ("REDIS_USERNAME", "b@t")],
            "redis://b@t:***@[::1]:6379/0",
        ),
        (&[("REDIS_URL", "rediss://h"), ("REDIS_TLS", "1")], "rediss://h:6379/0"),
        (&[("BIDLOCK_URL", "redis://h"), ("REDIS_TLS", "1")], "redis://h:6379/0"),
        (&[("REDIS_HOST", "::1"), ("REDIS_PORT", "1"), ("REDIS_DB", "2")], "redis://[::1]:1/2"),
        (&[("BIDLOCK_URL", "rediss://:s3cret@h?ca=/x.pem")], "rediss://:***@h:6379/0"),
        (&[("BIDLOCK_URL", "valkey://h/3")], "redis://h:6379/3"),
        (&[("BIDLOCK_URL", "valkeys://h")], "rediss://h:6379/0"),
        (&[("BIDLOCK_URL", "unix:///r.sock?password=s3cret")], "unix:///r.sock"),
    ] {
        let config = load("", pairs).unwrap();
        assert_eq!(config.lock.built().unwrap().to_string(), shown);
        assert_eq!(config.lock.name, pairs[0].0);
        assert!(config.lock.value.is_shared() && !config.ledger.value.is_shared());
        assert!(!format!("{config:?}").contains("cret"), "{config:?}");
    }
    let both = load("", &[("REDIS_URL", "redis://h"), ("REDIS_DB", "1")]).unwrap();
    assert!(both.notes[0].contains("REDIS_DB"));
    assert_eq!(both.lock.value.to_string(), "redis://h:6379/0");
    let own = load("", &[("BIDLOCK_URL", "sqlite:x.db"), ("REDIS_URL", "redis://h")]).unwrap();
    assert_eq!(own.lock.built().unwrap().to_string(), "sqlite:///nonexistent/x.db");
    // In a variable of its own a password is any text; in a URL it is encoded.
    let parts = load("", &[("REDIS_HOST", "h"), ("REDIS_PASSWORD", "s%3/c@t:#?")]).unwrap();
    let url = load("--url redis://:s%253%2Fc%40t%3A%23%3F@h", &[]).unwrap();
    assert_eq!(parts.lock.value, url.lock.value);
    let pairs = [("REDIS_USER", "ü:1"), ("REDIS_PASSWORD", "s%3/c@t:#? ä"), ("REDIS_DB", "2")];
    let parts = load("", &pairs).unwrap();
    let url = "--url redis://%C3%BC%3A1:s%253%2Fc%40t%3A%23%3F%20%C3%A4@localhost/2";
    assert_eq!(parts.lock.value, load(url, &[]).unwrap().lock.value);
}

#[test]
fn bad_parts_and_urls_of_redis_are_refused_without_the_password() {
    let password = ("REDIS_PASSWORD", "s3cret");
    for (pair, said) in [
        (("REDIS_PORT", "70000"), "1 to 65535"),
        (("REDIS_PORT", "tcp://10.0.0.1:6379"), "1 to 65535"),
        (("REDIS_DB", "-1"), "0 to 65535"),
        (("REDIS_HOST", "h:6379"), "REDIS_PORT"),
        (("REDIS_HOST", "redis://:s3cret@h"), "a host alone"),
        (("REDIS_HOST", "a b"), "no host has"),
        (("REDIS_URL", "redis://u:s3cret/@x@h:port"), "is not a number"),
        (("REDIS_URL", "redis://u:s3cret"), "is not a number"),
        (("REDIS_URL", "redis://s3cret@h"), "without a password"),
        (("REDIS_URL", "rediss://u:s3?cret@h"), "redis://[USER:PASSWORD@]HOST"),
        (("REDIS_URL", "redis://:s3cret@h?password=s3cret"), "no option \"password\""),
        (("REDIS_URL", "unix://run"), "unix:///PATH"),
        (("REDIS_TLS", "true"), "REDIS_URL=rediss://"),
        (("REDIS_SSL", "required"), "REDIS_URL=rediss://"),
    ] {
        let refused = load("", &[pair, password]).unwrap_err();
        let text = format!("{refused} {} {refused:?}", refused.hint());
        assert!(text.contains(pair.0) && text.contains(said), "{pair:?}: {text}");
        assert!(!text.contains("cret"), "{text}");
    }
}

#[test]
fn a_bad_url_never_shows_its_password() {
    for url in ["redis//u:s3cret@h", "mysql://u:s3cret@h/db", "http://u:s3:cret@h", "u:s3cret@h"] {
        let refused = load("", &[("BIDLOCK_URL", url)]).unwrap_err().to_string();
        assert!(!refused.contains("cret"), "{refused}");
    }
}

#[test]
fn a_shared_lock_store_beside_a_local_ledger_must_be_meant() {
    let redis = ("BIDLOCK_URL", "redis://h");
    let refused = load("", &[redis]).unwrap().check_bidding().unwrap_err();
    assert!(refused.hint().contains("--local-ledger"));
    assert!(load("--local-ledger", &[redis]).unwrap().check_bidding().is_ok());
    let said = load("", &[redis, ("BIDLOCK_LOCAL_LEDGER", "1")]).unwrap();
    assert!(said.check_bidding().is_ok());
    let shared = load("", &[redis, ("BIDLOCK_LEDGER_URL", "postgres://h/db")]).unwrap();
    assert!(shared.check_bidding().is_ok());
    assert!(load("", &[]).unwrap().check_bidding().is_ok());
    let bad = load("", &[("BIDLOCK_LOCAL_LEDGER", "maybe")]).unwrap_err().to_string();
    assert!(bad.contains("BIDLOCK_LOCAL_LEDGER") && bad.contains("maybe"), "{bad}");
}

#[test]
fn the_visibility_lag_is_a_bounded_duration() {
    let lag = |text| load("", &[("BIDLOCK_VISIBILITY_LAG", text)]);
    assert_eq!(load("", &[]).unwrap().visibility_lag, Duration::ZERO);
    assert_eq!(lag("10m").unwrap().visibility_lag, Duration::from_mins(10));
    for bad in ["10", "31d", "soon"] {
        let refused = lag(bad).unwrap_err().to_string();
        assert!(refused.contains("BIDLOCK_VISIBILITY_LAG") && refused.contains(bad), "{refused}");
    }
}

#[test]
fn a_user_needs_a_password_and_tls_a_url() {
    let user = load("", &[("REDIS_HOST", "h"), ("REDIS_USER", "bots")]).unwrap_err().to_string();
    assert!(user.contains("REDIS_USER") && user.contains("REDIS_PASSWORD"), "{user}");
    // Neither names a server.
    let alone = load("", &[("REDIS_USER", "bots"), ("REDIS_TLS", "1")]).unwrap();
    assert_eq!(alone.lock.origin, Origin::Default);
    let plain = load("", &[("REDIS_URL", "redis://h"), ("REDIS_SSL", "1")]).unwrap_err();
    assert!(plain.to_string().contains("rediss://"), "{plain}");
}

#[test]
fn an_old_table_is_read_like_any_setting_and_its_file_is_for_it_alone() {
    assert_eq!(load("", &[]).unwrap().also, None);
    let old = ("BIDLOCK_ALSO", "sqlite:old.db?table=locks");
    let also = load("", &[old]).unwrap().also.unwrap();
    assert_eq!(also.value.to_string(), "sqlite:///nonexistent/old.db?table=locks");
    assert_eq!(also.origin, Origin::Environment);
    let flag = load("--also sqlite:///srv/x.db?table=t", &[old]).unwrap().also.unwrap();
    assert_eq!(flag.to_string(), "sqlite:///srv/x.db?table=t (the command line)");
    for (url, said) in [
        ("sqlite:old.db", "?table="),
        ("redis://u:s3cret@h", "SQLite file"),
        ("sqlite:old.db?table=a-b", "underscores"),
    ] {
        let refused = load("", &[("BIDLOCK_ALSO", url)]).unwrap_err().to_string();
        assert!(refused.contains("BIDLOCK_ALSO") && refused.contains(said), "{refused}");
        assert!(!refused.contains("s3cret"), "{refused}");
    }
    let same = load("", &[old, ("BIDLOCK_LEDGER_URL", "sqlite:./old.db")]).unwrap_err();
    assert!(same.to_string().contains("same file"), "{same}");
}
