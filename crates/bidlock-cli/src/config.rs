//! Where settings come from: flags, then the environment, then `.env`, then defaults.

mod file;
mod redis;
mod sources;

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bidlock::{OldTable, Prefix, StoreUrl};

use crate::args::{Global, UrlText};
pub(crate) use sources::{Environment, Origin};

use sources::{Found, Sources};

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConfigError {
    /// A value that means nothing.
    #[error("{name} {:?} ({origin}): {why}", cut(value))]
    Value {
        /// The variable or flag.
        name: &'static str,
        /// Its value, without passwords.
        value: String,
        /// Where it was found.
        origin: Origin,
        /// What is wrong, and what is accepted.
        why: String,
    },
    /// A store that this build cannot talk to.
    #[error("{name} {:?} ({origin}): {backend} is not in this build", cut(value))]
    NotBuilt {
        /// The variable or flag.
        name: &'static str,
        /// Its value, without passwords.
        value: String,
        /// Where it was found.
        origin: Origin,
        /// The store's kind, for people.
        backend: &'static str,
    },
    /// The file of settings cannot be used.
    #[error("{}: {why}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line where there is one.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// There is no place for the default file.
    #[error("no place for the default store: neither HOME nor XDG_STATE_HOME is set")]
    NoHome,
    /// A lock that ends with this process keeps nobody out.
    #[error(
        "{name} {value:?} ({origin}): such a lock ends with this process, and keeps nobody out"
    )]
    Alone {
        /// The variable or flag.
        name: &'static str,
        /// Its value.
        value: String,
        /// Where it was found.
        origin: Origin,
    },
    /// Several machines share the lock store, but not the ledger.
    #[error("the lock store {lock} is shared between machines, but the ledger {ledger} is not")]
    LocalLedger {
        /// The lock store, without passwords.
        lock: String,
        /// The ledger, without passwords.
        ledger: String,
    },
}

/// A value as a message shows it: a long one is cut.
fn cut(value: &str) -> String {
    const SHOWN_MAX: usize = 200;
    value.char_indices().nth(SHOWN_MAX).map_or(value.into(), |(at, _)| format!("{}…", &value[..at]))
}

impl ConfigError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Value { name, origin, .. } => format!("correct {name} in {origin}"),
            Self::NotBuilt { name, origin, .. } => {
                let flag = if name.contains("LEDGER") || *name == FLAG_LEDGER {
                    FLAG_LEDGER
                } else {
                    FLAG_URL
                };
                format!(
                    "unset {name} in {origin}, or use a file: {flag} sqlite:///var/lib/bidlock.db"
                )
            }
            Self::File { hint, .. } => (*hint).to_owned(),
            Self::NoHome => "set HOME, or name a file: --url sqlite:///var/lib/bidlock.db".into(),
            Self::Alone { .. } => "name a file: --url sqlite:///var/lib/bidlock.db".into(),
            Self::LocalLedger { .. } => "name a ledger that all machines reach \
                                         (BIDLOCK_LEDGER_URL), or say --local-ledger if only \
                                         this machine bids"
                .into(),
        }
    }
}

/// A setting and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    /// What it is.
    pub(crate) value: T,
    /// The variable that set it.
    pub(crate) name: &'static str,
    /// Where that variable was found.
    pub(crate) origin: Origin,
}

impl<T: Display> Display for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.value, self.origin)
    }
}

impl Setting<StoreUrl> {
    /// The file that was named for it, where there is none; of one that may not be looked at,
    /// opening it tells. The default file is made when it is needed.
    pub(crate) fn missing_file(&self) -> Option<&Path> {
        let StoreUrl::Sqlite(path) = &self.value else { return None };
        let missing = self.origin != Origin::Default && matches!(path.try_exists(), Ok(false));
        missing.then_some(path)
    }
}

/// All settings.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The lock store.
    pub(crate) lock: Setting<StoreUrl>,
    /// The bid ledger.
    pub(crate) ledger: Setting<StoreUrl>,
    /// The text before every key.
    pub(crate) prefix: Setting<Prefix>,
    /// The lock table of an older system, where it is held as well.
    pub(crate) also: Option<Setting<OldTable>>,
    /// Whether a ledger of this machine only is meant.
    pub(crate) local_ledger: Setting<bool>,
    /// How long after its send-by a bid may still come to show, where no flag says it.
    pub(crate) visibility_lag: Duration,
    /// Where the last bids are remembered, beside the ledger (L12); none without a home.
    pub(crate) marks: Option<PathBuf>,
    /// What people should know about how these were found.
    pub(crate) notes: Vec<String>,
    /// The file that is used because nothing names a lock store.
    pub(crate) default_file: Option<PathBuf>,
}

