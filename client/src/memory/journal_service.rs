//! `Journal` in memory: the rules, called directly.

use std::sync::Arc;

use cairn_api::event_codec::event_len;
use cairn_api::v1::journal_server::Journal;
use cairn_api::v1::pipeline_request::request;
use cairn_api::v1::pipeline_response::{Response as Answer, response};
use cairn_api::v1::{self, Failure, Reason, recover_response};
use cairn_api::{
    FOLLOW_PROGRESS_INTERVAL, Follow, FollowShard, HighestReply, List, Listing, ReadHighest, Recover, Replay, SnapshotInfo, reply,
};
use cairn_machine::{
    Claim, Command, DeleteTo, Invalid, PersistenceId, Position, Reply, SequenceNumber, ShardId, Slice, StoredEvent, Write,
};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::answers::{Messages, answered, broken, data_messages, until_broken};
use super::world::{Trouble, World};

/// Events in one message.
const MESSAGE_EVENTS_MAX: usize = 256;
/// A message ends with the event with which it reaches so many bytes: far below what a receiver takes, with the largest event too.
const MESSAGE_BYTES_TARGET: usize = 1024 * 1024;
/// Messages that a stream holds ready.
const MESSAGES_READY_MAX: usize = 4;

#[derive(Clone)]
pub(super) struct JournalService {
    pub(super) world: Arc<World>,
    pub(super) node: u16,
}

#[tonic::async_trait]
impl Journal for JournalService {
    type PipelineStream = Messages<v1::PipelineResponse>;
    type ReplayStream = Messages<v1::ReplayResponse>;
    type RecoverStream = Messages<v1::RecoverResponse>;
    type FollowStream = Messages<v1::FollowResponse>;
    type FollowShardStream = Messages<v1::FollowShardResponse>;

