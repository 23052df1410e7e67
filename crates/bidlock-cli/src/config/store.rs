use std::fmt::{self, Display};
use std::path::PathBuf;

/// A store that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Store {
    /// A file of this machine.
    Sqlite {
        /// Where.
        path: PathBuf,
        /// Whether nobody named it: then its folder is made.
        default: bool,
    },
    /// The memory of this process.
    Memory,
    /// A Redis or Valkey server.
    Redis {
        /// The URL, without passwords.
        shown: String,
    },
    /// A PostgreSQL server.
    Postgres {
        /// The URL, without passwords.
        shown: String,
    },
}

const LOCK_FORMS: &str = "write sqlite:///PATH, sqlite:RELATIVE or memory:";
const LEDGER_FORMS: &str = "write sqlite:///PATH or sqlite:RELATIVE";

impl Store {
    /// Reads the URL of a lock store.
    pub(super) fn lock(url: &str) -> Result<Self, String> {
        let (scheme, rest) = split(url, LOCK_FORMS)?;
        match scheme.as_str() {
            "sqlite" => sqlite(rest, LOCK_FORMS),
            "memory" if rest.trim_matches('/').is_empty() => Ok(Self::Memory),
            "memory" => Err(format!("memory: takes no path; {LOCK_FORMS}")),
            "redis" | "rediss" | "valkey" | "valkeys" | "unix" => {
                Ok(Self::Redis { shown: masked(url) })
            }
            "postgres" | "postgresql" => {
                Err(format!("PostgreSQL keeps the ledger, not locks; {LOCK_FORMS}"))
            }
            _ => Err(format!("unknown scheme {scheme:?}; {LOCK_FORMS}")),
        }
    }

    /// Reads the URL of a ledger.
    pub(super) fn ledger(url: &str) -> Result<Self, String> {
        let (scheme, rest) = split(url, LEDGER_FORMS)?;
        match scheme.as_str() {
            "sqlite" => sqlite(rest, LEDGER_FORMS),
            "postgres" | "postgresql" => Ok(Self::Postgres { shown: masked(url) }),
            "memory" => Err(format!("a ledger must outlive its process; {LEDGER_FORMS}")),
            "redis" | "rediss" | "valkey" | "valkeys" | "unix" => {
                Err(format!("Redis keeps locks, not the ledger; {LEDGER_FORMS}"))
            }
            _ => Err(format!("unknown scheme {scheme:?}; {LEDGER_FORMS}")),
        }
    }

    /// Whether clients on several machines can meet there.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self, Self::Redis { .. } | Self::Postgres { .. })
    }

    /// The URL in its one spelling.
    pub(crate) fn url(&self) -> String {
        self.to_string()
    }
}

impl Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { path, .. } if path.is_absolute() => {
                write!(f, "sqlite://{}", path.display())
            }
            Self::Sqlite { path, .. } => write!(f, "sqlite:{}", path.display()),
            Self::Memory => f.write_str("memory:"),
            Self::Redis { shown } | Self::Postgres { shown } => f.write_str(shown),
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
fn sqlite(rest: &str, forms: &str) -> Result<Store, String> {
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
    Ok(Store::Sqlite { path: path.into(), default: false })
}

/// The URL with its password as `***`.
pub(super) fn masked(url: &str) -> String {
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
