//! What goes wrong between a client and its server, done on purpose to real servers.
//!
//! `BIDLOCK_SOAK=1` runs everything at full size.

mod ghosts;
mod refusals;
mod replies;
mod scene;
mod transient;
