//! Reads of the journal: freshness, highest number, replay, recover, follow and listing.

use cairn_machine::limits::{PERSISTENCE_ID_BYTES_MAX, TAG_BYTES_MAX};
use cairn_machine::{
    Criteria, Head, Invalid, PersistenceId, Position, SLICES, SaveNumber, SequenceNumber, ShardId, Timestamp, WriterEpoch,
    WriterId,
};

use crate::event::{persistence_id, within, writer_id};
use crate::number::{epoch, position, save_number, sequence_number, signed, unsigned};
use crate::v1;

/// Most journals in one answer to a listing.
pub const LIST_LIMIT_MAX: u32 = 10_000;

/// How fresh the answer to a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Freshness {
    /// Linearizable: every write acknowledged before the read began is seen.
    #[default]
    Strong,
    /// At least this far: the highest sequence number, or the position, that the caller has seen already. A replica behind it
    /// waits, within the deadline.
    AtLeast(u64),
    /// Whatever the node that is asked has.
    Local,
}

impl TryFrom<Option<v1::Freshness>> for Freshness {
    type Error = Invalid;

    fn try_from(wire: Option<v1::Freshness>) -> Result<Self, Invalid> {
        use v1::freshness::Kind;
        Ok(match wire.and_then(|freshness| freshness.kind) {
            None | Some(Kind::Strong(_)) => Self::Strong,
            Some(Kind::AtLeast(number)) => Self::AtLeast(unsigned("at_least", number)?),
            Some(Kind::Local(_)) => Self::Local,
        })
    }
}

impl From<Freshness> for v1::Freshness {
    fn from(freshness: Freshness) -> Self {
        use v1::freshness::{Kind, Local, Strong};
        let kind = match freshness {
            Freshness::Strong => Kind::Strong(Strong {}),
            Freshness::AtLeast(number) => Kind::AtLeast(signed(number)),
            Freshness::Local => Kind::Local(Local {}),
        };
        Self { kind: Some(kind) }
    }
}

/// A read of what is known of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadHighest {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// How fresh the answer must be.
    pub freshness: Freshness,
}

impl TryFrom<v1::HighestRequest> for ReadHighest {
    type Error = Invalid;

    fn try_from(wire: v1::HighestRequest) -> Result<Self, Invalid> {
        Ok(Self { persistence_id: persistence_id(wire.persistence_id)?, freshness: wire.freshness.try_into()? })
    }
}

/// What is known of a journal; all zero and empty for one that was never written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HighestReply {
    /// The greatest sequence number ever stored.
    pub highest: SequenceNumber,
    /// Events up to this are deleted.
    pub deleted_to: SequenceNumber,
    /// Events up to this are deleted permanently.
    pub removed_to: SequenceNumber,
    /// The writer's epoch.
    pub epoch: WriterEpoch,
    /// The writer.
    pub writer: WriterId,
    /// How many snapshots were ever saved.
    pub saves: SaveNumber,
}

impl From<&Head> for HighestReply {
    fn from(head: &Head) -> Self {
        Self {
            highest: head.highest,
            deleted_to: head.deleted_to,
            removed_to: head.removed_to,
            epoch: head.epoch,
            writer: head.writer.clone(),
            saves: head.saves,
        }
    }
}

impl From<HighestReply> for v1::HighestResponse {
    fn from(reply: HighestReply) -> Self {
        Self {
            highest: signed(reply.highest.0),
            deleted_to: signed(reply.deleted_to.0),
            removed_to: signed(reply.removed_to.0),
            epoch: signed(reply.epoch.0),
            writer_id: reply.writer.as_str().to_owned(),
            saves: signed(reply.saves.0),
        }
    }
}

impl TryFrom<v1::HighestResponse> for HighestReply {
    type Error = Invalid;

    fn try_from(wire: v1::HighestResponse) -> Result<Self, Invalid> {
        Ok(Self {
            highest: sequence_number(wire.highest)?,
            deleted_to: sequence_number(wire.deleted_to)?,
            removed_to: sequence_number(wire.removed_to)?,
            epoch: epoch("epoch", wire.epoch)?,
            writer: writer_id(wire.writer_id)?,
            saves: save_number("saves", wire.saves)?,
        })
    }
}

