//! A store behind circuit breakers.

use std::ops::RangeInclusive;

use cairn_client::{Criteria, Deletion, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, Write, WriteReply};

use super::guard::Effect;
use super::{CircuitBreakerSettings, Guard};
use crate::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};

/// A store with a breaker before all its journals, and one before all its snapshots.
///
/// Guarded are the start of a recovery, writes, deletions, highest numbers, and all that snapshots know; not streams of events,
/// which may well take long. A refused call fails with [`Error::Unavailable`](cairn_client::Error::Unavailable), one that took too long
/// with [`Error::Unknown`](cairn_client::Error::Unknown), unless it only reads.
///
/// A refusal speaks of the call that was refused. Who tries a write of unknown outcome again and is refused still does not know what
/// became of it before.
///
/// An `Arc` of it goes to the actors, and another one stays with whoever watches its breakers.
///
/// Akka: the circuit breakers of `AsyncWriteJournal` and `SnapshotStore`.
#[derive(Debug)]
pub struct GuardedStore<S> {
    store: S,
    journals: Guard,
    snapshots: Guard,
}

impl<S> GuardedStore<S> {
    /// With the usual settings for journals and for snapshots, and the random choices of a seed.
    #[must_use]
    pub fn new(store: S, seed: u64) -> Self {
        Self::with_settings(store, CircuitBreakerSettings::journal(), CircuitBreakerSettings::snapshots(), seed)
    }

    /// With settings for journals, settings for snapshots, and the random choices of a seed.
    ///
    /// # Panics
    /// As [`CircuitBreaker::new`](super::CircuitBreaker::new).
    #[must_use]
    pub fn with_settings(store: S, journals: CircuitBreakerSettings, snapshots: CircuitBreakerSettings, seed: u64) -> Self {
        let journals = Guard::new("journals", journals, seed);
        let snapshots = Guard::new("snapshots", snapshots, seed.wrapping_add(1));
        Self { store, journals, snapshots }
    }

    /// The breaker before the journals.
    #[must_use]
    pub fn journals(&self) -> &Guard {
        &self.journals
    }

    /// The breaker before the snapshots.
    #[must_use]
    pub fn snapshots(&self) -> &Guard {
        &self.snapshots
    }

    /// The store itself, past the breakers.
    pub fn store(&self) -> &S {
        &self.store
    }
}

impl<S: JournalStore> JournalStore for GuardedStore<S> {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        // A claim may have been made.
        let effect = if request.writer.is_some() { Effect::Perhaps } else { Effect::None };
        Box::pin(self.journals.call(effect, self.store.recover(request)))
    }

    fn write(&self, write: Write) -> Answer<'_, WriteReply> {
        Box::pin(self.journals.call(Effect::Perhaps, self.store.write(write)))
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        self.store.replay(persistence_id, numbers, max)
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        self.store.follow(persistence_id, from)
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        Box::pin(self.journals.call(Effect::None, self.store.highest(persistence_id)))
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        Box::pin(self.journals.call(Effect::Perhaps, self.store.delete_to(persistence_id, to, deletion, claim)))
    }
}

impl<S: SnapshotStore> SnapshotStore for GuardedStore<S> {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        Box::pin(self.snapshots.call(Effect::None, self.store.load(persistence_id, criteria)))
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        Box::pin(self.snapshots.call(Effect::Perhaps, self.store.save(persistence_id, snapshot, claim)))
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        Box::pin(self.snapshots.call(Effect::Perhaps, self.store.delete(persistence_id, number, timestamp, claim)))
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        Box::pin(self.snapshots.call(Effect::Perhaps, self.store.delete_matching(persistence_id, criteria, claim)))
    }
}
