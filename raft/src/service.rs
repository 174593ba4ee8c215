//! The peer port: what other nodes may ask of this one.
//!
//! Invariants
//! - Every call is refused unless it comes from this cluster, means this node and birth, and its sender's birth is not another
//!   than the one that the members know.
//! - Nobody votes or appends in another's name, and a ballot with an absurd term changes nothing.
//! - A shard that is not open here neither votes nor answers, and does not make this node look unreachable.

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, TransferLeaderError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use crate::checkpoint;
use crate::group::{Group, put_members_error, take_change};
use crate::groups::Groups;
use crate::identity::Party;
use crate::limits::{
    BEAT_MESSAGES_QUEUED_MAX, BEATS_PER_MESSAGE_MAX, PEER_FRAME_BYTES, PEER_HEADERS_BYTES_MAX, PEER_MESSAGE_BYTES_MAX,
    PEER_STREAMS_MAX, STREAM_OPEN_MAX, STREAM_STALL_MAX, TERM_LEAP_MAX,
};
use crate::peers::{CLUSTER_KEY, FROM_KEY, NOT_NOW, TO_KEY, put_hello};
use crate::proto;
use crate::proto::peer_server::{Peer, PeerServer};
use crate::runtime;
use crate::type_config::{Ballot, Types};
use crate::wire::{
    append_result, put_append_result, put_ballot, put_log_id, put_vote_response, take_append, take_log_id, take_shard,
    take_transfer, take_vote_request,
};

type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers the peers of a node.
#[derive(Clone)]
pub struct PeerService {
    groups: Arc<Groups>,
}

impl PeerService {
    /// Serves the shards that are open in `groups`.
    #[must_use]
    pub fn new(groups: Arc<Groups>) -> Self {
        Self { groups }
    }

