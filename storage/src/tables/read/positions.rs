//! Reading a shard by position, and by tag.
//!
//! Position records and tags name atomic writes; the events are read from their journals. What was permanently removed is passed
//! over; anything else that is missing is damage.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::{Head, JournalId, PersistenceId, Position, SequenceNumber, StoredEvent, StoredWrite};

use super::weight;
use crate::blocking::BlockingExt;
use crate::engine::{Scan, Table};
use crate::keys::position::{self, WriteRef};
use crate::keys::{Family, name, tag};
use crate::tables::applying::{read_chunk, read_head};
use crate::tables::state::State;
use crate::tables::{Inner, Tables, TablesError};

/// Writes or tags that one page looks at, at most: where everything was deleted it comes back empty and moves on.
const LOOKED_AT_MAX: usize = 4096;
/// Rows of one read of position records.
const RECORD_ROWS: usize = 16;

/// What a read by position asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionsRead {
    /// The first position, inclusive.
    pub from: Position,
    /// At most this many events.
    pub events_max: usize,
    /// The page ends after the event with which it reaches this many bytes.
    pub bytes_max: usize,
    /// Whether logically deleted events are answered too, marked.
    pub include_deleted: bool,
}

/// An event with the name of its journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionedEvent {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// The event.
    pub event: StoredEvent,
}

/// One page of events by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionsPage {
    /// The events, ascending by position.
    pub events: Vec<PositionedEvent>,
    /// Where the next page begins: always above what was asked for, also where there was nothing to show, until the newest
    /// position is passed.
    pub next: Position,
    /// Whether everything there was is answered.
    pub is_at_end: bool,
}

impl Tables {
    /// One page of the shard's events by position.
    ///
    /// # Errors
    /// [`TablesError::Damaged`] if an event is missing; [`TablesError::Broken`].
    pub async fn read_positions(&self, read: PositionsRead) -> Result<PositionsPage, TablesError> {
        self.read_again_if_replaced(move |inner| Reader::by_position(inner, read)).await
    }

    /// One page of the shard's events that carry a tag.
    ///
    /// # Errors
    /// [`TablesError::Damaged`] if an event is missing; [`TablesError::Broken`].
    pub async fn read_tag(&self, tag: &str, read: PositionsRead) -> Result<PositionsPage, TablesError> {
        let tag = tag.to_owned();
        self.read_again_if_replaced(move |inner| Reader::by_tag(inner, &tag, read)).await
    }

    /// A checkpoint that is switched in while a page is read takes memory away from under it: then what is missing is no damage, and
    /// the page is read again. Each round needs one more checkpoint.
    async fn read_again_if_replaced(
        &self,
        read: impl Fn(&Inner) -> Result<PositionsPage, TablesError> + Send + Sync + 'static,
    ) -> Result<PositionsPage, TablesError> {
        let read = Arc::new(read);
        loop {
            let before = self.inner.state().generation;
            let (inner, read) = (Arc::clone(&self.inner), Arc::clone(&read));
            let outcome = self.inner.blocking.run(move || read(&inner)).await;
            let is_replaced = self.inner.state().generation != before;
            match outcome {
                Err(TablesError::Damaged { .. }) if is_replaced => {}
                outcome => return outcome.map_err(|error| self.inner.note(error)),
            }
        }
    }
}

/// A journal as far as this read knows it.
struct Journal {
    persistence_id: PersistenceId,
    head: Head,
    /// The stretch that was read last.
    writes: Arc<Vec<StoredWrite>>,
    /// The write that was decoded last.
    decoded: Option<(SequenceNumber, Vec<StoredEvent>)>,
}

/// One read. Blocks.
struct Reader<'a> {
    inner: &'a Inner,
    table: Arc<dyn Table>,
    read: PositionsRead,
    journals: BTreeMap<JournalId, Journal>,
    events: Vec<PositionedEvent>,
    bytes: usize,
    looked_at: usize,
}

impl<'a> Reader<'a> {
    /// With the table that lies below the memory of this state.
    fn new(inner: &'a Inner, state: &State, read: PositionsRead) -> Self {
        let table = Arc::clone(&state.table);
        let read = PositionsRead { from: read.from.max(Position(1)), ..read };
        Self { inner, table, read, journals: BTreeMap::new(), events: Vec::new(), bytes: 0, looked_at: 0 }
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.read.events_max || self.bytes >= self.read.bytes_max.max(1) || self.looked_at >= LOOKED_AT_MAX
    }

    fn page(self, next: Position, is_at_end: bool) -> PositionsPage {
        PositionsPage { events: self.events, next: next.max(self.read.from), is_at_end }
    }

