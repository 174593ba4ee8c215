//! The records inside a batch.
//!
//! Each has a checksum of its own beside the frame's, so that reading one entry back does not need the whole batch.

use bytes::{BufMut, Bytes, BytesMut};
use cairn_machine::ShardId;

use super::frame::{FRAME_ALIGNMENT, u16_at, u32_at, u64_at};
use crate::EntryId;

/// What stands before a record's payload.
pub(super) const RECORD_HEADER_BYTES: usize = 36;

/// Persisted: never reuse a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    /// An entry at the end of its shard's log.
    Entry = 1,
    /// Everything behind an entry leaves the log.
    Truncate = 2,
    /// Everything up to an entry leaves the log.
    Purge = 3,
    /// The shard's vote.
    Vote = 4,
    /// The last entry known to be committed.
    Committed = 5,
    /// An entry written a second time, so that the segment of the first can go.
    Copied = 6,
}

/// A record as it stands in a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub kind: RecordKind,
    pub shard: ShardId,
    /// `None` only for a truncation that leaves nothing, and for votes.
    pub id: Option<EntryId>,
    pub payload: Bytes,
}

impl Record {
    pub fn bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.payload.len()
    }
}

/// Appends a record to a batch's body.
pub(super) fn encode(buffer: &mut BytesMut, kind: RecordKind, shard: ShardId, id: Option<EntryId>, payload: &[u8]) {
    let start = buffer.len();
    buffer.reserve(RECORD_HEADER_BYTES + payload.len());
    buffer.put_u32_le(0);
    buffer.put_u8(kind as u8);
    buffer.put_u8(u8::from(id.is_some()));
    buffer.put_u16_le(shard.0);
    buffer.put_u32_le(u32::try_from(payload.len()).expect("payloads are bounded far below 4 GiB"));
    let id = id.unwrap_or_default();
    buffer.put_u64_le(id.term);
    buffer.put_u64_le(id.leader);
    buffer.put_u64_le(id.index);
    buffer.put_slice(payload);
    let checksum = crc32fast::hash(&buffer[start + 4..]);
    buffer[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// The records of a batch's body, each with where in the body it begins. Ends with an error if the body is not what it should be.
pub(super) struct Records<'a> {
    body: &'a Bytes,
    count: u32,
    next: u32,
    at: usize,
}

impl<'a> Records<'a> {
    pub fn of(body: &'a Bytes, count: u32) -> Self {
        Self { body, count, next: 0, at: 0 }
    }

    /// Behind the last record are zeros up to the alignment.
    fn check_padding(&self) -> Result<(), String> {
        let padding = &self.body[self.at..];
        if padding.len() >= FRAME_ALIGNMENT || padding.iter().any(|byte| *byte != 0) {
            return Err(format!("{} bytes after the last record", padding.len()));
        }
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(usize, Record), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next > self.count {
            return None;
        }
        let (number, at) = (self.next, self.at);
        self.next += 1;
        if number == self.count {
            return self.check_padding().err().map(Err);
        }
        let Some(record) = decode(&self.body.slice(at..)) else {
            self.next = self.count + 1;
            return Some(Err(format!("record {number} is malformed")));
        };
        self.at += record.bytes();
        Some(Ok((at, record)))
    }
}

/// Reads the record at the start of `bytes`, which may go on behind it. `None`: there is no whole, undamaged record.
pub(super) fn decode(bytes: &Bytes) -> Option<Record> {
    if bytes.len() < RECORD_HEADER_BYTES {
        return None;
    }
    let end = RECORD_HEADER_BYTES.checked_add(u32_at(bytes, 8) as usize)?;
    if bytes.len() < end || crc32fast::hash(&bytes[4..end]) != u32_at(bytes, 0) {
        return None;
    }
    let kind = match bytes[4] {
        1 => RecordKind::Entry,
        2 => RecordKind::Truncate,
        3 => RecordKind::Purge,
        4 => RecordKind::Vote,
        5 => RecordKind::Committed,
        6 => RecordKind::Copied,
        _ => return None,
    };
    let id = match bytes[5] {
        0 => None,
        1 => Some(EntryId { term: u64_at(bytes, 12), leader: u64_at(bytes, 20), index: u64_at(bytes, 28) }),
        _ => return None,
    };
    Some(Record { kind, shard: ShardId(u16_at(bytes, 6)), id, payload: bytes.slice(RECORD_HEADER_BYTES..end) })
}
