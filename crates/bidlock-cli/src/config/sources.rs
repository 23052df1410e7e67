use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::PathBuf;

use super::ConfigError;
use super::file::read_file;
use crate::args::Global;

/// Where a setting was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the command line.
    Flag,
    /// In the environment.
    Environment,
    /// In a file of settings.
    File(PathBuf),
    /// Nowhere, but it follows the lock store, which was named.
    Locks,
    /// Nowhere.
    Default,
}

impl Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("the command line"),
            Self::Environment => f.write_str("the environment"),
            Self::File(path) => Display::fmt(&path.display(), f),
            Self::Locks => f.write_str("beside the locks"),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// What surrounds the process, handed in so that tests need not change it. It may hold passwords,
/// so it has no Debug.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// The variables.
    pub(crate) variables: HashMap<OsString, OsString>,
    /// The folder that relative paths start from.
    pub(crate) folder: PathBuf,
}

impl Environment {
    /// Reads the real one. Where the folder is gone, relative paths will fail by themselves.
    pub(crate) fn read() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            folder: std::env::current_dir().unwrap_or_default(),
        }
    }

    /// A variable; an empty one counts as unset.
    fn get(&self, name: &str) -> Option<&OsString> {
        self.variables.get(&OsString::from(name)).filter(|value| !value.is_empty())
    }
}

/// A value, which may be a password, and the variable that has it.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) name: &'static str,
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl Found {
    /// Refuses the value; a password is not repeated.
    pub(super) fn refuse(&self, why: String) -> ConfigError {
        ConfigError::Value {
            name: self.name,
            value: self.text.clone(),
            origin: self.origin.clone(),
            why,
        }
    }
}

/// The environment, with the file of settings behind it.
pub(super) struct Sources<'a> {
    environment: &'a Environment,
    file: Option<(PathBuf, HashMap<String, String>)>,
}

impl<'a> Sources<'a> {
    /// Reads the file of settings, where there is one.
    pub(super) fn read(flags: &Global, environment: &'a Environment) -> Result<Self, ConfigError> {
        let file = match (&flags.env_file, flags.no_env_file) {
            (_, true) => None,
            (Some(path), false) => {
                let found = read_file(path)?;
                Some(found.ok_or_else(|| ConfigError::File {
                    path: path.clone(),
                    why: "there is no such file".to_owned(),
                    hint: "correct --env-file, or leave it out",
                })?)
            }
            (None, false) => read_file(&environment.folder.join(".env"))?,
        };
        Ok(Self { environment, file })
    }

    /// A flag's value, else the variable's.
    pub(super) fn flag_or(
        &self,
        flag: &'static str,
        value: Option<&str>,
        variable: &'static str,
    ) -> Option<Found> {
        match value {
            // An empty flag is no slip of a deployment, but of the one who typed it.
            Some(text) => Some(Found { name: flag, text: text.to_owned(), origin: Origin::Flag }),
            None => self.variable(variable),
        }
    }

    /// A variable, from the environment or else the file; an empty one counts as unset.
    pub(super) fn variable(&self, name: &'static str) -> Option<Found> {
        if let Some(value) = self.environment.get(name) {
            let text = value.to_string_lossy().into_owned();
            return Some(Found { name, text, origin: Origin::Environment });
        }
        let (path, pairs) = self.file.as_ref()?;
        let text = pairs.get(name).filter(|text| !text.is_empty())?.clone();
        Some(Found { name, text, origin: Origin::File(path.clone()) })
    }

    /// The embedded file in the user's state folder.
    pub(super) fn state_file(&self) -> Result<PathBuf, ConfigError> {
        let absolute = |name: &str| {
            self.environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        // Source: XDG Base Directory Specification 0.8: a relative XDG path is ignored.
        let folder = absolute("XDG_STATE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
            .ok_or(ConfigError::NoHome)?;
        Ok(folder.join("bidlock").join("bidlock.db"))
    }
}
