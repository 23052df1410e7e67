//! Stores that this build knows by name alone.

use std::convert::Infallible;
use std::fmt::{self, Display};

use bidlock_core::Endpoint;

/// A PostgreSQL ledger, which this build knows by name alone.
#[cfg(not(feature = "postgres"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConfig(Endpoint);

#[cfg(not(feature = "postgres"))]
impl PostgresConfig {
    /// Takes the URL as it is, without its password.
    pub(super) fn from_url(url: &str) -> Result<Self, Infallible> {
        Ok(Self(Endpoint::new(super::masked(url))))
    }
}

#[cfg(not(feature = "postgres"))]
impl Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

/// A Redis or Valkey server, which this build knows by name alone.
#[cfg(not(feature = "redis"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConfig(Endpoint);

#[cfg(not(feature = "redis"))]
impl RedisConfig {
    /// Takes the URL as it is, without its password.
    pub(super) fn from_url(url: &str) -> Result<Self, Infallible> {
        Ok(Self(Endpoint::new(super::masked(url))))
    }

    /// Takes the parts as they are, without the password.
    pub(super) fn from_parts(
        host: &str,
        port: u16,
        database: u16,
        password: Option<&str>,
    ) -> Result<Self, Infallible> {
        let secret = if password.is_some() { ":***@" } else { "" };
        Ok(Self(Endpoint::new(format!("redis://{secret}{host}:{port}/{database}"))))
    }
}

#[cfg(not(feature = "redis"))]
impl Display for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}
