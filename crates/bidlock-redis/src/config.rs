use std::fmt::{self, Debug, Display};
use std::path::PathBuf;

use bidlock_core::Endpoint;
use percent_encoding::percent_decode_str;

/// Where a server is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub(crate) place: Place,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
}

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A host name or address, without the brackets of IPv6, and a port.
    Tcp(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// What TLS needs besides the roots that are built in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    /// Trusted in place of the built-in roots.
    pub(crate) ca: Option<PathBuf>,
    /// The client's certificate and its key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a URL is not understood: what is wrong, and what is accepted; never with a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

const PORT: u16 = 6379;
const FORM: &str = "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]";
const ESCAPES: &str = "in a password, write % as %25, @ as %40, : as %3A, / as %2F, ? as %3F and # \
                       as %23";
const OPTIONS: &str = "options are ca=FILE, cert=FILE and key=FILE with rediss:, and db=NUMBER, \
                       user=NAME and password=TEXT with unix:";

impl Config {
    /// Reads `redis://`, `rediss://`, `valkey://`, `valkeys://` (each
    /// `[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`) or `unix:///PATH`. An `s` at the end of the
    /// scheme means TLS, with `?ca=FILE&cert=FILE&key=FILE` where the built-in roots or a
    /// password do not do; a socket takes `?db=NUMBER&user=NAME&password=TEXT`. Parts are
    /// percent-decoded.
    ///
    /// # Errors
    /// [`BadUrl`] says what is wrong, and repeats no part that may be a password.
    ///
    /// # Examples
    /// ```
    /// use bidlock_redis::Config;
    ///
    /// let config = Config::from_url("rediss://bots:s3cret@[::1]:6380/2?ca=/etc/ca.pem")?;
    /// assert_eq!(config.endpoint().as_str(), "rediss://bots:***@[::1]:6380/2");
    /// assert!(Config::from_url("redis://host:port").is_err());
    /// # Ok::<(), bidlock_redis::BadUrl>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, BadUrl> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("not a URL", FORM))?;
        match scheme.to_ascii_lowercase().as_str() {
            "redis" | "valkey" => tcp(rest, false),
            "rediss" | "valkeys" => tcp(rest, true),
            "unix" => unix(rest),
            other => Err(bad(&format!("unknown scheme {other:?}"), FORM)),
        }
    }

    /// A server named by its parts, as `REDIS_HOST` and its siblings do.
    ///
    /// # Errors
    /// [`BadUrl`] when the host is empty or has characters that no host has.
    pub fn from_parts(
        host: &str,
        port: u16,
        database: u16,
        password: Option<&str>,
    ) -> Result<Self, BadUrl> {
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        Ok(Self {
            place: Place::Tcp(check_host(host)?, port),
            tls: None,
            user: None,
            password: password.map(|text| Secret(text.to_owned())),
            database: u32::from(database),
        })
    }

    /// The server as messages name it, without the password.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.to_string())
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, database) = (self.user.as_deref().unwrap_or_default(), self.database);
        match &self.place {
            Place::Unix(path) => {
                write!(f, "unix://{}", path.display())?;
                if database > 0 { write!(f, "?db={database}") } else { Ok(()) }
            }
            Place::Tcp(host, port) => {
                f.write_str(if self.tls.is_some() { "rediss://" } else { "redis://" })?;
                match (user.is_empty(), self.password.is_some()) {
                    (true, false) => {}
                    (false, false) => write!(f, "{user}@")?,
                    (_, true) => write!(f, "{user}:***@")?,
                }
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                write!(f, "{open}{host}{close}:{port}/{database}")
            }
        }
    }
}

fn bad(what: &str, form: &str) -> BadUrl {
    BadUrl(format!("{what}; {form}"))
}

fn decoded(text: &str, what: &str) -> Result<String, BadUrl> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| bad(&format!("the {what} is not UTF-8"), FORM))
}

fn check_host(host: &str) -> Result<String, BadUrl> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() {
        return Err(bad("no host is named", FORM));
    }
    if !host.chars().all(fits) {
        // A password with an unencoded @ or / shows up here: say nothing of what it was.
        return Err(bad(&format!("the host has characters that no host has ({ESCAPES})"), FORM));
    }
    Ok(host.to_owned())
}

fn number(text: &str, what: &str, least: u16) -> Result<u16, BadUrl> {
    let read = text.parse().ok().filter(|number| *number >= least);
    // The rest of a password with an unencoded ? or / is taken for one of these.
    read.ok_or_else(|| {
        let what = format!("the {what} is not a number from {least} to 65535 ({ESCAPES})");
        bad(&what, FORM)
    })
}

