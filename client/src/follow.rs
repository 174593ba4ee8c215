//! Following: the events that are there, and then those to come.

use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1;
use cairn_machine::{PersistenceId, Position, SequenceNumber, ShardId, StoredEvent};
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::attempt::Failed;
use crate::cairn::Cairn;
use crate::error::Error;
use crate::flow::{Cursor, Flow, Messages, stream_of};
use crate::journal::Journal;
use crate::limits::FOLLOW_SILENCE_MAX;
use crate::node::Node;
use crate::replay::{number, stored_event};
use crate::router::Target;

/// The events of a journal from a number on, and then those to come; goes on by itself after a broken connection.
pub struct Follow {
    flow: Flow<JournalCursor>,
}

stream_of!(Follow, StoredEvent);

impl Follow {
    pub(crate) fn new(journal: Journal, from: u64) -> Self {
        let from = SequenceNumber(from.clamp(1, SequenceNumber::MAX.0));
        Self { flow: Flow::new(JournalCursor { target: journal.read_target(), journal, from }) }
    }

    /// How far it has come with what it has handed out, also where there was nothing to show.
    #[must_use]
    pub fn followed_to(&self) -> SequenceNumber {
        *self.flow.mark()
    }
}

struct JournalCursor {
    journal: Journal,
    target: Target,
    from: SequenceNumber,
}

impl Cursor for JournalCursor {
    type Message = v1::FollowResponse;
    type Item = StoredEvent;
    type Mark = SequenceNumber;

    fn client(&self) -> &Cairn {
        self.journal.client()
    }

    fn target(&self) -> Target {
        self.target.clone()
    }

    fn open(&self, node: Arc<Node>) -> BoxFuture<'static, Result<Messages<v1::FollowResponse>, Failed>> {
        let persistence_id = self.journal.persistence_id().as_str().to_owned();
        let request = v1::FollowRequest { persistence_id, from: self.from.to_wire() };
        Box::pin(async move {
            let followed = node.follows().follow(node.request(request)).await;
            Ok(followed.map_err(|status| Failed::from_status(&status))?.into_inner().boxed())
        })
    }

    fn take(&mut self, message: v1::FollowResponse) -> Result<Vec<StoredEvent>, Error> {
        let events = message.events.into_iter().map(stored_event).collect::<Result<Vec<_>, _>>()?;
        if events.first().is_some_and(|first| first.event.sequence_number < self.from) {
            return Err(Error::protocol("events that were not asked for"));
        }
        let last = events.last().map_or(SequenceNumber(0), |last| last.event.sequence_number);
        let followed_to = number(message.followed_to)?.max(last);
        self.from = self.from.max(SequenceNumber(followed_to.0 + 1));
        Ok(events)
    }

    fn is_done(&self) -> bool {
        false
    }

    fn mark(&self) -> SequenceNumber {
        SequenceNumber(self.from.0 - 1)
    }

    fn mark_behind(event: &StoredEvent) -> Option<SequenceNumber> {
        Some(event.event.sequence_number)
    }

    fn silence_max(&self) -> Duration {
        FOLLOW_SILENCE_MAX
    }
}

/// An event with its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardEvent {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// The event.
    pub stored: StoredEvent,
}

/// The events of a shard in commit order, without gap or duplicate; goes on by itself after a broken connection.
pub struct FollowShard {
    flow: Flow<ShardCursor>,
}

stream_of!(FollowShard, ShardEvent);

impl FollowShard {
    pub(crate) fn new(cursor: ShardCursor) -> Self {
        Self { flow: Flow::new(cursor) }
    }

    /// How far it has come with what it has handed out, also where there was nothing to show: what to resume after.
    #[must_use]
    pub fn followed_to(&self) -> Position {
        *self.flow.mark()
    }
}

/// Which events of a shard to follow.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before it is started"]
pub struct FollowShardRequest {
    cursor: ShardCursor,
}

impl FollowShardRequest {
    pub(crate) fn new(client: Cairn, shard: ShardId, after: Position) -> Self {
        let request = cairn_api::FollowShard { shard, after, tag: None, slices: None, current: false };
        Self { cursor: ShardCursor { client, target: Target::Shard(shard), request, is_done: false } }
    }

    /// Only events with this tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.cursor.request.tag = Some(tag.into());
        self
    }

    /// Only events of journals in these slices, both inclusive.
    pub fn slices(mut self, first: u16, last: u16) -> Self {
        self.cursor.request.slices = Some((first, last));
        self
    }

    /// Ends at the state of the shard when the stream is opened, instead of waiting for more.
    pub fn current(mut self) -> Self {
        self.cursor.request.current = true;
        self
    }

    /// Reads from this node alone: `host:port`.
    pub fn at(mut self, address: impl Into<String>) -> Self {
        self.cursor.target = Target::Address(address.into());
        self
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> FollowShard {
        FollowShard::new(self.cursor)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ShardCursor {
    client: Cairn,
    target: Target,
    request: cairn_api::FollowShard,
    is_done: bool,
}

impl Cursor for ShardCursor {
    type Message = v1::FollowShardResponse;
    type Item = ShardEvent;
    type Mark = Position;

    fn client(&self) -> &Cairn {
        &self.client
    }

    fn target(&self) -> Target {
        self.target.clone()
    }

    fn open(&self, node: Arc<Node>) -> BoxFuture<'static, Result<Messages<v1::FollowShardResponse>, Failed>> {
        let request = v1::FollowShardRequest::from(self.request.clone());
        Box::pin(async move {
            let followed = node.follows().follow_shard(node.request(request)).await;
            Ok(followed.map_err(|status| Failed::from_status(&status))?.into_inner().boxed())
        })
    }

    fn take(&mut self, message: v1::FollowShardResponse) -> Result<Vec<ShardEvent>, Error> {
        self.is_done = message.end && self.request.current;
        let mut events = Vec::with_capacity(message.events.len());
        for event in message.events {
            let persistence_id = crate::write::parse_persistence_id(event.persistence_id)?;
            let stored = event.event.ok_or_else(|| Error::protocol("an event without its event"))?;
            events.push(ShardEvent { persistence_id, stored: stored_event(stored)? });
        }
        if events.first().is_some_and(|first| first.stored.position <= self.request.after) {
            return Err(Error::protocol("events that were not asked for"));
        }
        let last = events.last().map_or(Position(0), |last| last.stored.position);
        let followed_to = u64::try_from(message.followed_to).map_err(|_| Error::protocol("a negative position"))?;
        self.request.after = self.request.after.max(last).max(Position(followed_to));
        Ok(events)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn mark(&self) -> Position {
        self.request.after
    }

    fn mark_behind(event: &ShardEvent) -> Option<Position> {
        Some(event.stored.position)
    }

    fn silence_max(&self) -> Duration {
        FOLLOW_SILENCE_MAX
    }
}
