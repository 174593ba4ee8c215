//! The client of Cairn: journals and snapshots of persistent actors.
//!
//! Where to start reading: [`Cairn`] connects; [`Journal`] is a handle on one journal; [`JournalWriter`] writes to it, with many
//! writes in flight; [`Replay`] and [`Follow`] are its events. `examples/hello.rs` is a first journal in ten lines.
//!
//! What a call promises
//! - It is tried again, also at other nodes, until its outcome is known or its deadline ends. Every try is the same command, and
//!   takes effect once.
//! - At the deadline it ends with [`Error::Unknown`] if it may have taken effect, and with [`Error::Unavailable`] if it certainly
//!   has not: never with a guess.
//! - Reads are linearizable unless a weaker freshness is asked for.
//!
//! Time is tokio's, connections come from a [`Connector`], random choices from a seed: the same client runs over TCP, over an
//! embedded node and in a simulation.

mod attempt;
mod cairn;
mod cluster;
mod connector;
mod error;
mod flow;
mod follow;
mod journal;
mod limits;
mod listing;
pub mod memory;
mod node;
mod pipeline;
mod recover;
mod replay;
mod retry;
mod router;
mod shard_map;
mod snapshot;
mod write;
mod writer;

pub use cairn::{Builder, Cairn};
pub use cairn_api::{Freshness, HighestReply, Listing, SnapshotInfo, v1};
pub use cairn_machine::{
    Criteria, DeleteReply, Event, NodeId, Payload, PersistenceId, Position, SaveNumber, SaveReply, SequenceNumber, ShardId,
    Slice, StoredEvent, Timestamp, TooMany, WriteOutcome, WriteReply, WriterEpoch, WriterId,
};
pub use cluster::Cluster;
pub use connector::{Connecting, Connector, Io, connect_tcp};
pub use error::Error;
pub use follow::{Follow, FollowShard, FollowShardRequest, ShardEvent};
pub use journal::{Deletion, Journal};
pub use listing::Journals;
pub use recover::{RecoverRequest, Recovered};
pub use replay::{Replay, ReplayEnd, ReplayRequest};
pub use snapshot::{NewSnapshot, Snapshot};
pub use write::{Appended, NewEvent, Write};
pub use writer::{JournalWriter, Submitted};
