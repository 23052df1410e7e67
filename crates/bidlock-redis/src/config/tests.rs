use super::*;

fn read(url: &str) -> Config {
    Config::from_url(url).unwrap_or_else(|refused| panic!("{url}: {refused}"))
}

#[test]
fn every_form_is_read_and_shown_without_its_password() {
    for (url, shown) in [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("valkey://h:1/3", "redis://h:1/3"),
        ("redis://:pw@h", "redis://:***@h:6379/0"),
        ("redis://bots:pw@h", "redis://bots:***@h:6379/0"),
        ("REDISS://h", "rediss://h:6379/0"),
        ("valkeys://[::1]:6380/2", "rediss://[::1]:6380/2"),
        ("redis://[fe80::1]", "redis://[fe80::1]:6379/0"),
        ("unix:///run/redis.sock?db=2&password=pw", "unix:///run/redis.sock?db=2"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ] {
        let config = read(url);
        assert_eq!(config.to_string(), shown);
        assert!(!format!("{config:?}").contains("pw"), "{config:?}");
    }
}

#[test]
fn parts_are_decoded() {
    let config = read("redis://b%40t:p%40%2Fss%3A@h");
    assert_eq!(config.user.as_deref(), Some("b@t"));
    assert_eq!(config.password.as_ref().map(Secret::expose), Some("p@/ss:"));
    let parts = Config::from_parts("::1", 6379, 0, Some("p@/ss:")).unwrap();
    assert_eq!(parts.to_string(), "redis://:***@[::1]:6379/0");
}

#[test]
fn tls_files_come_with_the_url() {
    let config = read("rediss://h?ca=/a.pem&cert=/c.pem&key=/k%20.pem");
    let files = config.tls.unwrap();
    assert_eq!(files.ca, Some("/a.pem".into()));
    assert_eq!(files.client, Some(("/c.pem".into(), "/k .pem".into())));
}

#[test]
fn what_is_not_understood_is_refused_without_repeating_a_password() {
    for url in [
        "localhost:6379",
        "http://h",
        "redis://",
        "redis://:hunter2@",
        "redis://h:0",
        "redis://h:99999",
        "redis://h:6379x",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/70000",
        "redis://user@h",
        "redis://:hunter2/x",
        "redis://:hunter2#x@h",
        "redis://h?ca=/a",
        "rediss://h?cert=/c",
        "rediss://h?insecure=1",
        "rediss://h?ca=",
        "redis://[::1",
        "redis://:%FF@h",
        "unix://relative",
        "unix:///s?db=x",
        "unix:///s?user=u",
        "unix:///s?tls=1",
    ] {
        let refused = Config::from_url(url).map_err(|refused| refused.to_string());
        let why = refused.expect_err(url);
        assert!(!why.contains("hunter2"), "{why}");
        assert!(why.contains("write ") || why.contains("options are"), "{url}: {why}");
    }
}

#[test]
fn what_is_misplaced_is_told_its_place() {
    for (url, said) in [
        ("redis://h?db=2", "the database goes after the /"),
        ("redis://h?password=hunter2", "no option \"password\""),
        ("redis://h?ssl_cert_reqs=none", "no option \"ssl_cert_reqs\""),
        ("unix:///s?tls=1", "no option \"tls\""),
        ("rediss://h?ca=/a&ca=/b", "the option ca is given twice"),
        ("unix:///s?password=hunter2&password=hunter2", "the option password is given twice"),
        ("unix:///s?x=1&x=hunter2", "no option \"x\""),
        ("redis://:1?db=hunter2&db=2@h", "? as %3F"),
        ("unix://:hunter2@/s", "?user=NAME&password=TEXT"),
        ("redis://:hunter2?x@h", "? as %3F"),
        ("redis://:hunter2%", "% as %25"),
        ("redis://u:1?hunter2=x@h", "? as %3F"),
    ] {
        let why = Config::from_url(url).expect_err(url).to_string();
        assert!(why.contains(said) && !why.contains("hunter2"), "{url}: {why}");
    }
}
