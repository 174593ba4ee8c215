//! The single loop that writes: it takes what waits, writes one frame, syncs once, and completes in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cairn_machine::ShardId;
use tokio::time::{Instant, timeout};

use super::error::LogError;
use super::frame::{FRAME_ALIGNMENT, FrameHeader, FrameKind, HEADER_BYTES, aligned, body_checksum, next_generation};
use super::index::Place;
use super::last::{LastFile, Reached};
use super::opening::{Opening, WrittenShard};
use super::preparer::Preparer;
use super::record::{self, RECORD_HEADER_BYTES, RecordKind};
use super::shared::{OnDurable, Operation, Segment, SegmentFiles, Shared, Spare};
use crate::EntryId;

/// The loops of a log. Nothing reaches the disk, and nobody is answered, before they run.
pub struct LogWriter {
    writing: WritingLoop,
    preparing: Preparer,
}

/// Where the next frame goes.
pub(super) struct Position {
    /// `None` in a new log: the first batch begins the first segment.
    pub segment: Option<CurrentSegment>,
    pub next_batch: u64,
    /// The last frame proves that everything before it was synced.
    pub closed: bool,
}

pub(super) struct CurrentSegment {
    pub number: u32,
    pub files: Arc<SegmentFiles>,
    pub offset: u32,
    pub generation: u64,
    /// Of the last frame: the next segment's generation follows from it.
    pub last_checksum: u64,
}

impl LogWriter {
    pub(super) fn new(shared: Arc<Shared>, position: Position, written: BTreeMap<ShardId, WrittenShard>, last: LastFile) -> Self {
        let preparing = Preparer::new(shared.clone());
        let writing = WritingLoop {
            shared,
            position,
            written,
            last,
            backlog: VecDeque::new(),
            front_entries_taken: 0,
            committed_waiting: BTreeMap::new(),
            in_flight: Vec::new(),
            buffer: BytesMut::new(),
        };
        Self { writing, preparing }
    }

    /// Writes and prepares segments, both here, until the log stops or breaks.
    pub async fn run(self) {
        let (writing, preparing) = self.split();
        tokio::join!(writing.run(), preparing.run());
    }

    pub(super) fn split(self) -> (WritingLoop, Preparer) {
        (self.writing, self.preparing)
    }
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogWriter").field("next_batch", &self.writing.position.next_batch).finish_non_exhaustive()
    }
}

pub(super) struct WritingLoop {
    shared: Arc<Shared>,
    position: Position,
    /// Every shard as it stands on disk, or in the batch that is being written.
    written: BTreeMap<ShardId, WrittenShard>,
    last: LastFile,
    /// Taken from the queue, not yet written.
    backlog: VecDeque<Operation>,
    /// How many entries of the first in the backlog are written already.
    front_entries_taken: usize,
    /// Committed entries that were saved and are not yet on disk.
    committed_waiting: BTreeMap<ShardId, EntryId>,
    /// Who waits for the batch that is being written.
    in_flight: Vec<OnDurable>,
    /// One batch, header first. Kept from batch to batch.
    buffer: BytesMut,
}

/// What a batch changes once it is durable.
enum Effect {
    Entries { shard: ShardId, serial: u32, last: EntryId, spans: Vec<Span> },
    Copied { shard: ShardId, copies: Vec<(u64, Place, Span)> },
    Truncated { shard: ShardId, last_kept: Option<EntryId> },
    Purged { shard: ShardId, up_to: EntryId },
    Voted { shard: ShardId, vote: Bytes },
}

/// Where a record stands in its frame.
#[derive(Clone, Copy)]
struct Span {
    offset: u32,
    bytes: u32,
}

#[derive(Default)]
struct Batch {
    effects: Vec<Effect>,
    records: u32,
}

impl WritingLoop {
    /// Works until the log stops or breaks.
    pub async fn run(mut self) {
        let error = self.work().await.err().unwrap_or(LogError::Stopped);
        self.end(error);
    }

    async fn work(&mut self) -> Result<(), LogError> {
        loop {
            let stopping = self.take_waiting()?;
            if !self.backlog.is_empty() {
                self.write_batch().await?;
            } else if stopping {
                return self.close().await;
            } else if self.position.closed {
                self.shared.work.notified().await;
            } else if timeout(self.shared.settings.idle_close_after, self.shared.work.notified()).await.is_err() {
                self.close().await?;
            }
        }
    }