/// Says that an option is none. Its name is shown, but no part of a password with an unencoded ?.
fn unknown(name: &str, query: &str) -> BadUrl {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if !plain || query.contains('@') {
        return bad(&format!("an option is unknown ({ESCAPES})"), OPTIONS);
    }
    bad(&format!("there is no option {name:?}"), OPTIONS)
}

fn tcp(rest: &str, tls: bool) -> Result<Config, BadUrl> {
    if rest.contains('#') {
        return Err(bad(&format!("a # has no meaning here ({ESCAPES})"), FORM));
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (account, place) = match rest.rsplit_once('@') {
        Some((account, place)) => (account, place),
        None => ("", rest),
    };
    let (place, database) = place.split_once('/').unwrap_or((place, ""));
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(Secret(decoded(password, "password")?))),
        None => (account, None),
    };
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) =
                rest.split_once(']').ok_or_else(|| bad("a [ is not closed", FORM))?;
            (host, port.strip_prefix(':').unwrap_or(port))
        }
        None => place.split_once(':').unwrap_or((place, "")),
    };
    if host.is_empty() && !port.is_empty() {
        return Err(bad(&format!("no host is named before the : ({ESCAPES})"), FORM));
    }
    let mut config = Config {
        place: Place::Tcp(
            check_host(host)?,
            if port.is_empty() { PORT } else { number(port, "port", 1)? },
        ),
        tls: tls.then(TlsFiles::default),
        user: Some(decoded(user, "user")?).filter(|user| !user.is_empty()),
        password,
        database: if database.is_empty() {
            0
        } else {
            u32::from(number(database, "database (what follows the /)", 0)?)
        },
    };
    if config.user.is_some() && config.password.is_none() {
        return Err(bad("a user is named without a password", FORM));
    }
    let mut client = (None, None);
    for (name, value) in options(query)? {
        match (name, &mut config.tls) {
            ("ca", Some(files)) => files.ca = Some(value.into()),
            ("cert", Some(_)) => client.0 = Some(PathBuf::from(value)),
            ("key", Some(_)) => client.1 = Some(PathBuf::from(value)),
            ("ca" | "cert" | "key", None) => {
                return Err(bad("TLS files are named, but the scheme says no TLS", OPTIONS));
            }
            ("db", _) => return Err(bad("the database goes after the /, not into ?db=", FORM)),
            _ => return Err(unknown(name, query)),
        }
    }
    match (client, &mut config.tls) {
        ((Some(cert), Some(key)), Some(files)) => files.client = Some((cert, key)),
        ((None, None), _) => {}
        _ => return Err(bad("cert and key go together", OPTIONS)),
    }
    Ok(config)
}

fn unix(rest: &str) -> Result<Config, BadUrl> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') && rest.contains('@') {
        let what = "a socket's user and password are options, not before an @";
        return Err(bad(what, "write unix:///PATH?user=NAME&password=TEXT"));
    }
    if !path.starts_with('/') {
        return Err(bad("no absolute path is named", "write unix:///PATH"));
    }
    let mut config = Config {
        place: Place::Unix(decoded(path, "path")?.into()),
        tls: None,
        user: None,
        password: None,
        database: 0,
    };
    for (name, value) in options(query)? {
        match name {
            "db" => config.database = u32::from(number(&value, "database", 0)?),
            "user" => config.user = Some(value),
            "password" => config.password = Some(Secret(value)),
            _ => return Err(unknown(name, query)),
        }
    }
    if config.user.is_some() && config.password.is_none() {
        return Err(bad("a user is named without a password", OPTIONS));
    }
    Ok(config)
}

fn options(query: &str) -> Result<Vec<(&str, String)>, BadUrl> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if value.is_empty() {
            return Err(bad("an option has no value", OPTIONS));
        }
        if found.iter().any(|(known, _)| *known == name) {
            return Err(twice(name, query));
        }
        found.push((name, decoded(value, "option")?));
    }
    Ok(found)
}

/// Says that an option is given twice; one that is none is said to be that.
fn twice(name: &str, query: &str) -> BadUrl {
    if !OPTIONS.contains(&format!(" {name}=")) || query.contains('@') {
        return unknown(name, query);
    }
    bad(&format!("the option {name} is given twice"), OPTIONS)
}

#[cfg(test)]
mod tests;
