//! Who a node is, and how other members know it.

use std::fmt;

use cairn_machine::NodeId;
use uuid::Uuid;

/// A member's data, kept in the membership of every shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its number; never reused.
    pub node_id: NodeId,
    /// Where its peer port listens, as `host:port`.
    pub peer_address: String,
    /// Where its client port listens, as `host:port`.
    pub client_address: String,
    /// The birth of its data directory: a wiped node has another one and is refused under the old number.
    pub birth_id: Uuid,
}

impl fmt::Display for NodeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} at {}", self.node_id, self.peer_address)
    }
}

/// What a data directory says about its node; written once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster to which it belongs.
    pub cluster_id: Uuid,
    /// Its number in the cluster.
    pub node_id: NodeId,
    /// The birth of its data directory.
    pub birth_id: Uuid,
}

impl Identity {
    /// The caller or target that this identity is in a peer call.
    pub(crate) fn party(&self) -> Party {
        Party { node_id: self.node_id, birth_id: self.birth_id }
    }
}

/// One side of a peer call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Party {
    pub node_id: NodeId,
    pub birth_id: Uuid,
}

impl Party {
    pub fn parse(text: &str) -> Option<Self> {
        let (node_id, birth_id) = text.split_once('/')?;
        Some(Self { node_id: NodeId(node_id.parse().ok()?), birth_id: birth_id.parse().ok()? })
    }
}

impl From<&NodeInfo> for Party {
    fn from(node: &NodeInfo) -> Self {
        Self { node_id: node.node_id, birth_id: node.birth_id }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node_id, self.birth_id)
    }
}
