//! `Cluster` in memory: who leads; there is nothing to change.

use std::sync::Arc;

use cairn_api::v1::cluster_server::Cluster;
use cairn_api::v1::{
    AddRequest, ChangeResponse, Failure, Node, Reason, RemoveRequest, ReplaceRequest, Shard, StatusRequest, StatusResponse,
    TransferLeaderRequest,
};
use cairn_machine::View;
use tonic::{Request, Response, Status};

use super::world::World;

pub(super) struct ClusterService {
    pub(super) world: Arc<World>,
    pub(super) node: u16,
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let (leader, term) = self.world.leader();
        let addresses = self.world.addresses().into_iter();
        let nodes = addresses.zip(1..).map(|(address, node_id)| Node {
            node_id,
            peer_address: address.clone(),
            client_address: address,
            birth_id: String::new(),
            voter: true,
        });
        let nodes: Vec<Node> = nodes.collect();
        let voters: Vec<u64> = nodes.iter().map(|node| node.node_id).collect();
        let state = self.world.lock();
        let shard_states = state.shards.iter().zip(0..).map(|(store, shard)| Shard {
            shard,
            leader: leader.map_or(0, |leader| leader.0),
            term,
            position: i64::try_from(store.shard().next_position.0 - 1).unwrap_or(i64::MAX),
            voters: voters.clone(),
            state_hash: store.shard().chain.to_be_bytes().to_vec().into(),
            ..Shard::default()
        });
        let shard_states: Vec<Shard> = shard_states.collect();
        Ok(Response::new(StatusResponse {
            cluster_id: "memory".to_owned(),
            node_id: World::node_id(self.node).0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            shards: u32::try_from(shard_states.len()).unwrap_or(u32::MAX),
            nodes,
            shard_states,
            ..StatusResponse::default()
        }))
    }

    async fn add(&self, _: Request<AddRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(unsafe_in_memory())
    }

    async fn remove(&self, _: Request<RemoveRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(unsafe_in_memory())
    }

    async fn replace(&self, _: Request<ReplaceRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(unsafe_in_memory())
    }

    async fn transfer_leader(&self, _: Request<TransferLeaderRequest>) -> Result<Response<ChangeResponse>, Status> {
        Err(unsafe_in_memory())
    }
}

fn unsafe_in_memory() -> Status {
    Failure::new(Reason::Unsafe, "the nodes of a cluster in memory stay as they are").into()
}
