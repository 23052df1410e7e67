/// Writes a URL without what may be a password, for messages.
#[must_use]
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Without an authority there is no place for a password, unless the URL is broken, or is
        // none: `host=h password=…` is how PostgreSQL's own programs write it.
        let broken = url.contains('@') || (url.contains('=') && !url.starts_with("sqlite:"));
        return if broken { "***".to_owned() } else { url.to_owned() };
    };
    let (place, query) = match rest.split_once('?') {
        Some((place, query)) => (place, Some(query)),
        None => (rest, None),
    };
    // A password that was not encoded may hold a ?, and then any part may be its.
    if query.is_some_and(|query| query.contains('@')) {
        return format!("{scheme}://***");
    }
    // The last @ ends the user part: a password that was not encoded may hold others, or a /.
    let shown = match place.rsplit_once('@') {
        None => without_account(place),
        Some((account, host)) => match account.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None if scheme.to_ascii_lowercase().starts_with("postgres") => place.to_owned(),
            // Redis takes no user without a password: this is a password in the wrong place.
            None => format!("***@{host}"),
        },
    };
    match query {
        None => format!("{scheme}://{shown}"),
        // Options may carry a password too, and no message needs them.
        Some(_) => format!("{scheme}://{shown}?***"),
    }
}

/// What is no port stands where the rest of an account would, whose host was forgotten.
fn without_account(place: &str) -> String {
    let authority = place.split('/').next().unwrap_or(place);
    match authority.split_once(':') {
        Some((user, port))
            if !authority.starts_with('[') && !port.bytes().all(|b| b.is_ascii_digit()) =>
        {
            format!("{user}:***")
        }
        _ => place.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for (url, shown) in [
            ("redis://user:s3cret@h:6379/0", "redis://user:***@h:6379/0"),
            ("rediss://:s3cret@h?ca=/x", "rediss://:***@h?***"),
            ("redis://u:s3/cr@et@h", "redis://u:***@h"),
            ("redis://:s3?cr@h", "redis://***"),
            ("redis://:s3#cr@h/1", "redis://:***@h/1"),
            ("redis://s3cret@h", "redis://***@h"),
            ("redis://user:s3cret", "redis://user:***"),
            ("redis://user:s3/cret", "redis://user:***"),
            ("unix:///run/redis.sock?password=s3@cret", "unix://***"),
            ("unix:///run/redis.sock?password=s3cret", "unix:///run/redis.sock?***"),
            ("redis:u:s3cret@h", "***"),
            ("host=h user=u password=s3cret", "***"),
            ("password=s3cret", "***"),
            ("postgres:h?password=s3cret", "***"),
            ("postgres://u:s3cret@h/db", "postgres://u:***@h/db"),
        ] {
            assert_eq!(masked(url), shown, "{url}");
        }
    }

    #[test]
    fn what_has_no_password_is_shown_as_it_is() {
        for url in [
            "redis://h",
            "redis://h:6380/1",
            "redis://[::1]:6380/2",
            "unix:///run/redis.sock",
            "sqlite:///a:b/c.db",
            "sqlite:c.db",
            "sqlite:a=b.db",
            "postgres://u@h/db",
            "memory:",
            "nonsense",
            "",
        ] {
            assert_eq!(masked(url), url);
        }
    }
}
