#[cfg(not(all(feature = "postgres", feature = "redis")))]
mod absent;
mod masked;

use std::fmt::{self, Display};
use std::path::PathBuf;

#[cfg(not(feature = "postgres"))]
pub use absent::PostgresConfig;
#[cfg(not(feature = "redis"))]
pub use absent::RedisConfig;
#[cfg(feature = "postgres")]
pub use bidlock_ledger::PostgresConfig;
#[cfg(feature = "redis")]
pub use bidlock_redis::Config as RedisConfig;
pub use masked::masked;

use crate::open::ConfigError;

/// A store, as a URL names it: `redis://host`, `rediss://`, `valkey://`, `valkeys://`,
/// `unix:///socket`, `postgres://host`, `sqlite:///abs/path`, `sqlite:relative/path` or `memory:`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// The memory of one locker and its clones, for locks alone: for tests, and for tasks of one
    /// process that share the locker.
    Memory,
    /// A file of this machine, for locks and the ledger.
    Sqlite(PathBuf),
    /// A Redis or Valkey server, for locks of several machines. Its password is shown to nobody.
    Redis(RedisConfig),
    /// A database of a PostgreSQL server, for the ledger of several machines. Its password is shown
    /// to nobody.
    Postgres(PostgresConfig),
}

const LOCK_FORMS: &str = "write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], sqlite:///PATH, \
                          sqlite:RELATIVE or memory:";
const LEDGER_FORMS: &str = "write postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE, \
                            sqlite:///PATH or sqlite:RELATIVE";

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
                    RedisConfig::from_url(url).map(Self::Redis).map_err(|bad| bad.to_string())
                }
                "postgres" | "postgresql" => {
                    Err(format!("PostgreSQL keeps the ledger, not locks; {LOCK_FORMS}"))
                }
                _ => Err(format!("unknown scheme {scheme:?}; {LOCK_FORMS}")),
            }
        };
        read().map_err(|why| ConfigError::Url { url: masked(url), why })
    }

    /// A Redis or Valkey server that is named by its parts. The password is any text, not
    /// encoded.
    ///
    /// # Errors
    /// [`ConfigError::Url`] when no host can have this name; `host` may have brackets around an
    /// IPv6 address.
    ///
    /// # Examples
    /// ```
    /// let store = bidlock::StoreUrl::redis("localhost", 6379, 0, Some("s3c/ret"))?;
    /// assert_eq!(store.to_string(), "redis://:***@localhost:6379/0");
    /// # Ok::<(), bidlock::ConfigError>(())
    /// ```
    pub fn redis(
        host: &str,
        port: u16,
        database: u16,
        password: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let config = RedisConfig::from_parts(host, port, database, password);
        config
            .map(Self::Redis)
            .map_err(|bad| ConfigError::Url { url: masked(host), why: bad.to_string() })
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
                "postgres" | "postgresql" => {
                    PostgresConfig::from_url(url).map(Self::Postgres).map_err(|bad| bad.to_string())
                }
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

    /// The kind of store, for people, where this build cannot talk to it.
    ///
    /// # Examples
    /// ```
    /// use bidlock::StoreUrl;
    /// assert_eq!(StoreUrl::lock("memory:")?.not_built(), None);
    /// # Ok::<(), bidlock::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn not_built(&self) -> Option<&'static str> {
        match self {
            Self::Redis(_) if cfg!(not(feature = "redis")) => Some("Redis"),
            Self::Postgres(_) if cfg!(not(feature = "postgres")) => Some("PostgreSQL"),
            _ => None,
        }
    }
}

impl Display for StoreUrl {
    /// Writes the URL in its one spelling, without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) if path.is_absolute() => write!(f, "sqlite://{}", path.display()),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Redis(config) => Display::fmt(config, f),
            Self::Postgres(config) => Display::fmt(config, f),
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
