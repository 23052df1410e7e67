use std::path::{Path, PathBuf};
use std::sync::Arc;

use bidlock_core::{Backend, Memory, Platform};

use crate::Error;

/// Why a store cannot be set up as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL's scheme names no store.
    #[error("{url:?}: unknown scheme {scheme:?}; a lock store is {accepted}")]
    Scheme {
        /// What was given, without a password.
        url: String,
        /// The part before the colon.
        scheme: String,
        /// What would be understood.
        accepted: &'static str,
    },
    /// The URL names a store that this build does not have.
    #[error("{url:?}: {store} is not in this build yet; use {instead}")]
    NotBuilt {
        /// What was given, without a password.
        url: String,
        /// The store.
        store: &'static str,
        /// What this build has.
        instead: &'static str,
    },
    /// The URL cannot be read.
    #[error("{url:?}: {why}")]
    Malformed {
        /// What was given, without a password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The background thread, or what the operating system tells of itself, is not to be had.
    #[error("cannot start the background thread")]
    Platform(#[source] std::io::Error),
}

/// What this build understands.
const ACCEPTED: &str = "sqlite:///abs/path, sqlite:relative/path or memory:";

/// Where a store keeps what it is told, and so who can share it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreUrl {
    /// In this process, gone with it.
    Memory,
    /// In a file of this machine.
    Sqlite(PathBuf),
}

impl StoreUrl {
    /// Reads a URL. Passwords in it never reach an error.
    ///
    /// # Errors
    /// [`ConfigError`] names the URL, what is wrong, and what is accepted.
    ///
    /// # Examples
    /// ```
    /// use bidlock::StoreUrl;
    /// let file = StoreUrl::Sqlite("/var/lib/bids.db".into());
    /// assert_eq!(StoreUrl::parse("sqlite:////var/lib/bids.db")?, file);
    /// assert!(StoreUrl::parse("mysql://h").is_err());
    /// # Ok::<(), bidlock::ConfigError>(())
    /// ```
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let shown = redact(url);
        let malformed =
            |why: &str| ConfigError::Malformed { url: redact(url), why: why.to_owned() };
        let Some((scheme, rest)) = url.split_once(':') else {
            return Err(malformed("no scheme; write sqlite:FILE for a file, or memory:"));
        };
        match scheme {
            "memory" if rest.is_empty() || rest == "//" => Ok(Self::Memory),
            "memory" => Err(malformed("memory: takes nothing after the colon")),
            "sqlite" => sqlite_path(rest).map(Self::Sqlite).map_err(|why| malformed(&why)),
            "redis" | "rediss" | "valkey" | "valkeys" | "unix" => Err(ConfigError::NotBuilt {
                url: shown,
                store: "Redis or Valkey",
                instead: "a file on this machine: sqlite:///path/to/bidlock.db",
            }),
            "postgres" | "postgresql" => Err(ConfigError::NotBuilt {
                url: shown,
                store: "PostgreSQL",
                instead: "a file on this machine: sqlite:///path/to/bidlock.db",
            }),
            other => {
                let scheme = other.to_owned();
                Err(ConfigError::Scheme { url: shown, scheme, accepted: ACCEPTED })
            }
        }
    }
}

/// The path of a `sqlite:` URL: absolute after slashes, however many, else relative.
fn sqlite_path(rest: &str) -> Result<PathBuf, String> {
    if rest.contains(['?', '#', '\0']) {
        return Err("a path without ?, # and NUL is expected; options are not taken".to_owned());
    }
    let bare = rest.trim_start_matches('/');
    if bare.is_empty() {
        return Err("no path; write sqlite:///abs/path or sqlite:relative/path".to_owned());
    }
    match rest.len() - bare.len() {
        0 => Ok(PathBuf::from(bare)),
        2 => Err(format!("{bare:?} stands where a host would; write sqlite:///{bare}")),
        _ => Ok(Path::new("/").join(bare)),
    }
}

/// The URL without what may be a password.
pub(crate) fn redact(url: &str) -> String {
    let shown = match (url.split_once("://"), url.rfind('@')) {
        (Some((scheme, rest)), Some(at)) => match url[..at].rfind(':') {
            Some(colon) if colon > scheme.len() => format!("{}:***{}", &url[..colon], &url[at..]),
            _ => format!("{scheme}://{rest}"),
        },
        _ => url.to_owned(),
    };
    shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Opens a lock store.
pub(crate) async fn backend(url: &str, platform: &Platform) -> Result<Arc<dyn Backend>, Error> {
    match StoreUrl::parse(url)? {
        StoreUrl::Memory => Ok(Arc::new(Memory::new(platform))),
        StoreUrl::Sqlite(path) => sqlite(path, platform).await,
    }
}

#[cfg(feature = "sqlite")]
async fn sqlite(path: PathBuf, platform: &Platform) -> Result<Arc<dyn Backend>, Error> {
    let platform = platform.clone();
    let open = off_the_runtime(move || bidlock_sqlite::Sqlite::open(&path, &platform)).await?;
    Ok(Arc::new(open?))
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(path: PathBuf, _platform: &Platform) -> Result<Arc<dyn Backend>, Error> {
    let url = format!("sqlite:{}", path.display());
    let instead = "memory:, or the feature `sqlite`";
    Err(ConfigError::NotBuilt { url, store: "SQLite", instead }.into())
}

/// Runs what may block on a thread of its own.
pub(crate) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ConfigError> {
    let (done, waited) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("bidlock-open".to_owned());
    let started = thread.spawn(move || {
        // Nobody is left to hear it when the caller has gone away.
        drop(done.send(work()));
    });
    drop(started.map_err(ConfigError::Platform)?);
    waited.await.map_err(|_| ConfigError::Platform(std::io::Error::other("it panicked")))
}
