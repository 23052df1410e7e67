use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bidlock_core::{Backend, Diagnose, Platform, Prefix};

use crate::Error;
use crate::open::{self, ConfigError};
use crate::store_url::{StoreUrl, masked};

const FORMS: &str = "write sqlite:///PATH?table=NAME or sqlite:RELATIVE?table=NAME";

/// The lock table of an older system, which leases hold as well while its last workers are left:
/// `sqlite:old.db?table=distributed_locks`.
///
/// The table has the columns `id` (primary key), `lock_key` (unique,
/// `bid:lock:{marketplace}:{posting}`), `holder_id`, `acquired_at` and `expires_at` (seconds since
/// 1970).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldTable {
    path: PathBuf,
    table: String,
}

impl OldTable {
    /// Reads the URL of an old lock table.
    ///
    /// # Errors
    /// [`ConfigError::Url`] says what is wrong, and what is accepted.
    ///
    /// # Examples
    /// ```
    /// use bidlock::OldTable;
    /// let old = OldTable::parse("sqlite:///srv/old.db?table=distributed_locks")?;
    /// assert_eq!(old.to_string(), "sqlite:///srv/old.db?table=distributed_locks");
    /// assert!(OldTable::parse("sqlite:///srv/old.db?table=a;b").is_err());
    /// # Ok::<(), bidlock::ConfigError>(())
    /// ```
    pub fn parse(url: &str) -> Result<Self, ConfigError> {
        let refuse = |why: String| ConfigError::Url { url: masked(url), why };
        let (file, options) = url.split_once('?').unwrap_or((url, ""));
        if !file.to_ascii_lowercase().starts_with("sqlite:") {
            return Err(refuse(format!("an old lock table is in a SQLite file; {FORMS}")));
        }
        let Ok(StoreUrl::Sqlite(path)) = StoreUrl::lock(file) else {
            return Err(refuse(format!("no file is named; {FORMS}")));
        };
        let Some(table) = options.strip_prefix("table=") else {
            let why = format!("its table is not named, such as ?table=distributed_locks; {FORMS}");
            return Err(refuse(why));
        };
        if !is_name(table) {
            let why = "a table's name is 1 to 64 letters, digits and underscores, and begins with \
                       no digit";
            return Err(refuse(format!("{why}; {FORMS}")));
        }
        Ok(Self { path, table: table.to_owned() })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The table in it.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The same table in a file that a relative path means from another folder.
    #[must_use]
    pub fn in_folder(&self, folder: &Path) -> Self {
        // Collected anew, because `./x.db` in a folder would keep its dot.
        let path = folder.join(&self.path).components().collect();
        Self { path, table: self.table.clone() }
    }

    /// Looks at the table for what could harm locks that it shares with old workers. Nothing is
    /// opened before it is asked to look.
    #[must_use]
    pub fn doctor(&self, platform: &Platform) -> Option<Arc<dyn Diagnose>> {
        diagnose(self, platform)
    }

    /// Whether a store is in the same file.
    fn is_in(&self, url: &StoreUrl) -> bool {
        let StoreUrl::Sqlite(path) = url else { return false };
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        path == &self.path || real(path).is_some_and(|path| real(&self.path) == Some(path))
    }
}

impl Display for OldTable {
    /// Writes the URL in its one spelling.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?table={}", StoreUrl::Sqlite(self.path.clone()), self.table)
    }
}

fn is_name(text: &str) -> bool {
    const BYTES_MAX: usize = 64;
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    first && text.len() <= BYTES_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Opens a lock store, with the old table beside it where there is one.
pub(crate) async fn backend(
    url: &StoreUrl,
    also: Option<&OldTable>,
    prefix: &Prefix,
    platform: &Platform,
) -> Result<Arc<dyn Backend>, Error> {
    let Some(old) = also else { return open::backend(url, prefix, platform).await };
    if old.is_in(url) {
        let why = "the new locks are to be in the same file; name another one for them".to_owned();
        return Err(ConfigError::Url { url: old.to_string(), why }.into());
    }
    over(url, old, prefix, platform).await
}

/// A store that is open already has no bridge.
pub(crate) fn refuse(old: &OldTable) -> Error {
    let why = "a bridge is set up where the store is opened: by its URL".to_owned();
    ConfigError::Url { url: old.to_string(), why }.into()
}

#[cfg(feature = "sqlite")]
async fn over(
    url: &StoreUrl,
    old: &OldTable,
    prefix: &Prefix,
    platform: &Platform,
) -> Result<Arc<dyn Backend>, Error> {
    use bidlock_sqlite::legacy::{Bridge, OldLocks};

    // The old table first: it has to be there before anything new is made.
    let locks = OldLocks::connect(&old.path, &old.table, platform).await?;
    let inner = open::backend(url, prefix, platform).await?;
    Ok(Arc::new(Bridge::new(inner, locks, prefix, platform)))
}

#[cfg(feature = "sqlite")]
#[expect(clippy::unnecessary_wraps, reason = "without SQLite there is none")]
fn diagnose(old: &OldTable, platform: &Platform) -> Option<Arc<dyn Diagnose>> {
    Some(Arc::new(bidlock_sqlite::legacy::Doctor::new(&old.path, &old.table, platform)))
}

#[cfg(not(feature = "sqlite"))]
async fn over(
    _url: &StoreUrl,
    old: &OldTable,
    _prefix: &Prefix,
    _platform: &Platform,
) -> Result<Arc<dyn Backend>, Error> {
    let (url, store) = (old.to_string(), "SQLite");
    std::future::ready(Err(ConfigError::NotBuilt { url, store }.into())).await
}

#[cfg(not(feature = "sqlite"))]
fn diagnose(_old: &OldTable, _platform: &Platform) -> Option<Arc<dyn Diagnose>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_table_is_a_table_in_a_file() {
        let old = OldTable::parse("sqlite:old.db?table=distributed_locks").unwrap();
        assert_eq!((old.path(), old.table()), (Path::new("old.db"), "distributed_locks"));
        let there = old.in_folder(Path::new("/srv"));
        assert_eq!(there.to_string(), "sqlite:///srv/old.db?table=distributed_locks");
        assert_eq!(OldTable::parse(&there.to_string()).unwrap(), there);
    }

    #[test]
    fn what_names_no_table_is_refused_with_what_is_accepted() {
        for (bad, said) in [
            ("", "SQLite file"),
            ("redis://u:s3cret@h?table=t", "SQLite file"),
            ("sqlite:?table=t", "no file"),
            ("sqlite://host/x?table=t", "no file"),
            ("sqlite:old.db", "?table=distributed_locks"),
            ("sqlite:old.db?mode=ro", "?table=distributed_locks"),
            ("sqlite:old.db?table=", "1 to 64"),
            ("sqlite:old.db?table=1t", "1 to 64"),
            ("sqlite:old.db?table=t&x=1", "1 to 64"),
            ("sqlite:old.db?table=t\";DROP", "1 to 64"),
        ] {
            let refused = OldTable::parse(bad).unwrap_err().to_string();
            assert!(refused.contains(said) && refused.contains(FORMS), "{bad}: {refused}");
            assert!(!refused.contains("s3cret"), "{refused}");
        }
    }
}
