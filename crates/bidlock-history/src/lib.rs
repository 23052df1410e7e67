//! What clients saw of a lock store, and whether one lock can have done it.
//!
//! [`Recorded`] is a store around a store that keeps of each call when it began, when it ended and
//! what it said, by the client's clock. Two judges look at what it kept of one key:
//!
//! - [`order`] goes by the tokens, which say in which order the grants were made. It needs no
//!   search, takes O(n log n), and can be run over any number of calls.
//! - [`search`] looks for an order of all calls in which one lock, with leases that end and tokens
//!   that rise, would have said what was said (linearizability). It finds more, such as a refusal
//!   while nobody had the key, and may give up.

mod call;
mod order;
mod recorded;
mod search;

pub use call::{Call, Did, NEVER};
pub use order::order;
pub use recorded::{History, Recorded};
pub use search::{Verdict, search};
