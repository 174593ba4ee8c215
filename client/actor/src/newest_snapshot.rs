//! Which snapshot a state comes back from: the newest that reads and is accepted, of a few.
//!
//! One that does not read is rarely alone, and all events are as good: after three the search ends. Actors and views search alike.

use std::sync::Arc;
use std::time::Duration;

use cairn_client::{Criteria, Error, Payload, PersistenceId, SequenceNumber, Snapshot};
use tokio::time::timeout;

use crate::format::Codec;
use crate::store::Store;

/// How many snapshots are tried, the newest first, before all events are replayed: as Akka's local store does (contract 3.7).
const TRIED_MAX: u32 = 3;

/// What came of looking for a snapshot.
pub(crate) struct Found<S> {
    /// The snapshot's number and state.
    pub(crate) taken: Option<(SequenceNumber, S)>,
    /// The newest one, if it cannot be used, and why: then the events that it stood for must be there.
    pub(crate) unusable: Option<(SequenceNumber, String)>,
}

impl<S> Default for Found<S> {
    fn default() -> Self {
        Self { taken: None, unusable: None }
    }
}

/// Why the search did not end.
pub(crate) enum SearchFailure {
    /// The store failed.
    Store(Error),
    /// Nothing came for so long.
    TimedOut(Duration),
}

/// Where snapshots are looked for, and what they become.
pub(crate) struct Search<'a, S> {
    pub(crate) store: &'a Arc<dyn Store>,
    /// Whose events the snapshots stand for.
    pub(crate) journal: &'a PersistenceId,
    /// The id of the snapshots: the journal's, or a view's own.
    pub(crate) snapshots: &'a PersistenceId,
    pub(crate) criteria: Criteria,
    /// How long one load may take.
    pub(crate) idle: Duration,
    pub(crate) codec: &'a dyn Codec<S>,
}

impl<S: 'static> Search<'_, S> {
    /// Loads the newest snapshot within the bounds; none if there is none.
    pub(crate) async fn newest(&self) -> Result<Option<Snapshot>, SearchFailure> {
        let loading = self.store.load(self.snapshots, self.criteria);
        let loaded = timeout(self.idle, loading).await.map_err(|_| SearchFailure::TimedOut(self.idle))?;
        loaded.map_err(SearchFailure::Store)
    }

    /// Tries snapshots from the newest on, which is loaded already.
    pub(crate) async fn run(
        mut self,
        newest: Option<Snapshot>,
        accepts: impl Fn(&S, SequenceNumber) -> bool,
    ) -> Result<Found<S>, SearchFailure> {
        let mut unusable = None;
        let mut next = newest;
        let mut tried = 0;
        while let Some(snapshot) = next.take() {
            let number = snapshot.info.sequence_number;
            let reason = match self.usable(snapshot, &accepts) {
                Ok(state) => return Ok(Found { taken: Some((number, state)), unusable }),
                Err(reason) => reason,
            };
            let (persistence_id, snapshots) = (self.journal, self.snapshots);
            tracing::warn!(%persistence_id, %snapshots, %number, reason, "a snapshot cannot be used: more events are replayed");
            unusable.get_or_insert((number, reason));
            tried += 1;
            if tried < TRIED_MAX && number.0 > 0 {
                self.criteria.sequence_number_max = SequenceNumber(number.0 - 1);
                next = self.newest().await?;
            }
        }
        Ok(Found { taken: None, unusable })
    }

    /// The state of a snapshot, or why it is none.
    fn usable(&self, snapshot: Snapshot, accepts: impl Fn(&S, SequenceNumber) -> bool) -> Result<S, String> {
        let info = snapshot.info;
        let payload = Payload { serializer_id: info.serializer_id, manifest: info.manifest, bytes: snapshot.bytes };
        let state = self.codec.decode(&payload).map_err(|error| error.to_string())?;
        if accepts(&state, info.sequence_number) { Ok(state) } else { Err("not accepted".to_owned()) }
    }
}
