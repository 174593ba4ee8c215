//! Names: journal -> persistence id, for readers that come from a position.

use bytes::Bytes;
use cairn_machine::{DecodeError, JournalId, PersistenceId};

use super::{Family, KeyReader, malformed};

/// The key of a journal's name.
#[must_use]
pub fn key(journal: JournalId) -> Bytes {
    super::key(Family::Name, &[&journal.0.to_be_bytes()])
}

/// The journal in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &[u8]) -> Result<JournalId, DecodeError> {
    let mut reader = KeyReader::new(key, Family::Name, "name key")?;
    let journal = JournalId(reader.u64()?);
    reader.end()?;
    Ok(journal)
}

/// The value for a name.
#[must_use]
pub fn encode(persistence_id: &PersistenceId) -> Bytes {
    Bytes::copy_from_slice(persistence_id.as_bytes())
}

/// The name in a value.
///
/// # Errors
/// Malformed.
pub fn decode(value: &Bytes) -> Result<PersistenceId, DecodeError> {
    PersistenceId::new(value.clone()).map_err(|_| malformed("persistence id in a name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_round_trip(journal: u64) {
            let journal = JournalId(journal);
            prop_assert_eq!(decode_key(&key(journal)).expect("was encoded"), journal);
        }
    }
}
