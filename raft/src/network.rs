//! openraft's calls to one peer, over the peer protocol.
//!
//! Invariants
//! - The first request of an append stream is taken before anything is called: openraft's back-off sits there, and a transport
//!   that connects first is retried in a hot loop.
//! - An append stream on which something is in flight and nothing comes back fails within twice [`STREAM_STALL_MAX`].
//! - A stream that ends early is an error, so that the next one waits for the back-off.

use std::sync::Arc;
use std::time::Duration;

use cairn_machine::ShardId;
use futures::{Stream, StreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes};
use tonic::{Code, Status, Streaming};

use crate::acknowledged::Acknowledged;
use crate::checkpoint::{self, CheckpointHandle};
use crate::commit_news::CommitNews;
use crate::identity::{NodeInfo, Party};
use crate::limits::{BACKOFF_MAX, BACKOFF_MIN, STREAM_OPEN_MAX, STREAM_STALL_MAX};
use crate::peers::{PeerLink, Peers};
use crate::proto;
use crate::runtime;
use crate::send_times::SendTimes;
use crate::type_config::{Ballot, Types};
use crate::wire::{put_append, put_transfer, put_vote_request, take_append_result, take_ballot, take_log_id, take_vote_response};

type BoxFuture<'a, T> = openraft::base::BoxFuture<'a, T>;
type BoxStream<'a, T> = openraft::base::BoxStream<'a, T>;
type Appended = Result<StreamAppendResult<Types>, RPCError<Types>>;
type Snapshot = openraft::alias::SnapshotOf<Types, CheckpointHandle>;

/// Makes the clients of one shard.
pub(crate) struct PeerNetworks {
    pub peers: Arc<Peers>,
    pub shard: ShardId,
    pub transfers: Arc<checkpoint::Transfers>,
    pub acknowledged: Arc<Acknowledged>,
    pub commit_news: Arc<CommitNews>,
}

impl PeerNetworks {
    fn client(&self, node: &NodeInfo, beats: bool) -> PeerNetwork {
        PeerNetwork {
            peers: self.peers.clone(),
            shard: self.shard,
            node: node.clone(),
            transfers: self.transfers.clone(),
            acknowledged: self.acknowledged.clone(),
            commit_news: self.commit_news.clone(),
            beats,
        }
    }
}

impl RaftNetworkFactory<Types> for PeerNetworks {
    type Network = PeerNetwork;

    async fn new_client(&mut self, _target: u64, node: &NodeInfo) -> PeerNetwork {
        self.client(node, false)
    }

    async fn new_heartbeat_client(&mut self, _target: u64, node: &NodeInfo) -> PeerNetwork {
        self.client(node, true)
    }
}

/// One shard's client of one peer.
pub(crate) struct PeerNetwork {
    peers: Arc<Peers>,
    shard: ShardId,
    node: NodeInfo,
    transfers: Arc<checkpoint::Transfers>,
    acknowledged: Arc<Acknowledged>,
    commit_news: Arc<CommitNews>,
    /// Whether appends are heartbeats, which share a stream with those of the other shards.
    beats: bool,
}

impl PeerNetwork {
    fn link(&self) -> Result<Arc<PeerLink>, Status> {
        self.peers.link(&self.node.peer_address)
    }

