//! Replay: the events of a journal in order.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

use cairn_api::v1;
use cairn_machine::{SequenceNumber, StoredEvent};
use futures::StreamExt;
use futures::future::BoxFuture;

use crate::attempt::Failed;
use crate::cairn::Cairn;
use crate::error::Error;
use crate::flow::{Cursor, Flow, Messages, stream_of};
use crate::journal::Journal;
use crate::node::Node;
use crate::router::Target;

/// The events of a journal in order: a stream that goes on by itself after a broken connection.
///
/// A gap between numbers is one that the writer left. Events that are deleted are left out, unless asked for; if the connection breaks
/// and the next events are deleted meanwhile, the replay ends with [`Error::Gone`], as it is of no one state any more. What is written
/// after it began is not part of it.
pub struct Replay {
    pub(crate) flow: Flow<ReplayCursor>,
}

stream_of!(Replay, StoredEvent);

/// The state that a replay is of, however often its connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayEnd {
    /// The journal's true highest number, whatever was asked for.
    pub highest: SequenceNumber,
    /// Events up to this are deleted.
    pub deleted_to: SequenceNumber,
}

impl Replay {
    /// The journal's true highest number and its delete watermark: once the stream has ended without an error.
    #[must_use]
    pub fn end(&self) -> Option<ReplayEnd> {
        *self.flow.mark()
    }

    /// All events that are left, in memory.
    ///
    /// # Errors
    /// The first that the stream meets.
    pub async fn collect_all(mut self) -> Result<Vec<StoredEvent>, Error> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await? {
            events.push(event);
        }
        Ok(events)
    }
}

/// Which events of a journal to replay.
#[derive(Clone, Debug)]
#[must_use = "nothing is read before it is started"]
pub struct ReplayRequest {
    journal: Journal,
    from: SequenceNumber,
    to: SequenceNumber,
    max: u64,
    include_deleted: bool,
}

impl ReplayRequest {
    pub(crate) fn new(journal: Journal, numbers: impl RangeBounds<u64>) -> Self {
        let (from, to) = bounds(&numbers);
        Self { journal, from, to, max: SequenceNumber::MAX.0, include_deleted: false }
    }

    /// How many stored events at most.
    pub fn max(mut self, events: u64) -> Self {
        self.max = events.min(SequenceNumber::MAX.0);
        self
    }

    /// Logically deleted events too, marked as such.
    pub fn include_deleted(mut self) -> Self {
        self.include_deleted = true;
        self
    }

    /// Starts the replay.
    #[must_use]
    pub fn start(self) -> Replay {
        Replay { flow: Flow::new(ReplayCursor::new(self)) }
    }
}

/// Both bounds, inclusive, within what a sequence number can be.
fn bounds(numbers: &impl RangeBounds<u64>) -> (SequenceNumber, SequenceNumber) {
    let from = match numbers.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 1,
    };
    let to = match numbers.end_bound() {
        Bound::Included(to) => *to,
        Bound::Excluded(end) => end.saturating_sub(1),
        Bound::Unbounded => SequenceNumber::MAX.0,
    };
    (SequenceNumber(from.clamp(1, SequenceNumber::MAX.0)), SequenceNumber(to.min(SequenceNumber::MAX.0)))
}

/// The state of a journal, as far as it decides which events a replay shows.
#[derive(Clone, Copy)]
struct State {
    end: ReplayEnd,
    /// Events up to this are gone, for those too who ask for deleted ones.
    removed_to: SequenceNumber,
}

/// Where a replay stands.
///
/// Numbers rise, so up to its highest number a state changes by deletions alone. A stream that is opened anew is asked for no more than
/// that, and goes on with the same events unless some of those that are left have been deleted.
pub(crate) struct ReplayCursor {
    request: ReplayRequest,
    target: Target,
    /// The state that the events are of: as the first stream of which anything was handed out says.
    state: Option<State>,
    /// Whether something of that state was handed out: what follows must be of it, too.
    has_begun: bool,
    /// Whether the next message is the first of its stream.
    is_opening: bool,
    is_done: bool,
}

impl ReplayCursor {
    pub(crate) fn new(request: ReplayRequest) -> Self {
        let target = request.journal.read_target();
        Self { request, target, state: None, has_begun: false, is_opening: true, is_done: false }
    }

    /// The same, after a snapshot that the events belong to.
    pub(crate) fn behind_snapshot(self) -> Self {
        Self { has_begun: true, ..self }
    }

