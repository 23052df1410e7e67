use std::fmt::{self, Debug, Display};

use async_trait::async_trait;

use crate::{Prefix, Result, Ttl};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Locks work, and may fail on a bad night.
    Warning,
    /// Locks do not work, or will fail.
    Failure,
}

impl Severity {
    /// The name, as JSON says it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

impl Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that was looked at in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `eviction`.
    pub check: &'static str,
    /// How it is.
    pub severity: Severity,
    /// What was found, in one line without a password.
    pub found: String,
    /// Why it matters for locks; empty where all is well.
    pub why: String,
    /// The exact command, or setting, that mends it; empty where nothing has to be mended.
    pub mend: String,
}

impl Finding {
    /// Nothing has to be done.
    pub fn good(check: &'static str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { check, severity: Severity::Good, found, why: String::new(), mend: String::new() }
    }

    /// Something should be mended.
    pub fn warning(
        check: &'static str,
        found: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        let (found, why, mend) = (found.into(), why.into(), mend.into());
        Self { check, severity: Severity::Warning, found, why, mend }
    }

    /// Something has to be mended.
    pub fn failure(
        check: &'static str,
        found: impl Into<String>,
        why: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Failure, ..Self::warning(check, found, why, mend) }
    }
}

/// Looks at a store for what could harm locks. It needs no open store: that one cannot be opened
/// is a finding.
#[async_trait]
pub trait Diagnose: Debug + Send + Sync + 'static {
    /// Looks at everything, in an order in which the first failure explains those after it.
    /// Round trips are judged against `ttl`, the shortest TTL that will be used.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    async fn diagnose(&self, ttl: Ttl) -> Vec<Finding>;

    /// The least rights that locks need, as the command that grants them; `None` where the store
    /// has no users.
    fn rights(&self) -> Option<String>;
}

/// Something that nothing will end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The store's own name of it.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
    /// What removing it does; empty when it is another program's, and is left alone.
    pub remedy: &'static str,
}

/// Finds and removes what would never end by itself; never a live lease (R19).
#[async_trait]
pub trait Cleanup: Debug + Send + Sync + 'static {
    /// Lists what is left under a prefix.
    ///
    /// # Cancel safety
    /// Nothing is changed by it.
    async fn leftovers(&self, prefix: &Prefix) -> Result<Vec<Leftover>>;

    /// Removes one of them, if it is still as it was; tells whether it was.
    ///
    /// # Cancel safety
    /// It may take effect after the future was dropped; repeating it is harmless.
    async fn remove(&self, leftover: &Leftover) -> Result<bool>;
}
