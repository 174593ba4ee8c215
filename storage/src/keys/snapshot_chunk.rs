//! Snapshot chunks: (journal, save id, index) -> a part of a snapshot's bytes.

use bytes::Bytes;
use cairn_machine::{DecodeError, JournalId, SaveId};
use uuid::Uuid;

use super::{Family, KeyReader};

/// The key of a chunk.
#[must_use]
pub fn key(journal: JournalId, save_id: SaveId, index: u32) -> Bytes {
    super::key(Family::SnapshotChunk, &[&journal.0.to_be_bytes(), save_id.0.as_bytes(), &index.to_be_bytes()])
}

/// Where a save's chunks begin.
#[must_use]
pub fn prefix(journal: JournalId, save_id: SaveId) -> Bytes {
    super::key(Family::SnapshotChunk, &[&journal.0.to_be_bytes(), save_id.0.as_bytes()])
}

/// The end, exclusive, of a save's chunks.
#[must_use]
pub fn end(journal: JournalId, save_id: SaveId) -> Bytes {
    super::key(Family::SnapshotChunk, &[&journal.0.to_be_bytes(), save_id.0.as_bytes(), &[u8::MAX; 5]])
}

/// What is in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &[u8]) -> Result<(JournalId, SaveId, u32), DecodeError> {
    let mut reader = KeyReader::new(key, Family::SnapshotChunk, "snapshot chunk key")?;
    let journal = JournalId(reader.u64()?);
    let save_id = SaveId(Uuid::from_bytes(reader.array()?));
    let index = u32::from_be_bytes(reader.array()?);
    reader.end()?;
    Ok((journal, save_id, index))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip_and_bounds_hold(journal: u64, save: u128, index: u32) {
            let (journal, save) = (JournalId(journal), SaveId(Uuid::from_u128(save)));
            let found = key(journal, save, index);
            prop_assert_eq!(decode_key(&found).expect("was encoded"), (journal, save, index));
            prop_assert!(prefix(journal, save) <= found && found < end(journal, save));
        }
    }
}
