//! What an actor needs of a store: a journal and snapshots.
//!
//! [`Cairn`](cairn_client::Cairn) is one, over a cluster, an embedded node or memory; tests wrap it to fail on purpose, and the test
//! kit holds any other against the contract. An [`Arc`](std::sync::Arc) of a store is one, too, for those who look at it meanwhile.
//!
//! Invariants
//! - A write has one outcome. Who got [`Error::Unknown`] hands in the same [`Write`] again until it is known.
//! - Reads see every write that was answered before they began.

mod cairn;
mod shared;

use std::ops::RangeInclusive;

use cairn_client::{
    Criteria, Deletion, Error, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, StoredEvent, Write, WriteReply, WriterEpoch,
    WriterId,
};
use futures::future::BoxFuture;
use futures::stream::BoxStream;

/// What a call to a store gives.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Error>>;

/// Events in order; ends after its first error.
pub type Events = BoxStream<'static, Result<StoredEvent, Error>>;

/// In whose name deletions and saves are made: a later claim fences them.
///
/// Akka: the `writerUuid` of an incarnation, to which a claim gives force
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The incarnation.
    pub writer: WriterId,
    /// The epoch that its claim got.
    pub epoch: WriterEpoch,
}

/// What to recover.
#[derive(Clone, Debug)]
pub struct RecoverRequest {
    /// Whose journal.
    pub persistence_id: PersistenceId,
    /// Claims the journal under this name, new for each incarnation; none claims nothing and fences nobody.
    pub writer: Option<WriterId>,
    /// Which snapshot may be offered; none offers none.
    pub criteria: Option<Criteria>,
    /// The last event to replay, inclusive.
    pub to: SequenceNumber,
    /// How many stored events at most.
    pub max: u64,
}

/// What an actor needs at start.
pub struct Recovered {
    /// The claim, if one was asked for.
    pub claim: Option<Claim>,
    /// The newest snapshot within the criteria, not yet deserialised.
    pub snapshot: Option<Snapshot>,
    /// The events after the snapshot, within the bounds.
    pub events: Events,
    /// The journal's highest number when it was claimed, or else when it was read: whatever the bounds of the replay.
    pub highest: SequenceNumber,
}

/// The journals of persistent actors (contract sections 1.4 to 1.8).
///
/// Akka: `AsyncWriteJournal`, `SyncWriteJournal`, `AsyncRecovery`, `SyncRecovery`, `WriteJournalBase`, `AsyncWritePlugin`,
/// `AsyncRecoveryPlugin`, `Journal` of .NET; `MemoryJournal` is
/// [`MemoryCairn`](cairn_client::memory::MemoryCairn)
pub trait JournalStore: Send + Sync + 'static {
    /// Claims, and reads what an actor needs at start.
    ///
    /// Akka: `ReplayMessages` and `LoadSnapshot` of an actor that starts; `ReplayMessagesFailure`
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered>;

    /// Stores atomic writes of one journal: each all or none, in order; an outcome for each.
    ///
    /// One that the journal refuses, because its numbers are taken, say, takes none of the others with it. One that is over a limit makes
    /// the whole call [`Error::Invalid`]: nothing of it is stored. Persistent actors hold events against the limits before they number
    /// them, so that theirs never are.
    ///
    /// Akka: `asyncWriteMessages`, `writeMessages`, `WriteMessagesAsync`, `WriteMessages` with its `messages`, `PersistentEnvelope`,
    /// `preparePersistentBatch`; `AtomicWrite` with its `AtomicWrite.payload`, `AtomicWrite.size`, `lowestSequenceNr` and
    /// `highestSequenceNr`: the events, how many they are, the number of the first and of the last; `WriteMessageFailure`,
    /// `JournalFailureException`, `NotSupportedException`: what kind of [`Error`] it is says what became of the write
    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply>;

    /// The events with these numbers, in order, at most `max` of them; the deleted ones are left out.
    ///
    /// Akka: `asyncReplayMessages`, `ReplayMessagesAsync` from `fromSequenceNr` to `toSequenceNr`, at most `max`, and what
    /// `recoveryCallback` or `replayCallback` is given: `PersistentRepr`, `Persistent`, `IPersistentRepresentation` with `sequenceNr`,
    /// `SequenceNr`, `IsDeleted`
    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events;

    /// The events from a number on, and then those to come. A store that cannot tell of these ends the stream, with an error or without:
    /// views look for events at intervals then.
    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events;

    /// The highest number that was ever stored; 0 if none was.
    ///
    /// Akka: `asyncReadHighestSequenceNr`, `ReadHighestSequenceNrAsync`
    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber>;

    /// Deletes the events up to a number, inclusive; [`SequenceNumber::MAX`] = all that are there now.
    ///
    /// Akka: `asyncDeleteMessagesTo`, `deleteMessagesTo`, `DeleteMessagesToAsync`, `DeleteMessagesTo`; `permanent`, `isPermanent`
    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()>;
}

/// Saved states (contract section 3.7).
///
/// Akka: `SnapshotStore`, `SnapshotStorePlugin`, `LocalSnapshotStore`
pub trait SnapshotStore: Send + Sync + 'static {
    /// The snapshot with the greatest number within the bounds; none if none matches.
    ///
    /// Akka: `loadAsync`, `LoadAsync`, `SelectedSnapshot`; `SnapshotSelectionCriteria` with `maxSequenceNr`, `maxTimestamp`,
    /// `minSequenceNr`, `minTimestamp`, `MaxSequenceNr`, `MaxTimeStamp`: the fields of a [`Criteria`]
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>>;

    /// Saves one, replacing one at the same number. Gives its timestamp: the caller's, or else the store's.
    ///
    /// Akka: `saveAsync`, `SaveAsync`, `Saved`, `SnapshotMetadata`, `SnapshotMetadata.Timestamp`
    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64>;

    /// Deletes the one at a number, if its timestamp is this; none = any. Nothing found is a success.
    ///
    /// Akka: `deleteAsync(metadata)`, `Delete(metadata)`, `DeleteAsync`
    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()>;

    /// Deletes all within the bounds.
    ///
    /// Akka: `deleteAsync(persistenceId, criteria)`, `Delete(pid, criteria)`, `DeleteAsync`
    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()>;
}

/// Journal and snapshots in one.
pub trait Store: JournalStore + SnapshotStore {}

impl<T: JournalStore + SnapshotStore> Store for T {}
