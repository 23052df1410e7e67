//! What goes wrong between a client and its server, done on purpose to real servers.
//!
//! `BIDLOCK_SOAK=1` runs everything at full size.

mod chaos;
mod clocks;
mod drops;
mod ghosts;
mod handshake;
mod links;
mod processes;
mod refusals;
mod replies;
mod resp2;
mod scene;
mod transient;
mod waking;
