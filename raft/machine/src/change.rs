//! What a shard remembers, and the changes that a decision makes to it.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::event::Payload;
use crate::ids::{JournalId, PersistenceId, Position, SaveId, SaveNumber, SequenceNumber, Timestamp, WriterEpoch, WriterId};
use crate::reply::Reply;

/// What the rules answer to one command: the reply, and the changes that make it true, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the sender hears.
    pub reply: Reply,
    /// What is written; empty for a refusal and for a retry.
    pub changes: Vec<Change>,
}

/// One change to a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A journal's head becomes this; the journal is created if it was not there.
    Head {
        /// The journal's name.
        persistence_id: PersistenceId,
        /// Its new head.
        head: Head,
    },
    /// An atomic write is appended to its journal; its events take the positions from `position` on.
    Append(StoredWrite),
    /// A snapshot becomes visible, replacing one at the same number (whose chunks go, by a separate change).
    PutSnapshot(SnapshotRecord),
    /// A snapshot is no longer visible.
    DropSnapshot {
        /// Whose.
        journal: JournalId,
        /// At which number.
        sequence_number: SequenceNumber,
    },
    /// One chunk of a snapshot's bytes is stored.
    PutChunk {
        /// Whose.
        journal: JournalId,
        /// Of which save.
        save_id: SaveId,
        /// Its place, from 0.
        index: u32,
        /// Its bytes.
        bytes: Bytes,
    },
    /// All chunks of one save go: indexes 0 up to `chunks`, exclusive.
    DropChunks {
        /// Whose.
        journal: JournalId,
        /// Of which save.
        save_id: SaveId,
        /// How many there are.
        chunks: u32,
    },
    /// An upload begins, or has one more chunk.
    PutUpload {
        /// Of which save.
        save_id: SaveId,
        /// Its state.
        upload: Upload,
    },
    /// An upload has ended: its snapshot was saved, or it was dropped.
    DropUpload {
        /// Of which save.
        save_id: SaveId,
    },
}

/// What the rules know of one journal without looking at its events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The journal's number in its shard.
    pub journal: JournalId,
    /// The greatest number ever stored; never decreases.
    pub highest: SequenceNumber,
    /// Events up to this are deleted: hidden from replay.
    pub deleted_to: SequenceNumber,
    /// Events up to this are deleted permanently: gone. At most `deleted_to`.
    pub removed_to: SequenceNumber,
    /// The writer's epoch: the number of claims and take-overs so far.
    pub epoch: WriterEpoch,
    /// The writer; empty before the first write or claim.
    pub writer: WriterId,
    /// Writers before it, oldest first, at most [`crate::limits::FORMER_WRITERS_MAX`].
    pub former_writers: Vec<FormerWriter>,
    /// The last atomic write that was stored, so that its retry is known even when its events are gone.
    pub last_write: Option<LastWrite>,
    /// The timestamp of the last event: the next one's is at least this.
    pub timestamp: Timestamp,
    /// How many snapshots were ever saved.
    pub saves: SaveNumber,
    /// The newest saves, oldest first, at most [`crate::limits::RECENT_SAVES_MAX`].
    pub recent_saves: Vec<RecentSave>,
    /// How many snapshots there are now.
    pub snapshots: u32,
}

/// A writer that a newer one has superseded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormerWriter {
    /// Who.
    pub writer: WriterId,
    /// The epoch that it had.
    pub epoch: WriterEpoch,
}

/// The first answer to a journal's last atomic write, with a digest of what was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWrite {
    /// Its first number.
    pub first: SequenceNumber,
    /// Its last number.
    pub last: SequenceNumber,
    /// The highest number before it.
    pub previous: SequenceNumber,
    /// The position of its first event.
    pub position: Position,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// Digest over writer and body, 128 bits.
    pub digest: u128,
}

/// The first answer to a save of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentSave {
    /// Which save.
    pub save_id: SaveId,
    /// Its number.
    pub number: SaveNumber,
    /// The timestamp that it got.
    pub timestamp: i64,
    /// Digest over what was sent, 64 bits: tells its retry from another save under the same id.
    pub digest: u64,
}

/// One atomic write as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWrite {
    /// Whose.
    pub journal: JournalId,
    /// The journal's highest number before it.
    pub previous: SequenceNumber,
    /// Its first number.
    pub first: SequenceNumber,
    /// Its last number.
    pub last: SequenceNumber,
    /// How many events.
    pub count: u32,
    /// The position of its first event; the others follow densely.
    pub position: Position,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// Who wrote it.
    pub writer: WriterId,
    /// The events as encoded by [`crate::AtomicWrite`].
    pub body: Bytes,
}

/// A snapshot that can be loaded; its bytes stand in chunks under its save id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Whose.
    pub journal: JournalId,
    /// The number of the last event that it covers.
    pub sequence_number: SequenceNumber,
    /// The caller's timestamp, or the leader's in milliseconds.
    pub timestamp: i64,
    /// Which save.
    pub save_id: SaveId,
    /// Its number.
    pub save_number: SaveNumber,
    /// Who saved it.
    pub writer: WriterId,
    /// Serializer id and manifest; the bytes stand in the chunks.
    pub payload: Payload,
    /// Optional metadata.
    pub metadata: Option<Payload>,
    /// How many chunks.
    pub chunks: u32,
    /// How many bytes together.
    pub bytes_total: u64,
}

/// A snapshot that is being transferred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Whose.
    pub journal: JournalId,
    /// How many chunks are there.
    pub chunks: u32,
    /// How many bytes together.
    pub bytes_total: u64,
    /// When the last chunk came.
    pub timestamp: Timestamp,
}

/// What the rules know of a shard as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardState {
    /// The number that the next new journal gets.
    pub next_journal: JournalId,
    /// The position that the next event gets.
    pub next_position: Position,
    /// Snapshots in transfer, at most [`crate::limits::UPLOADS_MAX`].
    pub uploads: BTreeMap<SaveId, Upload>,
    /// A hash over every decision so far: equal on all replicas at the same applied index.
    pub chain: u128,
}

impl Default for ShardState {
    fn default() -> Self {
        Self { next_journal: JournalId(1), next_position: Position(1), uploads: BTreeMap::new(), chain: 0 }
    }
}

impl ShardState {
    /// Follows one change. Every store calls this for each change, so that all of them agree on what the shard's state is.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Head { head, .. } if head.journal >= self.next_journal => {
                self.next_journal = JournalId(head.journal.0 + 1);
            }
            Change::Append(write) => self.next_position = Position(write.position.0 + u64::from(write.count)),
            Change::PutUpload { save_id, upload } => {
                self.uploads.insert(*save_id, upload.clone());
            }
            Change::DropUpload { save_id } => {
                self.uploads.remove(save_id);
            }
            Change::Head { .. }
            | Change::PutSnapshot(_)
            | Change::DropSnapshot { .. }
            | Change::PutChunk { .. }
            | Change::DropChunks { .. } => {}
        }
    }
}
