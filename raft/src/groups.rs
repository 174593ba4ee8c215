//! The shards that are open on this node, and what the node says of itself.

use std::collections::BTreeMap;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_machine::{NodeId, ShardId};
use uuid::Uuid;

use crate::birth::Founders;
use crate::group::Group;
use crate::identity::{Identity, NodeInfo};
use crate::peers::Hello;

/// What a node says of itself to its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCard {
    /// The cluster to which it belongs.
    pub cluster_id: Uuid,
    /// Itself.
    pub node: NodeInfo,
    /// How many shards it is set up with.
    pub shards: u16,
    /// The founders in its settings.
    pub founders: Founders,
}

/// The shards of a node. A shard that is not here yet neither votes nor answers.
pub struct Groups {
    card: NodeCard,
    /// Whether any shard was part of a cluster when the node started, its group open or not.
    born: AtomicBool,
    open: RwLock<BTreeMap<ShardId, Group>>,
}

impl Groups {
    /// No shard is open yet. `born` says whether any shard's log holds anything.
    #[must_use]
    pub fn new(card: NodeCard, born: bool) -> Self {
        Self { card, born: AtomicBool::new(born), open: RwLock::default() }
    }

    /// What the node says of itself.
    #[must_use]
    pub fn card(&self) -> &NodeCard {
        &self.card
    }

    /// The node's identity.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity { cluster_id: self.card.cluster_id, node_id: self.card.node.node_id, birth_id: self.card.node.birth_id }
    }

    /// Opens a shard to its peers.
    pub fn insert(&self, group: Group) {
        self.open.write().expect("no one panics while holding it").insert(group.shard(), group);
    }

    /// Closes a shard to its peers.
    pub fn remove(&self, shard: ShardId) -> Option<Group> {
        self.open.write().expect("no one panics while holding it").remove(&shard)
    }

    /// A shard, if it is open.
    #[must_use]
    pub fn get(&self, shard: ShardId) -> Option<Group> {
        self.open.read().expect("no one panics while holding it").get(&shard).cloned()
    }

    /// Every open shard, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Group> {
        self.open.read().expect("no one panics while holding it").values().cloned().collect()
    }

    /// Whether this node was ever part of a cluster.
    #[must_use]
    pub fn is_born(&self) -> bool {
        if !self.born.load(Ordering::Relaxed) && self.all().iter().any(Group::is_initialised) {
            self.born.store(true, Ordering::Relaxed);
        }
        self.born.load(Ordering::Relaxed)
    }

    pub(crate) fn hello(&self) -> Hello {
        Hello {
            cluster_id: self.card.cluster_id,
            node: self.card.node.clone(),
            born: self.is_born(),
            shards: self.card.shards,
            founders: self.card.founders.lines(),
        }
    }

    /// Whether the members of any shard know this node id under another birth.
    pub(crate) fn knows_another_birth(&self, node_id: NodeId, birth_id: Uuid) -> bool {
        let open = self.open.read().expect("no one panics while holding it");
        open.values().filter_map(|group| group.known_birth(node_id)).any(|known| known != birth_id)
    }
}
