//! The memtable: what entries changed since the last flush, over the entries' own bytes.
//!
//! Bodies of atomic writes and chunks of snapshots are slices of the entry that brought them: nothing is copied. Apply changes
//! the active memtable; a frozen one never changes again until it is flushed and let go.
//!
//! Invariants
//! - A journal that has a write here has its head here.
//! - A journal's writes lie in order, each one's `previous` the `last` of the one before it.
//! - Positions of write references are dense.
//! - Maps with hashed order are sorted before anything is written or answered from them.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use cairn_machine::{
    DecodeError, FormerWriter, Head, JournalId, PersistenceId, Position, SaveId, SequenceNumber, SnapshotRecord, StoredWrite,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::keys::position::WriteRef;
use crate::keys::tag;

/// What an atomic write costs besides its body: its record and its part of the entry.
const WRITE_BYTES: usize = 320;
/// What a head costs.
const HEAD_BYTES: usize = 512;
/// What a small row costs.
const ROW_BYTES: usize = 128;

/// Hashes by a seed that the node hands in, so that nobody outside can aim at one bucket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seeded(pub(crate) u64);

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher(self.0)
    }
}

/// See [`Seeded`].
pub(crate) struct SeededHasher(u64);

impl Hasher for SeededHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_u64(&mut self, number: u64) {
        // One multiplication spreads a number over the high bits, the rotation brings them down to where buckets are chosen.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

/// A head in memory.
#[derive(Clone, Debug)]
pub(crate) struct MemoryHead {
    pub(crate) head: Head,
    /// Whether it changed while this memtable was active; else it was only read from the engine.
    pub(crate) is_changed: bool,
}

pub(crate) type Heads = HashMap<PersistenceId, MemoryHead, Seeded>;

/// A head that does not keep the row that it was decoded from.
fn detached(head: &Head) -> Head {
    let former = |former: &FormerWriter| FormerWriter { writer: former.writer.detached(), epoch: former.epoch };
    Head { writer: head.writer.detached(), former_writers: head.former_writers.iter().map(former).collect(), ..head.clone() }
}

/// What one journal got.
#[derive(Debug)]
pub(crate) struct JournalPart {
    pub(crate) persistence_id: PersistenceId,
    /// Whether the journal began here.
    pub(crate) is_new: bool,
    pub(crate) writes: Vec<StoredWrite>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Memtable {
    pub(crate) heads: Heads,
    pub(crate) journals: HashMap<JournalId, JournalPart, Seeded>,
    /// By position.
    pub(crate) refs: Vec<WriteRef>,
    /// Rows as they will be written.
    pub(crate) tags: BTreeMap<Bytes, Bytes>,
    /// None: no longer visible.
    pub(crate) snapshots: BTreeMap<(JournalId, SequenceNumber), Option<SnapshotRecord>>,
    pub(crate) snapshot_chunks: BTreeMap<(JournalId, SaveId, u32), Bytes>,
    /// Saves whose chunks of before go, with how many there were; chunks that are in `snapshot_chunks` came later.
    pub(crate) dropped_saves: BTreeMap<(JournalId, SaveId), u32>,
    /// Journals whose events up to a number were removed.
    pub(crate) removals: BTreeMap<JournalId, SequenceNumber>,
    /// Estimated memory.
    pub(crate) bytes: usize,
}

impl Memtable {
    pub(crate) fn new(seed: Seeded) -> Self {
        Self {
            heads: HashMap::with_hasher(seed),
            journals: HashMap::with_hasher(seed),
            refs: Vec::new(),
            tags: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            snapshot_chunks: BTreeMap::new(),
            dropped_saves: BTreeMap::new(),
            removals: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Changes a head; `removed_before` and `is_new` tell what it was before.
    pub(crate) fn put_head(&mut self, persistence_id: &PersistenceId, head: Head, removed_before: SequenceNumber, is_new: bool) {
        let (journal, removed_to) = (head.journal, head.removed_to);
        if removed_to > removed_before {
            self.removals.insert(journal, removed_to);
            self.bytes += ROW_BYTES;
        }
        if let Some(known) = self.heads.get_mut(persistence_id) {
            let was_changed = std::mem::replace(&mut known.is_changed, true);
            known.head = head;
            if was_changed {
                return;
            }
            let persistence_id = self.heads.get_key_value(persistence_id).expect("it was found above").0.clone();
            self.journals.insert(journal, JournalPart { persistence_id, is_new, writes: Vec::new() });
            return;
        }
        // The id outlives the entry that it came with.
        let persistence_id = persistence_id.detached();
        self.bytes += HEAD_BYTES + persistence_id.as_bytes().len();
        let part = JournalPart { persistence_id: persistence_id.clone(), is_new, writes: Vec::new() };
        self.journals.insert(journal, part);
        self.heads.insert(persistence_id, MemoryHead { head, is_changed: true });
    }

    /// Keeps a head that was read from the engine, so that it is found here the next time.
    pub(crate) fn keep_head(&mut self, persistence_id: &PersistenceId, head: &Head) {
        if self.heads.contains_key(persistence_id) {
            return;
        }
        self.bytes += HEAD_BYTES + persistence_id.as_bytes().len();
        self.heads.insert(persistence_id.detached(), MemoryHead { head: detached(head), is_changed: false });
    }

    /// Appends a write whose journal's head was changed before.
    ///
    /// # Errors
    /// The body is malformed.
    pub(crate) fn append(&mut self, write: StoredWrite) -> Result<(), DecodeError> {
        self.bytes += WRITE_BYTES + write.body.len();
        if write.has_tags() {
            self.put_tags(&write)?;
        }
        self.refs.push(WriteRef::from(&write));
        let part = self.journals.get_mut(&write.journal).expect("a write's head is changed before it is appended");
        part.writes.push(write);
        Ok(())
    }

    fn put_tags(&mut self, write: &StoredWrite) -> Result<(), DecodeError> {
        for event in write.tags_by_event()? {
            for name in &event.tags {
                let (key, value) = (tag::key(name, event.position), tag::encode(write.journal, event.sequence_number));
                self.bytes += ROW_BYTES + key.len();
                self.tags.insert(key, value);
            }
        }
        Ok(())
    }

    pub(crate) fn put_snapshot(&mut self, record: SnapshotRecord) {
        let metadata_bytes = record.metadata.as_ref().map_or(0, |metadata| metadata.bytes.len() + metadata.manifest.len());
        self.bytes += 2 * ROW_BYTES + record.payload.manifest.len() + metadata_bytes;
        self.snapshots.insert((record.journal, record.sequence_number), Some(record));
    }

    pub(crate) fn drop_snapshot(&mut self, journal: JournalId, sequence_number: SequenceNumber) {
        self.bytes += ROW_BYTES;
        self.snapshots.insert((journal, sequence_number), None);
    }

    pub(crate) fn put_chunk(&mut self, journal: JournalId, save_id: SaveId, index: u32, bytes: Bytes) {
        self.bytes += ROW_BYTES + bytes.len();
        self.snapshot_chunks.insert((journal, save_id, index), bytes);
    }

    pub(crate) fn drop_chunks(&mut self, journal: JournalId, save_id: SaveId, chunks: u32) {
        self.bytes += ROW_BYTES;
        let here: Vec<_> =
            self.snapshot_chunks.range((journal, save_id, 0)..=(journal, save_id, u32::MAX)).map(|(key, _)| *key).collect();
        for key in &here {
            self.snapshot_chunks.remove(key);
        }
        let dropped = self.dropped_saves.entry((journal, save_id)).or_default();
        *dropped = chunks.max(*dropped);
    }

    /// Whether its flush lets rows below it go.
    pub(crate) fn gives_space_back(&self) -> bool {
        !self.removals.is_empty() || !self.dropped_saves.is_empty()
    }

    /// The write that begins at a number.
    pub(crate) fn write_at(&self, journal: JournalId, first: SequenceNumber) -> Option<&StoredWrite> {
        let writes = &self.journals.get(&journal)?.writes;
        let index = writes.binary_search_by_key(&first, |write| write.first).ok()?;
        Some(&writes[index])
    }

    /// A journal's writes here that hold `from` or later numbers.
    pub(crate) fn writes_from(&self, journal: JournalId, from: SequenceNumber) -> &[StoredWrite] {
        let Some(part) = self.journals.get(&journal) else { return &[] };
        &part.writes[part.writes.partition_point(|write| write.last < from)..]
    }

    /// The journal's highest number before its first write here.
    pub(crate) fn previous(&self, journal: JournalId) -> Option<SequenceNumber> {
        Some(self.journals.get(&journal)?.writes.first()?.previous)
    }

    /// References to writes that hold `from` or later positions.
    pub(crate) fn refs_from(&self, from: Position) -> &[WriteRef] {
        &self.refs[self.refs.partition_point(|write| write.end() <= from)..]
    }

    /// The first position here.
    pub(crate) fn first_position(&self) -> Option<Position> {
        self.refs.first().map(|write| write.position)
    }
}
