//! One given node, asked directly: its status, and what it has stored itself.
//!
//! The client library goes to whoever leads. Operators, and whoever wants proof that every replica holds the same, need an answer
//! from this node and no other.

use std::time::Duration;

use anyhow::Context;
use cairn_api::v1::cluster_client::ClusterClient;
use cairn_api::v1::journal_client::JournalClient;
use cairn_api::v1::{
    FollowShardRequest, JournalInfo, ListRequest, ReplayResponse, ShardEvent, StatusRequest, StatusResponse,
};
use cairn_api::{Freshness, MESSAGE_BYTES_MAX, Replay};
use cairn_machine::{Invalid, PersistenceId, SequenceNumber, ShardId, StoredEvent};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::transport::{Channel, Endpoint};

/// How long a connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Journals asked for at a time.
const LIST_LIMIT: u32 = 1_000;

/// A node by its client address.
#[derive(Clone, Debug)]
pub struct NodeClient {
    address: String,
    channel: Channel,
    deadline: Duration,
}

impl NodeClient {
    /// Names a node; the connection is made when it is needed, and again when it broke.
    ///
    /// # Errors
    /// If the address cannot be one.
    pub fn new(address: &str, deadline: Duration) -> anyhow::Result<Self> {
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).with_context(|| format!("{address:?} is not host:port"))?;
        let channel = endpoint.connect_timeout(CONNECT_DEADLINE).tcp_nodelay(true).connect_lazy();
        Ok(Self { address: address.to_owned(), channel, deadline })
    }

    /// Its client address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the node knows of itself and of the cluster.
    ///
    /// # Errors
    /// The node's failure, or that it cannot be reached.
    pub async fn status(&self) -> Result<StatusResponse, tonic::Status> {
        let mut client = ClusterClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        Ok(client.status(self.request(StatusRequest {})).await?.into_inner())
    }

    /// Every journal whose persistence id has a prefix, in bytewise order, as this node has them.
    pub fn journals(
        &self,
        prefix: &str,
        freshness: Freshness,
    ) -> impl Stream<Item = Result<JournalInfo, tonic::Status>> + use<> {
        let client = JournalClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (prefix, deadline) = (prefix.to_owned(), self.deadline);
        let pages = futures::stream::try_unfold(Some(String::new()), move |after| {
            let (mut client, prefix) = (client.clone(), prefix.clone());
            async move {
                let Some(after) = after else { return Ok::<_, tonic::Status>(None) };
                let list = ListRequest { prefix, after, limit: LIST_LIMIT, freshness: Some(freshness.into()) };
                let mut request = tonic::Request::new(list);
                request.set_timeout(deadline);
                let page = client.list(request).await?.into_inner();
                let next = page.journals.last().filter(|_| page.more).map(|journal| journal.persistence_id.clone());
                Ok(Some((futures::stream::iter(page.journals.into_iter().map(Ok)), next)))
            }
        });
        pages.try_flatten()
    }

    /// The events of a journal as this node has them.
    ///
    /// # Errors
    /// The node's failure, or that it cannot be reached.
    pub async fn replay(
        &self,
        persistence_id: &PersistenceId,
        range: std::ops::RangeInclusive<u64>,
        include_deleted: bool,
        freshness: Freshness,
    ) -> Result<impl Stream<Item = Result<StoredEvent, tonic::Status>> + use<>, tonic::Status> {
        let mut client = JournalClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let replay = Replay {
            persistence_id: persistence_id.clone(),
            from: SequenceNumber(*range.start()),
            to: SequenceNumber(*range.end()),
            max: SequenceNumber::MAX.0,
            include_deleted,
            freshness,
        };
        let responses = client.replay(tonic::Request::new(replay.into())).await?.into_inner();
        Ok(responses.map_ok(events).try_flatten())
    }

    /// The events that a shard has now on this node, in commit order.
    ///
    /// # Errors
    /// The node's failure, or that it cannot be reached.
    pub async fn shard(
        &self,
        shard: ShardId,
    ) -> Result<impl Stream<Item = Result<(PersistenceId, StoredEvent), tonic::Status>> + use<>, tonic::Status> {
        let mut client = JournalClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = FollowShardRequest { shard: u32::from(shard.0), current: true, ..FollowShardRequest::default() };
        let responses = client.follow_shard(tonic::Request::new(request)).await?.into_inner();
        Ok(responses.map_ok(|response| futures::stream::iter(response.events).map(shard_event)).try_flatten())
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.deadline);
        request
    }
}

fn events(response: ReplayResponse) -> impl Stream<Item = Result<StoredEvent, tonic::Status>> {
    futures::stream::iter(response.events).map(|event| StoredEvent::try_from(event).map_err(malformed))
}

fn shard_event(event: ShardEvent) -> Result<(PersistenceId, StoredEvent), tonic::Status> {
    let persistence_id = PersistenceId::new(event.persistence_id).map_err(malformed)?;
    let stored = event.event.ok_or_else(|| malformed(Invalid::Field { field: "event", reason: "missing" }))?;
    Ok((persistence_id, StoredEvent::try_from(stored).map_err(malformed)?))
}

fn malformed(invalid: Invalid) -> tonic::Status {
    tonic::Status::data_loss(format!("the node's answer: {invalid}"))
}
