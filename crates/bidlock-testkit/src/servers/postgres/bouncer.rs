use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use tempfile::TempDir;
use tokio_postgres::NoTls;

use super::account::Account;
use super::{PORTS_TRIED_MAX, Postgres, SOON, explained};
use crate::servers::server::free_port;
use crate::{Process, block_on, temp_dir, wait_until};

/// A real `PgBouncer` in transaction mode before a server; gone when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    // Dropped before the folder that it reads.
    process: Process,
    port: u16,
    server_port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    /// Starts a pooler before `server`, with so many connections to it for each database and
    /// role, over TLS where the server speaks it; with its clients it speaks none. It lets these
    /// roles in without a password, besides `postgres`.
    ///
    /// # Panics
    /// When its program is not installed, or does not start.
    #[must_use]
    pub fn before(server: &Postgres, connections: u32, roles: &[&str]) -> Self {
        for _ in 0..PORTS_TRIED_MAX {
            match Self::launch(server, connections, roles, free_port()) {
                Ok(bouncer) => return bouncer,
                Err(said) if said.contains("Address already in use") => {}
                Err(said) => panic!("PgBouncer does not start: {said}"),
            }
        }
        panic!("PgBouncer found no free port in {PORTS_TRIED_MAX} attempts");
    }

    #[expect(clippy::expect_used, reason = "a test cannot go on without its server")]
    fn launch(
        server: &Postgres,
        connections: u32,
        roles: &[&str],
        port: u16,
    ) -> Result<Self, String> {
        let (account, folder) = (Account::find(), temp_dir());
        account.owns(folder.path()).expect("its folder can be given to it");
        let users = folder.path().join("users.txt");
        let mut list = "\"postgres\" \"\"\n".to_owned();
        for role in roles {
            writeln!(list, "\"{role}\" \"\"").expect("a text grows");
        }
        std::fs::write(&users, list).expect("its users can be written");
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\nserver_tls_sslmode = prefer\n\
             default_pool_size = {connections}\nmax_client_conn = 1000\n",
            server.port(),
            users.display()
        );
        std::fs::write(&settings, text).expect("its settings can be written");
        let mut command = account.command("pgbouncer");
        let mut process =
            Process::spawn(command.arg(&settings)).map_err(|error| error.to_string())?;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let mut failure = None;
        wait_until("PgBouncer answers", SOON, || {
            let answers = block_on(async {
                tokio_postgres::connect(&url, NoTls).await.map_err(|error| explained(&error))
            });
            let ended = !matches!(process.ended(), Ok(None));
            if ended {
                failure = Some(format!("{}{}", process.stdout(), process.stderr()));
            }
            answers.is_ok() || ended
        });
        let server_port = server.port();
        failure.map_or(Ok(Self { process, port, server_port, _folder: folder }), Err)
    }

    /// The TCP address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Whether it stands before this server.
    #[must_use]
    pub const fn leads_to(&self, server: &Postgres) -> bool {
        self.server_port == server.port()
    }

    /// A database's URL for a role.
    #[must_use]
    pub fn url_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.stderr()
    }
}
