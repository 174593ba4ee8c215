//! What the rules may look at. Tables implement it over memory and disk, tests over a plain map.

use crate::change::{Head, ShardState, SnapshotRecord, StoredWrite};
use crate::ids::{JournalId, PersistenceId, SequenceNumber};

/// A shard's state as it is before a command.
pub trait View {
    /// Why a look failed; the rules pass it on untouched.
    type Error;

    /// The shard as a whole.
    fn shard(&self) -> &ShardState;

    /// A journal's head; none if the persistence id was never seen.
    ///
    /// # Errors
    /// The view's own.
    fn head(&self, persistence_id: &PersistenceId) -> Result<Option<Head>, Self::Error>;

    /// The atomic write that begins exactly at `first`, unless it is not there or its events are permanently removed.
    ///
    /// # Errors
    /// The view's own.
    fn stored_write(&self, journal: JournalId, first: SequenceNumber) -> Result<Option<StoredWrite>, Self::Error>;

    /// The snapshot at one number. Payload, metadata and writer may be left out: the rules do not look at them.
    ///
    /// # Errors
    /// The view's own.
    fn snapshot(&self, journal: JournalId, sequence_number: SequenceNumber) -> Result<Option<SnapshotRecord>, Self::Error>;

    /// Every snapshot of a journal whose number lies within the bounds, ascending, as [`Self::snapshot`] gives it.
    ///
    /// # Errors
    /// The view's own.
    fn snapshots(&self, journal: JournalId, from: SequenceNumber, to: SequenceNumber)
    -> Result<Vec<SnapshotRecord>, Self::Error>;
}
