//! Between the peer protocol's messages and openraft's.
//!
//! Everything that comes from a peer is checked here: a message that lacks a part is refused, never guessed.

use cairn_machine::{NodeId, ShardId};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest, VoteResponse,
};
use tonic::Status;
use uuid::Uuid;

use crate::entry;
use crate::identity::NodeInfo;
use crate::proto;
use crate::type_config::{Ballot, RaftEntry, RaftLogId, Types, log_id};

/// What a follower answers to one append.
pub(crate) type AppendResult = Result<Option<RaftLogId>, StreamAppendError<Types>>;

pub(crate) fn put_log_id(id: &RaftLogId) -> proto::LogId {
    proto::LogId { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

pub(crate) fn take_log_id(id: &proto::LogId) -> RaftLogId {
    log_id(id.term, id.leader, id.index)
}

pub(crate) fn put_ballot(ballot: &Ballot) -> proto::Ballot {
    proto::Ballot { term: ballot.leader_id.term, node_id: ballot.leader_id.node_id, committed: ballot.committed }
}

pub(crate) fn take_ballot(ballot: Option<&proto::Ballot>) -> Result<Ballot, Status> {
    let ballot = ballot.ok_or_else(|| missing("ballot"))?;
    Ok(if ballot.committed {
        Ballot::new_committed(ballot.term, ballot.node_id)
    } else {
        Ballot::new(ballot.term, ballot.node_id)
    })
}

pub(crate) fn take_shard(shard: u32) -> Result<ShardId, Status> {
    u16::try_from(shard).map(ShardId).map_err(|_| Status::invalid_argument("shard out of range"))
}

pub(crate) fn put_node(node: &NodeInfo) -> proto::NodeInfo {
    proto::NodeInfo {
        node_id: node.node_id.0,
        peer_address: node.peer_address.clone(),
        client_address: node.client_address.clone(),
        birth_id: put_uuid(node.birth_id),
    }
}

pub(crate) fn take_node(node: Option<proto::NodeInfo>) -> Result<NodeInfo, Status> {
    let node = node.ok_or_else(|| missing("node"))?;
    Ok(NodeInfo {
        node_id: NodeId(node.node_id),
        birth_id: take_uuid(&node.birth_id)?,
        peer_address: node.peer_address,
        client_address: node.client_address,
    })
}

pub(crate) fn put_uuid(uuid: Uuid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(uuid.as_bytes())
}

pub(crate) fn take_uuid(bytes: &[u8]) -> Result<Uuid, Status> {
    Uuid::from_slice(bytes).map_err(|_| Status::invalid_argument("malformed id"))
}

pub(crate) fn put_append(
    shard: ShardId,
    request: AppendEntriesRequest<Types>,
    acknowledged: Option<RaftLogId>,
) -> proto::AppendRequest {
    proto::AppendRequest {
        shard: u32::from(shard.0),
        ballot: Some(put_ballot(&request.vote)),
        previous: request.prev_log_id.as_ref().map(put_log_id),
        committed: request.leader_commit.as_ref().map(put_log_id),
        entries: request.entries.iter().map(put_entry).collect(),
        acknowledged: acknowledged.as_ref().map(put_log_id),
    }
}

pub(crate) fn take_append(request: proto::AppendRequest) -> Result<AppendEntriesRequest<Types>, Status> {
    let vote = take_ballot(request.ballot.as_ref())?;
    if !vote.committed {
        return Err(Status::invalid_argument("an append needs an elected leader's ballot"));
    }
    let prev_log_id = request.previous.as_ref().map(take_log_id);
    let mut next = prev_log_id.map_or(0, |id| id.index.saturating_add(1));
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        // openraft takes entries as contiguous; a peer that sends others must not reach it.
        if entry.index != next {
            return Err(Status::invalid_argument("entries are not contiguous"));
        }
        next = next.checked_add(1).ok_or_else(|| Status::invalid_argument("index out of range"))?;
        entries.push(take_entry(entry)?);
    }
    Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: request.committed.as_ref().map(take_log_id) })
}

fn put_entry(entry: &RaftEntry) -> proto::Entry {
    proto::Entry {
        term: entry.log_id.leader_id.term,
        leader: entry.log_id.leader_id.node_id,
        index: entry.log_id.index,
        record: entry::encode_payload(&entry.payload),
    }
}

