//! Snapshots: (journal, sequence number) -> `SnapshotRecord`.

use bytes::Bytes;
use cairn_machine::{DecodeError, JournalId, SequenceNumber, SnapshotRecord};

use super::{Family, KeyReader};

/// The key of a snapshot.
#[must_use]
pub fn key(journal: JournalId, sequence_number: SequenceNumber) -> Bytes {
    super::key(Family::Snapshot, &[&journal.0.to_be_bytes(), &sequence_number.0.to_be_bytes()])
}

/// The end, exclusive, of a journal's snapshots up to a number, inclusive.
#[must_use]
pub fn end(journal: JournalId, to: SequenceNumber) -> Bytes {
    super::key(Family::Snapshot, &[&journal.0.to_be_bytes(), &to.0.to_be_bytes(), &[0]])
}

/// What is in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &[u8]) -> Result<(JournalId, SequenceNumber), DecodeError> {
    let mut reader = KeyReader::new(key, Family::Snapshot, "snapshot key")?;
    let journal = JournalId(reader.u64()?);
    let sequence_number = SequenceNumber(reader.u64()?);
    reader.end()?;
    Ok((journal, sequence_number))
}

/// The value for a snapshot.
#[must_use]
pub fn encode(record: &SnapshotRecord) -> Bytes {
    let mut out = Vec::with_capacity(256);
    record.encode(&mut out);
    out.into()
}

/// The snapshot in a value.
///
/// # Errors
/// Malformed.
pub fn decode(value: &Bytes) -> Result<SnapshotRecord, DecodeError> {
    SnapshotRecord::decode(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip_and_bounds_hold(journal: u64, number: u64, to: u64) {
            let found = key(JournalId(journal), SequenceNumber(number));
            prop_assert_eq!(decode_key(&found).expect("was encoded"), (JournalId(journal), SequenceNumber(number)));
            prop_assert_eq!(found < end(JournalId(journal), SequenceNumber(to)), number <= to);
        }
    }
}
