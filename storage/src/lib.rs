//! The Raft log and the tables of a Cairn node.
//!
//! Table of contents. The log knows bytes and entries; the tables know journals and snapshots and sit on an engine; neither
//! knows anything of consensus.

pub mod blocking;
mod entry;
pub mod fs;

pub use entry::EntryId;