/// A replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// The first number, inclusive; at least 1.
    pub from: SequenceNumber,
    /// The last number, inclusive; [`SequenceNumber::MAX`] = no bound.
    pub to: SequenceNumber,
    /// How many stored events at most.
    pub max: u64,
    /// Whether logically deleted events are delivered too.
    pub include_deleted: bool,
    /// How fresh it must be.
    pub freshness: Freshness,
}

impl TryFrom<v1::ReplayRequest> for Replay {
    type Error = Invalid;

    fn try_from(wire: v1::ReplayRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            from: sequence_number(wire.from)?.max(SequenceNumber(1)),
            to: sequence_number(wire.to)?,
            max: unsigned("max", wire.max)?,
            include_deleted: wire.include_deleted,
            freshness: wire.freshness.try_into()?,
        })
    }
}

impl From<Replay> for v1::ReplayRequest {
    fn from(replay: Replay) -> Self {
        Self {
            persistence_id: replay.persistence_id.as_str().to_owned(),
            from: signed(replay.from.0),
            to: signed(replay.to.0),
            max: signed(replay.max),
            include_deleted: replay.include_deleted,
            freshness: Some(replay.freshness.into()),
        }
    }
}

/// What an actor asks for at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recover {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// Who claims the journal; none recovers without a claim.
    pub writer: Option<WriterId>,
    /// Which snapshot may be offered; none asks for all events.
    pub criteria: Option<Criteria>,
    /// The last number of the replay, inclusive.
    pub to: SequenceNumber,
    /// How many events at most.
    pub max: u64,
}

impl TryFrom<v1::RecoverRequest> for Recover {
    type Error = Invalid;

    fn try_from(wire: v1::RecoverRequest) -> Result<Self, Invalid> {
        let writer = writer_id(wire.writer_id)?;
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            writer: (!writer.as_bytes().is_empty()).then_some(writer),
            criteria: wire.criteria.map(Criteria::try_from).transpose()?,
            to: sequence_number(wire.to)?,
            max: unsigned("max", wire.max)?,
        })
    }
}

impl From<Recover> for v1::RecoverRequest {
    fn from(recover: Recover) -> Self {
        Self {
            persistence_id: recover.persistence_id.as_str().to_owned(),
            writer_id: recover.writer.unwrap_or_default().as_str().to_owned(),
            criteria: recover.criteria.map(v1::SnapshotCriteria::from),
            to: signed(recover.to.0),
            max: signed(recover.max),
        }
    }
}

/// Following one journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follow {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// The first number, inclusive; at least 1.
    pub from: SequenceNumber,
}

impl TryFrom<v1::FollowRequest> for Follow {
    type Error = Invalid;

    fn try_from(wire: v1::FollowRequest) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            from: sequence_number(wire.from)?.max(SequenceNumber(1)),
        })
    }
}

/// Following a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowShard {
    /// Which shard; whether there is such a shard is for the node to say.
    pub shard: ShardId,
    /// Resume after this position.
    pub after: Position,
    /// Only events with this tag.
    pub tag: Option<String>,
    /// Only events of these slices, both inclusive; none = all of the shard.
    pub slices: Option<(u16, u16)>,
    /// End at the state when the request came.
    pub current: bool,
}

impl TryFrom<v1::FollowShardRequest> for FollowShard {
    type Error = Invalid;

    fn try_from(wire: v1::FollowShardRequest) -> Result<Self, Invalid> {
        within("tag bytes", wire.tag.len(), TAG_BYTES_MAX)?;
        Ok(Self {
            shard: ShardId(u16::try_from(wire.shard).map_err(|_| Invalid::Field { field: "shard", reason: "no such shard" })?),
            after: position("after", wire.after)?,
            tag: (!wire.tag.is_empty()).then_some(wire.tag),
            slices: slices(wire.slice_min, wire.slice_max)?,
            current: wire.current,
        })
    }
}

