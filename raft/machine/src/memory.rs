//! The rules over plain maps: what tests, embedded doubles and models use where no tables are wanted.

use std::collections::BTreeMap;
use std::convert::Infallible;

use bytes::{Bytes, BytesMut};

use crate::batch::Batch;
use crate::change::{Change, Head, ShardState, SnapshotRecord, StoredWrite};
use crate::codec::DecodeError;
use crate::command::Criteria;
use crate::decide::{Store, apply_batch};
use crate::event::StoredEvent;
use crate::ids::{JournalId, PersistenceId, Position, SaveId, SequenceNumber};
use crate::reply::Reply;
use crate::view::View;

/// One shard's journals and snapshots in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    shard: ShardState,
    heads: BTreeMap<PersistenceId, Head>,
    names: BTreeMap<JournalId, PersistenceId>,
    writes: BTreeMap<(JournalId, SequenceNumber), StoredWrite>,
    /// Where the atomic write is that begins at a position.
    positions: BTreeMap<Position, (JournalId, SequenceNumber)>,
    snapshots: BTreeMap<(JournalId, SequenceNumber), SnapshotRecord>,
    chunks: BTreeMap<(JournalId, SaveId, u32), Bytes>,
}

/// A journal as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSummary {
    /// Its name.
    pub persistence_id: PersistenceId,
    /// Its head.
    pub head: Head,
}

impl MemoryStore {
    /// A shard in which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a batch and returns the answers to its commands.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        match apply_batch(self, batch) {
            Ok(replies) => replies,
            Err(never) => match never {},
        }
    }

    /// A journal's head; none if the persistence id was never seen.
    #[must_use]
    pub fn journal(&self, persistence_id: &PersistenceId) -> Option<&Head> {
        self.heads.get(persistence_id)
    }

    /// A journal's name.
    #[must_use]
    pub fn name(&self, journal: JournalId) -> Option<&PersistenceId> {
        self.names.get(&journal)
    }

    /// A journal's highest sequence number; 0 if it is unknown.
    #[must_use]
    pub fn highest(&self, persistence_id: &PersistenceId) -> SequenceNumber {
        self.journal(persistence_id).map_or(SequenceNumber(0), |head| head.highest)
    }

    /// The events that are not deleted, from `from` up to `to`, both inclusive, at most `max` of them.
    ///
    /// # Errors
    /// [`DecodeError`] if a stored body is malformed.
    pub fn replay(
        &self,
        persistence_id: &PersistenceId,
        from: SequenceNumber,
        to: SequenceNumber,
        max: usize,
    ) -> Result<Vec<StoredEvent>, DecodeError> {
        let deleted_to = self.journal(persistence_id).map_or(SequenceNumber(0), |head| head.deleted_to);
        self.scan(persistence_id, from.max(SequenceNumber(deleted_to.0 + 1)), to, max)
    }

    /// As [`MemoryStore::replay`], with the logically deleted events, which are marked.
    ///
    /// # Errors
    /// [`DecodeError`] if a stored body is malformed.
    pub fn replay_with_deleted(
        &self,
        persistence_id: &PersistenceId,
        from: SequenceNumber,
        to: SequenceNumber,
        max: usize,
    ) -> Result<Vec<StoredEvent>, DecodeError> {
        let removed_to = self.journal(persistence_id).map_or(SequenceNumber(0), |head| head.removed_to);
        self.scan(persistence_id, from.max(SequenceNumber(removed_to.0 + 1)), to, max)
    }

    fn scan(
        &self,
        persistence_id: &PersistenceId,
        from: SequenceNumber,
        to: SequenceNumber,
        max: usize,
    ) -> Result<Vec<StoredEvent>, DecodeError> {
        let mut events = Vec::new();
        let Some(head) = self.journal(persistence_id).filter(|_| max > 0 && from <= to) else {
            return Ok(events);
        };
        let start = self.write_at_or_before(head.journal, from);
        for (_, write) in self.writes.range((head.journal, start)..=(head.journal, to)) {
            for event in write.events_from(from, head.deleted_to) {
                let event = event?;
                if event.event.sequence_number > to || events.len() == max {
                    return Ok(events);
                }
                events.push(event);
            }
        }
        Ok(events)
    }

    /// The first number of the atomic write in which `from` may lie.
    fn write_at_or_before(&self, journal: JournalId, from: SequenceNumber) -> SequenceNumber {
        let before = self.writes.range((journal, SequenceNumber(0))..=(journal, from)).next_back();
        before.map_or(from, |((_, first), _)| *first)
    }

    /// The shard's events from a position on, at most `max` of them; logically deleted ones are marked, removed ones are gone.
    ///
    /// # Errors
    /// [`DecodeError`] if a stored body is malformed.
    pub fn events_from_position(&self, from: Position, max: usize) -> Result<Vec<(PersistenceId, StoredEvent)>, DecodeError> {
        let mut events = Vec::new();
        let before = self.positions.range(..=from).next_back();
        let start = before.map_or(from, |(position, _)| *position);
        for place in self.positions.range(start..).map(|(_, place)| place) {
            let persistence_id = self.names.get(&place.0).expect("a journal is named before it is written");
            let head = self.heads.get(persistence_id).expect("a named journal has a head");
            let write = self.writes.get(place).expect("positions point at atomic writes that are there");
            for event in write.events_from(SequenceNumber(head.removed_to.0 + 1), head.deleted_to) {
                let event = event?;
                if events.len() == max {
                    return Ok(events);
                }
                if event.position >= from {
                    events.push((persistence_id.clone(), event));
                }
            }
        }
        Ok(events)
    }

    /// Journals whose name begins with `prefix` and stands behind `after`, in bytewise order, at most `max` of them.
    #[must_use]
    pub fn journals(&self, prefix: &str, after: Option<&PersistenceId>, max: usize) -> Vec<JournalSummary> {
        self.heads
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(prefix) && after.is_none_or(|after| *name > after))
            .take(max)
            .map(|(name, head)| JournalSummary { persistence_id: name.clone(), head: head.clone() })
            .collect()
    }

    /// The matching snapshot with the highest number.
    #[must_use]
    pub fn latest_snapshot(&self, persistence_id: &PersistenceId, criteria: &Criteria) -> Option<&SnapshotRecord> {
        self.snapshots_of(persistence_id).rev().find(|snapshot| criteria.matches(snapshot.sequence_number, snapshot.timestamp))
    }

    /// Every snapshot of a journal, ascending.
    pub fn snapshots_of(&self, persistence_id: &PersistenceId) -> impl DoubleEndedIterator<Item = &SnapshotRecord> {
        let journal = self.journal(persistence_id).map(|head| head.journal);
        journal.into_iter().flat_map(|journal| {
            let range = (journal, SequenceNumber(0))..=(journal, SequenceNumber::MAX);
            self.snapshots.range(range).map(|(_, snapshot)| snapshot)
        })
    }

    /// A snapshot's bytes; none if it is not there any more.
    #[must_use]
    pub fn snapshot_bytes(&self, snapshot: &SnapshotRecord) -> Option<Bytes> {
        let chunk = |index| self.chunks.get(&(snapshot.journal, snapshot.save_id, index));
        if snapshot.chunks == 1 {
            return chunk(0).cloned();
        }
        let mut bytes = BytesMut::new();
        for index in 0..snapshot.chunks {
            bytes.extend_from_slice(chunk(index)?);
        }
        Some(bytes.freeze())
    }

    /// How many chunks of snapshots there are, those in transfer included.
    #[must_use]
    pub fn chunks_count(&self) -> usize {
        self.chunks.len()
    }

    fn put_head(&mut self, persistence_id: &PersistenceId, head: Head) {
        let removed_to = head.removed_to;
        let journal = head.journal;
        match self.heads.get_mut(persistence_id) {
            Some(known) => {
                let is_removing = removed_to > known.removed_to;
                *known = head;
                if is_removing {
                    self.give_back(journal, removed_to);
                }
            }
            None => {
                let name = persistence_id.detached();
                self.names.insert(journal, name.clone());
                self.heads.insert(name, head);
            }
        }
    }

    /// Drops atomic writes of which every event is removed.
    fn give_back(&mut self, journal: JournalId, removed_to: SequenceNumber) {
        let range = (journal, SequenceNumber(0))..=(journal, removed_to);
        let removed: Vec<(SequenceNumber, Position)> = self
            .writes
            .range(range)
            .filter(|(_, write)| write.last <= removed_to)
            .map(|(_, write)| (write.first, write.position))
            .collect();
        for (first, position) in removed {
            self.writes.remove(&(journal, first));
            self.positions.remove(&position);
        }
    }
}

