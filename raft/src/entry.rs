//! The bytes of a log record: a header of two bytes, then what the entry carries. Encoded once by the leader; the same bytes go
//! to the log, its cache, the followers and the tables.
//!
//! Invariants
//! - Decoding is total: any bytes give a value or an error, and nothing is allocated that the input does not justify.
//! - A version that this build does not know is an error, never skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cairn_machine::{Batch, NodeId};
use openraft::{EntryPayload, Membership};
use uuid::Uuid;

use crate::identity::NodeInfo;
use crate::type_config::{Ballot, Members, RaftPayload};

/// The version of every record in this file. Persisted: never reuse.
const VERSION: u8 = 1;
/// What follows the header. Persisted: never reuse.
const KIND_BLANK: u8 = 0;
const KIND_BATCH: u8 = 1;
const KIND_MEMBERS: u8 = 2;
const HEADER_BYTES: usize = 2;
/// Longest address in a membership, in bytes.
const ADDRESS_BYTES_MAX: usize = 1024;

/// Bytes that are not what they should be. The node stops: an entry that was accepted is never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("record version {found} is not known to this build")]
    UnknownVersion { found: u8 },
    #[error("malformed {what}")]
    Malformed { what: &'static str },
}

/// A proposal as it stands in the log: header and batch.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Record(Bytes);

impl Record {
    /// Encodes a batch, once.
    pub fn new(batch: &Batch) -> Self {
        Self(batch.encode_behind(&[VERSION, KIND_BATCH]))
    }

    /// The batch without the header.
    pub fn batch(&self) -> Bytes {
        self.0.slice(HEADER_BYTES..)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} bytes)", self.0.len())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Encodes what an entry carries.
pub(crate) fn encode_payload(payload: &RaftPayload) -> Bytes {
    match payload {
        EntryPayload::Blank => Bytes::from_static(&[VERSION, KIND_BLANK]),
        EntryPayload::Normal(record) => record.0.clone(),
        EntryPayload::Membership(members) => {
            let mut bytes = BytesMut::with_capacity(256);
            bytes.put_u8(VERSION);
            bytes.put_u8(KIND_MEMBERS);
            put_members(&mut bytes, members);
            bytes.freeze()
        }
    }
}

/// Decodes what an entry carries. A batch is looked into only when it is applied.
pub(crate) fn decode_payload(bytes: &Bytes) -> Result<RaftPayload, RecordError> {
    if bytes.len() < HEADER_BYTES {
        return Err(RecordError::Malformed { what: "record header" });
    }
    if bytes[0] != VERSION {
        return Err(RecordError::UnknownVersion { found: bytes[0] });
    }
    match bytes[1] {
        KIND_BLANK if bytes.len() == HEADER_BYTES => Ok(EntryPayload::Blank),
        KIND_BATCH => Ok(EntryPayload::Normal(Record(bytes.clone()))),
        KIND_MEMBERS => {
            let mut rest = bytes.slice(HEADER_BYTES..);
            let members = take_members(&mut rest)?;
            finished(&rest)?;
            Ok(EntryPayload::Membership(members))
        }
        _ => Err(RecordError::Malformed { what: "record kind" }),
    }
}

/// Encodes a vote for the log.
pub(crate) fn encode_ballot(ballot: &Ballot) -> Bytes {
    let mut bytes = BytesMut::with_capacity(18);
    bytes.put_u8(VERSION);
    bytes.put_u64_le(ballot.leader_id.term);
    bytes.put_u64_le(ballot.leader_id.node_id);
    bytes.put_u8(u8::from(ballot.committed));
    bytes.freeze()
}

/// Decodes a vote from the log.
pub(crate) fn decode_ballot(bytes: &Bytes) -> Result<Ballot, RecordError> {
    let mut rest = bytes.clone();
    version(&mut rest)?;
    let term = take_u64(&mut rest, "vote's term")?;
    let node_id = take_u64(&mut rest, "vote's node")?;
    let committed = take_u8(&mut rest, "vote's state")?;
    finished(&rest)?;
    match committed {
        0 => Ok(Ballot::new(term, node_id)),
        1 => Ok(Ballot::new_committed(term, node_id)),
        _ => Err(RecordError::Malformed { what: "vote's state" }),
    }
}

/// What the tables keep about a shard's members: the membership, and every node id that was ever in one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MembersRecord {
    pub members: Members,
    /// Node ids ever used; such a number is never given again.
    pub seen: BTreeSet<u64>,
}

impl MembersRecord {
    /// The record after another membership took its place.
    pub fn succeeded_by(&self, members: Members) -> Self {
        let mut seen = self.seen.clone();
        seen.extend(members.nodes().map(|(id, _)| *id));
        Self { members, seen }
    }