fn slices(min: Option<u32>, max: Option<u32>) -> Result<Option<(u16, u16)>, Invalid> {
    let (min, max) = match (min, max) {
        (None, None) => return Ok(None),
        (Some(min), Some(max)) => (min, max),
        (None, Some(_)) => return Err(Invalid::Field { field: "slice_min", reason: "is missing beside slice_max" }),
        (Some(_), None) => return Err(Invalid::Field { field: "slice_max", reason: "is missing beside slice_min" }),
    };
    if max >= u32::from(SLICES) {
        return Err(Invalid::Field { field: "slice_max", reason: "slices are numbered from 0 to 1023" });
    }
    if min > max {
        return Err(Invalid::Field { field: "slice_min", reason: "above slice_max" });
    }
    let slice = |number: u32| u16::try_from(number).expect("below 1024");
    Ok(Some((slice(min), slice(max))))
}

impl From<FollowShard> for v1::FollowShardRequest {
    fn from(follow: FollowShard) -> Self {
        Self {
            shard: follow.shard.0.into(),
            after: signed(follow.after.0),
            tag: follow.tag.unwrap_or_default(),
            slice_min: follow.slices.map(|(min, _)| min.into()),
            slice_max: follow.slices.map(|(_, max)| max.into()),
            current: follow.current,
        }
    }
}

/// A page of a listing of journals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The beginning of their persistence ids; empty = all.
    pub prefix: String,
    /// Continue after this persistence id; empty = from the first.
    pub after: String,
    /// How many at most: 1 to [`LIST_LIMIT_MAX`].
    pub limit: u32,
    /// How fresh it must be.
    pub freshness: Freshness,
}

impl TryFrom<v1::ListRequest> for List {
    type Error = Invalid;

    fn try_from(wire: v1::ListRequest) -> Result<Self, Invalid> {
        within("prefix bytes", wire.prefix.len(), PERSISTENCE_ID_BYTES_MAX)?;
        within("after bytes", wire.after.len(), PERSISTENCE_ID_BYTES_MAX)?;
        within("limit", wire.limit as usize, LIST_LIMIT_MAX as usize)?;
        if wire.limit == 0 {
            return Err(Invalid::Field { field: "limit", reason: "at least 1" });
        }
        Ok(Self { prefix: wire.prefix, after: wire.after, limit: wire.limit, freshness: wire.freshness.try_into()? })
    }
}

/// One journal of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub persistence_id: PersistenceId,
    /// What is known of it.
    pub known: HighestReply,
    /// How many snapshots there are now.
    pub snapshots: u32,
    /// The shard in which it lives.
    pub shard: ShardId,
    /// When its last event was stored.
    pub timestamp: Timestamp,
}

impl Listing {
    /// One journal of a shard, from its head.
    #[must_use]
    pub fn new(persistence_id: PersistenceId, head: &Head, shard: ShardId) -> Self {
        Self { persistence_id, known: head.into(), snapshots: head.snapshots, shard, timestamp: head.timestamp }
    }
}

impl From<Listing> for v1::JournalInfo {
    fn from(listing: Listing) -> Self {
        Self {
            persistence_id: listing.persistence_id.as_str().to_owned(),
            highest: signed(listing.known.highest.0),
            deleted_to: signed(listing.known.deleted_to.0),
            removed_to: signed(listing.known.removed_to.0),
            epoch: signed(listing.known.epoch.0),
            writer_id: listing.known.writer.as_str().to_owned(),
            snapshots: listing.snapshots,
            shard: listing.shard.0.into(),
            timestamp_micros: listing.timestamp.0,
            saves: signed(listing.known.saves.0),
        }
    }
}

impl TryFrom<v1::JournalInfo> for Listing {
    type Error = Invalid;

    fn try_from(wire: v1::JournalInfo) -> Result<Self, Invalid> {
        Ok(Self {
            persistence_id: persistence_id(wire.persistence_id)?,
            known: HighestReply {
                highest: sequence_number(wire.highest)?,
                deleted_to: sequence_number(wire.deleted_to)?,
                removed_to: sequence_number(wire.removed_to)?,
                epoch: epoch("epoch", wire.epoch)?,
                writer: writer_id(wire.writer_id)?,
                saves: save_number("saves", wire.saves)?,
            },
            snapshots: wire.snapshots,
            shard: ShardId(u16::try_from(wire.shard).map_err(|_| Invalid::Field { field: "shard", reason: "above 65535" })?),
            timestamp: Timestamp(wire.timestamp_micros),
        })
    }
}
