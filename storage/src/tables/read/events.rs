//! Replay of one journal, page by page.
//!
//! Events are immutable, so each page is scanned afresh. A journal's writes form a chain: each names the number before it. A page
//! is answered only if its writes are linked from its start to where it ends; a hole is damage, unless a permanent deletion has
//! made it meanwhile.

use std::ops::ControlFlow;
use std::sync::Arc;

use cairn_machine::{Head, PersistenceId, SequenceNumber, StoredEvent, StoredWrite};

use super::{after, weight};
use crate::blocking::BlockingExt;
use crate::engine::{Scan, Table};
use crate::keys::chunk;
use crate::tables::applying::read_head;
use crate::tables::{Inner, Tables, TablesError};

/// Chunks of one read of the engine.
const CHUNK_ROWS: usize = 64;
/// Bytes of chunks of one read of the engine.
const CHUNK_BYTES: usize = 1024 * 1024;

/// What a replay asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The first number, inclusive.
    pub from: SequenceNumber,
    /// The last number, inclusive.
    pub to: SequenceNumber,
    /// At most this many events; at least one is answered if there is one.
    pub events_max: usize,
    /// The page ends after the event with which it reaches this many bytes.
    pub bytes_max: usize,
    /// Whether logically deleted events are answered too, marked.
    pub include_deleted: bool,
    /// What the first page of this replay said; none for a first page.
    pub captured: Option<Watermarks>,
}

/// A journal's watermarks as they were when a replay began: the whole replay goes by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// The highest number.
    pub highest: SequenceNumber,
    /// Events up to this are deleted.
    pub deleted_to: SequenceNumber,
    /// Events up to this are gone.
    pub removed_to: SequenceNumber,
}

impl From<&Head> for Watermarks {
    fn from(head: &Head) -> Self {
        Self { highest: head.highest, deleted_to: head.deleted_to, removed_to: head.removed_to }
    }
}

/// One page of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayPage {
    /// The events, in order.
    pub events: Vec<StoredEvent>,
    /// Where the next page begins; none: there is nothing more up to `to` and to the captured highest number.
    pub next: Option<SequenceNumber>,
    /// To be handed in with the next page.
    pub watermarks: Watermarks,
}

impl Tables {
    /// One page of a journal's events.
    ///
    /// # Errors
    /// [`TablesError::Gone`] if a permanent deletion has overtaken a replay; [`TablesError::Damaged`] if a write is missing or
    /// malformed; [`TablesError::Broken`].
    pub async fn read_events(&self, persistence_id: &PersistenceId, replay: Replay) -> Result<ReplayPage, TablesError> {
        let inner = &*self.inner;
        loop {
            let mut removed_to = SequenceNumber(0);
            let outcome = inner.read_events(persistence_id, replay, &mut removed_to).await;
            let Err(TablesError::Damaged { what }) = outcome else { return outcome };
            // A hole that a permanent deletion made meanwhile is no damage. Each round needs one more deletion.
            let head = inner.head(persistence_id).await?;
            if head.is_none_or(|head| head.removed_to <= removed_to) {
                let what = format!("journal {persistence_id:?}: {what}");
                return Err(inner.note(TablesError::damaged(what)));
            }
        }
    }
}

/// What memory has of a replay, all of one moment.
struct Memory {
    head: Option<Head>,
    writes: Vec<StoredWrite>,
    /// What is at or below this is in the engine; none: everything is.
    previous: Option<SequenceNumber>,
    table: Arc<dyn Table>,
}

impl Inner {
    /// Sets `removed_to` to what was removed when it looked.
    async fn read_events(
        &self,
        persistence_id: &PersistenceId,
        replay: Replay,
        removed_to: &mut SequenceNumber,
    ) -> Result<ReplayPage, TablesError> {
        let memory = self.replay_memory(persistence_id, replay);
        self.read_events_with(memory, persistence_id, replay, removed_to).await
    }

