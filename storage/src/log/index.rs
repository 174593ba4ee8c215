//! One shard's log in memory: where each entry is, and the payloads of the newest.
//!
//! Plain data, changed in the same way by a running log and by recovery.
//!
//! Invariants
//! - Slots are dense: slot `n` is entry `first + n`, and the last slot is `last`, unless there are none.
//! - Pending slots are a suffix: entries reach the disk in order.
//! - Cached payloads are a suffix too, and hold at least the pending slots.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::EntryId;

/// Where a record is on disk. Segment 0 does not exist: it marks an entry that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub segment: u32,
    pub offset: u32,
    /// The record's length, header included.
    pub bytes: u32,
}

impl Place {
    /// Not yet written; `serial` says which append it came with.
    pub fn pending(serial: u32) -> Self {
        Self { segment: 0, offset: serial, bytes: 1 }
    }

    /// Not found so far; only during recovery.
    pub const MISSING: Self = Self { segment: 0, offset: 0, bytes: 0 };

    pub fn is_stored(&self) -> bool {
        self.segment != 0
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    leader: u64,
    place: Place,
}

/// One entry as the index knows it.
#[derive(Clone, Debug)]
pub(super) struct Indexed {
    pub id: EntryId,
    pub place: Place,
    pub cached: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(super) struct ShardIndex {
    first: u64,
    slots: VecDeque<Slot>,
    cached: VecDeque<Bytes>,
    cached_bytes: usize,
    purged: Option<EntryId>,
    last: Option<EntryId>,
    /// How many live entries each segment holds.
    live: BTreeMap<u32, u64>,
}

impl ShardIndex {
    /// A log that came to this before the records that follow.
    pub fn beginning_at(purged: Option<EntryId>, last: Option<EntryId>) -> Self {
        Self { purged, last, ..Self::default() }
    }

    pub fn purged(&self) -> Option<EntryId> {
        self.purged
    }

    pub fn last(&self) -> Option<EntryId> {
        self.last
    }

    /// The index that the next entry must have; `None`: any.
    pub fn next(&self) -> Option<u64> {
        self.last.map(|last| last.index + 1)
    }

    /// The first index that is, or could be, in the log.
    pub fn first(&self) -> u64 {
        if self.slots.is_empty() { self.next().unwrap_or(0) } else { self.first }
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }

    /// The oldest segment that holds a live entry, and how many entries it holds.
    pub fn oldest_segment(&self) -> Option<u32> {
        self.live.keys().next().copied()
    }

    pub fn get(&self, index: u64) -> Option<Indexed> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let slot = self.slots.get(at)?;
        let cached = (at + self.cached.len()).checked_sub(self.slots.len()).map(|at| self.cached[at].clone());
        Some(Indexed { id: EntryId { term: slot.term, leader: slot.leader, index }, place: slot.place, cached })
    }

    /// The id at an index of the log, the purge point included.
    pub fn id(&self, index: u64) -> Option<EntryId> {
        match self.get(index) {
            Some(indexed) => Some(indexed.id),
            None => [self.purged, self.last].into_iter().flatten().find(|id| id.index == index),
        }
    }

    /// Puts an entry at the end.
    pub fn push(&mut self, id: EntryId, place: Place, payload: Option<Bytes>) {
        assert!(self.next().is_none_or(|next| next == id.index), "entries are dense: {id} after {:?}", self.last);
        if self.slots.is_empty() {
            self.first = id.index;
        }
        self.slots.push_back(Slot { term: id.term, leader: id.leader, place });
        self.last = Some(id);
        self.enter(place.segment, 1);
        match payload {
            Some(payload) => {
                self.cached_bytes += payload.len();
                self.cached.push_back(payload);
            }
            None => self.drop_cached(self.cached.len()),
        }
    }

    /// Removes everything behind `last_kept`; `None` leaves nothing.
    pub fn truncate(&mut self, last_kept: Option<EntryId>) {
        while let Some(slot) = self.slots.back() {
            let index = self.first + (self.slots.len() as u64 - 1);
            if last_kept.is_some_and(|kept| index <= kept.index) {
                break;
            }
            let segment = slot.place.segment;
            self.slots.pop_back();
            self.leave(segment);
            if let Some(payload) = self.cached.pop_back() {
                self.cached_bytes -= payload.len();
            }
        }
        let floor = self.purged.map(|purged| purged.index);
        self.last = last_kept.filter(|kept| floor.is_none_or(|floor| kept.index > floor)).or(self.purged);
    }

    /// Removes everything up to `up_to`, which may lie behind the end: then the log goes on from there.
    pub fn purge(&mut self, up_to: EntryId) {
        while let Some(slot) = self.slots.front() {
            if self.first > up_to.index {
                break;
            }
            let segment = slot.place.segment;
            if self.cached.len() == self.slots.len() {
                self.drop_cached(1);
            }
            self.slots.pop_front();
            self.first += 1;
            self.leave(segment);
        }
        self.purged = Some(up_to);
        if self.last.is_none_or(|last| last.index <= up_to.index) {
            self.last = Some(up_to);
        }
    }

    /// Notes where a pending entry was written, unless it has left the log since. Says whether it was still there.
    pub fn place_pending(&mut self, index: u64, serial: u32, place: Place) -> bool {
        self.replace(index, Place::pending(serial), place)
    }