    async fn pipeline(&self, request: Request<Streaming<v1::PipelineRequest>>) -> Result<Response<Self::PipelineStream>, Status> {
        let (sender, answers) = mpsc::channel(MESSAGES_READY_MAX);
        tokio::spawn(self.clone().converse(request.into_inner(), sender));
        Ok(Response::new(ReceiverStream::new(answers).boxed()))
    }

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        answered(self.execute_write(request.into_inner())).await
    }

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        answered(self.execute_claim(request.into_inner())).await
    }

    async fn highest(&self, request: Request<v1::HighestRequest>) -> Result<Response<v1::HighestResponse>, Status> {
        Ok(Response::new(self.read_highest(request.into_inner())?))
    }

    async fn replay(&self, request: Request<v1::ReplayRequest>) -> Result<Response<Self::ReplayStream>, Status> {
        let replay = Replay::try_from(request.into_inner()).map_err(Failure::from)?;
        let mut messages = Replaying::new(self.world.clone(), replay);
        let messages = futures::stream::iter(std::iter::from_fn(move || messages.next_message()));
        Ok(Response::new(self.until_broken(messages)))
    }

    async fn recover(&self, request: Request<v1::RecoverRequest>) -> Result<Response<Self::RecoverStream>, Status> {
        let recover = Recover::try_from(request.into_inner()).map_err(Failure::from)?;
        let mut head = Vec::new();
        if let Some(writer) = recover.writer {
            let known = self.world.look(&recover.persistence_id, |store| store.journal(&recover.persistence_id).cloned());
            let epoch_read = known.unwrap_or_default().epoch_to_claim(&writer).map_err(Failure::from)?;
            let claim = Claim { persistence_id: recover.persistence_id.clone(), writer, epoch_read };
            let claimed = answered(self.claimed(claim)).await?.into_inner();
            head.push(recover_response::Kind::Claimed(claimed));
        }
        let mut after = SequenceNumber(0);
        let snapshot = recover.criteria.and_then(|criteria| {
            self.world.look(&recover.persistence_id, |store| {
                let record = store.latest_snapshot(&recover.persistence_id, &criteria)?;
                Some((record.clone(), store.snapshot_bytes(record)?))
            })
        });
        if let Some((record, bytes)) = snapshot {
            after = record.sequence_number;
            let info = SnapshotInfo::new(recover.persistence_id.clone(), record);
            head.push(recover_response::Kind::Snapshot(info.into()));
            head.extend(data_messages(bytes).map(recover_response::Kind::SnapshotData));
        }
        let replay = Replay {
            persistence_id: recover.persistence_id,
            from: SequenceNumber(after.0 + 1),
            to: recover.to,
            max: recover.max,
            include_deleted: false,
            freshness: cairn_api::Freshness::Strong,
        };
        let mut events = Replaying::new(self.world.clone(), replay);
        let events = std::iter::from_fn(move || events.next_message());
        let events = events.map(|message| Ok(v1::RecoverResponse { kind: Some(recover_response::Kind::Events(message?)) }));
        let head = head.into_iter().map(|kind| Ok(v1::RecoverResponse { kind: Some(kind) }));
        Ok(Response::new(self.until_broken(futures::stream::iter(head.chain(events)))))
    }

    async fn follow(&self, request: Request<v1::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let follow = Follow::try_from(request.into_inner()).map_err(Failure::from)?;
        let world = self.world.clone();
        let changes = world.changes();
        let messages = futures::stream::unfold((world, changes, follow), |(world, mut changes, mut follow)| async move {
            let message = loop {
                changes.mark_unchanged();
                let events = world.look(&follow.persistence_id, |store| {
                    store.replay(&follow.persistence_id, follow.from, SequenceNumber::MAX, MESSAGE_EVENTS_MAX)
                });
                match events {
                    Err(error) => break Err(damaged(&error)),
                    Ok(events) if events.is_empty() => {
                        if !changed_in_time(&mut changes).await? {
                            let followed_to = SequenceNumber(follow.from.0 - 1).to_wire();
                            break Ok(v1::FollowResponse { events: Vec::new(), followed_to });
                        }
                    }
                    Ok(mut events) => {
                        cut(&mut events, |stored| stored);
                        let last = events.last().expect("not empty").event.sequence_number;
                        follow.from = SequenceNumber(last.0 + 1);
                        break Ok(v1::FollowResponse { events: wire(events), followed_to: last.to_wire() });
                    }
                }
            };
            Some((message, (world, changes, follow)))
        });
        Ok(Response::new(self.until_broken(messages)))
    }

    async fn follow_shard(&self, request: Request<v1::FollowShardRequest>) -> Result<Response<Self::FollowShardStream>, Status> {
        let follow = FollowShard::try_from(request.into_inner()).map_err(Failure::from)?;
        let world = self.world.clone();
        let changes = world.changes();
        let start = (world, changes, follow, false);
        let messages = futures::stream::unfold(start, |(world, mut changes, mut follow, mut is_over)| async move {
            if is_over {
                return None;
            }
            let message = loop {
                changes.mark_unchanged();
                match shard_events(&world, &mut follow) {
                    Err(failure) => break Err(failure.into()),
                    Ok(Some(message)) => break Ok(message),
                    Ok(None) if follow.current => {
                        is_over = true;
                        let followed_to = i64::try_from(follow.after.0).unwrap_or(i64::MAX);
                        break Ok(v1::FollowShardResponse { events: Vec::new(), followed_to, end: true });
                    }
                    Ok(None) => {
                        if !changed_in_time(&mut changes).await? {
                            let followed_to = i64::try_from(follow.after.0).unwrap_or(i64::MAX);
                            break Ok(v1::FollowShardResponse { events: Vec::new(), followed_to, end: false });
                        }
                    }
                }
            };
            Some((message, (world, changes, follow, is_over)))
        });
        Ok(Response::new(self.until_broken(messages)))
    }

    async fn delete_to(&self, request: Request<v1::DeleteToRequest>) -> Result<Response<v1::DeleteToResponse>, Status> {
        let delete = DeleteTo::try_from(request.into_inner()).map_err(Failure::from)?;
        let deleted = self.world.execute(self.node, Command::DeleteTo(delete)).and_then(|reply| match reply {
            Reply::DeleteTo(reply) => Ok(reply::answer(reply)?),
            _ => unreachable!("a reply is of its command's kind"),
        });
        answered(deleted).await
    }

    async fn list(&self, request: Request<v1::ListRequest>) -> Result<Response<v1::ListResponse>, Status> {
        let list = List::try_from(request.into_inner()).map_err(Failure::from)?;
        let after = match list.after.as_str() {
            "" => None,
            after => Some(PersistenceId::new(after.to_owned()).map_err(Failure::from)?),
        };
        let limit = list.limit as usize;
        let mut journals = Vec::new();
        for (store, shard) in self.world.lock().shards.iter().zip(0..) {
            for summary in store.journals(&list.prefix, after.as_ref(), limit + 1) {
                journals.push(Listing::new(summary.persistence_id, &summary.head, ShardId(shard)));
            }
        }
        journals.sort_by(|left, right| left.persistence_id.cmp(&right.persistence_id));
        let more = journals.len() > limit;
        journals.truncate(limit);
        Ok(Response::new(v1::ListResponse { journals: journals.into_iter().map(Into::into).collect(), more }))
    }
}