    fn party(&self) -> Party {
        Party::from(&self.node)
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        self.peers.request(message, Some(self.party()))
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<Types> {
        Timeout { action, id: self.peers.identity().node_id.0, target: self.node.node_id.0, timeout }
    }

    fn failed(&self, action: RPCTypes, deadline: Duration, status: &Status) -> RPCError<Types> {
        match status.code() {
            Code::DeadlineExceeded => RPCError::Timeout(self.timeout(action, deadline)),
            _ => unreachable(status),
        }
    }

    async fn send_vote(&self, request: VoteRequest<Types>, option: &RPCOption, pre: bool) -> Result<VoteResponse<Types>, Status> {
        let message = self.request(put_vote_request(self.shard, &request));
        let reply = self
            .link()?
            .unary(option.soft_ttl(), |mut client| async move {
                if pre { client.pre_vote(message).await } else { client.vote(message).await }
            })
            .await?;
        take_vote_response(&reply)
    }

    async fn send_beat(&self, request: AppendEntriesRequest<Types>, deadline: Duration) -> Appended {
        let line = self.peers.beat_line(&self.node).map_err(|status| unreachable(&status))?;
        let acknowledged = self.acknowledged.to(self.party(), &request.vote);
        runtime::heartbeat_sent();
        match tokio::time::timeout(deadline, line.send(self.shard, request, acknowledged)).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(status)) => Err(unreachable(&status)),
            Err(_) => Err(RPCError::Timeout(self.timeout(RPCTypes::AppendEntries, deadline))),
        }
    }

    async fn open_append<S>(&self, first: AppendEntriesRequest<Types>, rest: S) -> Result<AppendSession, Status>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
    {
        let link = self.link()?;
        link.check_open()?;
        let times = Arc::new(SendTimes::default());
        let (shard, to, ballot) = (self.shard, self.party(), first.vote);
        let carries_entries = |request: &AppendEntriesRequest<Types>| !request.entries.is_empty();
        times.sent(carries_entries(&first));
        let rest = times.leaving(self.commit_news.carried_by_entries(times.made(rest)), carries_entries);
        let requests = {
            let acknowledged = self.acknowledged.clone();
            futures::stream::once(async move { first }).chain(runtime::keep(rest)).map(move |request| {
                let acknowledged = acknowledged.to(to, &request.vote);
                put_append(shard, request, acknowledged)
            })
        };
        let mut client = link.client();
        let replies = match tokio::time::timeout(STREAM_OPEN_MAX, client.append(self.request(requests))).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                link.note(&status);
                return Err(status);
            }
            Err(_) => return Err(Status::unavailable("the append stream did not open in time")),
        };
        Ok(AppendSession { replies, times, has_answered: false, to, ballot, acknowledged: self.acknowledged.clone() })
    }
}

impl NetStreamAppend<Types> for PeerNetwork {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Appended>, RPCError<Types>>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // Before anything is called: openraft's back-off waits in here.
            let Some(first) = input.next().await else {
                return Ok(Box::pin(futures::stream::empty()) as BoxStream<'s, Appended>);
            };
            if self.beats {
                let answer = self.send_beat(first, option.soft_ttl()).await?;
                let stream = futures::stream::once(async move { Ok(answer) });
                return Ok(Box::pin(stream) as BoxStream<'s, Appended>);
            }
            let session = self.open_append(first, input).await.map_err(|status| unreachable(&status))?;
            let stream = futures::stream::unfold(Some(session), |session| async move {
                let mut session = session?;
                match session.next().await {
                    Ok(Some(result)) => {
                        let going_on = result.is_ok();
                        Some((Ok(result), going_on.then_some(session)))
                    }
                    Ok(None) => None,
                    Err(status) => Some((Err(unreachable(&status)), None)),
                }
            });
            Ok(Box::pin(stream) as BoxStream<'s, Appended>)
        })
    }
}

/// An open append stream.
struct AppendSession {
    replies: Streaming<proto::AppendReply>,
    times: Arc<SendTimes>,
    /// Whether an answer was given out that openraft may not have taken in yet.
    has_answered: bool,
    to: Party,
    /// Of every request on the stream.
    ballot: Ballot,
    acknowledged: Arc<Acknowledged>,
}

