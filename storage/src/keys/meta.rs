//! Meta: one row that says up to which entry the table is complete. It is written by every flush, in the same ingestion.

use bytes::{Buf, Bytes};
use cairn_machine::{DecodeError, ShardState};

use super::{Family, check_version, malformed, varint};
use crate::entry::EntryId;

/// The version of the whole table's layout. Persisted.
pub const LAYOUT_VERSION: u8 = 1;

/// The membership of a shard as consensus encodes it: opaque here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The entry that brought it; none if it came without one.
    pub entry: Option<EntryId>,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The meta row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The last entry whose effects are in the table.
    pub applied: Option<EntryId>,
    /// The membership in force at that entry.
    pub membership: Option<Membership>,
    /// The ids of all nodes that were ever members, as consensus encodes them: opaque here.
    pub seen_nodes: Bytes,
    /// What the rules remember of the shard as a whole.
    pub shard: ShardState,
}

/// The key of the row.
#[must_use]
pub fn key() -> Bytes {
    super::key(Family::Meta, &[])
}

/// The value of the row.
#[must_use]
pub fn encode(meta: &Meta) -> Bytes {
    let mut out = Vec::with_capacity(256);
    out.push(LAYOUT_VERSION);
    put_entry(&mut out, meta.applied);
    match &meta.membership {
        None => out.push(0),
        Some(membership) => {
            out.push(1);
            put_entry(&mut out, membership.entry);
            varint::put_bytes(&mut out, &membership.bytes);
        }
    }
    varint::put_bytes(&mut out, &meta.seen_nodes);
    let mut shard = Vec::with_capacity(128);
    meta.shard.encode(&mut shard);
    varint::put_bytes(&mut out, &shard);
    out.into()
}

/// The meta in a value.
///
/// # Errors
/// Malformed, or of a layout that this build does not know.
pub fn decode(value: &Bytes) -> Result<Meta, DecodeError> {
    const WHAT: &str = "meta row";
    let mut rest = value.clone();
    check_version(&mut rest, "layout of the tables", LAYOUT_VERSION)?;
    let applied = take_entry(&mut rest)?;
    let membership = if take_flag(&mut rest)? {
        let entry = take_entry(&mut rest)?;
        Some(Membership { entry, bytes: varint::take_bytes(&mut rest, WHAT)? })
    } else {
        None
    };
    let seen_nodes = varint::take_bytes(&mut rest, WHAT)?;
    let shard = ShardState::decode(&varint::take_bytes(&mut rest, WHAT)?)?;
    if rest.has_remaining() {
        return Err(malformed(WHAT));
    }
    Ok(Meta { applied, membership, seen_nodes, shard })
}

fn put_entry(out: &mut Vec<u8>, entry: Option<EntryId>) {
    out.push(u8::from(entry.is_some()));
    if let Some(entry) = entry {
        [entry.term, entry.leader, entry.index].into_iter().for_each(|number| varint::put(out, number));
    }
}

fn take_entry(rest: &mut Bytes) -> Result<Option<EntryId>, DecodeError> {
    const WHAT: &str = "entry id";
    if !take_flag(rest)? {
        return Ok(None);
    }
    let term = varint::take(rest, WHAT)?;
    let leader = varint::take(rest, WHAT)?;
    let index = varint::take(rest, WHAT)?;
    Ok(Some(EntryId { term, leader, index }))
}

fn take_flag(rest: &mut Bytes) -> Result<bool, DecodeError> {
    if !rest.has_remaining() {
        return Err(malformed("flag"));
    }
    match rest.get_u8() {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("flag")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_machine::{JournalId, Position};
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Option<EntryId>> {
        proptest::option::of(any::<(u64, u64, u64)>().prop_map(|(term, leader, index)| EntryId { term, leader, index }))
    }

    proptest! {
        #[test]
        fn rows_round_trip(
            applied in entries(),
            membership in proptest::option::of((entries(), any::<Vec<u8>>())),
            seen_nodes: Vec<u8>,
            next_journal: u64,
            next_position: u64,
            chain: u128,
        ) {
            let meta = Meta {
                applied,
                membership: membership.map(|(entry, bytes)| Membership { entry, bytes: bytes.into() }),
                seen_nodes: seen_nodes.into(),
                shard: ShardState {
                    next_journal: JournalId(next_journal),
                    next_position: Position(next_position),
                    chain,
                    ..ShardState::default()
                },
            };
            prop_assert_eq!(decode(&encode(&meta)).expect("was encoded"), meta);
        }

        #[test]
        fn any_bytes_are_a_meta_or_malformed(mut value: Vec<u8>) {
            value.insert(0, LAYOUT_VERSION);
            let _ = decode(&Bytes::from(value));
        }
    }
}
