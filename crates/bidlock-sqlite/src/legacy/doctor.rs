use std::error::Error as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bidlock_core::{BackendError, Diagnose, Finding, Op, Platform, Ttl};

use super::{OldLocks, key_of};

const BRIDGE: &str = "bridge";
const NAMES: &str = "bridge-names";
const ENDS: &str = "bridge-ends";

/// Looks at the lock table of the older system.
#[derive(Debug)]
pub struct Doctor {
    path: PathBuf,
    table: String,
    platform: Platform,
}

impl Doctor {
    /// Looks at a table in a file; nothing is opened before it is asked to look.
    #[must_use]
    pub fn new(path: &Path, table: &str, platform: &Platform) -> Self {
        Self { path: path.to_owned(), table: table.to_owned(), platform: platform.clone() }
    }

    async fn look(&self) -> Result<Vec<Finding>, BackendError> {
        let old = OldLocks::connect(&self.path, &self.table, &self.platform).await?;
        let all = old.all(Op::List).await?;
        let (ours, theirs): (Vec<_>, Vec<_>) = all.iter().partition(|(_, token)| token.is_some());
        let found = format!(
            "{} is held as well: {} of old workers, {} of bidlock",
            old.endpoint(),
            theirs.len(),
            ours.len()
        );
        let mut findings = vec![Finding::good(BRIDGE, found)];
        let other = |name: &&str| key_of(name).is_none();
        let names: Vec<&str> = theirs.iter().map(|(seen, _)| seen.lock_key.as_str()).collect();
        if let Some(name) = names.iter().copied().find(other) {
            let many = names.iter().filter(|name| other(name)).count();
            findings.push(Finding::warning(
                NAMES,
                format!("{many} locks have names that bidlock writes otherwise, such as {name:?}"),
                "bidlock has no such key, so it keeps no old worker out that uses this name",
                "let old workers write marketplaces in lower case, and ids in NFC",
            ));
        }
        let endless: Vec<_> = theirs.iter().filter(|(seen, _)| seen.remaining.is_zero()).collect();
        if let Some((seen, _)) = endless.first() {
            findings.push(Finding::warning(
                ENDS,
                format!("{} locks have no end, such as {:?}", endless.len(), seen.lock_key),
                "nothing ends them by itself, and bidlock waits behind them",
                format!(
                    "make sure that {:?} is gone, then delete its row from {}",
                    seen.holder, self.table
                ),
            ));
        }
        Ok(findings)
    }
}

#[async_trait]
impl Diagnose for Doctor {
    async fn diagnose(&self, _: Ttl) -> Vec<Finding> {
        match self.look().await {
            Ok(findings) => findings,
            Err(error) => {
                let mut found = error.to_string();
                let mut source = error.source();
                while let Some(under) = source {
                    found = format!("{found}: {under}");
                    source = under.source();
                }
                vec![Finding::failure(
                    BRIDGE,
                    found,
                    "no posting can be locked while the old table cannot be held as well",
                    "correct --also; leave it out once the last old worker is gone",
                )]
            }
        }
    }

    fn rights(&self) -> Option<String> {
        None
    }
}
