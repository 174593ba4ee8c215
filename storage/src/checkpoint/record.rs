//! Records: what a checkpoint says of a shard, independent of how tables lay it out.

use bytes::{Buf, Bytes};
use cairn_machine::{
    DecodeError, Head, JournalId, PersistenceId, Position, SaveId, SequenceNumber, ShardId, SnapshotRecord, StoredWrite,
};
use uuid::Uuid;

use crate::keys::meta::Meta;
use crate::keys::position::WriteRef;
use crate::keys::tag::TagRow;
use crate::keys::{Family, chunk, head, malformed, meta, name, position, removal, snapshot, snapshot_chunk, tag, varint};

/// One record. Its kind is spoken between nodes: an ordinal is never reused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// 1: opens a checkpoint.
    Opening { shard: ShardId },
    /// 2
    Meta(Meta),
    /// 3
    Head(PersistenceId, Head),
    /// 4
    Name(JournalId, PersistenceId),
    /// 5
    Write(StoredWrite),
    /// 6: writes whose positions follow each other.
    Positions(Vec<WriteRef>),
    /// 7
    Tag(TagRow),
    /// 8
    Snapshot(SnapshotRecord),
    /// 9
    SnapshotChunk { journal: JournalId, save_id: SaveId, index: u32, bytes: Bytes },
    /// 10: events up to this are still to be given back.
    Removal(JournalId, SequenceNumber),
}

impl Record {
    /// The records in a row of the tables.
    pub(super) fn of_row(key: &Bytes, value: &Bytes) -> Result<Vec<Self>, DecodeError> {
        let family = Family::of(key).ok_or(malformed("key of an unknown family"))?;
        let record = match family {
            Family::Meta => Self::Meta(meta::decode(value)?),
            Family::Head => Self::Head(head::decode_key(key)?, head::decode(value)?),
            Family::Name => Self::Name(name::decode_key(key)?, name::decode(value)?),
            Family::Chunk => return Ok(chunk::decode(value)?.into_iter().map(Self::Write).collect()),
            Family::Position => Self::Positions(position::decode(key, value)?),
            Family::Tag => Self::Tag(tag::decode(key, value)?),
            Family::Snapshot => Self::Snapshot(snapshot::decode(value)?),
            Family::SnapshotChunk => {
                let (journal, save_id, index) = snapshot_chunk::decode_key(key)?;
                Self::SnapshotChunk { journal, save_id, index, bytes: value.clone() }
            }
            Family::Removal => Self::Removal(removal::decode_key(key)?, removal::decode(value)?),
        };
        Ok(vec![record])
    }

    /// The row for a record, unless the record is no row of its own: writes are gathered into chunks.
    pub(super) fn into_row(self) -> Option<(Bytes, Bytes)> {
        Some(match self {
            Self::Opening { .. } | Self::Write(_) => return None,
            Self::Meta(found) => (meta::key(), meta::encode(&found)),
            Self::Head(persistence_id, found) => (head::key(&persistence_id), head::encode(&found)),
            Self::Name(journal, persistence_id) => (name::key(journal), name::encode(&persistence_id)),
            Self::Positions(writes) => position::encode(&writes),
            Self::Tag(row) => (tag::key(&row.tag, row.position), tag::encode(row.journal, row.sequence_number)),
            Self::Snapshot(record) => (snapshot::key(record.journal, record.sequence_number), snapshot::encode(&record)),
            Self::SnapshotChunk { journal, save_id, index, bytes } => (snapshot_chunk::key(journal, save_id, index), bytes),
            Self::Removal(journal, to) => (removal::key(journal), removal::encode(to)),
        })
    }