fn take_entry(entry: proto::Entry) -> Result<RaftEntry, Status> {
    let payload = entry::decode_payload(&entry.record).map_err(|error| Status::invalid_argument(format!("entry: {error}")))?;
    Ok(RaftEntry { log_id: log_id(entry.term, entry.leader, entry.index), payload })
}

pub(crate) fn put_append_result(result: AppendResult) -> proto::AppendReply {
    use proto::append_reply::Outcome;
    match result {
        Ok(stored) => {
            proto::AppendReply { outcome: Outcome::Stored.into(), log_id: stored.as_ref().map(put_log_id), ballot: None }
        }
        Err(StreamAppendError::Conflict(at)) => {
            proto::AppendReply { outcome: Outcome::Conflict.into(), log_id: Some(put_log_id(&at)), ballot: None }
        }
        Err(StreamAppendError::HigherVote(ballot)) => {
            proto::AppendReply { outcome: Outcome::HigherBallot.into(), log_id: None, ballot: Some(put_ballot(&ballot)) }
        }
    }
}

pub(crate) fn take_append_result(reply: &proto::AppendReply) -> Result<AppendResult, Status> {
    use proto::append_reply::Outcome;
    let log_id = reply.log_id.as_ref().map(take_log_id);
    match reply.outcome() {
        Outcome::Stored => Ok(Ok(log_id)),
        Outcome::Conflict => Ok(Err(StreamAppendError::Conflict(log_id.ok_or_else(|| missing("log id"))?))),
        Outcome::HigherBallot => Ok(Err(StreamAppendError::HigherVote(take_ballot(reply.ballot.as_ref())?))),
        Outcome::Unspecified => Err(missing("outcome")),
    }
}

/// What a follower answers to a lone append, in the form of the stream.
pub(crate) fn append_result(
    response: AppendEntriesResponse<Types>,
    previous: Option<RaftLogId>,
    last: Option<RaftLogId>,
) -> AppendResult {
    match response {
        AppendEntriesResponse::Success => Ok(last),
        AppendEntriesResponse::PartialSuccess(stored) => Ok(stored),
        // Nothing before the first entry can conflict, so a conflict has a previous entry; without one nothing is stored.
        AppendEntriesResponse::Conflict => previous.map_or(Ok(None), |id| Err(StreamAppendError::Conflict(id))),
        AppendEntriesResponse::HigherVote(ballot) => Err(StreamAppendError::HigherVote(ballot)),
    }
}

pub(crate) fn put_vote_request(shard: ShardId, request: &VoteRequest<Types>) -> proto::VoteRequest {
    proto::VoteRequest {
        shard: u32::from(shard.0),
        ballot: Some(put_ballot(&request.vote)),
        last: request.last_log_id.as_ref().map(put_log_id),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(crate) fn take_vote_request(request: &proto::VoteRequest) -> Result<VoteRequest<Types>, Status> {
    let ballot = take_ballot(request.ballot.as_ref())?;
    if ballot.committed {
        return Err(Status::invalid_argument("a candidate's ballot is not granted yet"));
    }
    let mut vote = VoteRequest::new(ballot, request.last.as_ref().map(take_log_id));
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

pub(crate) fn put_vote_response(response: &VoteResponse<Types>) -> proto::VoteReply {
    proto::VoteReply {
        ballot: Some(put_ballot(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(put_log_id),
    }
}

pub(crate) fn take_vote_response(reply: &proto::VoteReply) -> Result<VoteResponse<Types>, Status> {
    let ballot = take_ballot(reply.ballot.as_ref())?;
    Ok(VoteResponse::new(ballot, reply.last.as_ref().map(take_log_id), reply.granted))
}

pub(crate) fn put_transfer(shard: ShardId, request: &TransferLeaderRequest<Types>) -> proto::TransferLeaderRequest {
    proto::TransferLeaderRequest {
        shard: u32::from(shard.0),
        from: Some(put_ballot(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last: request.last_log_id().map(put_log_id),
    }
}

pub(crate) fn take_transfer(request: &proto::TransferLeaderRequest) -> Result<TransferLeaderRequest<Types>, Status> {
    let from = take_ballot(request.from.as_ref())?;
    Ok(TransferLeaderRequest::new(from, request.to_node_id, request.last.as_ref().map(take_log_id)))
}

fn missing(what: &str) -> Status {
    Status::invalid_argument(format!("{what} is missing"))
}
