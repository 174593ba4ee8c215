//! What a shard's tables hold in memory, and how one look-up goes through it: newest first, the engine last.
//!
//! Invariants
//! - What is in no memtable is in the engine; a flushed memtable is let go only after its ingestion returned.
//! - Heads of flushed memtables stay for a while as a cache, newest generation first; the oldest goes first, so that an older
//!   head never shows.

use std::collections::VecDeque;
use std::sync::Arc;

use cairn_machine::{Head, JournalId, PersistenceId, Position, SequenceNumber, ShardState, SnapshotRecord, StoredWrite};
use tokio::time::Instant;

use crate::engine::Table;
use crate::entry::EntryId;
use crate::keys::meta::{Membership, Meta};
use crate::memtable::{Heads, Memtable, Seeded};

/// Most generations of cached heads: each is one more map to look in.
const GENERATIONS_MAX: usize = 4;

/// A memtable that waits for its flush, with what was true at its end.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) memtable: Memtable,
    pub(crate) meta: Meta,
}

/// See the module.
pub(crate) struct State {
    pub(crate) table: Arc<dyn Table>,
    pub(crate) generation: u64,
    pub(crate) seed: Seeded,
    pub(crate) active: Memtable,
    /// Oldest first.
    pub(crate) frozen: VecDeque<Arc<Frozen>>,
    /// Newest first.
    cached: VecDeque<Heads>,
    cached_heads_max: usize,
    pub(crate) meta: Meta,
    pub(crate) flushed: Option<EntryId>,
    /// Since when the active memtable has something to give back.
    removals_since: Option<Instant>,
}

impl State {
    pub(crate) fn new(table: Arc<dyn Table>, generation: u64, meta: Meta, seed: Seeded, cached_heads_max: usize) -> Self {
        let flushed = meta.applied;
        let active = Memtable::new(seed);
        let (frozen, cached) = (VecDeque::new(), VecDeque::new());
        Self { table, generation, seed, active, frozen, cached, cached_heads_max, meta, flushed, removals_since: None }
    }

    pub(crate) fn shard(&self) -> &ShardState {
        &self.meta.shard
    }

    pub(crate) fn membership(&self) -> Option<&Membership> {
        self.meta.membership.as_ref()
    }

    /// Memtables, newest first.
    pub(crate) fn memtables(&self) -> impl DoubleEndedIterator<Item = &Memtable> {
        self.frozen.iter().map(|frozen| &frozen.memtable).chain(std::iter::once(&self.active)).rev()
    }

    /// A journal's head, if it is in memory.
    pub(crate) fn head(&self, persistence_id: &PersistenceId) -> Option<&Head> {
        let maps = self.memtables().map(|memtable| &memtable.heads).chain(&self.cached);
        maps.into_iter().find_map(|heads| heads.get(persistence_id)).map(|known| &known.head)
    }

    /// The write that begins at a number, if it is in memory.
    pub(crate) fn write_at(&self, journal: JournalId, first: SequenceNumber) -> Option<&StoredWrite> {
        self.memtables().find_map(|memtable| memtable.write_at(journal, first))
    }

    /// The journal's highest number before its first write in memory: what is at or below it is in the engine.
    pub(crate) fn previous(&self, journal: JournalId) -> Option<SequenceNumber> {
        self.memtables().rev().find_map(|memtable| memtable.previous(journal))
    }

    /// The first position in memory: what is below it is in the engine.
    pub(crate) fn first_position(&self) -> Position {
        let first = self.memtables().rev().find_map(Memtable::first_position);
        first.unwrap_or(self.shard().next_position)
    }

    /// What memory says of a snapshot; none: ask the engine.
    pub(crate) fn snapshot(&self, journal: JournalId, sequence_number: SequenceNumber) -> Option<&Option<SnapshotRecord>> {
        self.memtables().find_map(|memtable| memtable.snapshots.get(&(journal, sequence_number)))
    }

    /// The name of a journal that got something since the last flush.
    pub(crate) fn name(&self, journal: JournalId) -> Option<&PersistenceId> {
        self.memtables().find_map(|memtable| memtable.journals.get(&journal)).map(|part| &part.persistence_id)
    }

    /// Estimated memory of all memtables.
    pub(crate) fn bytes(&self) -> usize {
        self.memtables().map(|memtable| memtable.bytes).sum()
    }

    /// Looks whether the active memtable has something to give back. Says whether it has since now.
    pub(crate) fn note_removals(&mut self) -> bool {
        let is_first = self.removals_since.is_none() && self.active.gives_space_back();
        if is_first {
            self.removals_since = Some(Instant::now());
        }
        is_first
    }

    /// Since when the active memtable has something to give back.
    pub(crate) fn removals_since(&self) -> Option<Instant> {
        self.removals_since
    }

    /// Freezes the active memtable as it is now.
    pub(crate) fn freeze(&mut self) {
        self.removals_since = None;
        let memtable = std::mem::replace(&mut self.active, Memtable::new(self.seed));
        self.frozen.push_back(Arc::new(Frozen { memtable, meta: self.meta.clone() }));
    }

    /// Lets the oldest frozen memtable go after it was flushed; its heads become the newest generation of the cache. What is left
    /// of it is returned, to be dropped where nobody waits.
    pub(crate) fn thaw(&mut self) -> Option<Frozen> {
        let frozen = self.frozen.pop_front()?;
        self.flushed = frozen.meta.applied;
        let Ok(mut frozen) = Arc::try_unwrap(frozen) else {
            // Somebody else still reads it, so its heads cannot be kept; older ones must not show in their place.
            self.cached.clear();
            return None;
        };
        let heads = std::mem::replace(&mut frozen.memtable.heads, Heads::with_hasher(self.seed));
        self.cache(heads);
        Some(frozen)
    }

    fn cache(&mut self, heads: Heads) {
        if heads.is_empty() {
            return;
        }
        self.cached.push_front(heads);
        let mut kept = 0;
        let fitting = self.cached.iter().take(GENERATIONS_MAX).take_while(|heads| {
            kept += heads.len();
            kept <= self.cached_heads_max
        });
        let fitting = fitting.count();
        self.cached.truncate(fitting);
    }

    /// How many heads the cache holds.
    pub(crate) fn cached_heads(&self) -> usize {
        self.cached.iter().map(Heads::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::memory_engine::{MemoryDisk, MemoryEngine};
    use crate::tables::tests::world::id;

    #[test]
    fn heads_that_cannot_be_cached_leave_no_older_ones_in_the_cache() {
        let table = MemoryEngine::open(MemoryDisk::new()).open("t").expect("opens");
        let mut state = State::new(table, 1, Meta::default(), Seeded(0), 100);
        let write = |state: &mut State, highest| {
            let head = Head { highest: SequenceNumber(highest), ..Head::default() };
            state.active.put_head(&id("a"), head, SequenceNumber(0), false);
            state.freeze();
        };
        let highest = |state: &State| state.head(&id("a")).map(|head| head.highest.0);
        write(&mut state, 1);
        assert!(state.thaw().is_some());
        assert_eq!(highest(&state), Some(1), "it is cached");
        write(&mut state, 2);
        let reader = state.frozen.back().map(Arc::clone);
        assert!(state.thaw().is_none());
        assert_eq!(highest(&state), None, "the engine is asked");
        drop(reader);
    }
}
