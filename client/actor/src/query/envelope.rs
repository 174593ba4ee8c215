//! Events with where they stand.

use std::sync::Arc;

use cairn_client::{Error, PersistenceId, SequenceNumber, StoredEvent, Timestamp};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt};

use super::offset::Offset;
use crate::format::{EventFormat, FormatError};

/// An event of a query.
///
/// Akka: `EventEnvelope`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<E> {
    /// Whose event.
    pub persistence_id: PersistenceId,
    /// Its number.
    pub sequence_number: SequenceNumber,
    /// When it was stored, by the leader's clock.
    pub timestamp: Timestamp,
    /// What it is tagged with.
    pub tags: Vec<String>,
    /// Asking after it gives what comes after this event.
    pub offset: Offset,
    /// The event.
    pub event: E,
}

/// Why a query of typed events ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// An event cannot be read.
    #[error("event {sequence_number} of {persistence_id}: {error}")]
    Format {
        /// Whose event.
        persistence_id: PersistenceId,
        /// Its number.
        sequence_number: SequenceNumber,
        /// What is wrong with it.
        error: FormatError,
    },
}

impl Envelope<StoredEvent> {
    pub(super) fn new(persistence_id: PersistenceId, stored: StoredEvent, offset: Offset) -> Self {
        let tags = stored.event.tags.clone();
        let (sequence_number, timestamp) = (stored.event.sequence_number, stored.timestamp);
        Self { persistence_id, sequence_number, timestamp, tags, offset, event: stored }
    }

    /// One of the events of a single journal.
    pub(super) fn of_journal(persistence_id: PersistenceId, stored: StoredEvent) -> Self {
        let offset = Offset::Sequence(stored.event.sequence_number);
        Self::new(persistence_id, stored, offset)
    }
}

/// The events of a query as an actor's format reads them. A stored event that stands for none is left out; the events of one that
/// stands for several share its offset, and are given together.
pub fn typed<E: Send + 'static>(
    envelopes: impl Stream<Item = Result<Envelope<StoredEvent>, Error>> + Send + 'static,
    format: Arc<dyn EventFormat<E>>,
) -> BoxStream<'static, Result<Vec<Envelope<E>>, QueryError>> {
    let read = envelopes.map(move |envelope| decoded(envelope?, &*format));
    // Ends after its first error.
    let until_error = stream::unfold(Some(read.boxed()), |read| async move {
        let mut read = read?;
        let item = read.next().await?;
        let is_over = item.is_err();
        Some((item, (!is_over).then_some(read)))
    });
    until_error.filter(|item| std::future::ready(!item.as_ref().is_ok_and(Vec::is_empty))).boxed()
}

fn decoded<E: 'static>(envelope: Envelope<StoredEvent>, format: &dyn EventFormat<E>) -> Result<Vec<Envelope<E>>, QueryError> {
    let Envelope { persistence_id, sequence_number, timestamp, tags, offset, event } = envelope;
    let events = format.from_journal(&event).map_err(|error| QueryError::Format {
        persistence_id: persistence_id.clone(),
        sequence_number,
        error,
    })?;
    let envelopes = events.into_iter().map(|event| Envelope {
        persistence_id: persistence_id.clone(),
        sequence_number,
        timestamp,
        tags: tags.clone(),
        offset: offset.clone(),
        event,
    });
    Ok(envelopes.collect())
}
