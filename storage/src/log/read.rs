//! Reading entries back: from memory where they are, else from the file, with their checksums verified.
//!
//! Neighbours on disk are read together: after a restart a whole log is read this way, and a call for each entry would cost
//! more than its bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cairn_machine::ShardId;

use super::entry::LogEntry;
use super::error::LogError;
use super::index::Place;
use super::record::{self, RECORD_HEADER_BYTES, Record, RecordKind};
use super::shared::{SegmentFiles, Shared, State};
use crate::EntryId;

/// One read from a file brings at most this much, unless a single entry is longer.
const SPAN_BYTES_MAX: usize = 1 << 20;
/// Other shards' bytes between two entries are read along up to this much.
const GAP_BYTES_MAX: u32 = 16 << 10;

/// An entry to read and where it is.
pub(super) struct Planned {
    pub id: EntryId,
    pub source: Source,
}

pub(super) enum Source {
    Cached(Bytes),
    /// The open file keeps the segment readable, even if it is given back meanwhile.
    Stored(Place, Arc<SegmentFiles>),
}

/// Decides what to read, under the lock.
pub(super) fn plan(state: &mut State, shard: ShardId, range: Range<u64>, bytes_max: usize) -> Result<Vec<Planned>, LogError> {
    let State { shards, segments, .. } = state;
    let index = &shards.get(&shard).expect("a handle registered its shard").index;
    let mut plan = Vec::new();
    let mut bytes = 0;
    for at in range {
        let Some(indexed) = index.get(at) else {
            let last = index.last().map(|last| last.index);
            return Err(LogError::Absent { shard, index: at, first: index.first(), last });
        };
        let payload_bytes = match &indexed.cached {
            Some(payload) => payload.len(),
            None => indexed.place.bytes as usize - RECORD_HEADER_BYTES,
        };
        if !plan.is_empty() && bytes + payload_bytes > bytes_max {
            break;
        }
        bytes += payload_bytes;
        let source = match indexed.cached {
            Some(payload) => Source::Cached(payload),
            None => {
                let segment = segments.get(&indexed.place.segment).expect("a segment with live entries is open");
                Source::Stored(indexed.place, segment.files.clone())
            }
        };
        plan.push(Planned { id: indexed.id, source });
    }
    Ok(plan)
}

/// Brings what was planned.
pub(super) async fn fetch(shared: &Shared, shard: ShardId, plan: Vec<Planned>) -> Result<Vec<LogEntry>, LogError> {
    let mut entries = Vec::with_capacity(plan.len());
    let mut rest = plan.as_slice();
    while let Some(first) = rest.first() {
        match &first.source {
            Source::Cached(payload) => {
                entries.push(LogEntry { id: first.id, payload: payload.clone() });
                rest = &rest[1..];
            }
            Source::Stored(place, files) => {
                let count = neighbours(rest);
                let read = read_span(shard, *place, files, &rest[..count], &mut entries).await;
                // A disk that gives back other bytes than it took ends this log.
                read.inspect_err(|error| shared.fail(error.clone()))?;
                rest = &rest[count..];
            }
        }
    }
    Ok(entries)
}

/// How many entries at the start of the plan lie close together in one file.
fn neighbours(plan: &[Planned]) -> usize {
    let mut places = plan.iter().map_while(|planned| match &planned.source {
        Source::Stored(place, _) => Some(place),
        Source::Cached(_) => None,
    });
    let Some(first) = places.next() else { return 0 };
    let mut end = first.offset + first.bytes;
    let near = places.take_while(|place| {
        let near = place.segment == first.segment
            && place.offset >= end
            && place.offset - end <= GAP_BYTES_MAX
            && (place.offset + place.bytes - first.offset) as usize <= SPAN_BYTES_MAX;
        end = place.offset.saturating_add(place.bytes);
        near
    });
    1 + near.count()
}

async fn read_span(
    shard: ShardId,
    first: Place,
    files: &SegmentFiles,
    plan: &[Planned],
    entries: &mut Vec<LogEntry>,
) -> Result<(), LogError> {
    let stored = |planned: &Planned| match &planned.source {
        Source::Stored(place, _) => *place,
        Source::Cached(_) => unreachable!("a span holds stored entries"),
    };
    let last = stored(plan.last().expect("a span holds an entry"));
    let span_bytes = (last.offset + last.bytes - first.offset) as usize;
    let wanted_bytes: usize = plan.iter().map(|planned| stored(planned).bytes as usize).sum();
    let read = files.reading.read_at(u64::from(first.offset), span_bytes).await;
    let span = read.map_err(|error| LogError::io("read", &files.path, error))?;
    for planned in plan {
        let place = stored(planned);
        let start = ((place.offset - first.offset) as usize).min(span.len());
        let record = record::decode(&span.slice(start..)).filter(|record| is_entry(record, shard, planned.id));
        let Some(record) = record else {
            return Err(LogError::Damaged {
                file: files.path.clone(),
                offset: u64::from(place.offset),
                expected_batch: None,
                found_batch: None,
                what: format!("entry {} of shard {shard} is not what was written", planned.id),
            });
        };
        // A payload must not keep much more in memory than itself.
        let payload = if span_bytes > 2 * wanted_bytes { Bytes::copy_from_slice(&record.payload) } else { record.payload };
        entries.push(LogEntry { id: planned.id, payload });
    }
    Ok(())
}

fn is_entry(record: &Record, shard: ShardId, id: EntryId) -> bool {
    matches!(record.kind, RecordKind::Entry | RecordKind::Copied) && record.shard == shard && record.id == Some(id)
}