    async fn read_events_with(
        &self,
        memory: Memory,
        persistence_id: &PersistenceId,
        replay: Replay,
        removed_to: &mut SequenceNumber,
    ) -> Result<ReplayPage, TablesError> {
        let head = match memory.head {
            Some(head) => Some(head),
            // From the engine, and not from memory as it is now: that may have got the journal's next writes meanwhile, which were
            // not there to be taken with the rest.
            None => {
                let (table, persistence_id) = (Arc::clone(&memory.table), persistence_id.clone());
                self.blocking.run(move || read_head(&*table, &persistence_id)).await?
            }
        };
        let Some(head) = head else {
            return Ok(ReplayPage { events: Vec::new(), next: None, watermarks: replay.captured.unwrap_or_default() });
        };
        *removed_to = head.removed_to;
        let watermarks = replay.captured.unwrap_or_else(|| Watermarks::from(&head));
        if head.removed_to > watermarks.removed_to && replay.from <= head.removed_to {
            return Err(TablesError::Gone { removed_to: head.removed_to });
        }
        let mut page = Page::new(replay, watermarks);
        if page.start > page.end || replay.events_max == 0 {
            return Ok(page.finish_empty());
        }
        let engine_to = memory.previous.unwrap_or(SequenceNumber::MAX);
        if page.start <= engine_to {
            let (table, journal) = (memory.table, head.journal);
            page = self
                .blocking
                .run(move || {
                    scan(&*table, journal, engine_to, &mut page)?;
                    Ok::<_, TablesError>(page)
                })
                .await?;
        }
        for write in &memory.writes {
            if page.push(write)?.is_break() {
                break;
            }
        }
        page.finish()
    }

    fn replay_memory(&self, persistence_id: &PersistenceId, replay: Replay) -> Memory {
        let state = self.state();
        let head = state.head(persistence_id).cloned();
        let mut memory = Memory { head, writes: Vec::new(), previous: None, table: Arc::clone(&state.table) };
        let Some(head) = &memory.head else { return memory };
        memory.previous = state.previous(head.journal);
        let start = start(replay, replay.captured.unwrap_or_else(|| Watermarks::from(head)));
        let mut bytes = 0;
        for memtable in state.memtables().rev() {
            for write in memtable.writes_from(head.journal, start) {
                // The first write behind `to` is taken as well: it shows that nothing is missing before it.
                let is_behind = memory.writes.last().is_some_and(|last: &StoredWrite| last.first > replay.to);
                if memory.writes.len() > replay.events_max || bytes > replay.bytes_max || is_behind {
                    return memory;
                }
                bytes += write.body.len();
                memory.writes.push(write.clone());
            }
        }
        memory
    }
}

/// Feeds the page from the engine with writes up to `to`, until it is done.
fn scan(table: &dyn Table, journal: cairn_machine::JournalId, to: SequenceNumber, page: &mut Page) -> Result<(), TablesError> {
    let end = chunk::end(journal);
    let mut from = page.start;
    loop {
        let start = chunk::from(journal, from);
        let rows = table.scan(Scan::ascending(&start, &end, CHUNK_ROWS, CHUNK_BYTES.min(page.bytes_left())))?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        from = after(chunk::decode_key(last)?.last);
        for (_, value) in &rows {
            for write in chunk::decode(value)? {
                // A flush may have brought down more than memory left to the engine.
                if write.last < page.start || write.first > to {
                    continue;
                }
                if page.push(&write)?.is_break() {
                    return Ok(());
                }
            }
        }
        if from > to {
            return Ok(());
        }
    }
}

/// The first number that a replay answers.
fn start(replay: Replay, watermarks: Watermarks) -> SequenceNumber {
    let hidden = if replay.include_deleted { watermarks.removed_to } else { watermarks.deleted_to };
    replay.from.max(after(hidden))
}