    pub fn encode_members(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(256);
        bytes.put_u8(VERSION);
        put_members(&mut bytes, &self.members);
        bytes.freeze()
    }

    pub fn encode_seen(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(64);
        bytes.put_u8(VERSION);
        put_ids(&mut bytes, &self.seen);
        bytes.freeze()
    }

    /// The record from both its parts; `seen` is empty before the first membership.
    pub fn decode(members: &Bytes, seen: &Bytes) -> Result<Self, RecordError> {
        let mut rest = members.clone();
        version(&mut rest)?;
        let members = take_members(&mut rest)?;
        finished(&rest)?;
        if seen.is_empty() {
            return Ok(Self::default().succeeded_by(members));
        }
        let mut rest = seen.clone();
        version(&mut rest)?;
        let seen = take_ids(&mut rest)?;
        finished(&rest)?;
        Ok(Self { members, seen })
    }
}

fn put_members(bytes: &mut BytesMut, members: &Members) {
    let configs = members.get_joint_config();
    bytes.put_u32_le(configs.len() as u32);
    for config in configs {
        put_ids(bytes, config);
    }
    bytes.put_u32_le(members.nodes().count() as u32);
    for (id, node) in members.nodes() {
        bytes.put_u64_le(*id);
        bytes.put_u64_le(node.node_id.0);
        put_text(bytes, &node.peer_address);
        put_text(bytes, &node.client_address);
        bytes.put_u128_le(node.birth_id.as_u128());
    }
}

fn take_members(rest: &mut Bytes) -> Result<Members, RecordError> {
    let configs = take_u32(rest, "count of configs")?;
    let mut voters = Vec::new();
    for _ in 0..configs {
        voters.push(take_ids(rest)?);
    }
    let count = take_u32(rest, "count of nodes")?;
    let mut nodes = BTreeMap::new();
    for _ in 0..count {
        let id = take_u64(rest, "member's id")?;
        let node_id = NodeId(take_u64(rest, "node id")?);
        let peer_address = take_text(rest)?;
        let client_address = take_text(rest)?;
        if rest.len() < 16 {
            return Err(RecordError::Malformed { what: "birth id" });
        }
        let birth_id = Uuid::from_u128(rest.get_u128_le());
        nodes.insert(id, NodeInfo { node_id, peer_address, client_address, birth_id });
    }
    if voters.is_empty() && nodes.is_empty() {
        return Ok(Members::default());
    }
    Membership::new(voters, nodes).map_err(|_| RecordError::Malformed { what: "membership" })
}

fn put_ids(bytes: &mut BytesMut, ids: &BTreeSet<u64>) {
    bytes.put_u32_le(ids.len() as u32);
    for id in ids {
        bytes.put_u64_le(*id);
    }
}

fn take_ids(rest: &mut Bytes) -> Result<BTreeSet<u64>, RecordError> {
    let count = take_u32(rest, "count of ids")?;
    (0..count).map(|_| take_u64(rest, "id")).collect()
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_u32_le(text.len() as u32);
    bytes.put_slice(text.as_bytes());
}

fn take_text(rest: &mut Bytes) -> Result<String, RecordError> {
    let len = take_u32(rest, "text's length")? as usize;
    if len > ADDRESS_BYTES_MAX || len > rest.len() {
        return Err(RecordError::Malformed { what: "text" });
    }
    let text = rest.split_to(len);
    String::from_utf8(text.to_vec()).map_err(|_| RecordError::Malformed { what: "text" })
}

fn version(rest: &mut Bytes) -> Result<(), RecordError> {
    match take_u8(rest, "version")? {
        VERSION => Ok(()),
        found => Err(RecordError::UnknownVersion { found }),
    }
}

fn take_u8(rest: &mut Bytes, what: &'static str) -> Result<u8, RecordError> {
    if rest.is_empty() { Err(RecordError::Malformed { what }) } else { Ok(rest.get_u8()) }
}

fn take_u32(rest: &mut Bytes, what: &'static str) -> Result<u32, RecordError> {
    if rest.len() < 4 { Err(RecordError::Malformed { what }) } else { Ok(rest.get_u32_le()) }
}

fn take_u64(rest: &mut Bytes, what: &'static str) -> Result<u64, RecordError> {
    if rest.len() < 8 { Err(RecordError::Malformed { what }) } else { Ok(rest.get_u64_le()) }
}

fn finished(rest: &Bytes) -> Result<(), RecordError> {
    if rest.is_empty() { Ok(()) } else { Err(RecordError::Malformed { what: "end of record" }) }
}

#[cfg(test)]
mod tests;
