//! The layout of a shard's table at a glance: every key family, one file each.
//!
//! | ordinal | family | key after the ordinal | value | written |
//! |---|---|---|---|---|
//! | 1 | [`meta`] | nothing | applied entry, membership, shard state | replaced by each flush |
//! | 2 | [`head`] | persistence id | `Head` | replaced when it changed |
//! | 3 | [`name`] | journal | persistence id | once |
//! | 4 | [`chunk`] | journal, last sequence number, flags | atomic writes | once; removed below `removed_to` |
//! | 5 | [`position`] | last position | which write has which positions | once |
//! | 6 | [`tag`] | tag, position | journal, sequence number | once; removed with its event |
//! | 7 | [`snapshot`] | journal, sequence number | `SnapshotRecord` | replaced, removed |
//! | 8 | [`snapshot_chunk`] | journal, save id, index | bytes | once; removed with its snapshot |
//! | 9 | [`removal`] | journal | number up to which chunks are still to be removed | replaced, removed |
//!
//! Invariants
//! - Numbers are big-endian, so that keys sort as numbers do.
//! - Text that is not the last part of a key is escaped and ended, so that no key is the start of another one's.
//! - Chunks and position records are named by their *last* number: the one that holds number n is the first at or above n, so
//!   that a replay is one seek and a scan upwards.

pub mod chunk;
pub mod head;
pub mod meta;
pub mod name;
pub mod position;
pub mod removal;
pub mod snapshot;
pub mod snapshot_chunk;
pub mod tag;
pub(crate) mod varint;

use bytes::{Buf, Bytes};
use cairn_machine::DecodeError;

/// The family of a key: its first byte. Persisted: an ordinal is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Family {
    /// [`meta`]
    Meta = 1,
    /// [`head`]
    Head = 2,
    /// [`name`]
    Name = 3,
    /// [`chunk`]
    Chunk = 4,
    /// [`position`]
    Position = 5,
    /// [`tag`]
    Tag = 6,
    /// [`snapshot`]
    Snapshot = 7,
    /// [`snapshot_chunk`]
    SnapshotChunk = 8,
    /// [`removal`]
    Removal = 9,
}

impl Family {
    /// Every family, in key order.
    pub const ALL: [Self; 9] = [
        Self::Meta,
        Self::Head,
        Self::Name,
        Self::Chunk,
        Self::Position,
        Self::Tag,
        Self::Snapshot,
        Self::SnapshotChunk,
        Self::Removal,
    ];

    /// The family of a key; none if no family has its first byte.
    #[must_use]
    pub fn of(key: &[u8]) -> Option<Self> {
        let ordinal = *key.first()?;
        Self::ALL.into_iter().find(|family| *family as u8 == ordinal)
    }

    /// The first key of the family.
    #[must_use]
    pub fn start(self) -> [u8; 1] {
        [self as u8]
    }

    /// The end of the family, exclusive.
    #[must_use]
    pub fn end(self) -> [u8; 1] {
        [self as u8 + 1]
    }
}

/// Takes the version that opens a value.
pub(crate) fn check_version(value: &mut Bytes, what: &'static str, known: u8) -> Result<(), DecodeError> {
    if !value.has_remaining() {
        return Err(malformed(what));
    }
    match value.get_u8() {
        found if found == known => Ok(()),
        found => Err(DecodeError::UnknownFormat { what, found, known }),
    }
}

pub(crate) const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what }
}

/// The smallest key that is greater than every key beginning with `prefix`; none if there is no such key.
#[must_use]
pub(crate) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let keep = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=keep].to_vec();
    end[keep] += 1;
    Some(end)
}

/// Reads fixed-width parts of a key.
pub(crate) struct KeyReader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> KeyReader<'a> {
    pub(crate) fn new(key: &'a [u8], family: Family, what: &'static str) -> Result<Self, DecodeError> {
        match key.split_first() {
            Some((ordinal, rest)) if *ordinal == family as u8 => Ok(Self { rest, what }),
            _ => Err(malformed(what)),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (part, rest) = self.rest.split_first_chunk::<N>().ok_or(malformed(self.what))?;
        self.rest = rest;
        Ok(*part)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(malformed(self.what)) }
    }
}

/// Puts a key together from its parts.
pub(crate) fn key(family: Family, parts: &[&[u8]]) -> Bytes {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(family as u8);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_those_on_disk() {
        let ordinals: Vec<u8> = Family::ALL.iter().map(|family| *family as u8).collect();
        assert_eq!(ordinals, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        for family in Family::ALL {
            assert_eq!(Family::of(&family.start()), Some(family));
        }
        assert_eq!(Family::of(&[]), None);
        assert_eq!(Family::of(&[0]), None);
        assert_eq!(Family::of(&[10]), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_above_everything_that_begins_with_it() {
        assert_eq!(after_prefix(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(after_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(after_prefix(&[255]), None);
        assert_eq!(after_prefix(&[]), None);
    }
}
