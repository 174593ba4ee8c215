//! Replies: what the rules answer. A refusal is an answer: the command took no effect and never will.

use crate::ids::{Position, SaveNumber, SequenceNumber, Timestamp, WriterEpoch, WriterId};

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a write.
    Write(WriteReply),
    /// To a claim.
    Claim(Result<ClaimReply, Refusal>),
    /// To a delete-to.
    DeleteTo(Result<DeleteReply, Refusal>),
    /// To a chunk of a snapshot: how many chunks are there now.
    SnapshotChunk(Result<u32, Refusal>),
    /// To a save.
    SaveSnapshot(Result<SaveReply, Refusal>),
    /// To both deletions of snapshots.
    DeleteSnapshots(Result<DeleteSnapshotsReply, Refusal>),
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteReply {
    /// The journal's highest number after this command.
    pub highest: SequenceNumber,
    /// Why the command as a whole was refused: only for a write without atomic writes, whose check did not hold.
    pub check: Option<Refusal>,
    /// One outcome for each atomic write, in order.
    pub outcomes: Vec<WriteOutcome>,
}

/// What became of one atomic write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// Stored, now or by an earlier try of the same write; the answer is the first one.
    Stored {
        /// The journal's highest number before this atomic write.
        previous: SequenceNumber,
        /// The position of its first event; the others follow densely.
        position: Position,
        /// When it was stored.
        timestamp: Timestamp,
    },
    /// Not stored.
    Refused(Refusal),
}

/// Why a command took no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The numbers are taken by another write, the highest number is not the one expected by `after`, or the save id names another
    /// save.
    Conflict {
        /// The journal's highest number.
        highest: SequenceNumber,
        /// Who is the journal's writer.
        writer: WriterId,
        /// The journal's writer epoch.
        epoch: WriterEpoch,
    },
    /// A newer writer has taken the journal.
    Fenced {
        /// The journal's writer epoch.
        epoch: WriterEpoch,
        /// Who is the journal's writer.
        writer: WriterId,
        /// The journal's highest number.
        highest: SequenceNumber,
    },
    /// The claim's epoch is not the journal's any more.
    EpochMoved {
        /// The journal's writer epoch.
        epoch: WriterEpoch,
        /// Who is the journal's writer.
        writer: WriterId,
    },
    /// The command may be one that was executed before; what became of it can no longer be known. It was not executed now.
    Forgotten,
    /// Chunks of a snapshot are missing or do not add up: `chunks` of them are there.
    UploadIncomplete {
        /// How many chunks are there.
        chunks: u32,
    },
    /// Too many uploads are in progress, or the journal has too many snapshots.
    TooMany {
        /// What there is too much of.
        what: TooMany,
    },
}

/// What there is too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMany {
    /// Snapshot uploads in progress in the shard: try again later.
    Uploads,
    /// Snapshots of one persistence id: delete some.
    Snapshots,
    /// Bytes of one snapshot.
    SnapshotBytes,
}

/// A granted claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimReply {
    /// The epoch that the writer has from now on.
    pub epoch: WriterEpoch,
    /// The journal's highest number.
    pub highest: SequenceNumber,
}

/// A deletion of events that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteReply {
    /// The journal's delete watermark.
    pub deleted_to: SequenceNumber,
    /// The journal's highest number, which a deletion never changes.
    pub highest: SequenceNumber,
}

/// A snapshot that was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveReply {
    /// Its timestamp: the caller's, or the leader's in milliseconds since 1970.
    pub timestamp: i64,
    /// The number of this save.
    pub save_number: SaveNumber,
}

/// A deletion of snapshots that took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSnapshotsReply {
    /// How many snapshots were deleted by this command; a retry counts only what was left.
    pub deleted: u64,
}