const FLAG_URL: &str = "--url";
const FLAG_LEDGER: &str = "--ledger-url";

impl Config {
    /// Merges the settings.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable, its value, and what is accepted.
    pub(crate) fn load(flags: &Global, environment: &Environment) -> Result<Self, ConfigError> {
        let sources = Sources::read(flags, environment)?;
        let mut notes = Vec::new();
        let mut lock = lock_store(flags, &sources, &mut notes)?;
        let mut ledger = ledger_store(flags, &sources, &lock)?;
        lock.stands_in(&environment.folder);
        ledger.stands_in(&environment.folder);
        let prefix = prefix(flags, &sources)?;
        let also = also(flags, &sources, &environment.folder, &ledger)?;
        let local_ledger = local_ledger(flags, &sources)?;
        let visibility_lag = sources
            .variable("BIDLOCK_VISIBILITY_LAG")
            .map(|found| crate::args::visibility_lag(&found.text).map_err(|why| found.refuse(why)));
        let visibility_lag = visibility_lag.transpose()?.unwrap_or_default();
        let default_file = match &lock.value {
            StoreUrl::Sqlite(path) if lock.origin == Origin::Default => Some(path.clone()),
            _ => None,
        };
        let marks = sources.state_file().ok().map(|file| file.with_file_name("marks"));
        Ok(Self {
            lock,
            ledger,
            prefix,
            also,
            local_ledger,
            visibility_lag,
            marks,
            notes,
            default_file,
        })
    }

    /// Refuses a lock store that several machines share beside a ledger that they do not: two
    /// machines would each see an empty ledger.
    ///
    /// # Errors
    /// [`ConfigError::LocalLedger`], before anything is contacted.
    pub(crate) fn check_bidding(&self) -> Result<(), ConfigError> {
        if self.lock.value.is_shared() && !self.ledger.value.is_shared() && !self.local_ledger.value
        {
            return Err(ConfigError::LocalLedger {
                lock: self.lock.value.to_string(),
                ledger: self.ledger.value.to_string(),
            });
        }
        Ok(())
    }
}

impl Setting<StoreUrl> {
    /// Refuses a lock store that no other process can reach: nothing else would be kept out (P5).
    ///
    /// # Errors
    /// [`ConfigError::Alone`].
    pub(crate) fn check_keeps_others_out(&self) -> Result<(), ConfigError> {
        if self.value != StoreUrl::Memory {
            return Ok(());
        }
        let (value, origin) = (self.value.to_string(), self.origin.clone());
        Err(ConfigError::Alone { name: self.name, value, origin })
    }

    /// Makes a relative path absolute, so that every message says which file is meant.
    fn stands_in(&mut self, folder: &Path) {
        if let StoreUrl::Sqlite(path) = &mut self.value {
            // Collected anew, because `./x.db` in a folder would keep its dot.
            *path = folder.join(&*path).components().collect();
        }
    }

    /// The store, when this build can talk to it.
    ///
    /// # Errors
    /// [`ConfigError::NotBuilt`] names the variable, before anything is contacted.
    pub(crate) fn built(&self) -> Result<&StoreUrl, ConfigError> {
        let Some(backend) = self.value.not_built() else { return Ok(&self.value) };
        Err(ConfigError::NotBuilt {
            name: self.name,
            value: self.value.to_string(),
            origin: self.origin.clone(),
            backend,
        })
    }
}

fn lock_store(
    flags: &Global,
    sources: &Sources,
    notes: &mut Vec<String>,
) -> Result<Setting<StoreUrl>, ConfigError> {
    let own = sources.flag_or(FLAG_URL, flags.url.as_ref().map(UrlText::expose), "BIDLOCK_URL");
    if let Some(found) = own.or_else(|| sources.variable("REDIS_URL")) {
        if found.name == "REDIS_URL" {
            let parts = redis::PARTS.into_iter().chain(redis::USERS);
            let more: Vec<_> = parts.filter(|name| sources.variable(name).is_some()).collect();
            if !more.is_empty() {
                notes.push(format!("REDIS_URL is used; {} is not", more.join(", ")));
            }
        }
        let store = read(&found, StoreUrl::lock)?;
        // By how it is shown: `rediss:` and `unix:` need no more.
        if found.name == "REDIS_URL" && store.value.to_string().starts_with("redis:") {
            redis::no_tls_is_asked_for(sources)?;
        }
        return Ok(store);
    }
    if let Some(parts) = redis::from_parts(sources)? {
        return Ok(parts);
    }
    let path = sources.state_file()?;
    let value = StoreUrl::Sqlite(path);
    Ok(Setting { value, name: "BIDLOCK_URL", origin: Origin::Default })
}

