use std::fmt::{self, Display};
use std::path::PathBuf;

use bidlock_core::Endpoint;

use crate::open::ConfigError;

/// A store, as a URL names it: `sqlite:///abs/path`, `sqlite:relative/path` or `memory:`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// The memory of one locker and its clones, for locks alone: for tests, and for tasks of one
    /// process that share the locker.
    Memory,
    /// A file of this machine, for locks and the ledger.
    Sqlite(PathBuf),
    /// A Redis or Valkey server, for locks; not in this build yet.
    Redis(Endpoint),
    /// A PostgreSQL server, for the ledger; not in this build yet.
    Postgres(Endpoint),
}

const LOCK_FORMS: &str = "write sqlite:///PATH, sqlite:RELATIVE or memory:";
const LEDGER_FORMS: &str = "write sqlite:///PATH or sqlite:RELATIVE";

impl StoreUrl {
    /// Reads the URL of a lock store.
    ///
    /// # Errors
    /// [`ConfigError::Url`] names the URL, without its password, what is wrong, and what is
    /// accepted.
    ///
    /// # Examples
    /// ```
    /// use bidlock::StoreUrl;
    /// let file = StoreUrl::Sqlite("/var/lib/bids.db".into());
    /// assert_eq!(StoreUrl::lock("sqlite:////var/lib/bids.db")?, file);
    /// assert!(StoreUrl::lock("mysql://h").is_err());
    /// # Ok::<(), bidlock::ConfigError>(())
    /// ```
    pub fn lock(url: &str) -> Result<Self, ConfigError> {
        let read = || {
            let (scheme, rest) = split(url, LOCK_FORMS)?;
            match scheme.as_str() {
                "sqlite" => sqlite(rest, LOCK_FORMS),
                "memory" if rest.trim_matches('/').is_empty() => Ok(Self::Memory),
                "memory" => Err(format!("memory: takes no path; {LOCK_FORMS}")),
                "redis" | "rediss" | "valkey" | "valkeys" | "unix" => {
                    Ok(Self::Redis(Endpoint::new(masked(url))))
                }
                "postgres" | "postgresql" => {
                    Err(format!("PostgreSQL keeps the ledger, not locks; {LOCK_FORMS}"))
                }
                _ => Err(format!("unknown scheme {scheme:?}; {LOCK_FORMS}")),
            }
        };
        read().map_err(|why| ConfigError::Url { url: masked(url), why })
    }

    /// Reads the URL of a ledger.
    ///
    /// # Errors
    /// As [`StoreUrl::lock`].
    pub fn ledger(url: &str) -> Result<Self, ConfigError> {
        let read = || {
            let (scheme, rest) = split(url, LEDGER_FORMS)?;
            match scheme.as_str() {
                "sqlite" => sqlite(rest, LEDGER_FORMS),
                "postgres" | "postgresql" => Ok(Self::Postgres(Endpoint::new(masked(url)))),
                "memory" => Err(format!("a ledger must outlive its process; {LEDGER_FORMS}")),
                "redis" | "rediss" | "valkey" | "valkeys" | "unix" => {
                    Err(format!("Redis keeps locks, not the ledger; {LEDGER_FORMS}"))
                }
                _ => Err(format!("unknown scheme {scheme:?}; {LEDGER_FORMS}")),
            }
        };
        read().map_err(|why| ConfigError::Url { url: masked(url), why })
    }

    /// Whether clients on several machines can meet there.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self, Self::Redis(_) | Self::Postgres(_))
    }
}

impl Display for StoreUrl {
    /// Writes the URL in its one spelling, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) if path.is_absolute() => write!(f, "sqlite://{}", path.display()),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Redis(endpoint) | Self::Postgres(endpoint) => Display::fmt(endpoint, f),
        }
    }
}

fn split<'a>(url: &'a str, forms: &str) -> Result<(String, &'a str), String> {
    match url.split_once(':') {
        _ if url.is_empty() => Err(format!("empty; {forms}")),
        Some((scheme, rest)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Ok((scheme.to_ascii_lowercase(), rest))
        }
        _ => Err(format!("not a URL; {forms}")),
    }
}

/// `sqlite:///abs` is absolute, with one or more than two slashes; `sqlite:x.db` is relative.
fn sqlite(rest: &str, forms: &str) -> Result<StoreUrl, String> {
    let slashes = rest.len() - rest.trim_start_matches('/').len();
    let bare = &rest[slashes..];
    if bare.is_empty() || bare.ends_with('/') {
        return Err(format!("no file is named; {forms}"));
    }
    if bare.contains(['?', '#', '\0']) {
        return Err(format!("a path without ?, # and NUL is expected; {forms}"));
    }
    if bare == ":memory:" {
        return Err(format!("an unnamed database cannot be shared; {forms}"));
    }
    if slashes == 2 {
        return Err(format!("{bare:?} stands where a host would; {forms}"));
    }
    let path = if slashes > 0 { format!("/{bare}") } else { bare.to_owned() };
    Ok(StoreUrl::Sqlite(path.into()))
}

/// Writes a URL with its password as `***`, for messages.
#[must_use]
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Without an authority there is no place for a password, unless the URL is broken.
        return if url.contains('@') { "***".to_owned() } else { url.to_owned() };
    };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, query)) => (rest, Some(query)),
        None => (rest, None),
    };
    // The last @ ends the user part: a password that was not encoded may hold others, or a /.
    let shown = match rest.rsplit_once('@') {
        None => rest.to_owned(),
        Some((user, host)) => match user.split_once(':') {
            None => format!("{user}@{host}"),
            Some((name, _)) => format!("{name}:***@{host}"),
        },
    };
    match query {
        None => format!("{scheme}://{shown}"),
        // Options may carry a password too, and no message needs them.
        Some(_) => format!("{scheme}://{shown}?***"),
    }
}
