//! Commands: what can be proposed to a shard. All limits were checked before.

use bytes::Bytes;

use crate::event::{AtomicWrite, Invalid, Payload, check_metadata, check_size};
use crate::ids::{PersistenceId, SaveId, SaveNumber, SequenceNumber, WriterEpoch, WriterId};
use crate::limits::{MANIFEST_BYTES_MAX, SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES_MAX, WRITE_ATOMIC_WRITES_MAX, WRITE_BYTES_MAX};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stores atomic writes of one journal.
    Write(Write),
    /// Makes its sender the writer of a journal.
    Claim(Claim),
    /// Deletes events up to a number.
    DeleteTo(DeleteTo),
    /// Brings one chunk of a large snapshot; visible only after [`SaveSnapshot`].
    SnapshotChunk(SnapshotChunk),
    /// Saves a snapshot, replacing one at the same number.
    SaveSnapshot(SaveSnapshot),
    /// Deletes the snapshot at one number.
    DeleteSnapshot(DeleteSnapshot),
    /// Deletes the snapshots that match.
    DeleteSnapshots(DeleteSnapshots),
}

impl Command {
    /// The journal that it concerns.
    #[must_use]
    pub fn persistence_id(&self) -> &PersistenceId {
        match self {
            Self::Write(write) => &write.persistence_id,
            Self::Claim(claim) => &claim.persistence_id,
            Self::DeleteTo(delete) => &delete.persistence_id,
            Self::SnapshotChunk(chunk) => &chunk.persistence_id,
            Self::SaveSnapshot(save) => &save.persistence_id,
            Self::DeleteSnapshot(delete) => &delete.persistence_id,
            Self::DeleteSnapshots(delete) => &delete.persistence_id,
        }
    }

    /// How many bytes it takes in an encoded batch, exactly.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        crate::codec::command_len(self)
    }

    /// Checks every limit that does not depend on stored state. What passes can be proposed.
    ///
    /// # Errors
    /// [`Invalid`], which names what is wrong.
    pub fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Write(write) => {
                write.check()?;
                check_size("bytes of a write", self.encoded_len(), WRITE_BYTES_MAX)
            }
            Self::Claim(claim) if claim.writer.is_empty() => {
                Err(Invalid::WriterId { reason: "a claim needs a writer that is not empty" })
            }
            Self::Claim(_) => Ok(()),
            Self::DeleteTo(delete) => check_range(delete.to),
            Self::SnapshotChunk(chunk) => chunk.check(),
            Self::SaveSnapshot(save) => save.check(),
            Self::DeleteSnapshot(delete) => check_range(delete.sequence_number),
            Self::DeleteSnapshots(delete) => {
                check_range(delete.criteria.sequence_number_min)?;
                check_range(delete.criteria.sequence_number_max)
            }
        }
    }
}

fn check_range(number: SequenceNumber) -> Result<(), Invalid> {
    if number <= SequenceNumber::MAX {
        return Ok(());
    }
    Err(Invalid::SequenceNumber { found: number.0.cast_signed(), reason: "above the greatest number" })
}

/// Atomic writes of one journal, independent of each other and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// Who writes.
    pub writer: WriterId,
    /// The epoch of the writer's claim; without one the contract's section 1.7 applies.
    pub epoch: Option<WriterEpoch>,
    /// Stored only if the journal's highest number is exactly this before the first atomic write that is new.
    pub after: Option<SequenceNumber>,
    /// The atomic writes, their numbers strictly rising; none makes the command a check of `after`.
    pub atomic_writes: Vec<AtomicWrite>,
}

impl Write {
    fn check(&self) -> Result<(), Invalid> {
        check_size("atomic writes in a write", self.atomic_writes.len(), WRITE_ATOMIC_WRITES_MAX)?;
        self.after.map_or(Ok(()), check_range)?;
        let mut previous = SequenceNumber(0);
        for atomic_write in &self.atomic_writes {
            if atomic_write.first() <= previous {
                let found = atomic_write.first().to_wire();
                return Err(Invalid::SequenceNumber { found, reason: "numbers rise strictly" });
            }
            previous = atomic_write.last();
        }
        Ok(())
    }
}

/// Makes its sender the writer, if the epoch is still the one that it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// The new writer; not empty.
    pub writer: WriterId,
    /// The epoch that the sender read.
    pub epoch_read: WriterEpoch,
}

/// Deletes every event up to a number, inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTo {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// The last number to delete; above the highest it is clamped, so that nothing later is swallowed (contract 1.8).
    pub to: SequenceNumber,
    /// Whether the space is given back: such events can no longer be read in any way.
    pub permanent: bool,
    /// Who deletes.
    pub writer: WriterId,
    /// The writer's epoch, if it has one.
    pub epoch: Option<WriterEpoch>,
}

/// One chunk of a snapshot in transfer. Chunks of a save come in order, from index 0; one that is there already is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// Whose snapshot.
    pub persistence_id: PersistenceId,
    /// The save to which it belongs.
    pub save_id: SaveId,
    /// Its place, from 0.
    pub index: u32,
    /// Its bytes: not empty.
    pub bytes: Bytes,
}