    /// Takes over what waits. Says whether the log is to stop.
    fn take_waiting(&mut self) -> Result<bool, LogError> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.broken {
            return Err(error.clone());
        }
        let waiting = std::mem::take(&mut state.queue);
        for (id, shard) in state.shards.iter_mut().filter(|(_, shard)| shard.committed_waits) {
            shard.committed_waits = false;
            self.committed_waiting.extend(shard.committed.map(|committed| (*id, committed)));
        }
        let stopping = state.stopping;
        drop(state);
        if self.backlog.is_empty() {
            self.backlog = waiting.into();
        } else {
            self.backlog.extend(waiting);
        }
        Ok(stopping)
    }

    async fn write_batch(&mut self) -> Result<(), LogError> {
        let mut batch = self.gather();
        if batch.records == 0 {
            // Only answers were waited for, and everything before them is synced.
            self.answer(&batch, Place::MISSING);
            return Ok(());
        }
        let body_bytes = self.buffer.len() - HEADER_BYTES + self.committed_waiting.len() * RECORD_HEADER_BYTES;
        if !self.has_room(body_bytes) {
            let gathered = std::mem::take(&mut self.buffer);
            self.roll().await?;
            self.buffer = gathered;
        }
        self.note_written(&batch.effects);
        batch.records += self.add_committed();
        let began = Instant::now();
        let frame = self.write_frame(FrameKind::Data, batch.records).await?;
        self.shared.settings.observer.synced(began.elapsed(), frame.bytes as usize, batch.records as usize);
        self.answer(&batch, frame);
        Ok(())
    }

    /// Everything gathered is durable: says so, in order.
    fn answer(&mut self, batch: &Batch, frame: Place) {
        self.complete(batch, frame);
        for done in self.in_flight.drain(..) {
            done(Ok(()));
        }
    }

    /// Encodes as much of the backlog as one batch takes, at least one record.
    fn gather(&mut self) -> Batch {
        let body_bytes_max = self.shared.settings.body_bytes_max();
        let mut batch = Batch::default();
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        while let Some(operation) = self.backlog.pop_front() {
            let taken = std::mem::take(&mut self.front_entries_taken);
            let room = (HEADER_BYTES + body_bytes_max).saturating_sub(self.buffer.len());
            let more = encode_operation(&mut self.buffer, &mut batch, &operation, taken, room);
            if let Some(taken) = more {
                self.front_entries_taken = taken;
                self.backlog.push_front(operation);
                break;
            }
            self.in_flight.push(operation.into_done());
        }
        batch
    }

    /// Carries a batch over into the state that the next opening frame tells.
    fn note_written(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Entries { shard, last, spans, .. } => {
                    let written = self.written.entry(*shard).or_default();
                    let first = last.index + 1 - spans.len() as u64;
                    written.append(EntryId { index: first, ..*last });
                    written.append(*last);
                }
                Effect::Copied { .. } => {}
                Effect::Truncated { shard, last_kept } => self.written.entry(*shard).or_default().truncate(*last_kept),
                Effect::Purged { shard, up_to } => self.written.entry(*shard).or_default().purge(*up_to),
                Effect::Voted { shard, vote } => self.written.entry(*shard).or_default().vote = Some(vote.clone()),
            }
        }
    }

    /// Adds the committed entries that the log holds, this batch included. Says how many.
    fn add_committed(&mut self) -> u32 {
        let mut added = 0;
        let (written, buffer) = (&mut self.written, &mut self.buffer);
        self.committed_waiting.retain(|shard, committed| {
            let Some(state) = written.get_mut(shard) else { return true };
            if state.last.is_none_or(|last| last.index < committed.index) {
                return true;
            }
            record::encode(buffer, RecordKind::Committed, *shard, Some(*committed), &[]);
            state.committed = Some(*committed);
            added += 1;
            false
        });
        added
    }

    /// Tells the shared state what is durable now, and gives segments free.
    fn complete(&mut self, batch: &Batch, frame: Place) {
        let mut state = self.shared.lock();
        let place = |span: Span| Place { offset: frame.offset + span.offset, bytes: span.bytes, ..frame };
        for effect in &batch.effects {
            match effect {
                Effect::Entries { shard, serial, last, spans } => {
                    let shard = state.shard(*shard);
                    let first = last.index + 1 - spans.len() as u64;
                    let mut durable = None;
                    for (index, span) in (first..).zip(spans) {
                        if shard.index.place_pending(index, *serial, place(*span)) {
                            durable = Some(index);
                        }
                    }
                    shard.raise_durable(durable);
                }
                Effect::Copied { shard, copies } => {
                    let index = &mut state.shard(*shard).index;
                    for (at, before, span) in copies {
                        index.replace(*at, *before, place(*span));
                    }
                }
                Effect::Purged { shard, up_to } => state.shard(*shard).raise_durable(Some(up_to.index)),
                Effect::Truncated { .. } | Effect::Voted { .. } => {}
            }
        }
        state.completed += self.in_flight.len() as u64;
        state.evict(self.shared.settings.cache_bytes_max);
        if state.free_segments() {
            self.shared.housework.notify_one();
        }
    }

    fn has_room(&self, body_bytes: usize) -> bool {
        self.position
            .segment
            .as_ref()
            .is_some_and(|segment| segment.offset as usize + HEADER_BYTES + aligned(body_bytes) <= segment.files.bytes as usize)
    }

    /// Writes what is in the buffer as one frame, with zeros behind it, and syncs. Says where it stands.
    async fn write_frame(&mut self, kind: FrameKind, records: u32) -> Result<Place, LogError> {
        let segment = self.position.segment.as_mut().expect("a frame is written into a segment");
        self.buffer.resize(aligned(self.buffer.len()), 0);
        let body = &self.buffer[HEADER_BYTES..];
        let header = FrameHeader {
            kind,
            segment: segment.number,
            offset: segment.offset,
            generation: segment.generation,
            batch: self.position.next_batch,
            body_bytes: u32::try_from(body.len()).expect("bodies are bounded"),
            records,
            body_checksum: body_checksum(body),
        };
        let frame_bytes = self.buffer.len();
        self.buffer[..HEADER_BYTES].copy_from_slice(&header.encode());
        // The zeros tell recovery that nothing was written behind, also where the file was used before.
        let room = (segment.files.bytes - segment.offset) as usize;
        self.buffer.resize((frame_bytes + HEADER_BYTES).min(room), 0);
        let written = segment.files.writing.write_at(u64::from(segment.offset), self.buffer.split().freeze()).await;
        written.map_err(|error| LogError::io("write", &segment.files.path, error))?;
        let synced = segment.files.writing.sync_data().await;
        synced.map_err(|error| LogError::io("sync", &segment.files.path, error))?;
        let bytes = u32::try_from(frame_bytes).expect("frames fit their segment");
        let frame = Place { segment: header.segment, offset: segment.offset, bytes };
        segment.offset += bytes;
        segment.last_checksum = header.body_checksum;
        self.position.next_batch += 1;
        self.position.closed = kind != FrameKind::Data;
        Ok(frame)
    }

    /// Begins the next segment: its opening frame is synced before anything else uses it.
    async fn roll(&mut self) -> Result<(), LogError> {
        let spare = self.wait_for_spare().await?;
        let (generation, last_checksum) = match &self.position.segment {
            Some(segment) => (segment.generation, segment.last_checksum),
            None => (self.shared.settings.salt, 0),
        };
        let opening = Opening { segment_bytes: spare.files.bytes, recycled: spare.recycled, shards: self.written.clone() };
        self.position.segment = Some(CurrentSegment {
            number: spare.number,
            files: spare.files.clone(),
            offset: 0,
            generation: next_generation(generation, last_checksum, spare.number),
            last_checksum,
        });
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        opening.encode(&mut self.buffer);
        self.write_frame(FrameKind::Opening, 0).await?;
        {
            let mut state = self.shared.lock();
            state.segments.insert(spare.number, Segment { files: spare.files, free_at: None });
            state.current = spare.number;
        }
        self.shared.housework.notify_one();
        self.write_last().await
    }

    async fn wait_for_spare(&mut self) -> Result<Spare, LogError> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(error) = &state.broken {
                    return Err(error.clone());
                }
                if let Some(spare) = state.spare.take() {
                    return Ok(spare);
                }
                if state.stopping && state.disk_full {
                    return Err(LogError::Stopped);
                }
            }
            self.shared.housework.notify_one();
            self.shared.spare_ready.notified().await;
        }
    }

    /// Proves that the last batch was synced, and notes how far the log has come.
    async fn close(&mut self) -> Result<(), LogError> {
        if self.position.closed {
            return Ok(());
        }
        if !self.has_room(self.committed_waiting.len() * RECORD_HEADER_BYTES) {
            // An opening frame proves the same.
            return self.roll().await;
        }
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        let records = self.add_committed();
        self.write_frame(FrameKind::Closing, records).await?;
        self.write_last().await
    }

    async fn write_last(&mut self) -> Result<(), LogError> {
        let committed = self.written.iter().filter_map(|(shard, written)| Some((*shard, written.committed?.index))).collect();
        self.last.write(&Reached { batch: self.position.next_batch - 1, committed }).await
    }

    /// Answers everybody who waits, then everybody who follows the log's state.
    fn end(&mut self, error: LogError) {
        let queue = {
            let mut state = self.shared.lock();
            state.broken.get_or_insert_with(|| error.clone());
            std::mem::take(&mut state.queue)
        };
        let later = error.for_later_callers();
        let waiting = self.backlog.drain(..).chain(queue).map(Operation::into_done);
        for done in self.in_flight.drain(..).chain(waiting) {
            done(Err(later.clone()));
        }
        self.shared.fail(error);
    }
}