    fn by_position(inner: &'a Inner, read: PositionsRead) -> Result<PositionsPage, TablesError> {
        let (mut reader, memory, memory_from, end) = {
            let state = inner.state();
            let reader = Self::new(inner, &state, read);
            let memory: Vec<WriteRef> = state
                .memtables()
                .rev()
                .flat_map(|memtable| memtable.refs_from(reader.read.from))
                .take(LOOKED_AT_MAX)
                .copied()
                .collect();
            (reader, memory, state.first_position(), state.shard().next_position)
        };
        let mut next = reader.read.from;
        while next < memory_from {
            let records = reader.records(next)?;
            let Some(last) = records.last().map(WriteRef::end) else {
                return Err(TablesError::damaged(format!("the record of position {next} is missing")));
            };
            for write in records.iter().filter(|write| write.position < memory_from) {
                if let Some(stopped) = reader.take_write(*write, &mut next)? {
                    return Ok(reader.page(stopped, false));
                }
            }
            next = next.max(last.min(memory_from));
        }
        for write in memory {
            if let Some(stopped) = reader.take_write(write, &mut next)? {
                return Ok(reader.page(stopped, false));
            }
        }
        let is_at_end = next >= end;
        Ok(reader.page(next, is_at_end))
    }

    /// The next position records from the engine.
    fn records(&self, from: Position) -> Result<Vec<WriteRef>, TablesError> {
        let (start, end) = (position::key(from), Family::Position.end());
        let rows = self.table.scan(Scan::ascending(&start, &end, RECORD_ROWS, usize::MAX))?;
        let mut records: Vec<WriteRef> = Vec::new();
        for (key, value) in &rows {
            records.extend(position::decode(key, value)?);
        }
        records.retain(|write| write.end() > from);
        let is_dense = records.first().is_none_or(|write| write.position <= from)
            && records.windows(2).all(|pair| pair[0].end() == pair[1].position);
        if is_dense { Ok(records) } else { Err(TablesError::damaged(format!("position records from {from} have a hole"))) }
    }

    /// Takes the events of a write from `next` on and moves `next` behind it. Some: the page is full, and this is where it ends.
    fn take_write(&mut self, write: WriteRef, next: &mut Position) -> Result<Option<Position>, TablesError> {
        if write.end() <= *next {
            return Ok(None);
        }
        if self.is_full() {
            return Ok(Some(*next));
        }
        self.looked_at += 1;
        let from = *next;
        self.decode(write.journal, write.first)?;
        let journal = self.journals.get(&write.journal).expect("decode brought it");
        if let Some((_, events)) = journal.decoded.as_ref().filter(|(first, _)| *first == write.first) {
            let hidden = if self.read.include_deleted { journal.head.removed_to } else { journal.head.deleted_to };
            let shown = events.iter().filter(|event| event.position >= from && event.event.sequence_number > hidden);
            for event in shown {
                if self.events.len() >= self.read.events_max || self.bytes >= self.read.bytes_max.max(1) {
                    return Ok(Some(event.position));
                }
                self.bytes += weight(event);
                self.events.push(PositionedEvent { persistence_id: journal.persistence_id.clone(), event: event.clone() });
            }
        }
        *next = write.end();
        Ok(None)
    }

    fn by_tag(inner: &'a Inner, name: &str, read: PositionsRead) -> Result<PositionsPage, TablesError> {
        let (start, end) = (tag::key(name, read.from.max(Position(1))), tag::end(name));
        let (mut reader, memory, memory_from, newest) = {
            let state = inner.state();
            let rows = state.memtables().rev().flat_map(|memtable| memtable.tags.range(start.clone()..end.clone()));
            let rows: Vec<(Bytes, Bytes)> = rows.take(LOOKED_AT_MAX).map(|(key, value)| (key.clone(), value.clone())).collect();
            (Self::new(inner, &state, read), rows, state.first_position(), state.shard().next_position)
        };
        let memory_is_cut = memory.len() >= LOOKED_AT_MAX;
        let engine_end = tag::key(name, memory_from);
        let rows = reader.table.scan(Scan::ascending(&start, &engine_end, LOOKED_AT_MAX, usize::MAX))?;
        let engine_is_cut = rows.len() >= LOOKED_AT_MAX;
        let mut next = reader.read.from;
        for (key, value) in rows.iter().chain(memory.iter().filter(|_| !engine_is_cut)) {
            let row = tag::decode(key, value)?;
            if reader.is_full() {
                return Ok(reader.page(row.position, false));
            }
            reader.looked_at += 1;
            reader.take_tagged(&row)?;
            next = Position(row.position.0 + 1);
        }
        if engine_is_cut || memory_is_cut {
            return Ok(reader.page(next, false));
        }
        Ok(reader.page(next.max(newest), true))
    }

