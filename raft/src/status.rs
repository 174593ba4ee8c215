//! What a shard's core looks like from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use cairn_machine::{NodeId, ShardId};
use openraft::{Instant, RaftMetrics, ServerState};

use crate::entry::decode_ballot;
use crate::identity::NodeInfo;
use crate::type_config::{Ballot, StoredMembers, Types};

/// What a node is in a shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Takes proposals.
    Leader,
    /// Votes, and follows a leader.
    Follower,
    /// Wants to lead.
    Candidate,
    /// Follows without a vote; also a node that was never in the cluster.
    #[default]
    Learner,
    /// Its core has stopped.
    Stopped,
}

/// Who leads a shard, as one of its nodes sees it; changes seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term of the newest vote.
    pub term: u64,
    /// Who leads, if known.
    pub leader: Option<NodeInfo>,
    /// Whether it is this node.
    pub is_leader: bool,
    /// The members.
    pub members: GroupMembers,
}

/// The members of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    /// They vote.
    pub voters: Vec<NodeInfo>,
    /// They follow without a vote.
    pub learners: Vec<NodeInfo>,
    /// Whether a change from one set of voters to another is on its way.
    pub changing: bool,
}

impl GroupMembers {
    /// The member with a node id.
    #[must_use]
    pub fn get(&self, node_id: NodeId) -> Option<&NodeInfo> {
        self.voters.iter().chain(&self.learners).find(|node| node.node_id == node_id)
    }

    /// Whether a node votes.
    #[must_use]
    pub fn is_voter(&self, node_id: NodeId) -> bool {
        self.voters.iter().any(|node| node.node_id == node_id)
    }
}

/// How far a follower or learner is, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// The last entry that it is known to have: it has answered that it is durable there.
    pub matched: Option<u64>,
    /// Entries that it does not have yet.
    pub lag_entries: u64,
    /// Since its last answer; none if it never answered this leader.
    pub silent: Option<Duration>,
}

/// A vote as a node gave it: durable before anybody heard of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Voted {
    /// In which term.
    pub term: u64,
    /// For whom; in term 0 for nobody.
    pub node_id: NodeId,
    /// Whether that one is known to have been elected.
    pub is_elected: bool,
}

/// A shard's core at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Which shard.
    pub shard: ShardId,
    /// The term of the newest vote.
    pub term: u64,
    /// The newest vote of this node.
    pub vote: Voted,
    /// What this node is.
    pub role: Role,
    /// Who leads, if known.
    pub leader: Option<NodeInfo>,
    /// Index of the last entry in the log.
    pub last: Option<u64>,
    /// Index up to which entries are known to be on a quorum.
    pub committed: Option<u64>,
    /// Index up to which entries are applied.
    pub applied: Option<u64>,
    /// Index up to which the tables are flushed.
    pub flushed: Option<u64>,
    /// Index up to which entries have left the log.
    pub purged: Option<u64>,
    /// Index of the checkpoint: entries up to it may leave the log.
    pub checkpoint: Option<u64>,
    /// The members.
    pub members: GroupMembers,
    /// For each other member; empty on all but the leader.
    pub replication: BTreeMap<NodeId, Replication>,
    /// Index and hash of the state: equal indexes have equal hashes on all replicas.
    pub state_hash: Option<(u64, u128)>,
}

impl Voted {
    /// A vote as the log holds it; none if the bytes are none. For tools that look into a log.
    #[must_use]
    pub fn decode(bytes: &Bytes) -> Option<Self> {
        decode_ballot(bytes).ok().map(|ballot| voted(&ballot))
    }
}

pub(crate) fn voted(ballot: &Ballot) -> Voted {
    let leader = &ballot.leader_id;
    Voted { term: leader.term, node_id: NodeId(leader.node_id), is_elected: ballot.committed }
}

pub(crate) fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

pub(crate) fn members(stored: &StoredMembers) -> GroupMembers {
    let voters: std::collections::BTreeSet<u64> = stored.voter_ids().collect();
    let (voting, learning): (Vec<_>, Vec<_>) = stored.nodes().partition(|(id, _)| voters.contains(id));
    let plain = |nodes: Vec<(&u64, &NodeInfo)>| nodes.into_iter().map(|(_, node)| node.clone()).collect();
    GroupMembers { voters: plain(voting), learners: plain(learning), changing: stored.get_joint_config().len() > 1 }
}

/// How far the others are, on the leader.
pub(crate) fn replication(metrics: &RaftMetrics<Types>) -> BTreeMap<NodeId, Replication> {
    let Some(replication) = &metrics.replication else { return BTreeMap::new() };
    let next = metrics.last_log_index.map_or(0, |index| index + 1);
    let silent = |id: &u64| {
        let heard = metrics.heartbeat.as_ref()?.get(id)?.as_ref()?;
        Some(heard.elapsed())
    };
    replication
        .iter()
        .filter(|(id, _)| **id != metrics.id)
        .map(|(id, matched)| {
            let matched = matched.as_ref().map(|id| id.index);
            let has = matched.map_or(0, |index| index + 1);
            (NodeId(*id), Replication { matched, lag_entries: next.saturating_sub(has), silent: silent(id) })
        })
        .collect()
}
