//! Who is in the cluster, and changing that. Every check of safety is made by the server.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1::cluster_client::ClusterClient;
use cairn_api::v1::{
    AddRequest, ChangeResponse, RemoveRequest, ReplaceRequest, StatusRequest, StatusResponse, TransferLeaderRequest,
};
use cairn_machine::{NodeId, ShardId};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::attempt::Failed;
use crate::cairn::{Cairn, check_address, deadline_in};
use crate::error::Error;
use crate::node::Node;
use crate::retry::Retry;
use crate::router::{Effect, Target, final_error};

/// How long a change may take by default: a new node must first catch up.
const CHANGE_DEADLINE_DEFAULT: Duration = Duration::from_secs(15 * 60);

/// The cluster as an operator sees it.
#[derive(Clone, Debug)]
pub struct Cluster {
    client: Cairn,
    target: Target,
    change_deadline: Duration,
}

impl Cluster {
    pub(crate) fn new(client: Cairn) -> Self {
        Self { client, target: Target::Any, change_deadline: CHANGE_DEADLINE_DEFAULT }
    }

    /// Asks this node alone: `host:port`.
    #[must_use]
    pub fn at(mut self, address: impl Into<String>) -> Self {
        self.target = Target::Address(address.into());
        self
    }

    /// How long a change may take once it has begun; 15 minutes by default. Until then the client's deadline holds.
    #[must_use]
    pub fn with_change_deadline(mut self, deadline: Duration) -> Self {
        self.change_deadline = deadline;
        self
    }

    /// What a node knows of the cluster, without asking others.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers before the deadline.
    pub async fn status(&self) -> Result<StatusResponse, Error> {
        let attempt = |node: Arc<Node>| async move {
            let status = node.cluster().status(StatusRequest {}).await;
            Ok(status.map_err(|status| Failed::from_status(&status))?.into_inner())
        };
        self.client.router().call(&self.target, Effect::Read, self.client.deadline(), attempt).await
    }

    /// Takes a waiting node in; returns when it is a voter of every shard. Asking again goes on with a change that was begun.
    ///
    /// # Errors
    /// [`Error::Unsafe`] if the server refuses it; [`Error::Unknown`] if the deadline ended while it was under way.
    pub async fn add(&self, peer_address: impl Into<String>) -> Result<Vec<String>, Error> {
        let request = AddRequest { peer_address: peer_address.into() };
        check_address("peer address", &request.peer_address)?;
        self.change(|mut cluster| {
            let request = request.clone();
            async move { cluster.add(request).await }
        })
        .await
    }

    /// Takes a node out.
    ///
    /// # Errors
    /// As [`Cluster::add`].
    pub async fn remove(&self, node: NodeId) -> Result<Vec<String>, Error> {
        self.change(|mut cluster| async move { cluster.remove(RemoveRequest { node_id: node.0 }).await }).await
    }

    /// Puts a waiting node with a new identity in the place of a lost or wiped one.
    ///
    /// # Errors
    /// As [`Cluster::add`].
    pub async fn replace(&self, lost: NodeId, peer_address: impl Into<String>) -> Result<Vec<String>, Error> {
        let request = ReplaceRequest { node_id: lost.0, peer_address: peer_address.into() };
        check_address("peer address", &request.peer_address)?;
        self.change(|mut cluster| {
            let request = request.clone();
            async move { cluster.replace(request).await }
        })
        .await
    }

    /// Hands leadership over: of one shard or of all, to a node or to any other one. The client's deadline bounds it.
    ///
    /// # Errors
    /// As [`Cluster::add`].
    pub async fn transfer_leader(&self, shard: Option<ShardId>, to: Option<NodeId>) -> Result<Vec<String>, Error> {
        let request = TransferLeaderRequest { shard: shard.map(|shard| shard.0.into()), node_id: to.map_or(0, |node| node.0) };
        // Nobody needs to catch up: it takes no longer than any other call.
        let quick = Self { change_deadline: self.change_deadline.min(self.client.call_deadline()), ..self.clone() };
        quick.change(|mut cluster| async move { cluster.transfer_leader(request).await }).await
    }

    /// Asks for a change until it is done. A try may take as long as the change: only its deadline bounds it. While nothing has
    /// begun, as when the new node does not answer, nobody waits longer than for any other call.
    async fn change<Asked>(&self, ask: impl Fn(ClusterClient<Channel>) -> Asked) -> Result<Vec<String>, Error>
    where
        Asked: Future<Output = Result<Response<ChangeResponse>, Status>>,
    {
        let router = self.client.router();
        let deadline = deadline_in(self.change_deadline);
        let begin_deadline = deadline.min(self.client.deadline());
        let mut retry = Retry::new(router.random_u64());
        let mut may_be_under_way = false;
        loop {
            let patience = if may_be_under_way { deadline } else { begin_deadline };
            let failed = match router.locate(&self.target, patience).await {
                Err(failed) => failed,
                Ok(node) => {
                    let failed = match tokio::time::timeout_at(deadline, ask(node.cluster())).await {
                        Ok(Ok(done)) => return Ok(done.into_inner().steps),
                        Ok(Err(status)) => Failed::from_status(&status),
                        Err(_) => Failed::Lost("the change did not end in time".to_owned()),
                    };
                    router.note(&self.target, node.address(), &failed);
                    failed
                }
            };
            if let Some(failure) = failed.final_answer() {
                return Err(final_error(failure, may_be_under_way));
            }
            may_be_under_way |= !failed.is_not_applied();
            let patience = if may_be_under_way { deadline } else { begin_deadline };
            if !retry.wait(&failed, patience).await {
                let message = failed.message().to_owned();
                return Err(if may_be_under_way { Error::Unknown { message } } else { Error::Unavailable { message } });
            }
        }
    }
}
