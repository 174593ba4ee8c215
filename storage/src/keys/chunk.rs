//! Chunks: (journal, last sequence number, flags) -> the atomic writes of one stretch of a journal, in order.
//!
//! A chunk holds at most [`EVENTS_MAX`] events or [`BYTES_MAX`] bytes, unless its only write is larger. It is written once and
//! never changed. The flags stand in the key so that removing chunks need not read those that have nothing else to remove.

use bytes::{Buf, Bytes};
use cairn_machine::{DecodeError, JournalId, Position, SequenceNumber, StoredWrite, Timestamp, WriterId};

use super::{Family, KeyReader, check_version, malformed, varint};

/// Most events of a chunk of more than one write.
pub const EVENTS_MAX: usize = 64;
/// Most bytes of bodies of a chunk of more than one write.
pub const BYTES_MAX: usize = 64 * 1024;

const VERSION: u8 = 1;
const WHAT: &str = "chunk";
const HAS_TAGS: u8 = 1;

/// What a chunk's key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkKey {
    /// Whose.
    pub journal: JournalId,
    /// The last sequence number in the chunk.
    pub last: SequenceNumber,
    /// Whether any of its events has tags.
    pub has_tags: bool,
}

/// The key of a chunk.
#[must_use]
pub fn key(chunk: ChunkKey) -> Bytes {
    let flags = if chunk.has_tags { HAS_TAGS } else { 0 };
    super::key(Family::Chunk, &[&chunk.journal.0.to_be_bytes(), &chunk.last.0.to_be_bytes(), &[flags]])
}

/// Where chunks begin that hold `from` or later numbers.
#[must_use]
pub fn from(journal: JournalId, from: SequenceNumber) -> Bytes {
    super::key(Family::Chunk, &[&journal.0.to_be_bytes(), &from.0.to_be_bytes()])
}

/// The end, exclusive, of all chunks of a journal that lie wholly at or below `to`.
#[must_use]
pub fn wholly_up_to(journal: JournalId, to: SequenceNumber) -> Bytes {
    super::key(Family::Chunk, &[&journal.0.to_be_bytes(), &to.0.to_be_bytes(), &[u8::MAX]])
}

/// The end, exclusive, of a journal's chunks.
#[must_use]
pub fn end(journal: JournalId) -> Bytes {
    super::key(Family::Chunk, &[&journal.0.to_be_bytes(), &[u8::MAX; 9]])
}

/// What is in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &[u8]) -> Result<ChunkKey, DecodeError> {
    let mut reader = KeyReader::new(key, Family::Chunk, "chunk key")?;
    let journal = JournalId(reader.u64()?);
    let last = SequenceNumber(reader.u64()?);
    let [flags] = reader.array()?;
    reader.end()?;
    if flags & !HAS_TAGS != 0 {
        return Err(malformed("chunk key: flags"));
    }
    Ok(ChunkKey { journal, last, has_tags: flags & HAS_TAGS != 0 })
}

/// The value for writes of one journal, in order: each distinct writer once, then what differs from write to write.
///
/// # Panics
/// If there is no write, or they are not in order.
#[must_use]
pub fn encode(writes: &[StoredWrite]) -> Bytes {
    let first = writes.first().expect("a chunk holds a write");
    let length: usize = writes.iter().map(|write| write.body.len() + 24).sum();
    let mut out = Vec::with_capacity(64 + length);
    out.push(VERSION);
    varint::put(&mut out, first.journal.0);
    let mut writers: Vec<&WriterId> = Vec::new();
    let indexes: Vec<usize> = writes.iter().map(|write| index_of(&mut writers, &write.writer)).collect();
    varint::put(&mut out, writers.len() as u64);
    writers.iter().for_each(|writer| varint::put_bytes(&mut out, writer.as_bytes()));
    let mut before = Before::default();
    for (write, writer) in writes.iter().zip(indexes) {
        before.put(&mut out, write, writer);
    }
    out.into()
}

fn index_of<'a>(writers: &mut Vec<&'a WriterId>, writer: &'a WriterId) -> usize {
    let known = writers.iter().rposition(|known| *known == writer);
    known.unwrap_or_else(|| {
        writers.push(writer);
        writers.len() - 1
    })
}

/// The writes in a value; their bodies are slices of it.
///
/// # Errors
/// Malformed, or of a version that this build does not know.
pub fn decode(value: &Bytes) -> Result<Vec<StoredWrite>, DecodeError> {
    let mut rest = value.clone();
    check_version(&mut rest, "chunk", VERSION)?;
    let journal = JournalId(varint::take(&mut rest, WHAT)?);
    let mut writers = Vec::new();
    for _ in 0..varint::take(&mut rest, WHAT)? {
        let writer = WriterId::new(varint::take_bytes(&mut rest, WHAT)?);
        writers.push(writer.map_err(|_| malformed("writer of a chunk"))?);
    }
    let mut writes = Vec::new();
    let mut before = Before::default();
    while rest.has_remaining() {
        writes.push(before.take(&mut rest, journal, &writers)?);
    }
    Ok(writes)
}

/// The write before, from which the next one differs a little.
#[derive(Default)]
struct Before {
    last: u64,
    position_end: u64,
    timestamp: i64,
}

