//! Lock store of bidlock on one Redis or Valkey primary.

mod config;

pub use config::{BadUrl, Config};
