//! The scripts that change locks, each joined from files that say one thing.

use std::borrow::Cow;
use std::fmt::Debug;

/// All scripts of one client.
///
/// # Examples
/// A saboteur, to see that a test notices it:
/// ```
/// let scripts = bidlock_redis::Scripts::default();
/// assert!(scripts.with_fault("last < micros()", "true").is_some());
/// assert!(scripts.with_fault("no such line", "").is_none());
/// ```
#[derive(Debug, Clone)]
pub struct Scripts {
    pub(crate) acquire: Script,
    pub(crate) renew: Script,
    pub(crate) release: Script,
    pub(crate) revoke: Script,
    pub(crate) inspect: Script,
}

macro_rules! joined {
    ($($file:literal),+) => { concat!($(include_str!(concat!("scripts/", $file, ".lua"))),+) };
}

/// What a free path needs stands first: whatever follows it costs nothing there.
const ACQUIRE: &str =
    joined!("clock", "acquire", "common", "hand_over", "pass_on", "acquire_contended", "enqueue");
const RENEW: &str = joined!("clock", "renew");
const RELEASE: &str = joined!("release", "common", "hand_over", "pass_on", "release_contended");
const REVOKE: &str = joined!("clock", "common", "hand_over", "pass_on", "revoke");
const INSPECT: &str = joined!("inspect");
/// Tries every command that the scripts call.
pub(crate) const PROBE: &str = joined!("probe");
/// Removes one leftover, if it still is one.
pub(crate) const CLEANUP: &str = joined!("cleanup");

impl Default for Scripts {
    fn default() -> Self {
        Self {
            acquire: Script::new(ACQUIRE),
            renew: Script::new(RENEW),
            release: Script::new(RELEASE),
            revoke: Script::new(REVOKE),
            inspect: Script::new(INSPECT),
        }
    }
}

impl Scripts {
    /// The scripts by name, for tools that run them against a server.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("acquire", &self.acquire),
            ("renew", &self.renew),
            ("release", &self.release),
            ("revoke", &self.revoke),
            ("inspect", &self.inspect),
        ]
        .into_iter()
        .map(|(name, script)| (name, script.text.as_ref()))
    }

    /// The scripts with a fault put in wherever `sound` stands; `None` when it stands nowhere.
    /// For tests that have to notice it.
    #[must_use]
    pub fn with_fault(&self, sound: &str, fault: &str) -> Option<Self> {
        let mut scripts = self.clone();
        let mut found = false;
        for script in [
            &mut scripts.acquire,
            &mut scripts.renew,
            &mut scripts.release,
            &mut scripts.revoke,
            &mut scripts.inspect,
        ] {
            if script.text.contains(sound) {
                *script = Script::new(script.text.replace(sound, fault));
                found = true;
            }
        }
        found.then_some(scripts)
    }
}

/// One script, and the name by which a server that has seen it knows it.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) text: Cow<'static, str>,
    pub(crate) sha: String,
}

impl Script {
    fn new(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        let sha = sha1_smol::Sha1::from(text.as_bytes()).hexdigest();
        Self { text, sha }
    }
}