impl AppendSession {
    /// The next answer; none when everything was asked and answered.
    async fn next(&mut self) -> Result<Option<StreamAppendResult<Types>>, Status> {
        if std::mem::take(&mut self.has_answered) {
            self.times.answered();
        }
        let mut was_in_flight = false;
        loop {
            match tokio::time::timeout(STREAM_STALL_MAX, self.replies.message()).await {
                Ok(Ok(Some(reply))) => {
                    if !self.times.is_waiting() {
                        return Err(Status::internal("the peer answers what it was not asked"));
                    }
                    self.has_answered = true;
                    let result = take_append_result(&reply)?;
                    if let Ok(Some(stored)) = &result {
                        self.acknowledged.note(self.to, self.ballot, *stored);
                    }
                    return Ok(Some(result));
                }
                Ok(Ok(None)) if self.times.has_ended() && !self.times.is_waiting() => return Ok(None),
                Ok(Ok(None)) => return Err(Status::unavailable("the peer ended the append stream")),
                Ok(Err(status)) => return Err(status),
                // Something may have been sent just now: it has a whole turn to be answered.
                Err(_) if was_in_flight => return Err(Status::unavailable("the peer does not answer appends")),
                Err(_) => was_in_flight = self.times.is_waiting(),
            }
        }
    }
}

impl NetVote<Types> for PeerNetwork {
    async fn vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent = self.send_vote(rpc, &option, false).await;
        sent.map_err(|status| self.failed(RPCTypes::Vote, option.soft_ttl(), &status))
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let sent = self.send_vote(rpc, &option, true).await;
        sent.map_err(|status| self.failed(RPCTypes::Vote, option.soft_ttl(), &status))
    }
}

impl NetTransferLeader<Types> for PeerNetwork {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let deadline = option.soft_ttl();
        let message = self.request(put_transfer(self.shard, &req));
        let sent = async {
            let link = self.link()?;
            let reply = link.unary(deadline, |mut client| async move { client.transfer_leader(message).await }).await?;
            take_transfer_reply(&req, &reply)
        };
        sent.await.map_err(|status| self.failed(RPCTypes::TransferLeader, deadline, &status))
    }
}

fn take_transfer_reply(
    request: &TransferLeaderRequest<Types>,
    reply: &proto::TransferLeaderReply,
) -> Result<TransferLeaderResponse<Types>, Status> {
    if reply.accepted {
        return Ok(Ok(()));
    }
    let flushed = reply.flushed.as_ref().map(take_log_id);
    Ok(Err(match &reply.ballot {
        Some(ballot) => {
            let actual: Ballot = take_ballot(Some(ballot))?;
            TransferLeaderError::VoteChanged { expected: *request.from_leader(), actual }
        }
        None => TransferLeaderError::LogNotFlushed { expected: request.last_log_id().copied(), actual: flushed },
    }))
}

impl NetSnapshot<Types> for PeerNetwork {
    type SnapshotData = CheckpointHandle;

    async fn full_snapshot(
        &mut self,
        vote: Ballot,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let link = self.link().map_err(|status| StreamingError::from(unreachable(&status)))?;
        let message = |stream| self.request(stream);
        let last = snapshot.meta.last_log_id;
        let transfer = checkpoint::send(&link, message, self.shard, &vote, snapshot.snapshot, &self.transfers);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = transfer => match sent {
                Ok(ballot) => {
                    if let Some(last) = last.filter(|_| ballot == vote) {
                        self.acknowledged.note(self.party(), vote, last);
                    }
                    Ok(SnapshotResponse::new(ballot))
                }
                Err(status) => {
                    link.note(&status);
                    Err(StreamingError::Unreachable(Unreachable::from_string(describe(&status))))
                }
            },
        }
    }
}

impl NetBackoff<Types> for PeerNetwork {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::successors(Some(BACKOFF_MIN), |pause| Some((*pause * 2).min(BACKOFF_MAX)))))
    }
}

/// Every failure of a peer makes openraft back off: a retry at once finds the same failure.
fn unreachable(status: &Status) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(describe(status)))
}

/// The error of a peer that answered, for the log.
fn describe(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
