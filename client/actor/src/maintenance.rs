//! What an actor asks the stores for beside its writes: one after the other, in the order in which it was asked for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use cairn_client::{Criteria, Deletion, Error, NewSnapshot, Payload, PersistenceId, SequenceNumber};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use crate::format::Codec;
use crate::signal::{DeleteError, Signal, SnapshotError};
use crate::store::{Claim, Store};

/// Requests that may wait. One more fails at once.
const WAITING_MAX: usize = 256;

/// The stores, in the name of one incarnation.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) persistence_id: PersistenceId,
    /// None for whoever claims nothing, and fences nobody.
    pub(crate) claim: Option<Claim>,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An effect, or a snapshot that stands alone.
    Actor,
    /// A cycle of retention.
    Cycle,
}

/// What is under way, and what waits.
pub(crate) struct Maintenance<S> {
    /// The first one is under way.
    requests: VecDeque<(Origin, BoxFuture<'static, Signal<S>>)>,
}

impl<S: Send + 'static> Maintenance<S> {
    pub(crate) fn new() -> Self {
        Self { requests: VecDeque::new() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.requests.is_empty()
    }

    /// How the one under way ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Origin, Signal<S>)> {
        let Some((origin, request)) = self.requests.front_mut() else { return Poll::Pending };
        let origin = *origin;
        let signal = std::task::ready!(request.as_mut().poll(cx));
        self.requests.pop_front();
        if self.requests.is_empty() {
            self.requests = VecDeque::new();
        }
        Poll::Ready((origin, signal))
    }

    fn push(&mut self, origin: Origin, request: impl Future<Output = Signal<S>> + Send + 'static) {
        self.requests.push_back((origin, request.boxed()));
    }

    /// Whether one more may wait.
    fn has_room(&self) -> bool {
        self.requests.len() < WAITING_MAX
    }

    /// Saves a snapshot that is bytes already, or tells why it is none.
    pub(crate) fn save(
        &mut self,
        origin: Origin,
        stores: Stores,
        number: SequenceNumber,
        payload: Result<Payload, SnapshotError>,
    ) {
        let payload = if self.has_room() { payload } else { Err(SnapshotError::Store(too_many())) };
        self.push(origin, async move {
            let saved = async {
                let snapshot = NewSnapshot { sequence_number: number, payload: payload?, ..NewSnapshot::default() };
                Ok(stores.store.save(&stores.persistence_id, snapshot, stores.claim.as_ref()).await?)
            };
            match saved.await {
                Ok(timestamp) => Signal::SnapshotSaved { number, timestamp },
                Err(error) => Signal::SnapshotNotSaved { number, error },
            }
        });
    }

    /// Loads a snapshot.
    pub(crate) fn load(&mut self, origin: Origin, stores: Stores, criteria: Criteria, codec: Option<Arc<dyn Codec<S>>>) {
        let is_refused = !self.has_room();
        self.push(origin, async move {
            let loaded = async {
                let codec = codec.ok_or(SnapshotError::NoFormat)?;
                refuse_if(is_refused)?;
                let Some(snapshot) = stores.store.load(&stores.persistence_id, criteria).await? else { return Ok(None) };
                let info = snapshot.info;
                let payload = Payload { serializer_id: info.serializer_id, manifest: info.manifest, bytes: snapshot.bytes };
                Ok(Some((info.sequence_number, codec.decode(&payload)?)))
            };
            match loaded.await {
                Ok(snapshot) => Signal::SnapshotLoaded { snapshot },
                Err(error) => Signal::SnapshotNotLoaded { error },
            }
        });
    }

    /// Deletes one snapshot.
    pub(crate) fn delete_snapshot(&mut self, origin: Origin, stores: Stores, number: SequenceNumber) {
        let is_refused = !self.has_room();
        self.push(origin, async move {
            let deleted = async {
                refuse_if(is_refused)?;
                stores.store.delete(&stores.persistence_id, number, None, stores.claim.as_ref()).await
            };
            match deleted.await {
                Ok(()) => Signal::SnapshotDeleted { number },
                Err(error) => Signal::SnapshotNotDeleted { number, error },
            }
        });
    }

    /// Deletes snapshots.
    pub(crate) fn delete_snapshots(&mut self, origin: Origin, stores: Stores, criteria: Criteria) {
        let is_refused = !self.has_room();
        self.push(origin, async move {
            let deleted = async {
                refuse_if(is_refused)?;
                stores.store.delete_matching(&stores.persistence_id, criteria, stores.claim.as_ref()).await
            };
            match deleted.await {
                Ok(()) => Signal::SnapshotsDeleted { criteria },
                Err(error) => Signal::SnapshotsNotDeleted { criteria, error },
            }
        });
    }

    /// Deletes events up to a number, of which `last` is the highest.
    pub(crate) fn delete_events(&mut self, origin: Origin, stores: Stores, to: SequenceNumber, last: SequenceNumber) {
        if to > last && to != SequenceNumber::MAX {
            return self.push(origin, ready(Signal::EventsNotDeleted { to, error: DeleteError::Beyond { to, last } }));
        }
        let is_refused = !self.has_room();
        self.push(origin, async move {
            let deleted = async {
                refuse_if(is_refused)?;
                stores.store.delete_to(&stores.persistence_id, to, Deletion::Permanent, stores.claim.as_ref()).await
            };
            match deleted.await {
                Ok(()) => Signal::EventsDeleted { to },
                Err(error) => Signal::EventsNotDeleted { to, error: error.into() },
            }
        });
    }
}

fn refuse_if(is_refused: bool) -> Result<(), Error> {
    if is_refused { Err(too_many()) } else { Ok(()) }
}

fn too_many() -> Error {
    Error::Unavailable { message: format!("{WAITING_MAX} requests of this actor are waiting already") }
}
