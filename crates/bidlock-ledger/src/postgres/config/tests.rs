use super::*;

fn read(url: &str) -> PostgresConfig {
    PostgresConfig::from_url(url).unwrap()
}

fn refused(url: &str) -> String {
    PostgresConfig::from_url(url).unwrap_err().to_string()
}

#[test]
fn each_part_of_a_url_is_read() {
    let config = read(
        "postgresql://b%40ts:s3c%2Fret@a:5433,[::1]/bids?sslmode=verify-full&sslrootcert=/ca.pem\
         &connect_timeout=9&schema=night_2&pool=100&failover=trusted",
    );
    let place = |host: &str, port| Place { host: host.to_owned(), port };
    assert_eq!(config.places, [place("a", 5433), place("::1", 5432)]);
    assert_eq!(config.user.as_deref(), Some("b@ts"));
    assert_eq!(config.password.as_ref().map(Secret::expose), Some("s3c/ret"));
    assert_eq!(config.database.as_deref(), Some("bids"));
    assert_eq!(config.tls, TlsMode::VerifyFull(Some("/ca.pem".into())));
    assert_eq!(config.connect_timeout, Duration::from_secs(9));
    assert_eq!((config.schema(), config.pool, config.trusts_failover), ("night_2", 100, true));
    let shown = "postgres://b@ts:***@a:5433,[::1]:5432/bids?schema=night_2";
    assert_eq!(config.endpoint().as_str(), shown);
}

#[test]
fn what_is_not_said_has_a_default() {
    let config = read("postgres://h");
    assert_eq!((config.schema(), config.pool, config.trusts_failover), ("bidlock", 8, false));
    assert_eq!((config.user, config.database, config.tls), (None, None, TlsMode::Prefer));
    assert_eq!(config.connect_timeout, Duration::from_secs(5));
}

#[test]
fn a_socket_is_a_host_too() {
    for url in [
        "postgres:///bids?host=/run/postgresql&port=5433&user=u&password=p",
        "postgres://u:p@%2Frun%2Fpostgresql:5433/bids",
        "postgres://?host=/run/postgresql&port=5433&user=u&password=p&dbname=bids",
    ] {
        let config = read(url);
        let place = Place { host: "/run/postgresql".to_owned(), port: 5433 };
        assert_eq!((config.places, config.database.as_deref()), (vec![place], Some("bids")));
    }
    assert!(refused("postgres:///d?host=/run&sslmode=require").contains("over a socket"));
}

#[test]
fn what_is_wrong_is_named() {
    for (url, what) in [
        ("postgres:", "not a URL"),
        ("mysql://h", "unknown scheme"),
        ("postgres://", "no host is named"),
        ("postgres://h:0/d", "the port is not a number"),
        ("postgres://h,/d", "no host is named"),
        ("postgres://h/d?sslmode=allow", "there is no sslmode \"allow\" here"),
        ("postgres://h/d?sslrootcert=x", "goes with sslmode=verify-full"),
        ("postgres://h/d?pool=101", "pool \"101\" is not a number from 1 to 100"),
        ("postgres://h/d?connect_timeout=0", "connect_timeout \"0\" is not a number from 1"),
        ("postgres://h/d?schema=No", "the schema \"No\" has no such name; a schema is 1 to 63"),
        ("postgres://h/d?schema=1a", "a schema is 1 to 63"),
        ("postgres://h/d?schema=a%22b", "a schema is 1 to 63"),
        ("postgres://h/d?failover=yes", "failover is trusted or not named, not \"yes\""),
        ("postgres://h/d?target_session_attrs=any", "there is no option \"target_session_attrs\""),
        ("postgres://h/d?pool=", "has no value"),
        ("postgres://a,b/d?port=1", "the port of one host"),
        ("postgres://h/d?host=g", "named twice"),
        ("postgres://h/d?pool=2&pool=3", "the option pool is given twice"),
        ("postgres://h/d?pool=2&schema=x&pool=2", "the option pool is given twice"),
        ("postgres:///d?host=/run&host=/run", "the option host is given twice"),
        ("postgres://h/d?nosuch=1&nosuch=2", "there is no option \"nosuch\""),
    ] {
        let said = refused(url);
        assert!(said.contains(what), "{url}: {said}");
    }
}

#[test]
fn no_part_of_a_password_is_shown() {
    for url in [
        "postgres://u:s3?cr3t@h/d",
        "postgres://u:s3#cr3t@h/d",
        "postgres://u:s3@cr3t@h:x/d",
        "postgres://u:s3?pool=cr3t@h/d",
        "postgres://u:s3?sslmode=cr3t@h/d",
        "postgres://u:s3?schema=cr3t@h/d",
        "postgres://u:s3?failover=cr3t@h/d",
        "postgres://h/d?password=cr3t&password=cr3t",
        "postgres://u:s3?cr3t=1&cr3t=2@h/d",
        "postgres://u:s3?pool=1&pool=cr3t@h/d",
    ] {
        assert!(!refused(url).contains("cr3t"), "{url}: {}", refused(url));
    }
    let config = read("postgres://u:cr3t@h/d");
    assert!(!format!("{config:?} {config}").contains("cr3t"));
}