    /// Appends the record: kind, length, content.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        let kind = self.encode_content(&mut content);
        out.push(kind);
        varint::put_bytes(out, &content);
    }

    fn encode_content(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Opening { shard } => {
                varint::put(out, u64::from(shard.0));
                1
            }
            Self::Meta(found) => {
                out.extend_from_slice(&meta::encode(found));
                2
            }
            Self::Head(persistence_id, found) => {
                varint::put_bytes(out, persistence_id.as_bytes());
                found.encode(out);
                3
            }
            Self::Name(journal, persistence_id) => {
                varint::put(out, journal.0);
                out.extend_from_slice(persistence_id.as_bytes());
                4
            }
            Self::Write(write) => {
                write.encode(out);
                5
            }
            Self::Positions(writes) => {
                let first = writes.first().map_or(0, |write| write.position.0);
                varint::put(out, first);
                for write in writes {
                    varint::put(out, write.journal.0);
                    varint::put(out, write.first.0);
                    varint::put(out, u64::from(write.count));
                }
                6
            }
            Self::Tag(row) => {
                varint::put_bytes(out, row.tag.as_bytes());
                [row.position.0, row.journal.0, row.sequence_number.0].into_iter().for_each(|number| varint::put(out, number));
                7
            }
            Self::Snapshot(record) => {
                record.encode(out);
                8
            }
            Self::SnapshotChunk { journal, save_id, index, bytes } => {
                varint::put(out, journal.0);
                out.extend_from_slice(save_id.0.as_bytes());
                varint::put(out, u64::from(*index));
                out.extend_from_slice(bytes);
                9
            }
            Self::Removal(journal, to) => {
                varint::put(out, journal.0);
                varint::put(out, to.0);
                10
            }
        }
    }

    /// Takes a record from the front.
    pub(super) fn decode(bytes: &mut Bytes) -> Result<Self, DecodeError> {
        const WHAT: &str = "record of a checkpoint";
        if !bytes.has_remaining() {
            return Err(malformed(WHAT));
        }
        let kind = bytes.get_u8();
        let mut content = varint::take_bytes(bytes, WHAT)?;
        let record = match kind {
            1 => Self::Opening { shard: ShardId(narrow(varint::take(&mut content, WHAT)?)?) },
            2 => return Ok(Self::Meta(meta::decode(&content)?)),
            3 => {
                let persistence_id = persistence_id(varint::take_bytes(&mut content, WHAT)?)?;
                return Ok(Self::Head(persistence_id, Head::decode(&content)?));
            }
            4 => {
                let journal = JournalId(varint::take(&mut content, WHAT)?);
                return Ok(Self::Name(journal, persistence_id(content)?));
            }
            5 => return Ok(Self::Write(StoredWrite::decode(&content)?)),
            6 => return Ok(Self::Positions(take_positions(content)?)),
            7 => {
                let tag = varint::take_bytes(&mut content, WHAT)?;
                let tag = String::from_utf8(tag.to_vec()).map_err(|_| malformed(WHAT))?;
                let position = Position(varint::take(&mut content, WHAT)?);
                let journal = JournalId(varint::take(&mut content, WHAT)?);
                let sequence_number = SequenceNumber(varint::take(&mut content, WHAT)?);
                Self::Tag(TagRow { tag, position, journal, sequence_number })
            }
            8 => return Ok(Self::Snapshot(SnapshotRecord::decode(&content)?)),
            9 => {
                let journal = JournalId(varint::take(&mut content, WHAT)?);
                if content.remaining() < 16 {
                    return Err(malformed(WHAT));
                }
                let save_id = SaveId(Uuid::from_u128(content.get_u128()));
                let index = narrow(varint::take(&mut content, WHAT)?)?;
                return Ok(Self::SnapshotChunk { journal, save_id, index, bytes: content });
            }
            10 => {
                let journal = JournalId(varint::take(&mut content, WHAT)?);
                Self::Removal(journal, SequenceNumber(varint::take(&mut content, WHAT)?))
            }
            _ => return Err(malformed("record of a checkpoint: unknown kind")),
        };
        if content.has_remaining() { Err(malformed(WHAT)) } else { Ok(record) }
    }
}

fn persistence_id(bytes: Bytes) -> Result<PersistenceId, DecodeError> {
    PersistenceId::new(bytes).map_err(|_| malformed("persistence id of a checkpoint"))
}

fn narrow<T: TryFrom<u64>>(number: u64) -> Result<T, DecodeError> {
    T::try_from(number).map_err(|_| malformed("number of a checkpoint"))
}

fn take_positions(mut content: Bytes) -> Result<Vec<WriteRef>, DecodeError> {
    const WHAT: &str = "positions of a checkpoint";
    let mut position = varint::take(&mut content, WHAT)?;
    let mut writes = Vec::new();
    while content.has_remaining() {
        let journal = JournalId(varint::take(&mut content, WHAT)?);
        let first = SequenceNumber(varint::take(&mut content, WHAT)?);
        let count = narrow(varint::take(&mut content, WHAT)?)?;
        writes.push(WriteRef { position: Position(position), journal, first, count });
        position = position.checked_add(u64::from(count)).ok_or(malformed(WHAT))?;
    }
    // A key is made of the last position.
    if writes.is_empty() || position == 0 { Err(malformed(WHAT)) } else { Ok(writes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_malformed(kind in 0..12u8, content: Vec<u8>) {
            let mut bytes = vec![kind];
            varint::put_bytes(&mut bytes, &content);
            if let Ok(record) = Record::decode(&mut Bytes::from(bytes)) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(Record::decode(&mut Bytes::from(again)).expect("was encoded"), record.clone());
                let _ = record.into_row();
            }
        }
    }
}
