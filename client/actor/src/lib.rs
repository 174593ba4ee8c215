//! Persistent actors on Cairn: a state that is the sum of its events, and comes back after a crash.
//!
//! Everything here goes through the public client: there is no private door to the cluster.

pub mod adapter;
pub mod codec;
pub mod delivery;
pub mod format;
pub mod replay_filter;
pub mod retention;
pub mod store;
pub mod tck;
