//! The cluster service: what this node knows of the cluster, and changes of its members.

use std::collections::BTreeMap;
use std::sync::Arc;

use cairn_api::v1;
use cairn_api::v1::cluster_server::Cluster;
use cairn_machine::NodeId;
use cairn_raft::GroupStatus;
use tonic::{Request, Response, Status};

use super::{answered, cluster_change};
use crate::core::{Core, Shard};

/// The cluster service of one node.
#[derive(Clone)]
pub(crate) struct ClusterService {
    pub core: Arc<Core>,
    pub changes: Arc<cluster_change::Changes>,
}

impl ClusterService {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let changes = Arc::new(cluster_change::Changes::new(Arc::clone(&core)));
        Self { core, changes }
    }
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        answered(&self.core, "Cluster/Status", Ok(status(&self.core)))
    }

    async fn add(&self, request: Request<v1::AddRequest>) -> Result<Response<v1::ChangeResponse>, Status> {
        let outcome = self.changes.add(request.into_inner().peer_address).await;
        answered(&self.core, "Cluster/Add", outcome)
    }

    async fn remove(&self, request: Request<v1::RemoveRequest>) -> Result<Response<v1::ChangeResponse>, Status> {
        let outcome = self.changes.remove(NodeId(request.into_inner().node_id)).await;
        answered(&self.core, "Cluster/Remove", outcome)
    }

    async fn replace(&self, request: Request<v1::ReplaceRequest>) -> Result<Response<v1::ChangeResponse>, Status> {
        let request = request.into_inner();
        let outcome = self.changes.replace(NodeId(request.node_id), request.peer_address).await;
        answered(&self.core, "Cluster/Replace", outcome)
    }

    async fn transfer_leader(&self, request: Request<v1::TransferLeaderRequest>) -> Result<Response<v1::ChangeResponse>, Status> {
        let request = request.into_inner();
        let to = (request.node_id != 0).then_some(NodeId(request.node_id));
        let outcome = self.changes.transfer_leader(request.shard, to).await;
        answered(&self.core, "Cluster/TransferLeader", outcome)
    }
}

/// What this node knows, without asking others.
fn status(core: &Core) -> v1::StatusResponse {
    let statuses = core.statuses();
    let usage = core.process.usage();
    let disk = core.disk.borrow().clone();
    v1::StatusResponse {
        cluster_id: core.identity.cluster_id.to_string(),
        node_id: core.identity.node_id.0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        shards: u32::from(core.settings.cluster.shards),
        nodes: nodes(&statuses),
        shard_states: core.shards.iter().zip(statuses).map(|(shard, status)| shard_state(shard, status)).collect(),
        not_ready: core.readiness.borrow().iter().map(ToString::to_string).collect(),
        disk_free_bytes: disk.free_bytes.unwrap_or(0),
        disk_total_bytes: disk.total_bytes.unwrap_or(0),
        read_only: disk.nearly_full,
        uptime_seconds: core.started.elapsed().as_secs(),
        cpu_micros: usage.cpu_micros,
        memory_bytes: usage.memory_bytes,
    }
}

/// Every member of any shard.
fn nodes(statuses: &[GroupStatus]) -> Vec<v1::Node> {
    let mut nodes = BTreeMap::new();
    for node in statuses.iter().flat_map(|status| status.members.voters.iter().chain(&status.members.learners)) {
        nodes.entry(node.node_id).or_insert_with(|| v1::Node {
            node_id: node.node_id.0,
            peer_address: node.peer_address.clone(),
            client_address: node.client_address.clone(),
            birth_id: node.birth_id.to_string(),
            voter: statuses.iter().all(|status| status.members.is_voter(node.node_id)),
        });
    }
    nodes.into_values().collect()
}

fn shard_state(shard: &Shard, status: GroupStatus) -> v1::Shard {
    let ids = |nodes: &[cairn_raft::NodeInfo]| nodes.iter().map(|node| node.node_id.0).collect();
    let (state_hash_index, state_hash) = status.state_hash.unwrap_or_default();
    v1::Shard {
        shard: u32::from(shard.id.0),
        leader: status.leader.map_or(0, |leader| leader.node_id.0),
        term: status.term,
        last_index: status.last.unwrap_or(0),
        committed_index: status.committed.unwrap_or(0),
        applied_index: status.applied.unwrap_or(0),
        flushed_index: status.flushed.unwrap_or(0),
        purged_index: status.purged.unwrap_or(0),
        position: i64::try_from(shard.newest_position().0).unwrap_or(i64::MAX),
        voters: ids(&status.members.voters),
        learners: ids(&status.members.learners),
        state_hash: state_hash.to_be_bytes().to_vec().into(),
        state_hash_index,
        lags: status
            .replication
            .into_iter()
            .map(|(node, follower)| v1::shard::Lag { node_id: node.0, entries: follower.lag_entries })
            .collect(),
    }
}
