//! Chunks: (journal, last sequence number, flags) -> the atomic writes of one stretch of a journal, in order.
//!
//! A chunk holds at most [`EVENTS_MAX`] events or [`BYTES_MAX`] bytes, unless its only write is larger. It is written once and
//! never changed. The flags stand in the key so that removing chunks need not read those that have nothing else to remove.

use bytes::{Buf, Bytes};
use cairn_machine::{DecodeError, JournalId, SequenceNumber, StoredWrite};

use super::{Family, KeyReader, malformed};

/// Most events of a chunk of more than one write.
pub const EVENTS_MAX: usize = 64;
/// Most bytes of bodies of a chunk of more than one write.
pub const BYTES_MAX: usize = 64 * 1024;

const VERSION: u8 = 1;
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

/// The value for writes.
#[must_use]
pub fn encode(writes: &[StoredWrite]) -> Bytes {
    let length: usize = writes.iter().map(|write| write.body.len() + 96).sum();
    let mut out = Vec::with_capacity(1 + length);
    out.push(VERSION);
    writes.iter().for_each(|write| write.encode(&mut out));
    out.into()
}

/// The writes in a value; their bodies are slices of it.
///
/// # Errors
/// Malformed.
pub fn decode(value: &Bytes) -> Result<Vec<StoredWrite>, DecodeError> {
    let mut rest = value.clone();
    if !rest.has_remaining() || rest.get_u8() != VERSION {
        return Err(malformed("chunk version"));
    }
    let mut writes = Vec::new();
    while rest.has_remaining() {
        writes.push(StoredWrite::decode_from(&mut rest)?);
    }
    Ok(writes)
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
    }
}