    fn take_tagged(&mut self, row: &tag::TagRow) -> Result<(), TablesError> {
        let number = row.sequence_number;
        self.decode_holding(row.journal, number)?;
        let journal = self.journals.get(&row.journal).expect("decode brought it");
        let hidden = if self.read.include_deleted { journal.head.removed_to } else { journal.head.deleted_to };
        if number <= hidden {
            return Ok(());
        }
        let events = journal.decoded.as_ref().map(|(_, events)| events.as_slice()).unwrap_or_default();
        let Ok(index) = events.binary_search_by_key(&number, |event| event.event.sequence_number) else {
            return Err(missing(row.journal, number));
        };
        let event = events[index].clone();
        self.bytes += weight(&event);
        self.events.push(PositionedEvent { persistence_id: journal.persistence_id.clone(), event });
        Ok(())
    }

    /// Brings the write that begins at `first` into its journal's `decoded`, unless it was removed.
    fn decode(&mut self, journal: JournalId, first: SequenceNumber) -> Result<(), TablesError> {
        self.decode_where(journal, first, |write| write.first == first)
    }

    /// Brings the write that holds `number` into its journal's `decoded`, unless it was removed.
    fn decode_holding(&mut self, journal: JournalId, number: SequenceNumber) -> Result<(), TablesError> {
        self.decode_where(journal, number, |write| write.first <= number && number <= write.last)
    }

    fn decode_where(
        &mut self,
        journal: JournalId,
        number: SequenceNumber,
        is_wanted: impl Fn(&StoredWrite) -> bool,
    ) -> Result<(), TablesError> {
        if !self.journals.contains_key(&journal) {
            let known = self.journal(journal)?;
            self.journals.insert(journal, known);
        }
        let known = self.journals.get_mut(&journal).expect("it was put there");
        if !known.writes.iter().any(&is_wanted) {
            known.writes = read_writes(self.inner, &*self.table, journal, number)?;
        }
        let Some(write) = known.writes.iter().find(|write| is_wanted(write)) else {
            // Only a removal may have taken it; the head may be older than that.
            if let Some(head) = current_head(self.inner, &*self.table, &known.persistence_id)? {
                known.head = head;
            }
            return if number <= known.head.removed_to { Ok(()) } else { Err(missing(journal, number)) };
        };
        if known.decoded.as_ref().is_none_or(|(first, _)| *first != write.first) {
            let events = write.events(known.head.deleted_to).collect::<Result<_, _>>()?;
            known.decoded = Some((write.first, events));
        }
        Ok(())
    }

    fn journal(&self, journal: JournalId) -> Result<Journal, TablesError> {
        let in_memory = self.inner.state().name(journal).cloned();
        let persistence_id = match in_memory {
            Some(persistence_id) => persistence_id,
            None => {
                let value = self.table.get(&name::key(journal))?;
                let value = value.ok_or_else(|| TablesError::damaged(format!("the name of journal {journal} is missing")))?;
                name::decode(&value)?
            }
        };
        let head = current_head(self.inner, &*self.table, &persistence_id)?;
        let head = head.ok_or_else(|| TablesError::damaged(format!("the head of journal {persistence_id:?} is missing")))?;
        Ok(Journal { persistence_id, head, writes: Arc::default(), decoded: None })
    }
}

fn current_head(inner: &Inner, table: &dyn Table, persistence_id: &PersistenceId) -> Result<Option<Head>, TablesError> {
    if let Some(head) = inner.state().head(persistence_id) {
        return Ok(Some(head.clone()));
    }
    read_head(table, persistence_id)
}

/// A stretch of a journal that holds a number, from memory or from the engine.
fn read_writes(
    inner: &Inner,
    table: &dyn Table,
    journal: JournalId,
    number: SequenceNumber,
) -> Result<Arc<Vec<StoredWrite>>, TablesError> {
    {
        let state = inner.state();
        if state.previous(journal).is_some_and(|previous| number > previous) {
            let mut parts = state.memtables().map(|memtable| memtable.writes_from(journal, number));
            let part = parts.find(|writes| writes.first().is_some_and(|write| write.first <= number));
            return Ok(Arc::new(part.unwrap_or_default().iter().take(64).cloned().collect()));
        }
    }
    if let Some(chunk) = inner.chunk_cache.get(journal, number) {
        return Ok(chunk);
    }
    let chunk = Arc::new(read_chunk(table, journal, number)?.unwrap_or_default());
    if !chunk.is_empty() {
        inner.chunk_cache.put(journal, &chunk);
    }
    Ok(chunk)
}

fn missing(journal: JournalId, number: SequenceNumber) -> TablesError {
    TablesError::damaged(format!("event {number} of journal {journal} is missing"))
}