impl JournalService {
    async fn converse(
        self,
        mut requests: Streaming<v1::PipelineRequest>,
        answers: mpsc::Sender<Result<v1::PipelineResponse, Status>>,
    ) {
        while let Ok(Some(message)) = requests.message().await {
            let mut responses = Vec::with_capacity(message.requests.len());
            let mut is_broken = false;
            for request in message.requests {
                let kind = match self.answer(request.kind) {
                    Ok(kind) => kind,
                    Err(Trouble::Failure(failure)) => response::Kind::Failure(*failure),
                    Err(Trouble::Silence) => continue,
                    Err(Trouble::Break) => {
                        is_broken = true;
                        break;
                    }
                };
                responses.push(Answer { request_id: request.request_id, kind: Some(kind) });
            }
            if answers.send(Ok(v1::PipelineResponse { responses })).await.is_err() {
                return;
            }
            if is_broken {
                // Nobody listens any more, then the end is known already.
                drop(answers.send(Err(broken())).await);
                return;
            }
        }
    }

    fn answer(&self, request: Option<request::Kind>) -> Result<response::Kind, Trouble> {
        Ok(match request {
            Some(request::Kind::Write(request)) => response::Kind::Write(self.execute_write(request)?),
            Some(request::Kind::Claim(request)) => response::Kind::Claim(self.execute_claim(request)?),
            Some(request::Kind::Highest(request)) => response::Kind::Highest(self.read_highest(request)?),
            None => return Err(Failure::from(Invalid::Field { field: "kind", reason: "missing" }).into()),
        })
    }

    fn execute_write(&self, request: v1::WriteRequest) -> Result<v1::WriteResponse, Trouble> {
        let write = Write::try_from(request).map_err(Failure::from)?;
        match self.world.execute(self.node, Command::Write(write))? {
            Reply::Write(reply) => Ok(reply::write_response(reply)?),
            _ => unreachable!("a reply is of its command's kind"),
        }
    }

    fn execute_claim(&self, request: v1::ClaimRequest) -> Result<v1::ClaimResponse, Trouble> {
        self.claimed(Claim::try_from(request).map_err(Failure::from)?)
    }

    fn claimed(&self, claim: Claim) -> Result<v1::ClaimResponse, Trouble> {
        match self.world.execute(self.node, Command::Claim(claim))? {
            Reply::Claim(reply) => Ok(reply::answer(reply)?),
            _ => unreachable!("a reply is of its command's kind"),
        }
    }

    fn read_highest(&self, request: v1::HighestRequest) -> Result<v1::HighestResponse, Failure> {
        let read = ReadHighest::try_from(request)?;
        Ok(self.highest_of(&read.persistence_id).into())
    }

    fn highest_of(&self, persistence_id: &PersistenceId) -> HighestReply {
        self.world.look(persistence_id, |store| store.journal(persistence_id).map(HighestReply::from).unwrap_or_default())
    }

    fn until_broken<M: Send + 'static>(&self, messages: impl Stream<Item = Result<M, Status>> + Send + 'static) -> Messages<M> {
        until_broken(&self.world, messages)
    }
}

fn damaged(error: &cairn_machine::DecodeError) -> Status {
    Failure::new(Reason::Damaged, error.to_string()).into()
}

fn wire(events: Vec<StoredEvent>) -> Vec<v1::StoredEvent> {
    events.into_iter().map(v1::StoredEvent::from).collect()
}

/// Keeps of some events those that fit one message; whether these are all.
fn cut<T>(events: &mut Vec<T>, stored: impl Fn(&T) -> &StoredEvent) -> bool {
    let mut bytes = 0;
    let past_target = events.iter().position(|event| {
        bytes += event_len(&stored(event).event);
        bytes >= MESSAGE_BYTES_TARGET
    });
    let kept = past_target.map_or(events.len(), |last| last + 1);
    let is_whole = kept == events.len();
    events.truncate(kept);
    is_whole
}

