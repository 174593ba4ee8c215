//! Tags: (tag, position) -> (journal, sequence number).
//!
//! A tag is any text: NUL is escaped as 00 FF and the tag ended by 00 01, so that no tag's keys lie among another's.

use bytes::Bytes;
use cairn_machine::{DecodeError, JournalId, Position, SequenceNumber};

use super::{Family, KeyReader, malformed};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagRow {
    /// The tag.
    pub tag: String,
    /// The position of the event that has it.
    pub position: Position,
    /// The event's journal.
    pub journal: JournalId,
    /// The event's number.
    pub sequence_number: SequenceNumber,
}

fn escaped(tag: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(tag.len() + 2);
    for byte in tag.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 1]);
    out
}

/// The key of a tagged event.
#[must_use]
pub fn key(tag: &str, position: Position) -> Bytes {
    super::key(Family::Tag, &[&escaped(tag), &position.0.to_be_bytes()])
}

/// The end, exclusive, of all keys of a tag.
#[must_use]
pub fn end(tag: &str) -> Bytes {
    super::key(Family::Tag, &[&escaped(tag), &[u8::MAX; 9]])
}

/// The value of a tagged event.
#[must_use]
pub fn encode(journal: JournalId, sequence_number: SequenceNumber) -> Bytes {
    let mut out = Vec::with_capacity(16);
    out.extend_from_slice(&journal.0.to_be_bytes());
    out.extend_from_slice(&sequence_number.0.to_be_bytes());
    out.into()
}

/// The event in a value.
///
/// # Errors
/// Malformed.
pub fn decode_value(value: &[u8]) -> Result<(JournalId, SequenceNumber), DecodeError> {
    const WHAT: &str = "tag row";
    let (journal, sequence_number) = value.split_first_chunk::<8>().ok_or(malformed(WHAT))?;
    let sequence_number: [u8; 8] = sequence_number.try_into().map_err(|_| malformed(WHAT))?;
    Ok((JournalId(u64::from_be_bytes(*journal)), SequenceNumber(u64::from_be_bytes(sequence_number))))
}

/// The row in a key and a value.
///
/// # Errors
/// Malformed.
pub fn decode(key: &[u8], value: &[u8]) -> Result<TagRow, DecodeError> {
    const WHAT: &str = "tag row";
    let rest = KeyReader::new(key, Family::Tag, WHAT)?.rest();
    let (tag, position) = rest.split_last_chunk::<8>().ok_or(malformed(WHAT))?;
    let (journal, sequence_number) = decode_value(value)?;
    Ok(TagRow { tag: unescaped(tag)?, position: Position(u64::from_be_bytes(*position)), journal, sequence_number })
}

fn unescaped(bytes: &[u8]) -> Result<String, DecodeError> {
    const WHAT: &str = "tag in a key";
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match rest {
            [0, 1] => break,
            [0, 0xff, later @ ..] => {
                out.push(0);
                rest = later;
            }
            [0, ..] | [] => return Err(malformed(WHAT)),
            [byte, later @ ..] => {
                out.push(*byte);
                rest = later;
            }
        }
    }
    String::from_utf8(out).map_err(|_| malformed(WHAT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(tag in "[a\u{0}\u{1}é]{0,6}", position: u64, journal: u64, number: u64) {
            let row = TagRow {
                tag,
                position: Position(position),
                journal: JournalId(journal),
                sequence_number: SequenceNumber(number),
            };
            let (key, value) = (key(&row.tag, row.position), encode(row.journal, row.sequence_number));
            prop_assert_eq!(decode(&key, &value).expect("was encoded"), row);
        }

        #[test]
        fn no_tags_keys_lie_among_anothers(one in "[a\u{0}\u{1}]{0,4}", other in "[a\u{0}\u{1}]{0,4}", position: u64) {
            prop_assume!(one != other);
            let found = key(&other, Position(position));
            prop_assert!(found < key(&one, Position(0)) || found >= end(&one));
            prop_assert!(key(&one, Position(position)) < end(&one));
        }

        #[test]
        fn any_bytes_are_a_row_or_malformed(mut key: Vec<u8>, value: Vec<u8>) {
            key.insert(0, Family::Tag as u8);
            let _ = decode(&key, &value);
        }
    }
}
