//! The way to the other nodes: one HTTP/2 channel to each peer, shared by all shards.
//!
//! Invariants
//! - Every call carries who calls and whom it means, and has a deadline.
//! - A peer that could not be reached is left alone for a moment: nothing here spins. One that says itself that a shard cannot answer
//!   is asked on for the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::beats::BeatLine;
use crate::identity::{Identity, NodeInfo, Party};
use crate::limits::{PEER_MESSAGE_BYTES_MAX, QUESTION_MAX, UNREACHABLE_PAUSE};
use crate::proto;
use crate::proto::peer_client::PeerClient;
use crate::wire::{put_node, take_node, take_uuid};

/// The metadata keys of every peer call.
pub(crate) const CLUSTER_KEY: &str = "cairn-cluster-id";
pub(crate) const FROM_KEY: &str = "cairn-from";
pub(crate) const TO_KEY: &str = "cairn-to";

/// What a node answers for a shard that is closed, or cannot answer now. Never unavailable, which is what a transport says.
pub(crate) const NOT_NOW: Code = Code::Aborted;

/// Gives channels to peers. The node makes one over its network, lazily connected: the call must not wait.
pub trait PeerConnector: Send + Sync + 'static {
    /// A channel to `address` (`host:port`) that connects at the first call and again after a failure.
    ///
    /// # Errors
    /// A text if the address is malformed.
    fn channel(&self, address: &str) -> Result<Channel, String>;
}

/// What a node answers to "who are you?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The cluster to which it belongs.
    pub cluster_id: uuid::Uuid,
    /// Itself.
    pub node: NodeInfo,
    /// Whether any of its shards was ever part of a cluster.
    pub born: bool,
    /// How many shards it is set up with.
    pub shards: u16,
    /// The founders it knows, as in [`crate::Founders`].
    pub founders: Vec<String>,
}

/// Every peer of this node, by address.
pub struct Peers {
    identity: Identity,
    connector: Arc<dyn PeerConnector>,
    links: Mutex<BTreeMap<String, Arc<PeerLink>>>,
}

impl Peers {
    /// No connection is opened before it is needed.
    pub fn new(identity: Identity, connector: Arc<dyn PeerConnector>) -> Arc<Self> {
        Arc::new(Self { identity, connector, links: Mutex::default() })
    }

    /// This node.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Asks the node at `address` who it is.
    ///
    /// # Errors
    /// The status of the call: unreachable, too late, or refused.
    pub async fn hello(&self, address: &str, founders: &[String]) -> Result<Hello, Status> {
        let link = self.passing_link(address)?;
        let request = self.request(proto::HelloRequest { founders: founders.to_vec() }, None);
        let reply = link.unary(QUESTION_MAX, |mut client| async move { client.hello(request).await }).await?;
        Ok(Hello {
            cluster_id: take_uuid(&reply.cluster_id)?,
            node: take_node(reply.node)?,
            born: reply.born,
            shards: u16::try_from(reply.shards).map_err(|_| Status::invalid_argument("shards out of range"))?,
            founders: reply.founders,
        })
    }

    pub(crate) fn link(&self, address: &str) -> Result<Arc<PeerLink>, Status> {
        let mut links = self.links.lock().expect("no one panics while holding it");
        if let Some(link) = links.get(address) {
            return Ok(link.clone());
        }
        let link = self.new_link(address)?;
        links.insert(address.to_owned(), link.clone());
        Ok(link)
    }

    /// The link to a peer, or one that is not kept: whoever asks at any address must not fill the memory with links.
    fn passing_link(&self, address: &str) -> Result<Arc<PeerLink>, Status> {
        let kept = self.links.lock().expect("no one panics while holding it").get(address).cloned();
        kept.map_or_else(|| self.new_link(address), Ok)
    }