    /// Serves peers over connections that come in until `stop` is ready, with all limits set. TCP connections must come without
    /// delay (`TCP_NODELAY`) on both sides: else a small answer waits 40 ms for an acknowledgement, and a lone writer with it.
    ///
    /// # Errors
    /// The transport's.
    pub async fn serve<I, IO, E>(self, incoming: I, stop: impl Future<Output = ()>) -> Result<(), tonic::transport::Error>
    where
        I: Stream<Item = Result<IO, E>>,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let service = PeerServer::new(self)
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
        Server::builder()
            .max_concurrent_streams(Some(PEER_STREAMS_MAX))
            .http2_max_header_list_size(Some(PEER_HEADERS_BYTES_MAX))
            .initial_stream_window_size(Some(4 * 1024 * 1024))
            .initial_connection_window_size(Some(16 * 1024 * 1024))
            .max_frame_size(Some(PEER_FRAME_BYTES))
            .http2_keepalive_interval(Some(std::time::Duration::from_secs(5)))
            .http2_keepalive_timeout(Some(std::time::Duration::from_secs(5)))
            .add_service(service)
            .serve_with_incoming_shutdown(incoming, stop)
            .await
    }

    /// Who calls, if the call is for this node and may be answered.
    fn admit(&self, metadata: &MetadataMap) -> Result<Party, Status> {
        let from = self.admit_stranger(metadata)?;
        let to = text(metadata, TO_KEY).and_then(Party::parse).ok_or_else(|| malformed(TO_KEY))?;
        let me = self.groups.identity().party();
        if to != me {
            return Err(Status::permission_denied(format!("this is node {me}, not {to}")));
        }
        if self.groups.knows_another_birth(from.node_id, from.birth_id) {
            return Err(Status::permission_denied(format!(
                "node {} is a member under another birth: a wiped node must be added under a new node id",
                from.node_id
            )));
        }
        Ok(from)
    }

    /// Who calls, if it is of this cluster.
    fn admit_stranger(&self, metadata: &MetadataMap) -> Result<Party, Status> {
        let mine = self.groups.card().cluster_id;
        match text(metadata, CLUSTER_KEY).and_then(|text| text.parse::<uuid::Uuid>().ok()) {
            Some(theirs) if theirs == mine => {}
            Some(theirs) => {
                return Err(Status::permission_denied(format!("this node is of cluster {mine}, not {theirs}")));
            }
            None => return Err(malformed(CLUSTER_KEY)),
        }
        text(metadata, FROM_KEY).and_then(Party::parse).ok_or_else(|| malformed(FROM_KEY))
    }

    fn group(&self, shard: u32) -> Result<Group, Status> {
        let shard = take_shard(shard)?;
        let group = self.groups.get(shard);
        let group = group.ok_or_else(|| Status::new(NOT_NOW, format!("shard {shard} is not open on this node")))?;
        group.check_sound()?;
        Ok(group)
    }

    async fn vote_either(&self, request: Request<proto::VoteRequest>, pre: bool) -> Result<Response<proto::VoteReply>, Status> {
        let from = self.admit(request.metadata())?;
        let message = request.into_inner();
        let group = self.group(message.shard)?;
        let vote = take_vote_request(&message)?;
        check_ballot(&group, &vote.vote, from)?;
        let answer = async { if pre { group.raft().pre_vote(vote).await } else { group.raft().vote(vote).await } };
        let answer = group.life().scope(answer).await;
        let response = answer.map_err(|error| stopped(&error))?;
        Ok(Response::new(put_vote_response(&response)))
    }
}

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(&self, request: Request<proto::HelloRequest>) -> Result<Response<proto::HelloReply>, Status> {
        self.admit_stranger(request.metadata())?;
        Ok(Response::new(put_hello(&self.groups.hello())))
    }

    type AppendStream = ReplyStream<proto::AppendReply>;

    async fn append(&self, request: Request<Streaming<proto::AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let from = self.admit(request.metadata())?;
        let mut incoming = request.into_inner();
        let first = first_append(&mut incoming).await?;
        let shard = first.shard;
        let group = self.group(shard)?;
        let first = admit_append(&group, first, from)?;
        // What openraft cannot be told, because its input holds requests only, ends the stream with this.
        let (refuse, mut refused) = mpsc::channel::<Status>(1);
        let requests = {
            let group = group.clone();
            futures::stream::once(async move { first }).chain(futures::stream::unfold(incoming, move |mut incoming| {
                let (group, refuse) = (group.clone(), refuse.clone());
                async move {
                    let message = match incoming.message().await {
                        Ok(message) => message?,
                        Err(_) => return None,
                    };
                    let admitted = if message.shard == shard {
                        admit_append(&group, message, from)
                    } else {
                        Err(Status::invalid_argument("an append stream belongs to one shard"))
                    };
                    match admitted {
                        Ok(append) => Some((append, incoming)),
                        Err(status) => {
                            let _ = refuse.try_send(status);
                            None
                        }
                    }
                }
            }))
        };
        let replies = group.life().enter(|| group.raft().stream_append(requests)).map(|result| match result {
            Ok(result) => Ok(put_append_result(result)),
            Err(fatal) => Err(stopped(&fatal)),
        });
        let refusal = futures::stream::poll_fn(move |context| refused.poll_recv(context)).map(Err);
        Ok(Response::new(Box::pin(replies.chain(refusal))))
    }

    type BeatStream = ReceiverStream<Result<proto::BeatReplies, Status>>;

    async fn beat(&self, request: Request<Streaming<proto::Beats>>) -> Result<Response<Self::BeatStream>, Status> {
        let from = self.admit(request.metadata())?;
        let (replies, outgoing) = mpsc::channel(BEAT_MESSAGES_QUEUED_MAX);
        tokio::spawn(answer_beats(self.clone(), from, request.into_inner(), replies));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteReply>, Status> {
        self.vote_either(request, false).await
    }

    async fn pre_vote(&self, request: Request<proto::VoteRequest>) -> Result<Response<proto::VoteReply>, Status> {
        self.vote_either(request, true).await
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderReply>, Status> {
        let from = self.admit(request.metadata())?;
        let message = request.into_inner();
        let group = self.group(message.shard)?;
        let transfer = take_transfer(&message)?;
        check_ballot(&group, transfer.from_leader(), from)?;
        let answer = group.life().scope(group.raft().handle_transfer_leader(transfer)).await.map_err(|error| stopped(&error))?;
        Ok(Response::new(match answer {
            Ok(()) => proto::TransferLeaderReply { accepted: true, ..Default::default() },
            Err(error) => {
                let reason = error.to_string();
                let (ballot, flushed) = match error {
                    TransferLeaderError::VoteChanged { actual, .. } => (Some(put_ballot(&actual)), None),
                    TransferLeaderError::LogNotFlushed { actual, .. } => (None, actual.as_ref().map(put_log_id)),
                };
                proto::TransferLeaderReply { accepted: false, reason, ballot, flushed }
            }
        }))
    }

    async fn checkpoint(
        &self,
        request: Request<Streaming<proto::CheckpointPart>>,
    ) -> Result<Response<proto::CheckpointReply>, Status> {
        let from = self.admit(request.metadata())?;
        let mut parts = request.into_inner();
        let head = checkpoint::take_head(&mut parts).await?;
        let group = self.group(head.shard)?;
        let ballot = crate::wire::take_ballot(head.ballot.as_ref())?;
        check_ballot(&group, &ballot, from)?;
        let answer = checkpoint::receive(&group, ballot, head, &mut parts).await?;
        Ok(Response::new(proto::CheckpointReply { ballot: Some(put_ballot(&answer)) }))
    }

    type FetchCheckpointStream = ReceiverStream<Result<proto::CheckpointPart, Status>>;

    async fn fetch_checkpoint(
        &self,
        request: Request<proto::FetchCheckpointRequest>,
    ) -> Result<Response<Self::FetchCheckpointStream>, Status> {
        let from = self.admit(request.metadata())?;
        let message = request.into_inner();
        let group = self.group(message.shard)?;
        if group.known_birth(from.node_id) != Some(from.birth_id) {
            return Err(Status::permission_denied(format!("node {} is not a member of the shard", from.node_id)));
        }
        Ok(Response::new(checkpoint::serve(&group, message.index_min)?))
    }

    async fn read_index(&self, request: Request<proto::ReadIndexRequest>) -> Result<Response<proto::ReadIndexReply>, Status> {
        self.admit(request.metadata())?;
        let group = self.group(request.get_ref().shard)?;
        let index = group.leader_read_index().await.map_err(|error| Status::new(NOT_NOW, error.to_string()))?;
        Ok(Response::new(proto::ReadIndexReply { index }))
    }

    async fn change_members(
        &self,
        request: Request<proto::ChangeMembersRequest>,
    ) -> Result<Response<proto::ChangeMembersReply>, Status> {
        self.admit(request.metadata())?;
        let message = request.into_inner();
        let group = self.group(message.shard)?;
        let change = take_change(message)?;
        match group.change_here(change).await {
            Ok(()) => Ok(Response::new(proto::ChangeMembersReply {})),
            Err(error) => Err(put_members_error(&error)),
        }
    }
}

/// Answers heartbeats as they come; those of one message at once, so that a slow shard holds up nobody, and one that is stuck not for
/// long.
async fn answer_beats(
    service: PeerService,
    from: Party,
    mut incoming: Streaming<proto::Beats>,
    replies: mpsc::Sender<Result<proto::BeatReplies, Status>>,
) {
    let mut answering = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(reply) = answering.next(), if !answering.is_empty() => {
                let mut ready = vec![reply];
                while let Some(Some(reply)) = futures::FutureExt::now_or_never(answering.next()) {
                    ready.push(reply);
                }
                if replies.send(Ok(proto::BeatReplies { replies: ready })).await.is_err() {
                    return;
                }
            }
            message = incoming.message(), if answering.len() < BEATS_PER_MESSAGE_MAX => {
                let Ok(Some(message)) = message else { return };
                if message.beats.len() > BEATS_PER_MESSAGE_MAX {
                    let _ = replies.send(Err(Status::invalid_argument("too many heartbeats in one message"))).await;
                    return;
                }
                answering.extend(message.beats.into_iter().map(|beat| answer_beat(service.clone(), from, beat)));
            }
        }
    }
}