impl Drop for WritingLoop {
    fn drop(&mut self) {
        // Also when the loop never ran, or was cancelled: nobody may wait for ever. After a regular end this changes nothing.
        self.end(LogError::of_dropped_loop());
    }
}

/// Encodes one operation into at most `room` bytes, or one record if the batch is empty. `Some(n)`: it goes on with its entry
/// `n` in the next batch.
fn encode_operation(buffer: &mut BytesMut, batch: &mut Batch, operation: &Operation, taken: usize, room: usize) -> Option<usize> {
    let start = buffer.len();
    let full = |buffer: &BytesMut, records: u32, payload: usize| {
        records > 0 && buffer.len() - start + RECORD_HEADER_BYTES + payload + FRAME_ALIGNMENT > room
    };
    let span = |offset: usize, end: usize| Span {
        offset: u32::try_from(offset).expect("bodies are bounded"),
        bytes: u32::try_from(end - offset).expect("bodies are bounded"),
    };
    let encode = |buffer: &mut BytesMut, records: &mut u32, kind, shard, id, payload: &[u8]| {
        let offset = buffer.len();
        record::encode(buffer, kind, shard, id, payload);
        *records += 1;
        span(offset, buffer.len())
    };
    match operation {
        Operation::Barrier { .. } => {}
        Operation::Append { shard, serial, entries, .. } => {
            let mut spans = Vec::with_capacity(entries.len() - taken);
            let mut end = taken;
            for entry in &entries[taken..] {
                if full(buffer, batch.records, entry.payload.len()) {
                    break;
                }
                spans.push(encode(buffer, &mut batch.records, RecordKind::Entry, *shard, Some(entry.id), &entry.payload));
                end += 1;
            }
            if end > taken {
                let last = entries[end - 1].id;
                batch.effects.push(Effect::Entries { shard: *shard, serial: *serial, last, spans });
            }
            return (end < entries.len()).then_some(end);
        }
        Operation::Copy { shard, entries, .. } => {
            let mut copies = Vec::with_capacity(entries.len() - taken);
            for (entry, before) in &entries[taken..] {
                if full(buffer, batch.records, entry.payload.len()) {
                    break;
                }
                let span = encode(buffer, &mut batch.records, RecordKind::Copied, *shard, Some(entry.id), &entry.payload);
                copies.push((entry.id.index, *before, span));
            }
            let end = taken + copies.len();
            batch.effects.push(Effect::Copied { shard: *shard, copies });
            return (end < entries.len()).then_some(end);
        }
        Operation::Truncate { shard, last_kept, .. } => {
            if full(buffer, batch.records, 0) {
                return Some(0);
            }
            encode(buffer, &mut batch.records, RecordKind::Truncate, *shard, *last_kept, &[]);
            batch.effects.push(Effect::Truncated { shard: *shard, last_kept: *last_kept });
        }
        Operation::Purge { shard, up_to, .. } => {
            if full(buffer, batch.records, 0) {
                return Some(0);
            }
            encode(buffer, &mut batch.records, RecordKind::Purge, *shard, Some(*up_to), &[]);
            batch.effects.push(Effect::Purged { shard: *shard, up_to: *up_to });
        }
        Operation::Vote { shard, vote, .. } => {
            if full(buffer, batch.records, vote.len()) {
                return Some(0);
            }
            encode(buffer, &mut batch.records, RecordKind::Vote, *shard, None, vote);
            batch.effects.push(Effect::Voted { shard: *shard, vote: vote.clone() });
        }
    }
    None
}
