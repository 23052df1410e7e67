use std::fmt::{self, Debug, Display};
use std::path::PathBuf;
use std::time::Duration;

use bidlock_core::Endpoint;

mod url;

/// Where a PostgreSQL ledger is, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresConfig {
    /// Tried in this order; with several, the first that takes writes is used.
    pub(super) places: Vec<Place>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<String>,
    pub(super) tls: TlsMode,
    pub(super) connect_timeout: Duration,
    pub(super) schema: SchemaName,
    pub(super) pool: usize,
    /// Whether a promoted standby is known to have all that was acknowledged (L12).
    pub(super) trusts_failover: bool,
}

/// The way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// A host name, an address without the brackets of IPv6, or the folder of a socket.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Whether to speak TLS, as libpq's `sslmode` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TlsMode {
    Disable,
    /// Where the server has it; nothing is verified.
    Prefer,
    /// Always; nothing is verified.
    Require,
    /// Always; the certificate is verified for the host's name, by a file or the built-in roots.
    VerifyFull(Option<PathBuf>),
}

/// A schema's name: it needs no quotes and can stand in any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SchemaName(String);

impl SchemaName {
    fn new(name: &str) -> Option<Self> {
        let first = |b: u8| b.is_ascii_lowercase() || b == b'_';
        let sound = (1..=63).contains(&name.len())
            && name.bytes().next().is_some_and(first)
            && name.bytes().all(|b| first(b) || b.is_ascii_digit());
        sound.then(|| Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Puts the schema into a statement: `{schema}` is an identifier, `{name}` the bare name.
    pub(super) fn put_into(&self, sql: &str) -> String {
        sql.replace("{schema}", &format!("\"{}\"", self.0)).replace("{name}", &self.0)
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("bidlock".to_owned())
    }
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

impl Secret {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why the URL of a PostgreSQL ledger is not understood: what is wrong, and what is accepted;
/// never with a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPostgresUrl(String);

impl PostgresConfig {
    /// Reads `postgres://` or `postgresql://`, then
    /// `[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]…][/DATABASE][?OPTIONS]`. Parts are
    /// percent-decoded.
    ///
    /// Options as libpq has them: `host` (also the folder of a socket), `port`, `user`,
    /// `password`, `dbname`, `sslmode` (`disable`, `prefer`, `require` or `verify-full`),
    /// `sslrootcert` and `connect_timeout` in seconds, 5 by default. Our own: `schema`
    /// (`bidlock`), `pool` (connections, 1 to 100, 8 by default), and `failover=trusted` where
    /// every promoted standby is known to have all that was acknowledged.
    ///
    /// # Errors
    /// [`BadPostgresUrl`] says what is wrong, and repeats no part that may be a password.
    ///
    /// # Examples
    /// ```
    /// use bidlock_ledger::PostgresConfig;
    ///
    /// let url = "postgres://bots:s3cret@db.example/bids?sslmode=verify-full";
    /// let config = PostgresConfig::from_url(url)?;
    /// assert_eq!(config.endpoint().as_str(), "postgres://bots:***@db.example:5432/bids");
    /// assert!(PostgresConfig::from_url("postgres://h/d?sslmode=allow").is_err());
    /// # Ok::<(), bidlock_ledger::BadPostgresUrl>(())
    /// ```
    pub fn from_url(url: &str) -> Result<Self, BadPostgresUrl> {
        url::read(url)
    }

    /// The ledger as messages name it, without the password.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.to_string())
    }

    /// The schema that the ledger lies in.
    #[must_use]
    pub fn schema(&self) -> &str {
        self.schema.as_str()
    }

    /// What the driver is to do, to one place.
    pub(super) fn driver(&self, place: &Place) -> tokio_postgres::Config {
        use tokio_postgres::config::SslMode;
        let mut config = tokio_postgres::Config::new();
        config.host(&place.host).port(place.port).application_name("bidlock");
        if let Some(user) = &self.user {
            config.user(user);
        }
        if let Some(password) = &self.password {
            config.password(password.expose());
        }
        if let Some(database) = &self.database {
            config.dbname(database);
        }
        config.ssl_mode(match self.tls {
            // No TLS is spoken over a socket, as with libpq.
            _ if place.host.starts_with('/') => SslMode::Disable,
            TlsMode::Disable => SslMode::Disable,
            TlsMode::Prefer => SslMode::Prefer,
            TlsMode::Require | TlsMode::VerifyFull(_) => SslMode::Require,
        });
        config.keepalives_idle(KEEPALIVE).tcp_user_timeout(KEEPALIVE);
        config
    }
}

/// A connection over which nothing comes is given up about as soon as this.
const KEEPALIVE: Duration = Duration::from_secs(30);

impl Display for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
        }
        if self.password.is_some() {
            f.write_str(":***")?;
        }
        if self.user.is_some() || self.password.is_some() {
            f.write_str("@")?;
        }
        for (number, Place { host, port }) in self.places.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{open}{host}{close}:{port}")?;
        }
        if let Some(database) = &self.database {
            write!(f, "/{database}")?;
        }
        if self.schema != SchemaName::default() {
            write!(f, "?schema={}", self.schema.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
