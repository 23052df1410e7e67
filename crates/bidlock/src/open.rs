use std::path::Path;
use std::sync::Arc;

use bidlock_core::{Backend, Diagnose, Memory, Platform, Prefix};
use bidlock_ledger::Ledger;

use crate::Error;
use crate::doctor::Answers;
use crate::store_url::{PostgresConfig, RedisConfig, StoreUrl};

/// Why a store cannot be set up as it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL cannot be read, or names no store that fits.
    #[error("{url:?}: {why}")]
    Url {
        /// What was given, without its password.
        url: String,
        /// What is wrong with it, and what is accepted.
        why: String,
    },
    /// The URL names a store that this build does not have.
    #[error("{url:?}: {store} is not in this build; a file is: sqlite:///PATH")]
    NotBuilt {
        /// What was given, without its password.
        url: String,
        /// The store's kind, for people.
        store: &'static str,
    },
    /// The background thread, or what the operating system tells of itself, is not to be had.
    #[error("cannot start the background thread")]
    Platform(#[source] std::io::Error),
}

/// Opens a lock store, for keys under a prefix.
pub(crate) async fn backend(
    url: &StoreUrl,
    prefix: &Prefix,
    platform: &Platform,
) -> Result<Arc<dyn Backend>, Error> {
    match url {
        StoreUrl::Memory => Ok(Arc::new(Memory::new(platform))),
        StoreUrl::Sqlite(path) => sqlite(path, platform).await,
        StoreUrl::Redis(config) => redis(config, prefix, platform).await,
        StoreUrl::Postgres(_) => {
            let why = "PostgreSQL keeps the ledger, not locks".to_owned();
            Err(ConfigError::Url { url: url.to_string(), why }.into())
        }
    }
}

/// Looks at a lock store for what could harm locks under a prefix; `None` for a store that keeps
/// none. Nothing is opened before it is asked to look.
///
/// # Examples
/// ```
/// # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// # runtime.block_on(async {
/// use bidlock::{Prefix, Severity, StoreUrl, Ttl};
///
/// let (url, prefix) = (StoreUrl::lock("memory:")?, Prefix::default());
/// let platform = bidlock::platform::system()?;
/// let doctor = bidlock::doctor(&url, &prefix, &platform).expect("a lock store");
/// for finding in doctor.diagnose(Ttl::default()).await {
///     assert!(finding.severity < Severity::Failure, "{}", finding.found);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn doctor(url: &StoreUrl, prefix: &Prefix, platform: &Platform) -> Option<Arc<dyn Diagnose>> {
    match url {
        StoreUrl::Postgres(_) => None,
        StoreUrl::Redis(config) => Some(redis_doctor(config, prefix, platform)),
        StoreUrl::Memory | StoreUrl::Sqlite(_) => Some(Answers::of(url, prefix, platform)),
    }
}

/// Looks at a ledger for what could lose or repeat a bid; `None` for a store that keeps none, or is
/// not in this build. Nothing is opened before it is asked to look, and nothing is changed by it.
/// The TTL that it takes means nothing to a ledger.
#[must_use]
pub fn ledger_doctor(url: &StoreUrl, platform: &Platform) -> Option<Arc<dyn Diagnose>> {
    match url {
        StoreUrl::Sqlite(path) => Some(Arc::new(bidlock_ledger::SqliteDoctor::new(path, platform))),
        #[cfg(feature = "postgres")]
        StoreUrl::Postgres(config) => {
            Some(Arc::new(bidlock_ledger::PostgresDoctor::new(config, platform)))
        }
        #[cfg(not(feature = "postgres"))]
        StoreUrl::Postgres(_) => None,
        StoreUrl::Memory | StoreUrl::Redis(_) => None,
    }
}

/// Opens the ledger that a URL names, with the clocks of its locker.
///
/// # Errors
/// [`Error::Config`] for a store that cannot keep a ledger, or not in this build;
/// [`Error::Ledger`] for one that cannot be opened.
///
/// # Cancel safety
/// A file, or a schema, may be left created.
pub async fn open_ledger(url: &StoreUrl, platform: &Platform) -> Result<Ledger, Error> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Ledger::connect_sqlite(path, platform).await?),
        StoreUrl::Postgres(config) => postgres(config, platform).await,
        StoreUrl::Memory | StoreUrl::Redis(_) => {
            let why = "it keeps locks, not the ledger".to_owned();
            Err(ConfigError::Url { url: url.to_string(), why }.into())
        }
    }
}