impl View for MemoryStore {
    type Error = Infallible;

    fn shard(&self) -> &ShardState {
        &self.shard
    }

    fn head(&self, persistence_id: &PersistenceId) -> Result<Option<Head>, Infallible> {
        Ok(self.heads.get(persistence_id).cloned())
    }

    fn stored_write(&self, journal: JournalId, first: SequenceNumber) -> Result<Option<StoredWrite>, Infallible> {
        Ok(self.writes.get(&(journal, first)).cloned())
    }

    fn snapshot(&self, journal: JournalId, sequence_number: SequenceNumber) -> Result<Option<SnapshotRecord>, Infallible> {
        Ok(self.snapshots.get(&(journal, sequence_number)).cloned())
    }

    fn snapshots(&self, journal: JournalId, from: SequenceNumber, to: SequenceNumber) -> Result<Vec<SnapshotRecord>, Infallible> {
        if from > to {
            return Ok(Vec::new());
        }
        Ok(self.snapshots.range((journal, from)..=(journal, to)).map(|(_, snapshot)| snapshot.clone()).collect())
    }
}

impl Store for MemoryStore {
    fn change(&mut self, change: Change) -> Result<(), Infallible> {
        self.shard.apply(&change);
        match change {
            Change::Head { persistence_id, head } => self.put_head(&persistence_id, head),
            Change::Append(write) => {
                self.positions.insert(write.position, (write.journal, write.first));
                self.writes.insert((write.journal, write.first), write);
            }
            Change::PutSnapshot(record) => {
                self.snapshots.insert((record.journal, record.sequence_number), record);
            }
            Change::DropSnapshot { journal, sequence_number } => {
                self.snapshots.remove(&(journal, sequence_number));
            }
            Change::PutChunk { journal, save_id, index, bytes } => {
                self.chunks.insert((journal, save_id, index), bytes);
            }
            Change::DropChunks { journal, save_id, chunks } => {
                for index in 0..chunks {
                    self.chunks.remove(&(journal, save_id, index));
                }
            }
            Change::PutUpload { .. } | Change::DropUpload { .. } => {}
        }
        Ok(())
    }

    fn seal(&mut self, chain: u128) -> Result<(), Infallible> {
        self.shard.chain = chain;
        Ok(())
    }
}