    fn new_link(&self, address: &str) -> Result<Arc<PeerLink>, Status> {
        let channel = self.connector.channel(address).map_err(Status::invalid_argument)?;
        Ok(Arc::new(PeerLink { channel, closed_until: Mutex::new(None), beats: Mutex::default() }))
    }

    #[cfg(test)]
    pub(crate) fn links_kept(&self) -> usize {
        self.links.lock().expect("no one panics while holding it").len()
    }

    /// A call's request with who calls and whom it means.
    pub(crate) fn request<T>(&self, message: T, to: Option<Party>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let mut put = |key: &'static str, text: String| {
            let value = MetadataValue::try_from(text).expect("digits, dashes and a slash are legal in metadata");
            metadata.insert(key, value);
        };
        put(CLUSTER_KEY, self.identity.cluster_id.to_string());
        put(FROM_KEY, self.identity.party().to_string());
        if let Some(to) = to {
            put(TO_KEY, to.to_string());
        }
        request
    }

    /// The stream that carries all shards' heartbeats to one peer.
    pub(crate) fn beat_line(self: &Arc<Self>, node: &NodeInfo) -> Result<BeatLine, Status> {
        let link = self.link(&node.peer_address)?;
        let to = Party::from(node);
        let mut beats = link.beats.lock().expect("no one panics while holding it");
        match &*beats {
            Some((party, line)) if *party == to && line.is_open() => Ok(line.clone()),
            _ => {
                let line = BeatLine::open(self.clone(), Arc::downgrade(&link), to);
                *beats = Some((to, line.clone()));
                Ok(line)
            }
        }
    }

    /// Asks a shard's leader to change its members.
    pub(crate) async fn change_members(
        &self,
        leader: &NodeInfo,
        change: proto::ChangeMembersRequest,
        deadline: Duration,
    ) -> Result<(), Status> {
        let link = self.link(&leader.peer_address)?;
        let request = self.request(change, Some(Party::from(leader)));
        link.unary(deadline, |mut client| async move { client.change_members(request).await }).await.map(|_| ())
    }
}

/// What a node answers to a hello, on the wire.
pub(crate) fn put_hello(hello: &Hello) -> proto::HelloReply {
    proto::HelloReply {
        cluster_id: crate::wire::put_uuid(hello.cluster_id),
        node: Some(put_node(&hello.node)),
        born: hello.born,
        shards: u32::from(hello.shards),
        founders: hello.founders.clone(),
    }
}

/// The channel to one peer.
pub(crate) struct PeerLink {
    channel: Channel,
    /// Until when the peer is left alone after it could not be reached.
    closed_until: Mutex<Option<Instant>>,
    beats: Mutex<Option<(Party, BeatLine)>>,
}

impl PeerLink {
    pub fn client(&self) -> PeerClient<Channel> {
        PeerClient::new(self.channel.clone())
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
    }

    /// One question, one answer, within `deadline`.
    pub async fn unary<R, F>(&self, deadline: Duration, call: impl FnOnce(PeerClient<Channel>) -> F) -> Result<R, Status>
    where
        F: Future<Output = Result<tonic::Response<R>, Status>>,
    {
        self.check_open()?;
        match tokio::time::timeout(deadline, call(self.client())).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                self.note(&status);
                Err(status)
            }
            Err(_) => Err(Status::deadline_exceeded("the peer did not answer in time")),
        }
    }

    /// Refuses while the peer is left alone.
    pub fn check_open(&self) -> Result<(), Status> {
        let mut closed_until = self.closed_until.lock().expect("no one panics while holding it");
        match *closed_until {
            Some(until) if Instant::now() < until => Err(Status::unavailable("the peer could not be reached a moment ago")),
            Some(_) => {
                *closed_until = None;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes note of a failed call.
    pub fn note(&self, status: &Status) {
        if status.code() == Code::Unavailable {
            let mut closed_until = self.closed_until.lock().expect("no one panics while holding it");
            *closed_until = Some(Instant::now() + UNREACHABLE_PAUSE);
        }
    }
}
