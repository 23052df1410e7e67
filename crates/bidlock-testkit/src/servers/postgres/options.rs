/// How a PostgreSQL server is started; by default it is fast and forgets what a power cut would
/// take, without TLS or passwords.
#[derive(Debug, Clone, Default)]
pub struct PostgresOptions {
    pub(super) durable: bool,
    pub(super) tls: bool,
    pub(super) own_identity: bool,
    pub(super) disk: Disk,
    pub(super) hba: Option<String>,
    pub(super) settings: Vec<String>,
}

/// What a server writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Disk {
    /// This machine's own.
    #[default]
    Real,
    /// One that can be made full.
    Small,
}

impl PostgresOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts what is committed on disk, as servers do that are not for tests.
    #[must_use]
    pub const fn durable(mut self, on: bool) -> Self {
        self.durable = on;
        self
    }

    /// Speaks TLS where it is asked to, with certificates made for this server.
    #[must_use]
    pub const fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// Makes its data anew, so that its system identifier is no other server's.
    #[must_use]
    pub const fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Writes to a disk that [`Postgres::fill_disk`](super::Postgres::fill_disk) can make full.
    #[must_use]
    pub const fn small_disk(mut self) -> Self {
        self.disk = Disk::Small;
        self
    }

    /// Lets in who these rules let in: the content of `pg_hba.conf`. The first rule has to be
    /// `local all all trust`.
    #[must_use]
    pub fn hba(mut self, rules: impl Into<String>) -> Self {
        self.hba = Some(rules.into());
        self
    }

    /// Sets one more thing by the server's own command line, such as `wal_writer_delay=10s`; a
    /// later setting overrules an earlier one and the kit's own.
    #[must_use]
    pub fn set(mut self, setting: impl Into<String>) -> Self {
        self.settings.push(setting.into());
        self
    }
}
