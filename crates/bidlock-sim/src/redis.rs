//! A Redis or Valkey server in this process, as far as locks use one.

mod commands;
mod db;
mod engine;
mod lua;
mod reply;
mod server;

pub use db::{Data, Db, Entry, Field};
pub(crate) use engine::Refusing;
pub use engine::{Connection, Kind};
pub use reply::Reply;
pub use server::Server;
pub(crate) use server::Watcher;
