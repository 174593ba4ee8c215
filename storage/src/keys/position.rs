//! Positions: last position -> which atomic writes the positions up to it belong to, in order.
//!
//! A record covers the writes of one entry or of several, at most [`WRITES_MAX`]; positions are dense, so each write is named by
//! its journal, first number and count alone.

use bytes::{Buf, Bytes};
use cairn_machine::{DecodeError, JournalId, Position, SequenceNumber, StoredWrite};

use super::{Family, KeyReader, check_version, malformed, varint};

/// Most writes in one record.
pub const WRITES_MAX: usize = 256;

const VERSION: u8 = 1;

/// Where one atomic write is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteRef {
    /// The position of its first event.
    pub position: Position,
    /// Whose.
    pub journal: JournalId,
    /// Its first number.
    pub first: SequenceNumber,
    /// How many events: one position each.
    pub count: u32,
}

impl WriteRef {
    /// The position after its last event.
    #[must_use]
    pub fn end(&self) -> Position {
        Position(self.position.0 + u64::from(self.count))
    }
}

impl From<&StoredWrite> for WriteRef {
    fn from(write: &StoredWrite) -> Self {
        Self { position: write.position, journal: write.journal, first: write.first, count: write.count }
    }
}

/// The key of the record whose last position this is, and where records begin that hold it or later ones.
#[must_use]
pub fn key(last: Position) -> Bytes {
    super::key(Family::Position, &[&last.0.to_be_bytes()])
}

/// The last position in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &[u8]) -> Result<Position, DecodeError> {
    let mut reader = KeyReader::new(key, Family::Position, "position key")?;
    let last = Position(reader.u64()?);
    reader.end()?;
    Ok(last)
}

/// The row for writes whose positions follow each other.
///
/// # Panics
/// If there is no write, or a hole between two.
#[must_use]
pub fn encode(writes: &[WriteRef]) -> (Bytes, Bytes) {
    let (first, last) = (writes.first().expect("not empty"), writes.last().expect("not empty"));
    assert!(writes.windows(2).all(|pair| pair[0].end() == pair[1].position), "positions are dense");
    let mut out = Vec::with_capacity(9 + writes.len() * 8);
    out.push(VERSION);
    varint::put(&mut out, first.position.0);
    for write in writes {
        varint::put(&mut out, write.journal.0);
        varint::put(&mut out, write.first.0);
        varint::put(&mut out, u64::from(write.count));
    }
    (key(Position(last.end().0 - 1)), out.into())
}

/// The writes in a row.
///
/// # Errors
/// Malformed.
pub fn decode(key: &[u8], value: &Bytes) -> Result<Vec<WriteRef>, DecodeError> {
    const WHAT: &str = "position record";
    let last = decode_key(key)?;
    let mut rest = value.clone();
    check_version(&mut rest, WHAT, VERSION)?;
    let mut position = varint::take(&mut rest, WHAT)?;
    let mut writes = Vec::new();
    while rest.has_remaining() {
        let journal = JournalId(varint::take(&mut rest, WHAT)?);
        let first = SequenceNumber(varint::take(&mut rest, WHAT)?);
        let count = u32::try_from(varint::take(&mut rest, WHAT)?).map_err(|_| malformed(WHAT))?;
        writes.push(WriteRef { position: Position(position), journal, first, count });
        position = position.checked_add(u64::from(count)).ok_or(malformed(WHAT))?;
    }
    if position != last.0.wrapping_add(1) || writes.is_empty() {
        return Err(malformed(WHAT));
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(
            first in 1..u64::MAX / 2,
            parts in proptest::collection::vec((any::<u64>(), any::<u64>(), 1..10_000u32), 1..20),
        ) {
            let mut position = first;
            let mut writes = Vec::new();
            for (journal, number, count) in parts {
                let (journal, first) = (JournalId(journal), SequenceNumber(number));
                writes.push(WriteRef { position: Position(position), journal, first, count });
                position += u64::from(count);
            }
            let (key, value) = encode(&writes);
            prop_assert_eq!(decode_key(&key).expect("was encoded").0, position - 1);
            prop_assert_eq!(decode(&key, &value).expect("was encoded"), writes);
        }

        #[test]
        fn any_bytes_are_a_record_or_malformed(last: u64, mut value: Vec<u8>) {
            value.insert(0, VERSION);
            let _ = decode(&key(Position(last)), &Bytes::from(value));
        }
    }
}
