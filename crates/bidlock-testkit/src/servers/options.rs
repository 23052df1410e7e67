/// How a server is started; by default without password, TLS, persistence or a clock to step.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct ServerOptions {
    pub(super) password: Option<String>,
    pub(super) tls: bool,
    pub(super) client_certificates: bool,
    pub(super) append_only: bool,
    pub(super) clock: bool,
    pub(super) args: Vec<String>,
}

impl ServerOptions {
    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Demands this password of the default user.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Speaks TLS on a second port, with certificates made for this server.
    #[must_use]
    pub const fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// Demands a certificate of every client that comes over TLS.
    #[must_use]
    pub const fn client_certificates(mut self, demanded: bool) -> Self {
        self.client_certificates = demanded;
        self
    }

    /// Keeps data over a restart: every write is on disk before it is answered.
    #[must_use]
    pub const fn append_only(mut self, on: bool) -> Self {
        self.append_only = on;
        self
    }

    /// Gives the server a wall clock that [`Server::step_clock`](super::Server::step_clock)
    /// steps.
    #[must_use]
    pub const fn clock(mut self, on: bool) -> Self {
        self.clock = on;
        self
    }

    /// Sets one more thing by the server's own command line, such as `["--hz", "100"]`; a later
    /// setting overrules an earlier one and the kit's own.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }
}
