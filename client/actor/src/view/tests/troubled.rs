//! A store whose streams of events do once what a test wants.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cairn_client::{
    Cairn, Criteria, Deletion, Error, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, StoredEvent, Write, WriteReply,
};
use futures::{FutureExt, StreamExt, stream};

use crate::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};

/// What becomes of a stream of events, or of a snapshot that is loaded.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    None,
    /// It ends with an error after so many events.
    BreakAfter(usize),
    /// It just ends after so many events.
    EndAfter(usize),
    /// Nothing comes after so many events.
    HangAfter(usize),
    /// It takes so long.
    Delay(Duration),
    /// Each event takes so long.
    Slow(Duration),
    /// These events come instead.
    Script(Vec<StoredEvent>),
}

/// Which numbers, and how many events at most.
type Replay = (RangeInclusive<u64>, u64);

#[derive(Clone)]
pub(super) struct Troubled {
    pub(super) cairn: Cairn,
    streams: Arc<Mutex<VecDeque<Trouble>>>,
    loads: Arc<Mutex<VecDeque<Error>>>,
    replays: Arc<Mutex<Vec<Replay>>>,
}

pub(super) fn away() -> Error {
    Error::Unavailable { message: "away".to_owned() }
}

impl Troubled {
    pub(super) fn new(cairn: Cairn) -> Self {
        Self { cairn, streams: Arc::default(), loads: Arc::default(), replays: Arc::default() }
    }

    /// What becomes of the next streams.
    pub(super) fn next(&self, troubles: impl IntoIterator<Item = Trouble>) {
        self.streams.lock().unwrap().extend(troubles);
    }

    pub(super) fn fail_load(&self, error: Error) {
        self.loads.lock().unwrap().push_back(error);
    }

    /// Which replays were asked for since this was asked last.
    pub(super) fn replays(&self) -> Vec<Replay> {
        std::mem::take(&mut self.replays.lock().unwrap())
    }

    fn troubled(&self, events: Events) -> Events {
        match self.streams.lock().unwrap().pop_front().unwrap_or(Trouble::None) {
            Trouble::None => events,
            Trouble::BreakAfter(count) => events.take(count).chain(stream::iter([Err(away())])).boxed(),
            Trouble::EndAfter(count) => events.take(count).boxed(),
            Trouble::HangAfter(count) => events.take(count).chain(stream::pending()).boxed(),
            Trouble::Delay(time) => tokio::time::sleep(time).map(|()| events).flatten_stream().boxed(),
            Trouble::Slow(time) => events.then(move |event| tokio::time::sleep(time).map(|()| event)).boxed(),
            Trouble::Script(script) => stream::iter(script.into_iter().map(Ok)).boxed(),
        }
    }
}

impl JournalStore for Troubled {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        JournalStore::recover(&self.cairn, request)
    }

    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply> {
        JournalStore::write(&self.cairn, write)
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        self.replays.lock().unwrap().push((numbers.clone(), max));
        self.troubled(self.cairn.replay(persistence_id, numbers, max))
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        self.troubled(self.cairn.follow(persistence_id, from))
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        self.cairn.highest(persistence_id)
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        self.cairn.delete_to(persistence_id, to, deletion, claim)
    }
}

impl SnapshotStore for Troubled {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        match self.loads.lock().unwrap().pop_front() {
            Some(error) => Box::pin(std::future::ready(Err(error))),
            None => self.cairn.load(persistence_id, criteria),
        }
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        assert_eq!(claim, None, "a view claims nothing");
        self.cairn.save(persistence_id, snapshot, claim)
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        self.cairn.delete(persistence_id, number, timestamp, claim)
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        self.cairn.delete_matching(persistence_id, criteria, claim)
    }
}