/// Opens the ledger that a URL names where there is one of this version: none where it is missing,
/// or older. Nothing is made or changed by it, as [`open_ledger`] would.
///
/// # Errors
/// As [`open_ledger`].
///
/// # Cancel safety
/// Nothing is changed by it.
pub async fn find_ledger(url: &StoreUrl, platform: &Platform) -> Result<Option<Ledger>, Error> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Ledger::find_sqlite(path, platform).await?),
        StoreUrl::Postgres(config) => find(config, platform).await,
        StoreUrl::Memory | StoreUrl::Redis(_) => open_ledger(url, platform).await.map(Some),
    }
}

/// Makes the schema of the ledger that a URL names, or brings it up to date, where that is not
/// done by whoever opens it: as the role that owns it. Tells the version that was there; none to
/// the one caller that has made it, whoever else is at it.
///
/// # Errors
/// As [`open_ledger`].
///
/// # Cancel safety
/// A file, or a schema, may be left created or changed.
pub async fn migrate_ledger(url: &StoreUrl, platform: &Platform) -> Result<Option<u32>, Error> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Ledger::migrate_sqlite(path, platform).await?),
        StoreUrl::Postgres(config) => migrate(config, platform).await,
        StoreUrl::Memory | StoreUrl::Redis(_) => open_ledger(url, platform).await.map(|_| None),
    }
}

#[cfg(feature = "postgres")]
async fn postgres(config: &PostgresConfig, platform: &Platform) -> Result<Ledger, Error> {
    let store = bidlock_ledger::PostgresStore::connect(config, platform).await?;
    Ok(Ledger::new(Arc::new(store), platform))
}

#[cfg(feature = "postgres")]
async fn find(config: &PostgresConfig, platform: &Platform) -> Result<Option<Ledger>, Error> {
    let store = bidlock_ledger::PostgresStore::find(config, platform).await?;
    Ok(store.map(|store| Ledger::new(Arc::new(store), platform)))
}

#[cfg(feature = "postgres")]
async fn migrate(config: &PostgresConfig, platform: &Platform) -> Result<Option<u32>, Error> {
    Ok(bidlock_ledger::PostgresStore::migrate(config, platform).await?)
}

#[cfg(not(feature = "postgres"))]
async fn postgres(config: &PostgresConfig, _platform: &Platform) -> Result<Ledger, Error> {
    let url = StoreUrl::Postgres(config.clone());
    std::future::ready(Err(not_built(&url, "PostgreSQL").into())).await
}

#[cfg(not(feature = "postgres"))]
async fn find(config: &PostgresConfig, platform: &Platform) -> Result<Option<Ledger>, Error> {
    postgres(config, platform).await.map(Some)
}

#[cfg(not(feature = "postgres"))]
async fn migrate(config: &PostgresConfig, platform: &Platform) -> Result<Option<u32>, Error> {
    postgres(config, platform).await.map(|_| None)
}

#[cfg(feature = "sqlite")]
async fn sqlite(path: &Path, platform: &Platform) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(bidlock_sqlite::Sqlite::connect(path, platform).await?))
}

#[cfg(not(feature = "sqlite"))]
async fn sqlite(path: &Path, _platform: &Platform) -> Result<Arc<dyn Backend>, Error> {
    let url = StoreUrl::Sqlite(path.to_owned());
    std::future::ready(Err(not_built(&url, "SQLite").into())).await
}

#[cfg(feature = "redis")]
async fn redis(
    config: &RedisConfig,
    prefix: &Prefix,
    platform: &Platform,
) -> Result<Arc<dyn Backend>, Error> {
    Ok(Arc::new(bidlock_redis::Redis::connect(config, prefix, platform).await?))
}

#[cfg(feature = "redis")]
fn redis_doctor(config: &RedisConfig, prefix: &Prefix, platform: &Platform) -> Arc<dyn Diagnose> {
    Arc::new(bidlock_redis::Doctor::new(config, prefix, platform))
}

#[cfg(not(feature = "redis"))]
async fn redis(
    config: &RedisConfig,
    _prefix: &Prefix,
    _platform: &Platform,
) -> Result<Arc<dyn Backend>, Error> {
    let url = StoreUrl::Redis(config.clone());
    std::future::ready(Err(not_built(&url, "Redis").into())).await
}

#[cfg(not(feature = "redis"))]
fn redis_doctor(config: &RedisConfig, prefix: &Prefix, platform: &Platform) -> Arc<dyn Diagnose> {
    // It finds that the store cannot be opened.
    Answers::of(&StoreUrl::Redis(config.clone()), prefix, platform)
}

#[cfg(not(all(feature = "postgres", feature = "redis", feature = "sqlite")))]
fn not_built(url: &StoreUrl, store: &'static str) -> ConfigError {
    ConfigError::NotBuilt { url: url.to_string(), store }
}
