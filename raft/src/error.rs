//! What can fail, by what the caller does next. A refusal by the rules is not here: it is a reply.

use std::time::Duration;

use cairn_machine::ShardId;

use crate::identity::NodeInfo;

/// Why a proposal has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not executed: ask the leader. Without one an election is on, or a leader has not yet heard from a quorum: try again soon.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeInfo>,
    },
    /// It may have happened, or may still happen: only the same proposal again, made idempotent by its numbers, can tell.
    #[error("the outcome of the proposal is unknown")]
    Unknown,
    /// Not executed: this node is going down.
    #[error("the shard is closed on this node")]
    Stopped,
    /// Not executed: too much is in flight.
    #[error("too many proposals are in flight, try again in {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Why a read barrier was not reached. Nothing happened; a read can always be tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader could be asked: try again, or at `leader`.
    #[error("no leader with a quorum answered")]
    NoLeader {
        /// Who leads, if known.
        leader: Option<NodeInfo>,
    },
    /// The deadline passed before this replica had applied what the read must see.
    #[error("the replica did not catch up before the deadline")]
    Deadline,
    /// This node is going down.
    #[error("the shard is closed on this node")]
    Stopped,
    /// Too many reads wait.
    #[error("too many reads are waiting, try again in {retry_after:?}")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
}

/// Why a change of the members was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Not made; it must not be made: the text says why. Trying again does not help.
    #[error("{reason}")]
    Refused {
        /// Why, for an operator.
        reason: String,
    },
    /// Not made: ask the leader, or try again when there is one.
    #[error("no leader took the change")]
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeInfo>,
    },
    /// Another change is in progress, or the node has not caught up: try again later.
    #[error("not now: {reason}")]
    Busy {
        /// Why, for an operator.
        reason: String,
    },
    /// It may have happened: look at the members.
    #[error("the outcome of the change is unknown: {reason}")]
    Unknown {
        /// Why, for an operator.
        reason: String,
    },
    /// This node is going down.
    #[error("the shard is closed on this node")]
    Stopped,
}

/// Why a shard could not be opened. The node stops, or tries again if `Unreachable`.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The tables are lost and no peer can give them.
    #[error(
        "shard {shard}: its tables are lost (applied {applied:?}, log purged up to {purged}) and no peer gave a checkpoint: {reason}"
    )]
    TablesLost {
        /// Which shard.
        shard: ShardId,
        /// What the tables hold.
        applied: Option<u64>,
        /// From where on the log goes.
        purged: u64,
        /// What was tried.
        reason: String,
    },
    /// The settings make no sense.
    #[error("shard {shard}: {reason}")]
    Settings {
        /// Which shard.
        shard: ShardId,
        /// What is wrong.
        reason: String,
    },
    /// Log or tables failed.
    #[error("shard {shard}: open: {reason}")]
    Broken {
        /// Which shard.
        shard: ShardId,
        /// What failed.
        reason: String,
    },
}

/// A shard's core has stopped and cannot be repaired in the process: the node must exit, and be started again unless it is lasting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} stopped: {reason}")]
pub struct Fatal {
    /// Which shard.
    pub shard: ShardId,
    /// Why.
    pub reason: String,
    /// Whether the node's files have lost what it acknowledged: they must not be used again.
    pub is_lasting: bool,
}