async fn answer_beat(service: PeerService, from: Party, beat: proto::Beat) -> proto::BeatReply {
    let answer = async {
        let message = beat.append.ok_or_else(|| Status::invalid_argument("a heartbeat without an append"))?;
        let group = service.group(message.shard)?;
        let append = admit_append(&group, message, from)?;
        let previous = append.prev_log_id;
        let last = append.entries.last().map(|entry| entry.log_id).or(previous);
        group.life().enter(runtime::heartbeat_heard);
        let response = group.life().scope(group.raft().append_entries(append)).await.map_err(|error| stopped(&error))?;
        Ok::<_, Status>(put_append_result(append_result(response, previous, last)))
    };
    // Whoever sent it has given it up by then. A core that is stuck would take the place of all others' heartbeats for ever.
    let answer = tokio::time::timeout(STREAM_STALL_MAX, answer).await;
    let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("the shard's core does not answer")));
    let append = answer.inspect_err(|status| tracing::debug!(%from, %status, "a heartbeat was not answered")).ok();
    proto::BeatReply { ticket: beat.ticket, append }
}

/// A stream that brings nothing holds nothing.
async fn first_append(incoming: &mut Streaming<proto::AppendRequest>) -> Result<proto::AppendRequest, Status> {
    let first = tokio::time::timeout(STREAM_OPEN_MAX, incoming.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("nothing came on the append stream"))??;
    first.ok_or_else(|| Status::invalid_argument("an append stream without an append"))
}

fn admit_append(group: &Group, message: proto::AppendRequest, from: Party) -> Result<AppendEntriesRequest<Types>, Status> {
    let acknowledged = message.acknowledged.as_ref().map(take_log_id);
    let append = take_append(message)?;
    check_ballot(group, &append.vote, from)?;
    if let Some(acknowledged) = acknowledged {
        group.check_holds(&append.vote, &acknowledged)?;
    }
    Ok(append)
}

/// A ballot is its owner's alone, and terms grow by one.
fn check_ballot(group: &Group, ballot: &Ballot, from: Party) -> Result<(), Status> {
    if ballot.leader_id.node_id != from.node_id.0 {
        return Err(Status::permission_denied(format!(
            "node {} brings a ballot of node {}",
            from.node_id, ballot.leader_id.node_id
        )));
    }
    if ballot.leader_id.term > group.term().saturating_add(TERM_LEAP_MAX) {
        return Err(Status::permission_denied(format!("term {} is absurd", ballot.leader_id.term)));
    }
    Ok(())
}

fn stopped(error: &impl std::fmt::Display) -> Status {
    Status::new(NOT_NOW, format!("the shard's core does not answer: {error}"))
}

fn text<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    metadata.get(key)?.to_str().ok()
}

fn malformed(key: &str) -> Status {
    Status::permission_denied(format!("{key} is missing or malformed"))
}
