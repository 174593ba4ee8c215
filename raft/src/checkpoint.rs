//! Checkpoints on their way between nodes: a head, frames in order, and an end that says how many there were.
//!
//! Invariants
//! - What is sent is read from the tables when it is sent, with its own applied index: nothing is kept for a follower that may come.
//! - Half a checkpoint is never installed: the frames go into a new generation of the tables, and one switch makes it current.
//! - While a checkpoint is on its way to a follower the log is not purged: it would be behind again when it arrives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::ShardId;
use cairn_storage::{Tables, TablesError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::entry::MembersRecord;
use crate::group::Group;
use crate::limits::{CHECKPOINT_FINISH_MAX, CHECKPOINT_FRAME_MAX, CHECKPOINT_FRAMES_QUEUED_MAX};
use crate::log_store::{entry_id, raft_log_id};
use crate::peers::PeerLink;
use crate::proto;
use crate::proto::checkpoint_part::Part;
use crate::type_config::{Ballot, CheckpointMeta, StoredMembers, Types};
use crate::wire::{put_ballot, put_log_id, take_log_id};

/// openraft's snapshot data.
pub(crate) enum CheckpointHandle {
    /// This node's own tables: read when a follower needs them.
    Local(Tables),
    /// Received whole, ready to become current.
    Received(Installed),
}