impl SnapshotChunk {
    fn check(&self) -> Result<(), Invalid> {
        if self.bytes.is_empty() {
            return Err(Invalid::Field { field: "bytes", reason: "a chunk of a snapshot is not empty" });
        }
        check_size("bytes of a snapshot's chunk", self.bytes.len(), SNAPSHOT_CHUNK_BYTES_MAX)
    }
}

/// The bytes of a snapshot that is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotData {
    /// Here.
    Inline(Bytes),
    /// In chunks that came before under the same save id.
    Uploaded {
        /// How many chunks.
        chunks: u32,
        /// How many bytes together.
        bytes_total: u64,
    },
}

/// Saves a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveSnapshot {
    /// Whose snapshot.
    pub persistence_id: PersistenceId,
    /// The number of the last event that it covers; 0 is legal.
    pub sequence_number: SequenceNumber,
    /// The caller's timestamp, kept as it is (its unit is the caller's, our client's is milliseconds since 1970); none = the
    /// leader's clock in milliseconds.
    pub timestamp: Option<i64>,
    /// Names this save: a retry carries the same.
    pub save_id: SaveId,
    /// How many saves the journal had when the sender read it: tells a new save from one forgotten.
    pub saves_read: SaveNumber,
    /// Serializer id and manifest; its bytes are empty, the data stands in `data`.
    pub payload: Payload,
    /// The bytes.
    pub data: SnapshotData,
    /// Optional metadata.
    pub metadata: Option<Payload>,
    /// Who saves.
    pub writer: WriterId,
    /// The writer's epoch, if it has one.
    pub epoch: Option<WriterEpoch>,
}

impl SaveSnapshot {
    fn check(&self) -> Result<(), Invalid> {
        check_range(self.sequence_number)?;
        check_size("bytes of a serializer manifest", self.payload.manifest.len(), MANIFEST_BYTES_MAX)?;
        if !self.payload.bytes.is_empty() {
            return Err(Invalid::Field { field: "payload", reason: "a snapshot's bytes stand in its data" });
        }
        self.metadata.as_ref().map_or(Ok(()), check_metadata)?;
        match &self.data {
            SnapshotData::Inline(bytes) => {
                check_size("bytes of a snapshot in one command", bytes.len(), SNAPSHOT_CHUNK_BYTES_MAX)
            }
            SnapshotData::Uploaded { bytes_total, .. } if *bytes_total > SNAPSHOT_BYTES_MAX => {
                Err(Invalid::TooLarge { what: "bytes of a snapshot", found: *bytes_total, limit: SNAPSHOT_BYTES_MAX })
            }
            SnapshotData::Uploaded { .. } => Ok(()),
        }
    }
}

/// Deletes the snapshot at one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSnapshot {
    /// Whose snapshot.
    pub persistence_id: PersistenceId,
    /// Its number.
    pub sequence_number: SequenceNumber,
    /// Its timestamp exactly, or none = any (0 on the wire, contract 3.7).
    pub timestamp: Option<i64>,
    /// Only saves up to this one are deleted, so that a retry never deletes a later save; none = all until now.
    pub saves_read: Option<SaveNumber>,
    /// Who deletes.
    pub writer: WriterId,
    /// The writer's epoch, if it has one.
    pub epoch: Option<WriterEpoch>,
}

/// Deletes the snapshots that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSnapshots {
    /// Whose snapshots.
    pub persistence_id: PersistenceId,
    /// Which.
    pub criteria: Criteria,
    /// Only saves up to this one are deleted, so that a retry never deletes a later save; none = all until now.
    pub saves_read: Option<SaveNumber>,
    /// Who deletes.
    pub writer: WriterId,
    /// The writer's epoch, if it has one.
    pub epoch: Option<WriterEpoch>,
}

/// A snapshot matches if all four bounds hold, each inclusive (contract 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Criteria {
    /// Lowest sequence number.
    pub sequence_number_min: SequenceNumber,
    /// Highest sequence number.
    pub sequence_number_max: SequenceNumber,
    /// Lowest timestamp, in the caller's unit.
    pub timestamp_min: i64,
    /// Highest timestamp, in the caller's unit.
    pub timestamp_max: i64,
}

impl Criteria {
    /// Matches every snapshot.
    pub const LATEST: Self = Self {
        sequence_number_min: SequenceNumber(0),
        sequence_number_max: SequenceNumber::MAX,
        timestamp_min: i64::MIN,
        timestamp_max: i64::MAX,
    };

    /// Whether a snapshot with this number and timestamp matches.
    #[must_use]
    pub fn matches(&self, sequence_number: SequenceNumber, timestamp: i64) -> bool {
        (self.sequence_number_min..=self.sequence_number_max).contains(&sequence_number)
            && (self.timestamp_min..=self.timestamp_max).contains(&timestamp)
    }
}