/// The next events of a shard that match; none if there is nothing new.
fn shard_events(world: &World, follow: &mut FollowShard) -> Result<Option<v1::FollowShardResponse>, Failure> {
    let from = Position(follow.after.0 + 1);
    let mut events = world
        .look_at_shard(follow.shard, |store| store.events_from_position(from, MESSAGE_EVENTS_MAX))?
        .map_err(|error| Failure::new(Reason::Damaged, error.to_string()))?;
    cut(&mut events, |(_, stored)| stored);
    let Some((_, last)) = events.last() else { return Ok(None) };
    follow.after = last.position;
    let matches = |persistence_id: &PersistenceId, stored: &StoredEvent| {
        let has_tag = follow.tag.as_ref().is_none_or(|tag| stored.event.tags.contains(tag));
        let slice = Slice::of(persistence_id).number();
        !stored.deleted && has_tag && follow.slices.is_none_or(|(min, max)| (min..=max).contains(&slice))
    };
    let events = events.into_iter().filter(|(persistence_id, stored)| matches(persistence_id, stored));
    let events = events.map(|(persistence_id, stored)| v1::ShardEvent {
        persistence_id: persistence_id.as_str().to_owned(),
        event: Some(stored.into()),
    });
    let followed_to = i64::try_from(follow.after.0).unwrap_or(i64::MAX);
    Ok(Some(v1::FollowShardResponse { events: events.collect(), followed_to, end: false }))
}

/// Waits for a change, and says whether there was one before a follower is told how far it is; none at the end of the world.
async fn changed_in_time(changes: &mut watch::Receiver<u64>) -> Option<bool> {
    match tokio::time::timeout(FOLLOW_PROGRESS_INTERVAL, changes.changed()).await {
        Ok(changed) => changed.ok().map(|()| true),
        Err(_) => Some(false),
    }
}

/// A replay, message by message: of the state in which it began.
struct Replaying {
    world: Arc<World>,
    replay: Replay,
    state: v1::ReplayEnd,
    deleted_to: SequenceNumber,
    removed_to: SequenceNumber,
    is_first: bool,
    is_over: bool,
}

impl Replaying {
    fn new(world: Arc<World>, replay: Replay) -> Self {
        let HighestReply { highest, deleted_to, removed_to, .. } = Self::head(&world, &replay.persistence_id);
        let state =
            v1::ReplayEnd { highest: highest.to_wire(), deleted_to: deleted_to.to_wire(), removed_to: removed_to.to_wire() };
        let replay = Replay { to: replay.to.min(highest), ..replay };
        Self { world, replay, state, deleted_to, removed_to, is_first: true, is_over: false }
    }

    fn head(world: &World, persistence_id: &PersistenceId) -> HighestReply {
        world.look(persistence_id, |store| store.journal(persistence_id).map(HighestReply::from).unwrap_or_default())
    }

    fn next_message(&mut self) -> Option<Result<v1::ReplayResponse, Status>> {
        if self.is_over {
            return None;
        }
        let message = self.read();
        self.is_over = !matches!(&message, Ok(message) if message.end.is_none());
        Some(message)
    }

    fn read(&mut self) -> Result<v1::ReplayResponse, Status> {
        let Replay { persistence_id, from, to, max, include_deleted, .. } = &self.replay;
        let head = Self::head(&self.world, persistence_id);
        if head.removed_to > self.removed_to && head.removed_to >= *from {
            return Err(Failure::new(Reason::Gone, "events were removed while they were read").into());
        }
        let count = MESSAGE_EVENTS_MAX.min(usize::try_from(*max).unwrap_or(usize::MAX));
        let shown_from = if *include_deleted { *from } else { SequenceNumber(self.deleted_to.0 + 1).max(*from) };
        let events = self.world.look(persistence_id, |store| store.replay_with_deleted(persistence_id, shown_from, *to, count));
        let mut events = events.map_err(|error| damaged(&error))?;
        for stored in &mut events {
            stored.deleted = stored.event.sequence_number <= self.deleted_to;
        }
        let is_short = events.len() < MESSAGE_EVENTS_MAX;
        let is_last = cut(&mut events, |stored| stored) && is_short;
        if let Some(last) = events.last() {
            self.replay.from = SequenceNumber(last.event.sequence_number.0 + 1);
            self.replay.max -= events.len() as u64;
        }
        let state = std::mem::take(&mut self.is_first).then_some(self.state);
        Ok(v1::ReplayResponse { events: wire(events), end: is_last.then_some(self.state), state })
    }
}
