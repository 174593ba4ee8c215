//! The Raft log and the tables of a Cairn node.
//!
//! Table of contents. The log knows bytes and entries; the tables know journals and snapshots and sit on an engine; neither
//! knows anything of consensus.

pub mod blocking;
pub mod checkpoint;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod engine;
mod entry;
pub mod fjall_engine;
pub mod fs;
pub mod keys;
pub mod log;
pub mod memory_engine;
mod memtable;
pub mod tables;

pub use checkpoint::{Checkpoint, CheckpointCursor, CheckpointError, CheckpointInstall, CompleteCheckpoint};
pub use engine::{Engine, EngineError, Table};
pub use entry::EntryId;
pub use fjall_engine::{FjallEngine, FjallSettings};
pub use memory_engine::{MemoryDisk, MemoryEngine};
pub use tables::{Tables, TablesError, TablesSettings};
