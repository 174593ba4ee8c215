//! The opening frame: what every shard's log had come to when a segment began.
//!
//! It is what lets the segments before go: votes, purge points and last ids survive them here.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cairn_machine::ShardId;

use super::frame::{HEADER_BYTES, aligned};
use super::settings::VOTE_BYTES_MAX;
use crate::EntryId;

const ENTRY_ID_BYTES: usize = 24;
const FIXED_BYTES: usize = 12;
const SHARD_BYTES_MAX: usize = 6 + 3 * ENTRY_ID_BYTES + 8 + VOTE_BYTES_MAX;

/// A shard's log as it stands on disk: what has been written, not what merely waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenShard {
    pub vote: Option<Bytes>,
    pub committed: Option<EntryId>,
    pub purged: Option<EntryId>,
    pub last: Option<EntryId>,
    /// The first live index, if entries are live.
    pub first: Option<u64>,
}

/// The body of an opening frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Opening {
    /// The file's length when it was made: a shorter one has been cut.
    pub segment_bytes: u32,
    /// Behind the last frame may stand what an earlier use of the file left.
    pub recycled: bool,
    pub shards: BTreeMap<ShardId, WrittenShard>,
}

/// The most that an opening frame takes.
pub(super) const fn opening_bytes_max(shards: u16) -> usize {
    HEADER_BYTES + FIXED_BYTES + 8 + shards as usize * SHARD_BYTES_MAX
}

impl WrittenShard {
    pub fn append(&mut self, id: EntryId) {
        self.last = Some(id);
        self.first.get_or_insert(id.index);
    }

    pub fn truncate(&mut self, last_kept: Option<EntryId>) {
        let floor = self.purged.map_or(0, |purged| purged.index + 1);
        match last_kept {
            Some(id) if id.index >= floor => self.last = Some(id),
            _ => {
                self.last = self.purged;
                self.first = None;
            }
        }
    }

    pub fn purge(&mut self, up_to: EntryId) {
        self.purged = Some(up_to);
        if self.last.is_none_or(|last| last.index <= up_to.index) {
            self.last = Some(up_to);
            self.first = None;
        } else {
            self.first = Some(up_to.index + 1);
        }
    }
}

impl Opening {
    pub fn encode(&self, buffer: &mut BytesMut) {
        let start = buffer.len();
        buffer.put_u32_le(self.segment_bytes);
        buffer.put_u32_le(u32::from(self.recycled));
        buffer.put_u32_le(u32::try_from(self.shards.len()).expect("shards have numbers of 16 bits"));
        for (shard, state) in &self.shards {
            let ids = [state.committed, state.purged, state.last];
            let vote = state.vote.as_deref().unwrap_or_default();
            let mut present = u16::from(state.vote.is_some()) | u16::from(state.first.is_some()) << 4;
            for (bit, id) in ids.iter().enumerate() {
                present |= u16::from(id.is_some()) << (bit + 1);
            }
            buffer.put_u16_le(shard.0);
            buffer.put_u16_le(present);
            buffer.put_u16_le(u16::try_from(vote.len()).expect("votes are bounded"));
            for id in ids.into_iter().flatten() {
                put_entry_id(buffer, id);
            }
            if let Some(first) = state.first {
                buffer.put_u64_le(first);
            }
            buffer.put_slice(vote);
        }
        buffer.put_bytes(0, aligned(buffer.len() - start) - (buffer.len() - start));
    }

    /// `None`: the bytes are no opening, although their checksum said so.
    pub fn decode(mut body: Bytes) -> Option<Self> {
        let segment_bytes = body.try_get_u32_le().ok()?;
        let recycled = match body.try_get_u32_le().ok()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let count = body.try_get_u32_le().ok()?;
        let mut shards = BTreeMap::new();
        for _ in 0..count {
            let shard = ShardId(body.try_get_u16_le().ok()?);
            let present = body.try_get_u16_le().ok()?;
            let vote_bytes = usize::from(body.try_get_u16_le().ok()?);
            let mut id = |bit: u16| {
                if present & (1 << bit) == 0 { Some(None) } else { get_entry_id(&mut body).map(Some) }
            };
            let (committed, purged, last) = (id(1)?, id(2)?, id(3)?);
            let first = if present & (1 << 4) == 0 { None } else { Some(body.try_get_u64_le().ok()?) };
            if body.len() < vote_bytes {
                return None;
            }
            let vote = body.split_to(vote_bytes);
            // A copy: the vote must not keep the whole segment in memory.
            let vote = (present & 1 != 0).then(|| Bytes::copy_from_slice(&vote));
            shards.insert(shard, WrittenShard { vote, committed, purged, last, first });
        }
        Some(Self { segment_bytes, recycled, shards })
    }
}

pub(super) fn put_entry_id(buffer: &mut impl BufMut, id: EntryId) {
    buffer.put_u64_le(id.term);
    buffer.put_u64_le(id.leader);
    buffer.put_u64_le(id.index);
}

pub(super) fn get_entry_id(bytes: &mut impl Buf) -> Option<EntryId> {
    Some(EntryId {
        term: bytes.try_get_u64_le().ok()?,
        leader: bytes.try_get_u64_le().ok()?,
        index: bytes.try_get_u64_le().ok()?,
    })
}