/// What is wrong with a URL, without the URL itself.
fn why(refused: bidlock::ConfigError) -> String {
    match refused {
        bidlock::ConfigError::Url { why, .. } => why,
        other => other.to_string(),
    }
}

fn ledger_store(
    flags: &Global,
    sources: &Sources,
    lock: &Setting<StoreUrl>,
) -> Result<Setting<StoreUrl>, ConfigError> {
    let flag = flags.ledger_url.as_ref().map(UrlText::expose);
    let found = sources.flag_or(FLAG_LEDGER, flag, "BIDLOCK_LEDGER_URL");
    if let Some(found) = found {
        return read(&found, StoreUrl::ledger);
    }
    let (value, origin) = match &lock.value {
        file @ StoreUrl::Sqlite(_) if lock.origin == Origin::Default => {
            (file.clone(), Origin::Default)
        }
        file @ StoreUrl::Sqlite(_) => (file.clone(), Origin::Locks),
        _ => (StoreUrl::Sqlite(sources.state_file()?), Origin::Default),
    };
    Ok(Setting { value, name: "BIDLOCK_LEDGER_URL", origin })
}

fn read(
    found: &Found,
    parse: impl FnOnce(&str) -> Result<StoreUrl, bidlock::ConfigError>,
) -> Result<Setting<StoreUrl>, ConfigError> {
    let value = parse(&found.text).map_err(|refused| ConfigError::Value {
        name: found.name,
        value: bidlock::masked(&found.text),
        origin: found.origin.clone(),
        why: why(refused),
    })?;
    Ok(Setting { value, name: found.name, origin: found.origin.clone() })
}

fn prefix(flags: &Global, sources: &Sources) -> Result<Setting<Prefix>, ConfigError> {
    match sources.flag_or("--prefix", flags.prefix.as_deref(), "BIDLOCK_PREFIX") {
        None => Ok(Setting {
            value: Prefix::default(),
            name: "BIDLOCK_PREFIX",
            origin: Origin::Default,
        }),
        Some(found) => {
            let value = Prefix::new(&found.text).map_err(|refused| found.refuse(refused.why))?;
            Ok(Setting { value, name: found.name, origin: found.origin })
        }
    }
}

/// The lock table of an older system; its file stays as it is, so nothing else may lie in it.
fn also(
    flags: &Global,
    sources: &Sources,
    folder: &Path,
    ledger: &Setting<StoreUrl>,
) -> Result<Option<Setting<OldTable>>, ConfigError> {
    let flag = flags.also.as_ref().map(UrlText::expose);
    let Some(found) = sources.flag_or("--also", flag, "BIDLOCK_ALSO") else { return Ok(None) };
    let refuse = |why: String| ConfigError::Value {
        name: found.name,
        value: bidlock::masked(&found.text),
        origin: found.origin.clone(),
        why,
    };
    let value = OldTable::parse(&found.text).map_err(|refused| refuse(why(refused)))?;
    let value = value.in_folder(folder);
    if matches!(&ledger.value, StoreUrl::Sqlite(path) if path == value.path()) {
        return Err(refuse("the ledger is to be in the same file; name another one".to_owned()));
    }
    Ok(Some(Setting { value, name: found.name, origin: found.origin }))
}

fn local_ledger(flags: &Global, sources: &Sources) -> Result<Setting<bool>, ConfigError> {
    let name = "BIDLOCK_LOCAL_LEDGER";
    if flags.local_ledger {
        return Ok(Setting { value: true, name: "--local-ledger", origin: Origin::Flag });
    }
    let Some(found) = sources.variable(name) else {
        return Ok(Setting { value: false, name, origin: Origin::Default });
    };
    let value = match found.text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => true,
        "0" | "false" | "no" | "off" => false,
        _ => return Err(found.refuse("write 1 or 0".to_owned())),
    };
    Ok(Setting { value, name, origin: found.origin })
}

#[cfg(test)]
mod tests;
