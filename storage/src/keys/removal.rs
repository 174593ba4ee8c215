//! Removals: journal -> the number up to which its chunks are still to be removed. A removal is done in bounded steps after the
//! flush that brought it; what is left is found here after a restart.

use bytes::Bytes;
use cairn_machine::{DecodeError, JournalId, SequenceNumber};

use super::{Family, KeyReader, malformed};

/// The key of a journal's removal.
#[must_use]
pub fn key(journal: JournalId) -> Bytes {
    super::key(Family::Removal, &[&journal.0.to_be_bytes()])
}

/// The journal in a key.
///
/// # Errors
/// Malformed.
pub fn decode_key(key: &[u8]) -> Result<JournalId, DecodeError> {
    let mut reader = KeyReader::new(key, Family::Removal, "removal key")?;
    let journal = JournalId(reader.u64()?);
    reader.end()?;
    Ok(journal)
}

/// The value for a removal.
#[must_use]
pub fn encode(to: SequenceNumber) -> Bytes {
    Bytes::copy_from_slice(&to.0.to_be_bytes())
}

/// The number in a value.
///
/// # Errors
/// Malformed.
pub fn decode(value: &[u8]) -> Result<SequenceNumber, DecodeError> {
    let bytes = value.try_into().map_err(|_| malformed("removal"))?;
    Ok(SequenceNumber(u64::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(journal: u64, to: u64) {
            prop_assert_eq!(decode_key(&key(JournalId(journal))).expect("was encoded"), JournalId(journal));
            prop_assert_eq!(decode(&encode(SequenceNumber(to))).expect("was encoded"), SequenceNumber(to));
        }
    }
}
