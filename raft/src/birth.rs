//! The birth of a cluster: once, by its founders together.
//!
//! The founder with the lowest node id waits until all founders answer that they were never part of a cluster, that they have the
//! same cluster id, founders and number of shards; then it makes each shard part of the new cluster. The others wait to be told.
//!
//! Invariants
//! - Nothing is formed while a founder is missing: its data may hold the cluster that is there already.
//! - A founder that was wiped finds the others born, and does not form a second cluster.
//! - A birth that was interrupted goes on with the members that it began with.

use std::collections::BTreeMap;
use std::time::Duration;

use cairn_machine::NodeId;

use crate::error::MembersError;
use crate::group::Group;
use crate::groups::Groups;
use crate::identity::NodeInfo;
use crate::peers::{Hello, Peers};

/// How often founders are asked.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

/// The founders of a cluster, as every one of them has them in its settings: peer addresses by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Founders(pub BTreeMap<NodeId, String>);

impl Founders {
    /// One line for each, in order: what founders compare.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(|(node_id, address)| format!("{node_id}={address}")).collect()
    }

    fn lowest(&self) -> Option<NodeId> {
        self.0.keys().next().copied()
    }
}

/// How a birth ended for this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// This node formed the cluster.
    Formed,
    /// This node is part of a cluster already, or waits to be told by the lowest founder, or to be added.
    NotOurs,
}

/// Why a cluster cannot be born here. The operator must look; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BirthError {
    /// A founder is part of a cluster already: this node lost its data, or is new, and must be added under a new node id.
    #[error("founder {founder} is part of cluster {cluster_id} already: this node was wiped, or is new, and must be added to it")]
    BornAlready {
        /// Which founder.
        founder: NodeInfo,
        /// Its cluster.
        cluster_id: uuid::Uuid,
    },
    /// Founders do not agree.
    #[error("founder {founder} does not fit: {reason}")]
    Disagreement {
        /// Which founder, as its address.
        founder: String,
        /// In what.
        reason: String,
    },
    /// A shard could not be made part of the cluster.
    #[error("form the cluster: {0}")]
    Members(#[from] MembersError),
}

/// Forms the cluster if this node is the one to do it, waiting for the other founders as long as it takes.
///
/// All shards must be open in `groups`, and the peer port must be served.
///
/// # Errors
/// See [`BirthError`].
pub async fn form(groups: &Groups, peers: &Peers) -> Result<Birth, BirthError> {
    let card = groups.card();
    if card.founders.lowest() != Some(card.node.node_id) {
        return Ok(Birth::NotOurs);
    }
    let shards = groups.all();
    if let Some(begun) = shards.iter().find(|group| group.is_initialised()) {
        if shards.iter().all(Group::is_initialised) {
            return Ok(Birth::NotOurs);
        }
        // It was interrupted. Nobody else begins a birth, so the shards left over exist nowhere.
        let mut begun = begun.watch();
        let known = begun.wait_for(|now| !now.members.voters.is_empty()).await;
        let members = known.map_err(|_| MembersError::Stopped)?.members.voters.clone();
        return initialize(groups, members).await;
    }
    let mut founders = Vec::new();
    for (node_id, address) in &card.founders.0 {
        let founder = if *node_id == card.node.node_id {
            card.node.clone()
        } else {
            ask_until_fit(groups, peers, *node_id, address).await?
        };
        founders.push(founder);
    }
    initialize(groups, founders).await
}

async fn initialize(groups: &Groups, members: Vec<NodeInfo>) -> Result<Birth, BirthError> {
    for group in groups.all() {
        if !group.is_initialised() {
            group.initialize(members.clone()).await?;
        }
    }
    tracing::info!(voters = members.len(), "the cluster is born");
    Ok(Birth::Formed)
}

async fn ask_until_fit(groups: &Groups, peers: &Peers, node_id: NodeId, address: &str) -> Result<NodeInfo, BirthError> {
    let lines = groups.card().founders.lines();
    loop {
        match peers.hello(address, &lines).await {
            Ok(hello) => return fit(groups, node_id, address, hello),
            Err(status) if status.code() == tonic::Code::PermissionDenied => {
                return Err(BirthError::Disagreement { founder: address.to_owned(), reason: status.message().to_owned() });
            }
            Err(status) => {
                tracing::debug!(address, %status, "a founder does not answer yet");
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        }
    }
}

fn fit(groups: &Groups, node_id: NodeId, address: &str, hello: Hello) -> Result<NodeInfo, BirthError> {
    let card = groups.card();
    let disagreement = |reason: String| Err(BirthError::Disagreement { founder: format!("{node_id} at {address}"), reason });
    if hello.cluster_id != card.cluster_id {
        return disagreement(format!("its cluster id is {}", hello.cluster_id));
    }
    if hello.node.node_id != node_id {
        return disagreement(format!("it says it is node {}", hello.node.node_id));
    }
    if hello.born {
        return Err(BirthError::BornAlready { founder: hello.node, cluster_id: hello.cluster_id });
    }
    if hello.shards != card.shards {
        return disagreement(format!("it is set up with {} shards, this node with {}", hello.shards, card.shards));
    }
    if hello.founders != card.founders.lines() {
        return disagreement(format!("its founders are {:?}", hello.founders));
    }
    Ok(hello.node)
}