    /// Notes where an entry was written a second time, unless it has left the log or moved since.
    pub fn replace(&mut self, index: u64, before: Place, place: Place) -> bool {
        let Some(at) = index.checked_sub(self.first) else { return false };
        let Some(slot) = usize::try_from(at).ok().and_then(|at| self.slots.get_mut(at)) else { return false };
        if slot.place != before {
            return false;
        }
        slot.place = place;
        self.leave(before.segment);
        self.enter(place.segment, 1);
        true
    }

    /// Recovery: an entry was found that had been written a second time. Says whether it fits.
    pub fn restore_copied(&mut self, id: EntryId, place: Place) -> bool {
        if self.last.is_none_or(|last| id.index > last.index) || self.purged.is_some_and(|purged| id.index <= purged.index) {
            return false;
        }
        if self.slots.is_empty() {
            self.first = self.next().expect("there is a last entry");
        }
        while self.first > id.index {
            self.slots.push_front(Slot { term: 0, leader: 0, place: Place::MISSING });
            self.first -= 1;
        }
        let slot = &mut self.slots[(id.index - self.first) as usize];
        let before = slot.place;
        if before.is_stored() && (slot.term, slot.leader) != (id.term, id.leader) {
            return false;
        }
        *slot = Slot { term: id.term, leader: id.leader, place };
        self.leave(before.segment);
        self.enter(place.segment, 1);
        true
    }

    /// Recovery's last word: the first index at or above `floor` whose entry was not found.
    pub fn first_missing(&self, floor: u64) -> Option<u64> {
        let next = self.next().unwrap_or(floor);
        (floor..next).find(|index| self.get(*index).is_none_or(|indexed| !indexed.place.is_stored()))
    }

    /// The last entry that is on disk.
    pub fn last_stored(&self) -> Option<u64> {
        let pending = self.slots.iter().rev().take_while(|slot| !slot.place.is_stored()).count();
        let stored = self.slots.len() - pending;
        if stored > 0 { Some(self.first + stored as u64 - 1) } else { self.purged.map(|purged| purged.index) }
    }

    /// Lets go of the oldest cached payloads that are on disk, at least `bytes` of them if there are so many, below index
    /// `below`. Says how many bytes went.
    pub fn evict(&mut self, bytes: usize, below: u64) -> usize {
        let before = self.cached_bytes;
        while before - self.cached_bytes < bytes && !self.cached.is_empty() {
            let at = self.slots.len() - self.cached.len();
            if !self.slots[at].place.is_stored() || self.first + at as u64 >= below {
                break;
            }
            self.drop_cached(1);
        }
        before - self.cached_bytes
    }

    fn drop_cached(&mut self, count: usize) {
        for payload in self.cached.drain(..count) {
            self.cached_bytes -= payload.len();
        }
    }

    fn enter(&mut self, segment: u32, entries: u64) {
        if segment != 0 {
            *self.live.entry(segment).or_default() += entries;
        }
    }

    fn leave(&mut self, segment: u32) {
        if segment == 0 {
            return;
        }
        let entries = self.live.get_mut(&segment).expect("a stored entry is counted");
        *entries -= 1;
        if *entries == 0 {
            self.live.remove(&segment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64) -> EntryId {
        EntryId { term: 1, leader: 1, index }
    }

    fn place(segment: u32) -> Place {
        Place { segment, offset: 64, bytes: 37 }
    }

    fn filled() -> ShardIndex {
        let mut index = ShardIndex::default();
        for number in 5..10 {
            index.push(id(number), Place::pending(1), Some(Bytes::from_static(b"payload")));
        }
        for number in 5..8 {
            assert!(index.place_pending(number, 1, place(3)));
        }
        index
    }

    #[test]
    fn what_is_pending_is_never_evicted() {
        let mut index = filled();
        assert_eq!(index.evict(usize::MAX, u64::MAX), 3 * 7);
        assert!(index.get(7).expect("in the log").cached.is_none());
        assert!(index.get(8).expect("in the log").cached.is_some());
        assert_eq!(index.last_stored(), Some(7));
    }

    #[test]
    fn truncation_and_purge_release_segments_and_payloads() {
        let mut index = filled();
        index.truncate(Some(id(6)));
        assert_eq!((index.last(), index.cached_bytes()), (Some(id(6)), 14));
        assert!(!index.place_pending(8, 1, place(3)), "it was truncated");
        index.purge(id(5));
        assert_eq!(index.oldest_segment(), Some(3));
        index.purge(id(6));
        assert_eq!((index.oldest_segment(), index.cached_bytes(), index.next()), (None, 0, Some(7)));
        index.purge(id(20));
        assert_eq!((index.last(), index.next(), index.first()), (Some(id(20)), Some(21), 21));
    }

    #[test]
    fn an_entry_of_a_later_append_is_not_placed_by_an_earlier_one() {
        let mut index = filled();
        index.truncate(Some(id(8)));
        index.push(EntryId { term: 2, ..id(9) }, Place::pending(2), Some(Bytes::new()));
        assert!(!index.place_pending(9, 1, place(3)));
        assert!(index.place_pending(9, 2, place(4)));
    }

    #[test]
    fn copies_fill_what_the_first_segments_held() {
        let mut index = ShardIndex::beginning_at(None, Some(id(7)));
        assert_eq!(index.first_missing(5), Some(5));
        index.push(id(8), place(4), None);
        for number in 5..8 {
            assert!(index.restore_copied(id(number), place(4)));
        }
        assert_eq!(index.first_missing(5), None);
        assert!(!index.restore_copied(id(9), place(4)));
    }
}
