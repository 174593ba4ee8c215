//! What one flush writes: a frozen memtable as one sorted run.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_machine::{JournalId, PersistenceId, SequenceNumber, StoredWrite};

use super::error::TablesError;
use super::state::Frozen;
use crate::engine::{RunRow, Scan, TableView};
use crate::keys::chunk::ChunkKey;
use crate::keys::{chunk, head, meta, name, position, removal, snapshot, snapshot_chunk, tag};
use crate::memtable::{JournalPart, MemoryHead, Memtable};

/// A save with up to this many chunks is removed without looking which of them are there.
const BLIND_REMOVALS_MAX: u32 = 64;
/// Keys of one look at a save's chunks.
const CHUNK_KEYS: usize = 4096;

/// The rows of one flush, ascending.
pub(crate) struct Run<'a> {
    frozen: &'a Frozen,
    heads: Vec<(&'a PersistenceId, &'a MemoryHead)>,
    journals: Vec<(JournalId, &'a JournalPart)>,
    snapshot_chunks: BTreeMap<Bytes, Option<Bytes>>,
}

impl<'a> Run<'a> {
    /// Sorts what a memtable holds. Blocks: chunks that go are looked up in the table.
    pub(crate) fn new(frozen: &'a Frozen, table: &dyn TableView) -> Result<Self, TablesError> {
        let memtable = &frozen.memtable;
        let mut heads: Vec<_> = memtable.heads.iter().filter(|(_, head)| head.is_changed).collect();
        heads.sort_unstable_by_key(|(persistence_id, _)| *persistence_id);
        let mut journals: Vec<_> = memtable.journals.iter().map(|(journal, part)| (*journal, part)).collect();
        journals.sort_unstable_by_key(|(journal, _)| *journal);
        Ok(Self { frozen, heads, journals, snapshot_chunks: snapshot_chunks(memtable, table)? })
    }

    /// Journals with events that were flushed before and are now removed.
    pub(crate) fn removals(&self) -> Vec<(JournalId, SequenceNumber)> {
        let memtable = &self.frozen.memtable;
        let is_new = |journal| memtable.journals.get(journal).is_some_and(|part| part.is_new);
        let removals = memtable.removals.iter().filter(|(journal, _)| !is_new(journal));
        removals.map(|(journal, to)| (*journal, *to)).collect()
    }

    /// How many rows it removes.
    pub(crate) fn rows_removed(&self) -> u64 {
        let chunks = self.snapshot_chunks.values().filter(|value| value.is_none()).count();
        let snapshots = self.frozen.memtable.snapshots.values().filter(|value| value.is_none()).count();
        (chunks + snapshots) as u64
    }

    /// The rows.
    pub(crate) fn rows(&self) -> impl Iterator<Item = RunRow> + '_ {
        let memtable = &self.frozen.memtable;
        let metas = std::iter::once((meta::key(), Some(meta::encode(&self.frozen.meta))));
        let heads = self.heads.iter().map(|(persistence_id, known)| (head::key(persistence_id), Some(head::encode(&known.head))));
        let names = self.journals.iter().filter(|(_, part)| part.is_new);
        let names = names.map(|(journal, part)| (name::key(*journal), Some(name::encode(&part.persistence_id))));
        let chunks = self.journals.iter().flat_map(|(journal, part)| chunk_rows(*journal, live(memtable, *journal, part)));
        let positions = memtable.refs.chunks(position::WRITES_MAX).map(|writes| {
            let (key, value) = position::encode(writes);
            (key, Some(value))
        });
        let tags = memtable.tags.iter().filter(|(_, value)| is_live_tag(memtable, value));
        let tags = tags.map(|(key, value)| (key.clone(), Some(value.clone())));
        let snapshots = memtable.snapshots.iter().map(|((journal, number), record)| {
            let value = record.as_ref().map(snapshot::encode);
            (snapshot::key(*journal, *number), value)
        });
        let snapshot_chunks = self.snapshot_chunks.iter().map(|(key, value)| (key.clone(), value.clone()));
        let removals = self.removals().into_iter();
        let removals = removals.map(|(journal, to)| (removal::key(journal), Some(removal::encode(to))));
        metas
            .chain(heads)
            .chain(names)
            .chain(chunks)
            .chain(positions)
            .chain(tags)
            .chain(snapshots)
            .chain(snapshot_chunks)
            .chain(removals)
    }
}

/// The rows for writes of one journal.
pub(crate) fn chunk_rows(journal: JournalId, writes: &[StoredWrite]) -> impl Iterator<Item = RunRow> + '_ {
    chunk::split(writes).map(move |writes| {
        let last = writes.last().expect("a chunk holds a write").last;
        let has_tags = writes.iter().any(StoredWrite::has_tags);
        (chunk::key(ChunkKey { journal, last, has_tags }), Some(chunk::encode(writes)))
    })
}

/// The writes that were not removed before they were ever flushed.
fn live<'a>(memtable: &Memtable, journal: JournalId, part: &'a JournalPart) -> &'a [StoredWrite] {
    match memtable.removals.get(&journal) {
        Some(removed_to) => &part.writes[part.writes.partition_point(|write| write.last <= *removed_to)..],
        None => &part.writes,
    }
}

fn is_live_tag(memtable: &Memtable, value: &Bytes) -> bool {
    if memtable.removals.is_empty() {
        return true;
    }
    let (journal, sequence_number) = tag::decode_value(value).expect("it was encoded here");
    memtable.removals.get(&journal).is_none_or(|removed_to| sequence_number > *removed_to)
}

fn snapshot_chunks(memtable: &Memtable, table: &dyn TableView) -> Result<BTreeMap<Bytes, Option<Bytes>>, TablesError> {
    let mut rows = BTreeMap::new();
    for ((journal, save_id), chunks) in &memtable.dropped_saves {
        if *chunks <= BLIND_REMOVALS_MAX {
            rows.extend((0..*chunks).map(|index| (snapshot_chunk::key(*journal, *save_id, index), None)));
            continue;
        }
        let end = snapshot_chunk::end(*journal, *save_id);
        let mut start = snapshot_chunk::prefix(*journal, *save_id);
        loop {
            let keys = table.scan_keys(Scan::ascending(&start, &end, CHUNK_KEYS, usize::MAX))?;
            let Some(last) = keys.last() else { break };
            start = [last.as_ref(), &[0]].concat().into();
            rows.extend(keys.into_iter().map(|key| (key, None)));
        }
    }
    for ((journal, save_id, index), bytes) in &memtable.snapshot_chunks {
        rows.insert(snapshot_chunk::key(*journal, *save_id, *index), Some(bytes.clone()));
    }
    Ok(rows)
}
