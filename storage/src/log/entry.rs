//! What the log keeps for its callers.

use bytes::Bytes;

use crate::EntryId;

/// One entry of a shard's log; the log does not look into the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its term, leader and index.
    pub id: EntryId,
    /// What consensus put into it.
    pub payload: Bytes,
}

/// What a shard's log has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardLogState {
    /// The last saved vote, as its owner encoded it.
    pub vote: Option<Bytes>,
    /// The last saved committed entry. After a restart it may be an earlier one.
    pub committed: Option<EntryId>,
    /// The last entry that was purged.
    pub purged: Option<EntryId>,
    /// The last entry in the log, or the last purged one if the log is empty.
    pub last: Option<EntryId>,
}

/// A shard whose live entries keep old segments on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The shard.
    pub shard: cairn_machine::ShardId,
    /// The oldest segment that holds a live entry of it.
    pub oldest_segment: u32,
    /// How many segments were begun since.
    pub segments_behind: u32,
}