/// A page while it is filled.
struct Page {
    replay: Replay,
    watermarks: Watermarks,
    /// The first number that is answered.
    start: SequenceNumber,
    /// The last number that is answered.
    end: SequenceNumber,
    /// The last number of the last write seen.
    linked_to: Option<SequenceNumber>,
    events: Vec<StoredEvent>,
    bytes: usize,
    next: Option<SequenceNumber>,
    is_done: bool,
}

impl Page {
    fn new(replay: Replay, watermarks: Watermarks) -> Self {
        Self {
            start: start(replay, watermarks),
            end: replay.to.min(watermarks.highest),
            replay,
            watermarks,
            linked_to: None,
            events: Vec::new(),
            bytes: 0,
            next: None,
            is_done: false,
        }
    }

    fn bytes_left(&self) -> usize {
        self.replay.bytes_max.saturating_sub(self.bytes).max(1)
    }

    /// Takes the next write of the journal.
    fn push(&mut self, write: &StoredWrite) -> Result<ControlFlow<()>, TablesError> {
        if self.is_done {
            return Ok(ControlFlow::Break(()));
        }
        if write.last < self.start || self.linked_to.is_some_and(|linked_to| write.last <= linked_to) {
            return Ok(ControlFlow::Continue(()));
        }
        let is_linked = match self.linked_to {
            Some(linked_to) => write.previous == linked_to,
            None => write.previous < self.start,
        };
        if !is_linked {
            let before = self.linked_to.unwrap_or(self.start);
            return Err(TablesError::damaged(format!("a write between {before} and {} is missing", write.first)));
        }
        self.linked_to = Some(write.last);
        if write.first > self.end {
            self.is_done = true;
            return Ok(ControlFlow::Break(()));
        }
        for event in write.events_from(self.start, self.watermarks.deleted_to) {
            let event = event?;
            if event.event.sequence_number > self.end {
                break;
            }
            if self.events.len() >= self.replay.events_max || self.bytes >= self.replay.bytes_max.max(1) {
                self.next = Some(event.event.sequence_number);
                self.is_done = true;
                return Ok(ControlFlow::Break(()));
            }
            self.bytes += weight(&event);
            self.events.push(event);
        }
        if write.last >= self.end {
            self.is_done = true;
            return Ok(ControlFlow::Break(()));
        }
        Ok(ControlFlow::Continue(()))
    }

    fn finish_empty(self) -> ReplayPage {
        ReplayPage { events: self.events, next: None, watermarks: self.watermarks }
    }

    /// The page, if what was seen reaches to where it ends.
    fn finish(self) -> Result<ReplayPage, TablesError> {
        let is_whole = self.is_done || self.linked_to == Some(self.watermarks.highest);
        if is_whole {
            return Ok(ReplayPage { events: self.events, next: self.next, watermarks: self.watermarks });
        }
        // The limits may have cut memory's part short; what was taken is linked, and the next page goes on behind it.
        match self.linked_to {
            Some(linked_to) if !self.events.is_empty() => {
                Ok(ReplayPage { events: self.events, next: Some(after(linked_to)), watermarks: self.watermarks })
            }
            _ => Err(TablesError::damaged(format!("the writes from {} to {} are missing", self.start, self.end))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::tests::world::{Place, World, id, replay_from, small};

    #[tokio::test]
    async fn a_write_that_is_applied_while_a_replay_begins_is_no_hole() {
        let mut world = World::new(Place::memory(), small(1_000_000)).await;
        world.append("a", 3).await;
        world.flush().await;
        // The head of `a` leaves the cache.
        for name in ["b", "c", "d"] {
            world.append(name, 1).await;
        }
        world.flush().await;
        let (inner, replay) = (world.tables().inner.clone(), replay_from(4));
        let memory = inner.replay_memory(&id("a"), replay);
        assert!(memory.head.is_none(), "the engine is asked for it");
        world.append("a", 2).await;
        let page = inner.read_events_with(memory, &id("a"), replay, &mut SequenceNumber(0)).await;
        let page = page.expect("nothing is missing");
        assert_eq!((page.events, page.next, page.watermarks.highest), (Vec::new(), None, SequenceNumber(3)));
    }
}
