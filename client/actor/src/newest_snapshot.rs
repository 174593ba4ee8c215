//! Which snapshot a state comes back from: the newest that reads and is accepted, of a few.
//!
//! One that does not read is rarely alone, and all events are as good: after three the search ends. Actors and views search alike.
//!
//! A store that is away says nothing about a snapshot: the search fails, and is worth another try. A store that has one and cannot read
//! it says that the snapshot is lost, at least there: all events are as good as it was.

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
    /// The newest one, if it cannot be used: then the events that it stood for must be there.
    pub(crate) unusable: Option<Unusable>,
}

impl<S> Default for Found<S> {
    fn default() -> Self {
        Self { taken: None, unusable: None }
    }
}

/// A snapshot that cannot be used.
#[derive(Clone, Debug)]
pub(crate) enum Unusable {
    /// It becomes no state, or is not accepted.
    Refused { number: SequenceNumber, reason: String },
    /// The store has it, and cannot read it, so that not even its number is known.
    Damaged(Error),
}

impl Unusable {
    /// Whether it may stand for events: one of nothing replaces none.
    pub(crate) fn is_of_events(&self) -> bool {
        !matches!(self, Self::Refused { number: SequenceNumber(0), .. })
    }
}

/// The newest snapshot within bounds, as the store has it.
pub(crate) enum Newest {
    None,
    Loaded(Snapshot),
    Damaged(Error),
}

impl From<Option<Snapshot>> for Newest {
    fn from(snapshot: Option<Snapshot>) -> Self {
        snapshot.map_or(Self::None, Self::Loaded)
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
    /// Loads the newest snapshot within the bounds.
    pub(crate) async fn newest(&self) -> Result<Newest, SearchFailure> {
        let loading = self.store.load(self.snapshots, self.criteria);
        match timeout(self.idle, loading).await.map_err(|_| SearchFailure::TimedOut(self.idle))? {
            Ok(snapshot) => Ok(snapshot.into()),
            Err(error @ Error::Damaged { .. }) => Ok(Newest::Damaged(error)),
            Err(error) => Err(SearchFailure::Store(error)),
        }
    }

    /// Tries snapshots from the newest on, which is loaded already.
    pub(crate) async fn run(
        mut self,
        newest: Newest,
        accepts: impl Fn(&S, SequenceNumber) -> bool,
    ) -> Result<Found<S>, SearchFailure> {
        let (persistence_id, snapshots) = (self.journal, self.snapshots);
        let mut unusable = None;
        let mut next = newest;
        for tried in 1.. {
            let snapshot = match next {
                Newest::Loaded(snapshot) => snapshot,
                Newest::Damaged(error) => {
                    // Those before it cannot be asked for, as nobody knows its number.
                    tracing::warn!(%persistence_id, %snapshots, %error, "a snapshot is damaged: all events are replayed");
                    unusable.get_or_insert(Unusable::Damaged(error));
                    break;
                }
                Newest::None => break,
            };
            let number = snapshot.info.sequence_number;
            let reason = match self.usable(snapshot, &accepts) {
                Ok(state) => return Ok(Found { taken: Some((number, state)), unusable }),
                Err(reason) => reason,
            };
            tracing::warn!(%persistence_id, %snapshots, %number, reason, "a snapshot cannot be used: more events are replayed");
            unusable.get_or_insert(Unusable::Refused { number, reason });
            if tried == TRIED_MAX || number.0 == 0 {
                break;
            }
            self.criteria.sequence_number_max = SequenceNumber(number.0 - 1);
            next = self.newest().await?;
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
