//! Cairn as the event store and the snapshot store of [tellus](https://tellus.rs) actors.
//!
//! ```
//! use cairn_client::memory::MemoryCairn;
//! use cairn_tellus::CairnStore;
//! use tellus::Persistence;
//!
//! let store = CairnStore::new(MemoryCairn::new().client());
//! let persistence = Persistence::new(store.clone()).with_snapshot_store(store);
//! # drop(persistence);
//! ```
//!
//! `examples/device.rs` is an actor whose state outlives its actor system.
//!
//! Invariants
//! - An append takes the place that it names or none: every write expects the journal's highest number to be the one before it, so
//!   that of two incarnations of an actor one is told of the conflict.
//! - tellus counts from 0 and Cairn from 1: the sequence number of an append is the number of events before it, which is Cairn's
//!   highest number; a snapshot stands at the number of events that it covers.
//! - What is stored says by itself what it is: serializer id, and the manifest `name#version`.

mod stored;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use cairn_client::{
    Cairn, Criteria, Error, Event, Journal, NewSnapshot, PersistenceId, SequenceNumber, Write, WriteOutcome, WriterId,
};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tellus::{
    AppendError, EncodedEvent, EncodedSnapshot, EventStore, PersistenceId as TellusId, SeqNo, SnapshotStore, StoredEvent,
    StoredSnapshot,
};

pub use stored::SERIALIZER_ID;
use stored::{read_event, read_snapshot, to_payload};

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The cluster did not serve the call, or its outcome is not known.
    #[error(transparent)]
    Cairn(#[from] Error),
    /// What is stored was not written by a tellus actor, or not by this version.
    #[error("{persistence_id}: no event or snapshot of tellus: serializer {serializer_id}, manifest {manifest:?}")]
    Foreign {
        /// Whose.
        persistence_id: PersistenceId,
        /// The serializer that it names.
        serializer_id: i32,
        /// The manifest that it names.
        manifest: String,
    },
}

/// Cairn as an event store and a snapshot store; cheap to clone.
///
/// The journal of an actor is called as tellus displays its id: `entity type/entity id`.
#[derive(Clone)]
pub struct CairnStore {
    cairn: Cairn,
    /// Names of writers: each append is of a writer of its own, so that the same events of two incarnations are told apart.
    random: Arc<Mutex<StdRng>>,
}

impl CairnStore {
    /// A store on a cluster.
    #[must_use]
    pub fn new(cairn: Cairn) -> Self {
        // The default of the part, for production: anything that needs the same choices again hands in a seed.
        Self::of(cairn, StdRng::from_os_rng())
    }

    /// A store whose random choices are those of a seed, which must be another one for each store on the same cluster.
    #[must_use]
    pub fn with_seed(cairn: Cairn, seed: u64) -> Self {
        Self::of(cairn, StdRng::seed_from_u64(seed))
    }

    fn of(cairn: Cairn, random: StdRng) -> Self {
        Self { cairn, random: Arc::new(Mutex::new(random)) }
    }

    fn journal(&self, id: &TellusId) -> Result<Journal, Error> {
        self.cairn.journal(id.to_string())
    }

    fn writer(&self) -> WriterId {
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().into()
    }
}

impl std::fmt::Debug for CairnStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CairnStore").field("cairn", &self.cairn).finish_non_exhaustive()
    }
}

/// Why an append failed. Somebody else has written if the place is taken, and if a newer writer has the journal.
fn failed(error: Error) -> AppendError<StoreError> {
    match error {
        Error::Conflict { .. } | Error::Fenced { .. } => AppendError::Conflict,
        error => AppendError::Store(error.into()),
    }
}

impl EventStore for CairnStore {
    type Error = StoreError;

    async fn append(&self, id: &TellusId, next_seq_no: SeqNo, events: Vec<EncodedEvent>) -> Result<(), AppendError<StoreError>> {
        let persistence_id = self.journal(id).map_err(StoreError::from)?.persistence_id().clone();
        let after = SequenceNumber(next_seq_no.as_u64());
        let numbered = (next_seq_no.as_u64() + 1..).zip(events).map(|(number, event)| Event {
            sequence_number: SequenceNumber(number),
            payload: to_payload(&event.manifest, event.schema_version, event.payload),
            ..Event::default()
        });
        let numbered: Vec<_> = numbered.collect();
        // No atomic write at all makes it a check of the expected number.
        let atomic_writes = if numbered.is_empty() { Vec::new() } else { vec![numbered] };
        let write = Write { persistence_id, writer: self.writer(), epoch: None, after: Some(after), atomic_writes };
        let reply = self.cairn.write(&write).await.map_err(failed)?;
        let refused = reply.outcomes.into_iter().find_map(|outcome| match outcome {
            WriteOutcome::Refused(refusal) => Some(refusal),
            WriteOutcome::Stored { .. } => None,
        });
        reply.check.or(refused).map_or(Ok(()), |refusal| Err(failed(refusal.into())))
    }

    async fn read(&self, id: &TellusId, from_seq_no: SeqNo, limit: NonZeroUsize) -> Result<Vec<StoredEvent>, StoreError> {
        let journal = self.journal(id)?;
        let Some(first) = from_seq_no.as_u64().checked_add(1) else { return Ok(Vec::new()) };
        let mut replayed = journal.replay(first..).max(limit.get() as u64).start();
        let mut events = Vec::new();
        while let Some(stored) = replayed.next().await? {
            events.push(read_event(journal.persistence_id(), stored.event)?);
        }
        Ok(events)
    }
}

impl SnapshotStore for CairnStore {
    type Error = StoreError;

    async fn save(&self, id: &TellusId, next_seq_no: SeqNo, snapshot: EncodedSnapshot) -> Result<(), StoreError> {
        let journal = self.journal(id)?;
        let sequence_number = SequenceNumber(next_seq_no.as_u64());
        let payload = to_payload(&snapshot.manifest, snapshot.schema_version, snapshot.payload);
        journal.save_snapshot(NewSnapshot { sequence_number, payload, ..NewSnapshot::default() }).await?;
        // Only the newest one is ever asked for. It is saved, whatever becomes of the ones before it.
        let Some(before) = sequence_number.0.checked_sub(1) else { return Ok(()) };
        let superseded = Criteria { sequence_number_max: SequenceNumber(before), ..Criteria::LATEST };
        if let Err(error) = journal.delete_snapshots(superseded).await {
            tracing::warn!(%id, %error, "superseded snapshots are kept until the next save");
        }
        Ok(())
    }

    async fn load(&self, id: &TellusId) -> Result<Option<StoredSnapshot>, StoreError> {
        match self.journal(id)?.load_snapshot(Criteria::LATEST).await? {
            None => Ok(None),
            Some(snapshot) => read_snapshot(snapshot).map(Some),
        }
    }
}