    /// The last number that may still come.
    fn last(&self) -> SequenceNumber {
        self.state.map_or(self.request.to, |state| self.request.to.min(state.end.highest))
    }

    /// Up to where events of a state are not shown.
    fn hidden_to(&self, state: State) -> SequenceNumber {
        if self.request.include_deleted { state.removed_to } else { state.end.deleted_to }
    }

    /// A stream begins, of this state.
    fn opened(&mut self, state: State) -> Result<(), Error> {
        self.is_opening = false;
        let Some(first) = self.state.filter(|_| self.has_begun) else {
            self.state = Some(state);
            return Ok(());
        };
        let (from, last) = (self.request.from.max(SequenceNumber(self.hidden_to(first).0 + 1)), self.last());
        if from > last || self.request.max == 0 {
            // Nothing is left but to hear so.
            return Ok(());
        }
        if self.hidden_to(state) >= from {
            let message = format!("the connection broke, and events from {from} on were deleted before it was there again");
            return Err(Error::Gone { message });
        }
        if state.end.highest < last {
            let highest = state.end.highest;
            let message = format!("the connection broke, and the node that goes on is behind: at {highest} of {last}");
            return Err(Error::Unavailable { message });
        }
        Ok(())
    }
}

impl Cursor for ReplayCursor {
    type Message = v1::ReplayResponse;
    type Item = StoredEvent;
    type Mark = Option<ReplayEnd>;

    fn client(&self) -> &Cairn {
        self.request.journal.client()
    }

    fn target(&self) -> Target {
        self.target.clone()
    }

    fn open(&self, node: Arc<Node>) -> BoxFuture<'static, Result<Messages<v1::ReplayResponse>, Failed>> {
        let request = cairn_api::Replay {
            persistence_id: self.request.journal.persistence_id().clone(),
            from: self.request.from,
            to: self.last(),
            max: self.request.max,
            include_deleted: self.request.include_deleted,
            freshness: self.request.journal.freshness(),
        };
        Box::pin(async move {
            let replayed = node.journal_streams().replay(node.request(v1::ReplayRequest::from(request))).await;
            Ok(replayed.map_err(|status| Failed::from_status(&status))?.into_inner().boxed())
        })
    }

    fn take(&mut self, message: v1::ReplayResponse) -> Result<Vec<StoredEvent>, Error> {
        if self.is_opening {
            let state = message.state.ok_or_else(|| Error::protocol("a replay that does not say of which state it is"))?;
            let end = ReplayEnd { highest: number(state.highest)?, deleted_to: number(state.deleted_to)? };
            self.opened(State { end, removed_to: number(state.removed_to)? })?;
        }
        let mut events = Vec::with_capacity(message.events.len());
        for event in message.events {
            let stored = stored_event(event)?;
            // As it was in the state that is replayed, whatever has been deleted since.
            let deleted = self.state.is_some_and(|state| stored.event.sequence_number <= state.end.deleted_to);
            events.push(StoredEvent { deleted, ..stored });
        }
        if let Some(last) = events.last() {
            if events[0].event.sequence_number < self.request.from || events.len() as u64 > self.request.max {
                return Err(Error::protocol("events that were not asked for"));
            }
            // A stream that breaks goes on behind the last event; behind the last number there is nothing.
            self.request.from = SequenceNumber(last.event.sequence_number.0 + 1);
            self.request.max -= events.len() as u64;
            self.has_begun = true;
        }
        self.is_done = message.end.is_some();
        Ok(events)
    }

    fn is_done(&self) -> bool {
        self.is_done
    }

    fn mark(&self) -> Option<ReplayEnd> {
        self.state.filter(|_| self.is_done).map(|state| state.end)
    }

    /// The end is known behind the last event only.
    fn mark_behind(_: &StoredEvent) -> Option<Option<ReplayEnd>> {
        None
    }

    /// Half of what a call has: the other half is for another node.
    fn silence_max(&self) -> Duration {
        self.client().call_deadline() / 2
    }

    fn broken(&mut self) {
        self.is_opening = true;
        if !self.has_begun {
            self.state = None;
        }
    }
}

pub(crate) fn stored_event(event: v1::StoredEvent) -> Result<StoredEvent, Error> {
    StoredEvent::try_from(event).map_err(|invalid| Error::protocol(invalid.to_string()))
}

pub(crate) fn number(number: i64) -> Result<SequenceNumber, Error> {
    SequenceNumber::from_wire(number).map_err(|invalid| Error::protocol(invalid.to_string()))
}
