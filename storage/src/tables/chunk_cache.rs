//! Chunks that readers by position have decoded: their next events are scattered over many journals, and each chunk is met as
//! often as it has events.
//!
//! Chunks never change, so that what is kept is never wrong; a removal is seen in the head. Bounded by bytes; the journal that was
//! met first goes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use cairn_machine::{JournalId, SequenceNumber, StoredWrite};

/// What a decoded write costs besides its body.
const WRITE_BYTES: usize = 160;

/// See the module.
#[derive(Debug)]
pub(crate) struct ChunkCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The newest chunk of each journal.
    chunks: BTreeMap<JournalId, Arc<Vec<StoredWrite>>>,
    /// Journals in the order in which they came.
    order: VecDeque<JournalId>,
    bytes: usize,
}

impl ChunkCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    /// The journal's kept chunk, if it reaches over this number.
    pub(crate) fn get(&self, journal: JournalId, number: SequenceNumber) -> Option<Arc<Vec<StoredWrite>>> {
        let kept = self.kept();
        let chunk = kept.chunks.get(&journal)?;
        let (first, last) = (chunk.first()?.first, chunk.last()?.last);
        (first..=last).contains(&number).then(|| Arc::clone(chunk))
    }

    /// Keeps a chunk in place of the journal's chunk before.
    pub(crate) fn put(&self, journal: JournalId, chunk: &Arc<Vec<StoredWrite>>) {
        let mut kept = self.kept();
        kept.bytes += bytes_of(chunk);
        match kept.chunks.insert(journal, Arc::clone(chunk)) {
            Some(before) => kept.bytes -= bytes_of(&before),
            None => kept.order.push_back(journal),
        }
        while kept.bytes > self.bytes_max {
            let Some(oldest) = kept.order.pop_front() else { return };
            if let Some(chunk) = kept.chunks.remove(&oldest) {
                kept.bytes -= bytes_of(&chunk);
            }
        }
    }

    /// Another generation has other chunks.
    pub(crate) fn clear(&self) {
        *self.kept() = Kept::default();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("nobody panics while holding it")
    }
}

fn bytes_of(chunk: &[StoredWrite]) -> usize {
    chunk.iter().map(|write| write.body.len() + WRITE_BYTES).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_machine::{Position, Timestamp, WriterId};

    fn chunk(first: u64, last: u64) -> Arc<Vec<StoredWrite>> {
        let write = StoredWrite {
            journal: JournalId(1),
            previous: SequenceNumber(first - 1),
            first: SequenceNumber(first),
            last: SequenceNumber(last),
            count: 1,
            position: Position(1),
            timestamp: Timestamp(0),
            writer: WriterId::default(),
            body: Bytes::from(vec![0; 1000 - WRITE_BYTES]),
        };
        Arc::new(vec![write])
    }

    #[test]
    fn the_newest_chunks_are_kept_within_the_bound() {
        let cache = ChunkCache::new(3_000);
        for journal in 1..=3 {
            cache.put(JournalId(journal), &chunk(5, 9));
        }
        let has = |journal, number| cache.get(JournalId(journal), SequenceNumber(number)).is_some();
        assert!(has(1, 5) && has(1, 9) && !has(1, 4) && !has(1, 10));
        cache.put(JournalId(2), &chunk(10, 20));
        assert!(has(1, 5) && !has(2, 5) && has(2, 10), "a journal has one chunk");
        cache.put(JournalId(4), &chunk(1, 2));
        assert!(!has(1, 5) && has(2, 10) && has(3, 5) && has(4, 1), "the first one went");
        cache.clear();
        assert!(!has(2, 10));
    }
}