impl Before {
    fn put(&mut self, out: &mut Vec<u8>, write: &StoredWrite, writer: usize) {
        varint::put(out, writer as u64);
        varint::put(out, write.previous.0 - self.last);
        varint::put(out, write.first.0 - write.previous.0);
        varint::put(out, write.last.0 - write.first.0);
        varint::put(out, u64::from(write.count));
        varint::put(out, write.position.0 - self.position_end);
        varint::put_signed(out, write.timestamp.0.wrapping_sub(self.timestamp));
        varint::put_bytes(out, &write.body);
        self.moved_to(write);
    }

    fn take(&mut self, rest: &mut Bytes, journal: JournalId, writers: &[WriterId]) -> Result<StoredWrite, DecodeError> {
        let writer = usize::try_from(varint::take(rest, WHAT)?).ok().and_then(|writer| writers.get(writer));
        let writer = writer.ok_or(malformed(WHAT))?.clone();
        let mut number = self.last;
        let mut next = |rest: &mut Bytes| -> Result<SequenceNumber, DecodeError> {
            number = number.checked_add(varint::take(rest, WHAT)?).ok_or(malformed(WHAT))?;
            Ok(SequenceNumber(number))
        };
        let (previous, first, last) = (next(rest)?, next(rest)?, next(rest)?);
        let count = u32::try_from(varint::take(rest, WHAT)?).map_err(|_| malformed(WHAT))?;
        let position = self.position_end.checked_add(varint::take(rest, WHAT)?).ok_or(malformed(WHAT))?;
        let timestamp = Timestamp(self.timestamp.wrapping_add(varint::take_signed(rest, WHAT)?));
        let body = varint::take_bytes(rest, WHAT)?;
        let holds_together = previous < first
            && last <= SequenceNumber::MAX
            && (1..=last.0 - first.0 + 1).contains(&u64::from(count))
            && position.checked_add(u64::from(count)).is_some();
        if !holds_together {
            return Err(malformed(WHAT));
        }
        let write = StoredWrite { journal, previous, first, last, count, position: Position(position), timestamp, writer, body };
        self.moved_to(&write);
        Ok(write)
    }

    fn moved_to(&mut self, write: &StoredWrite) {
        self.last = write.last.0;
        self.position_end = write.position.0 + u64::from(write.count);
        self.timestamp = write.timestamp.0;
    }
}

/// Cuts a journal's writes into chunks.
pub fn split(writes: &[StoredWrite]) -> impl Iterator<Item = &[StoredWrite]> {
    let mut rest = writes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (chunk, later) = rest.split_at(chunk_length(rest));
        rest = later;
        Some(chunk)
    })
}

fn chunk_length(writes: &[StoredWrite]) -> usize {
    let (mut events, mut bytes) = (0, 0);
    for (index, write) in writes.iter().enumerate() {
        events += write.count as usize;
        bytes += write.body.len();
        if index > 0 && (events > EVENTS_MAX || bytes > BYTES_MAX) {
            return index;
        }
    }
    writes.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip(journal: u64, last: u64, has_tags: bool) {
            let chunk = ChunkKey { journal: JournalId(journal), last: SequenceNumber(last), has_tags };
            prop_assert_eq!(decode_key(&key(chunk)).expect("was encoded"), chunk);
        }

        #[test]
        fn the_first_chunk_at_or_above_a_number_holds_it(journal in 0..u64::MAX, last: u64, number: u64, has_tags: bool) {
            let (journal, last, number) = (JournalId(journal), SequenceNumber(last), SequenceNumber(number));
            let chunk = key(ChunkKey { journal, last, has_tags });
            prop_assert_eq!(from(journal, number) <= chunk, number <= last);
            prop_assert_eq!(chunk < wholly_up_to(journal, number), last <= number);
            prop_assert!(chunk < end(journal));
            prop_assert!(end(journal) < from(JournalId(journal.0 + 1), SequenceNumber(0)));
        }

        #[test]
        fn values_round_trip(
            parts in proptest::collection::vec((0..3u64, 1..9u64, 1..4u32, 0..9u64, any::<i64>(), 0..3u8, any::<Vec<u8>>()), 1..20),
            start in (0..1u64 << 60, 0..1u64 << 60),
        ) {
            let (mut last, mut position) = start;
            let mut writes = Vec::new();
            for (gap, ahead, count, positions, timestamp, writer, body) in parts {
                let previous = SequenceNumber(last + gap);
                let first = SequenceNumber(previous.0 + ahead);
                last = first.0 + u64::from(count) - 1;
                position += positions;
                let write = StoredWrite {
                    journal: JournalId(9),
                    previous,
                    first,
                    last: SequenceNumber(last),
                    count,
                    position: Position(position),
                    timestamp: Timestamp(timestamp),
                    writer: WriterId::new(["", "w", "another"][usize::from(writer)]).expect("short"),
                    body: body.into(),
                };
                position += u64::from(count);
                writes.push(write);
            }
            prop_assert_eq!(decode(&encode(&writes)).expect("was encoded"), writes);
        }

        #[test]
        fn any_bytes_are_a_chunk_or_malformed(mut value: Vec<u8>) {
            value.insert(0, VERSION);
            let _ = decode(&Bytes::from(value));
        }
    }
}
