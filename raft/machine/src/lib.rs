//! The rules of Cairn: what a command does to the journals and snapshots of one shard.
//!
//! Everything in this crate is pure, total, deterministic and synchronous: the same commands in the same order give the same
//! answers and the same changes on every replica, for ever. There is no clock, no randomness, no hash-map order and no I/O here.
//!
//! Where to start reading: [`decide`] answers one command against a [`View`]; [`Command`] is what is proposed, [`Reply`] what is
//! answered, [`Change`] what is written to tables. [`limits`] holds every bound.
//!
//! Invariants
//! - A journal's highest sequence number never decreases.
//! - A command that passed admission never panics and never fails: a refusal is an answer.
//! - Every command can be retried, also after a foreign one came in between; what can no longer be known is `Forgotten`.

mod batch;
mod change;
mod codec;
mod command;
mod decide;
mod event;
mod ids;
pub mod limits;
mod memory;
mod reply;
mod slice;
mod view;

pub use batch::{Batch, RULES_VERSION};
pub use change::{Change, Decision, FormerWriter, Head, LastWrite, RecentSave, ShardState, SnapshotRecord, StoredWrite, Upload};
pub use codec::{DecodeError, Events, FORMAT_VERSION, TaggedEvent};
pub use command::{
    Claim, Command, Criteria, DeleteSnapshot, DeleteSnapshots, DeleteTo, SaveSnapshot, SnapshotChunk, SnapshotData, Write,
};
pub use decide::{Store, apply_batch, apply_batch_by, decide};
pub use event::{AtomicWrite, Event, Invalid, Payload, StoredEvent};
pub use ids::{
    JournalId, NodeId, PersistenceId, Position, SaveId, SaveNumber, SequenceNumber, ShardId, Timestamp, WriterEpoch, WriterId,
};
pub use memory::{JournalSummary, MemoryStore};
pub use reply::{ClaimReply, DeleteReply, DeleteSnapshotsReply, Refusal, Reply, SaveReply, TooMany, WriteOutcome, WriteReply};
pub use slice::{SLICES, Slice};
pub use view::View;
