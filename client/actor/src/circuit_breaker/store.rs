//! A store behind circuit breakers.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use cairn_client::{Criteria, Deletion, NewSnapshot, PersistenceId, SequenceNumber, Snapshot, Write, WriteReply};
use cairn_machine::{SLICES, Slice};

use super::guard::Effect;
use super::{CircuitBreakerSettings, Guard};
use crate::store::{Answer, Claim, Events, JournalStore, RecoverRequest, Recovered, SnapshotStore};

/// A store with breakers before its journals, and others before its snapshots: one each for all that it has, or one each a shard.
///
/// Guarded are the start of a recovery, writes, deletions, highest numbers, and all that snapshots know; not streams of events,
/// which may well take long. A recovery that may bring a snapshot is a call to the journal, and may take as long as one to each of both. A refused call fails with [`Error::Unavailable`](cairn_client::Error::Unavailable), one that took too long
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
    seed: u64,
    /// One for each shard, in their order.
    journals: Vec<Guard>,
    snapshots: Vec<Guard>,
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
        let (journals, snapshots) = guards(1, journals, snapshots, seed);
        Self { store, seed, journals, snapshots }
    }

    /// With breakers of their own for each of a cluster's shards, closed as yet: a shard that has lost its quorum does not hold up the
    /// actors of the others. [`Cairn::shards`](cairn_client::Cairn::shards) tells how many there are.
    ///
    /// # Panics
    /// If `shards` is not a power of two up to 1024, which no cluster has.
    #[must_use]
    pub fn per_shard(self, shards: u16) -> Self {
        assert!(shards.is_power_of_two() && shards <= SLICES, "shards are a power of two: {shards}");
        let (journals, snapshots) = guards(shards, self.journals[0].settings(), self.snapshots[0].settings(), self.seed);
        Self { journals, snapshots, ..self }
    }

    /// The breakers before the journals: one, or one for each shard in their order.
    #[must_use]
    pub fn journals(&self) -> &[Guard] {
        &self.journals
    }

    /// The breakers before the snapshots: one, or one for each shard in their order.
    #[must_use]
    pub fn snapshots(&self) -> &[Guard] {
        &self.snapshots
    }

    /// The store itself, past the breakers.
    pub fn store(&self) -> &S {
        &self.store
    }

    fn journal(&self, persistence_id: &PersistenceId) -> &Guard {
        of_shard(&self.journals, persistence_id)
    }

    fn snapshot(&self, persistence_id: &PersistenceId) -> &Guard {
        of_shard(&self.snapshots, persistence_id)
    }
}

/// The breakers before journals and those before snapshots; each throws dice of its own.
fn guards(
    shards: u16,
    journals: CircuitBreakerSettings,
    snapshots: CircuitBreakerSettings,
    seed: u64,
) -> (Vec<Guard>, Vec<Guard>) {
    let seed = |ordinal: u16| seed.wrapping_add(ordinal.into());
    let name = |name: &'static str, shard| if shards == 1 { name.into() } else { Cow::from(format!("{name} of shard {shard}")) };
    let of =
        |what, settings, first| (0..shards).map(|shard| Guard::new(name(what, shard), settings, seed(first + shard))).collect();
    (of("journals", journals, 0), of("snapshots", snapshots, shards))
}

/// The one that guards a persistence id's shard.
fn of_shard<'a>(guards: &'a [Guard], persistence_id: &PersistenceId) -> &'a Guard {
    let shards = u16::try_from(guards.len()).expect("as many as a cluster has shards");
    &guards[usize::from(Slice::of(persistence_id).shard(shards).0)]
}

/// How long two calls may take, one after the other; zero = as long as they like.
fn together(first: Duration, second: Duration) -> Duration {
    if first.is_zero() || second.is_zero() { Duration::ZERO } else { first.saturating_add(second) }
}

impl<S: JournalStore> JournalStore for GuardedStore<S> {
    fn recover(&self, request: RecoverRequest) -> Answer<'_, Recovered> {
        // A claim may have been made.
        let effect = if request.writer.is_some() { Effect::Perhaps } else { Effect::None };
        let journal = self.journal(&request.persistence_id);
        let mut call_timeout = journal.settings().call_timeout;
        if request.criteria.is_some() {
            // A snapshot comes with it, all of it, and may take as long as one that is loaded alone.
            call_timeout = together(call_timeout, self.snapshot(&request.persistence_id).settings().call_timeout);
        }
        Box::pin(journal.call_within(call_timeout, effect, self.store.recover(request)))
    }

    fn write<'a>(&'a self, write: &'a Write) -> Answer<'a, WriteReply> {
        Box::pin(self.journal(&write.persistence_id).call(Effect::Perhaps, self.store.write(write)))
    }

    fn replay(&self, persistence_id: &PersistenceId, numbers: RangeInclusive<u64>, max: u64) -> Events {
        self.store.replay(persistence_id, numbers, max)
    }

    fn follow(&self, persistence_id: &PersistenceId, from: SequenceNumber) -> Events {
        self.store.follow(persistence_id, from)
    }

    fn highest(&self, persistence_id: &PersistenceId) -> Answer<'_, SequenceNumber> {
        Box::pin(self.journal(persistence_id).call(Effect::None, self.store.highest(persistence_id)))
    }

    fn delete_to(
        &self,
        persistence_id: &PersistenceId,
        to: SequenceNumber,
        deletion: Deletion,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        Box::pin(self.journal(persistence_id).call(Effect::Perhaps, self.store.delete_to(persistence_id, to, deletion, claim)))
    }
}

impl<S: SnapshotStore> SnapshotStore for GuardedStore<S> {
    fn load(&self, persistence_id: &PersistenceId, criteria: Criteria) -> Answer<'_, Option<Snapshot>> {
        Box::pin(self.snapshot(persistence_id).call(Effect::None, self.store.load(persistence_id, criteria)))
    }

    fn save(&self, persistence_id: &PersistenceId, snapshot: NewSnapshot, claim: Option<&Claim>) -> Answer<'_, i64> {
        Box::pin(self.snapshot(persistence_id).call(Effect::Perhaps, self.store.save(persistence_id, snapshot, claim)))
    }

    fn delete(
        &self,
        persistence_id: &PersistenceId,
        number: SequenceNumber,
        timestamp: Option<i64>,
        claim: Option<&Claim>,
    ) -> Answer<'_, ()> {
        Box::pin(self.snapshot(persistence_id).call(Effect::Perhaps, self.store.delete(persistence_id, number, timestamp, claim)))
    }

    fn delete_matching(&self, persistence_id: &PersistenceId, criteria: Criteria, claim: Option<&Claim>) -> Answer<'_, ()> {
        Box::pin(self.snapshot(persistence_id).call(Effect::Perhaps, self.store.delete_matching(persistence_id, criteria, claim)))
    }
}
