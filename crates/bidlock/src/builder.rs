use std::sync::Arc;

use bidlock_core::{Backend, Platform, Prefix};

use crate::Error;
use crate::bridge::{self, OldTable};
use crate::inner::Inner;
use crate::locker::Locker;
use crate::observe::{Observer, Unobserved};
use crate::open::ConfigError;
use crate::store_url::StoreUrl;

/// How to set up a [`Locker`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is connected"]
pub struct Builder {
    prefix: Prefix,
    platform: Option<Platform>,
    observer: Option<Arc<dyn Observer>>,
    also: Option<OldTable>,
}

impl Builder {
    /// Puts keys under another prefix than `bid_lock`.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    /// Takes time, randomness and background work from `platform`; by default from the operating
    /// system, with one background thread for each locker.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = Some(platform);
        self
    }

    /// Tells `observer` of everything that happens.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Holds the lock table of an older system as well: each lease of a posting is one in the
    /// store and a row there, both or none, so that old workers and new ones keep each other out.
    /// Every new worker has to do so until the last old one is gone.
    pub fn also(mut self, old: OldTable) -> Self {
        self.also = Some(old);
        self
    }

    /// Opens the store that `url` names: `redis://host:6379/0`, `sqlite:///var/lib/bids.db`,
    /// `sqlite:bids.db`, `memory:`.
    ///
    /// # Errors
    /// [`Error::Config`] for a URL that is not understood; [`Error::Store`] for a store that
    /// cannot be opened.
    ///
    /// # Cancel safety
    /// A file may be left created.
    pub async fn connect(self, url: &str) -> Result<Locker, Error> {
        self.open(&StoreUrl::lock(url)?).await
    }

    /// Opens a store whose URL was read before.
    ///
    /// # Errors
    /// As [`Builder::connect`].
    ///
    /// # Cancel safety
    /// A file may be left created.
    pub async fn open(mut self, url: &StoreUrl) -> Result<Locker, Error> {
        let platform = self.take_platform()?;
        let also = self.also.as_ref();
        let backend = bridge::backend(url, also, &self.prefix, &platform).await?;
        Ok(self.build(backend, platform))
    }

    /// Uses a store that is open already.
    ///
    /// # Errors
    /// [`Error::Config`] when the background thread cannot be started, or with
    /// [`Builder::also`]: an open store gets no bridge.
    pub fn backend(mut self, backend: Arc<dyn Backend>) -> Result<Locker, Error> {
        if let Some(old) = &self.also {
            return Err(bridge::refuse(old));
        }
        let platform = self.take_platform()?;
        Ok(self.build(backend, platform))
    }

    fn take_platform(&mut self) -> Result<Platform, Error> {
        match self.platform.take() {
            Some(platform) => Ok(platform),
            None => Ok(bidlock_platform::system().map_err(ConfigError::Platform)?),
        }
    }

    fn build(self, backend: Arc<dyn Backend>, platform: Platform) -> Locker {
        let observer = self.observer.unwrap_or_else(|| Arc::new(Unobserved));
        Locker::over(Inner::new(backend, self.prefix, platform, observer))
    }
}
