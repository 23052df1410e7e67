//! Lock store of bidlock on one Redis or Valkey primary.
//!
//! Every change of a lock is one script, so that no two clients decide on the same state. All
//! calls share one connection, on which the server also sends its messages; where it cannot, a
//! second one carries them.

mod browse;
mod cleanup;
mod config;
mod core;
mod dial;
mod doctor;
mod driver;
mod failure;
mod holding;
mod join;
mod names;
mod news;
mod places;
mod resp;
mod rights;
mod scripts;
mod server_time;
mod store;
mod wire;

pub use config::{BadUrl, Config};
pub use dial::Connector;
pub use doctor::Doctor;
pub use rights::acl;
pub use scripts::Scripts;
pub use store::Redis;
pub use wire::Stream;
