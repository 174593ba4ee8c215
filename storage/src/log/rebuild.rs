//! Rebuilding the shards from the records of a log, in order.

use std::collections::BTreeMap;

use bytes::Bytes;
use cairn_machine::ShardId;

use super::index::{Place, ShardIndex};
use super::opening::{Opening, WrittenShard};
use super::record::{Record, RecordKind, Records};
use crate::EntryId;

/// The shards of a log as far as it has been read.
#[derive(Default)]
pub(super) struct Rebuild {
    pub shards: BTreeMap<ShardId, RebuiltShard>,
}

#[derive(Default)]
pub(super) struct RebuiltShard {
    pub written: WrittenShard,
    pub index: ShardIndex,
}

impl Rebuild {
    /// The oldest segment's opening: what came before is known from here alone.
    pub fn begin(&mut self, opening: Opening) {
        for (shard, written) in opening.shards {
            let index = ShardIndex::beginning_at(written.purged, written.last);
            self.shards.insert(shard, RebuiltShard { written, index });
        }
    }

    /// A later segment's opening must say what the records before it came to.
    pub fn check_opening(&self, opening: &Opening) -> Result<(), String> {
        let same = opening.shards.len() == self.shards.len()
            && opening
                .shards
                .iter()
                .all(|(shard, written)| self.shards.get(shard).is_some_and(|rebuilt| rebuilt.written == *written));
        if same { Ok(()) } else { Err("the segment's opening does not say what the segments before it hold".to_owned()) }
    }

    /// Takes in the records of one batch; `body` stands at `body_offset` of the segment.
    pub fn apply_body(&mut self, segment: u32, body_offset: usize, body: &Bytes, records: u32) -> Result<(), String> {
        for (number, record) in Records::of(body, records).enumerate() {
            let (at, record) = record?;
            let place = Place { segment, offset: offset(body_offset + at), bytes: offset(record.bytes()) };
            self.apply(&record, place).map_err(|what| format!("record {number}: shard {}: {what}", record.shard))?;
        }
        Ok(())
    }

    fn apply(&mut self, record: &Record, place: Place) -> Result<(), String> {
        let shard = self.shards.entry(record.shard).or_default();
        let id = || record.id.ok_or_else(|| "no entry id".to_owned());
        match record.kind {
            RecordKind::Entry => shard.append(id()?, place),
            RecordKind::Copied => {
                let id = id()?;
                let fits = shard.index.restore_copied(id, place);
                if fits { Ok(()) } else { Err(format!("the copy of entry {id} does not fit")) }
            }
            RecordKind::Truncate => shard.truncate(record.id),
            RecordKind::Purge => {
                let up_to = id()?;
                shard.index.purge(up_to);
                shard.written.purge(up_to);
                Ok(())
            }
            RecordKind::Vote => {
                // A copy: the vote must not keep the whole segment in memory.
                shard.written.vote = Some(Bytes::copy_from_slice(&record.payload));
                Ok(())
            }
            RecordKind::Committed => {
                shard.written.committed = Some(id()?);
                Ok(())
            }
        }
    }

    /// The log has been read to its end: nothing that must be there may be missing.
    pub fn check_complete(&self) -> Result<(), String> {
        for (shard, rebuilt) in &self.shards {
            let missing = match rebuilt.written.first {
                Some(first) => rebuilt.index.first_missing(first),
                None if rebuilt.index.is_empty() => None,
                None => Some(rebuilt.index.first()),
            };
            if let Some(index) = missing {
                return Err(format!("shard {shard}: entry {index} is missing"));
            }
            self.check_reaches(*shard, rebuilt.written.committed.map(|committed| committed.index))?;
        }
        Ok(())
    }

    /// A log that ends below what was saved as committed has lost its end.
    pub fn check_reaches(&self, shard: ShardId, committed: Option<u64>) -> Result<(), String> {
        let last = self.shards.get(&shard).and_then(|rebuilt| rebuilt.written.last).map(|last| last.index);
        if last < committed {
            return Err(format!("shard {shard}: the log ends at {last:?}, below the committed {committed:?}"));
        }
        Ok(())
    }
}

impl RebuiltShard {
    fn append(&mut self, id: EntryId, place: Place) -> Result<(), String> {
        if self.index.next().is_some_and(|next| next != id.index) {
            return Err(format!("entry {id} does not follow {:?}", self.index.last()));
        }
        self.index.push(id, place, None);
        self.written.append(id);
        Ok(())
    }

    fn truncate(&mut self, last_kept: Option<EntryId>) -> Result<(), String> {
        if let Some(kept) = last_kept {
            let known = self.index.get(kept.index).filter(|indexed| indexed.place.is_stored()).map(|indexed| indexed.id);
            if self.index.last().is_none_or(|last| last.index < kept.index) || known.is_some_and(|known| known != kept) {
                return Err(format!("truncated after entry {kept}, which is not there"));
            }
        }
        self.index.truncate(last_kept);
        self.written.truncate(last_kept);
        Ok(())
    }
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("segments are far below 4 GiB")
}
