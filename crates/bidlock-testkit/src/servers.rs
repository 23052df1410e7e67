//! Real Redis, Valkey and PostgreSQL servers, and what tests do to them.
//!
//! - [`Server`]: a server of its own for each test, on a free port, with a folder of its own;
//!   killed, stopped, restarted, with a wall clock that a test steps.
//! - [`Postgres`]: the same for PostgreSQL, with standbys, copies and a pooler, [`PgBouncer`].
//! - [`Proxy`]: what stands between clients and a server, and spoils their connections.
//! - [`OffsetClock`] and [`ServerFixture`]: the conformance suite on a server, without long waits.
//!
//! The programs come from `cargo xtask tools`; a missing one is a failure, never a skip.

mod clock;
mod disk;
mod fixture;
mod kind;
mod offset_clock;
mod options;
mod postgres;
mod preload;
mod proxy;
mod server;
mod tls;

pub use fixture::ServerFixture;
pub use kind::ServerKind;
pub use offset_clock::OffsetClock;
pub use options::ServerOptions;
pub use postgres::{PgBouncer, Postgres, PostgresOptions};
pub use proxy::{Direction, Proxy, Step};
pub use server::Server;
pub use tls::TlsFiles;
