//! The types that openraft works with here. None of them leaves this crate.

use cairn_machine::Reply;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, LogId, Membership, StoredMembership, Vote};

use crate::entry::Record;
use crate::identity::NodeInfo;
use crate::runtime::NodeRuntime;

/// The answers to one entry's commands, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Replies(pub Vec<Reply>);

openraft::declare_raft_types!(
    /// openraft over Cairn's records and members.
    pub(crate) Types:
        D = Record,
        R = Replies,
        NodeId = u64,
        Node = NodeInfo,
        AsyncRuntime = NodeRuntime,
);

pub(crate) type RaftPayload = EntryPayload<Record, u64, NodeInfo>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<Types>;
pub(crate) type RaftLogId = LogId<LeaderId<u64, u64>>;
pub(crate) type Ballot = Vote<LeaderId<u64, u64>>;
pub(crate) type Members = Membership<u64, NodeInfo>;
pub(crate) type StoredMembers = StoredMembership<LeaderId<u64, u64>, u64, NodeInfo>;
pub(crate) type CheckpointMeta = openraft::alias::SnapshotMetaOf<Types>;

/// A log id from its parts.
pub(crate) fn log_id(term: u64, leader: u64, index: u64) -> RaftLogId {
    RaftLogId { leader_id: LeaderId { term, node_id: leader }, index }
}
