//! How snapshots and deletions ended: told to the actor, whom none of them stops but one: the store's answer that another incarnation
//! has taken the journal.

use cairn_client::{Criteria, Error, PersistenceId, SequenceNumber};

use crate::format::FormatError;

/// How something that an effect asked for ended.
///
/// Akka: `EventSourcedSignal`
#[derive(Debug)]
pub enum Signal<S> {
    /// Akka: `SaveSnapshotSuccess`, `SnapshotCompleted`
    SnapshotSaved {
        /// The number of the last event that it covers.
        number: SequenceNumber,
        /// When it was saved, in milliseconds since 1970 UTC.
        timestamp: i64,
    },
    /// Akka: `SaveSnapshotFailure`, `SnapshotFailed`
    SnapshotNotSaved {
        /// The number of the last event that it would cover.
        number: SequenceNumber,
        /// Why.
        error: SnapshotError,
    },
    /// Akka: `LoadSnapshotResult`, `SnapshotOffer`
    SnapshotLoaded {
        /// The snapshot, with the number of the last event that it covers; none if none matched.
        snapshot: Option<(SequenceNumber, S)>,
    },
    /// Akka: `LoadSnapshotFailed`
    SnapshotNotLoaded {
        /// Why.
        error: SnapshotError,
    },
    /// Akka: `DeleteSnapshotSuccess`
    SnapshotDeleted {
        /// Which.
        number: SequenceNumber,
    },
    /// Akka: `DeleteSnapshotFailure`
    SnapshotNotDeleted {
        /// Which.
        number: SequenceNumber,
        /// Why.
        error: Error,
    },
    /// Akka: `DeleteSnapshotsSuccess`, `DeleteSnapshotsCompleted`
    SnapshotsDeleted {
        /// Which.
        criteria: Criteria,
    },
    /// Akka: `DeleteSnapshotsFailure`, `DeleteSnapshotsFailed`
    SnapshotsNotDeleted {
        /// Which.
        criteria: Criteria,
        /// Why.
        error: Error,
    },
    /// Akka: `DeleteMessagesSuccess`, `DeleteEventsCompleted`
    EventsDeleted {
        /// Up to which, as it was asked for.
        to: SequenceNumber,
    },
    /// Akka: `DeleteMessagesFailure`, `DeleteEventsFailed`
    EventsNotDeleted {
        /// Up to which, as it was asked for.
        to: SequenceNumber,
        /// Why.
        error: DeleteError,
    },
}

/// Why a snapshot was not saved or loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The kind of actor has no format for snapshots.
    #[error("this kind of actor has no format for snapshots")]
    NoFormat,
    /// The state did not become bytes, or the bytes no state.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why events were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The number is above the actor's last one: nothing was asked of the journal.
    #[error("{to} is above the last number {last}")]
    Beyond {
        /// What was asked for.
        to: SequenceNumber,
        /// The actor's last number.
        last: SequenceNumber,
    },
    /// The journal failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl<S> Signal<S> {
    /// The store's answer that another incarnation has taken the journal, if it is that.
    pub(crate) fn fenced(&self) -> Option<&Error> {
        let error = match self {
            Self::SnapshotNotSaved { error: SnapshotError::Store(error), .. }
            | Self::SnapshotNotLoaded { error: SnapshotError::Store(error) }
            | Self::SnapshotNotDeleted { error, .. }
            | Self::SnapshotsNotDeleted { error, .. }
            | Self::EventsNotDeleted { error: DeleteError::Store(error), .. } => error,
            _ => return None,
        };
        matches!(error, Error::Fenced { .. } | Error::EpochMoved { .. }).then_some(error)
    }

    /// Logs it if it tells of a failure.
    pub(crate) fn warn_of_failure(&self, persistence_id: &PersistenceId) {
        let (what, error): (_, &dyn std::fmt::Display) = match self {
            Self::SnapshotNotSaved { error, .. } => ("a snapshot was not saved", error),
            Self::SnapshotNotLoaded { error } => ("a snapshot was not loaded", error),
            Self::SnapshotNotDeleted { error, .. } => ("a snapshot was not deleted", error),
            Self::SnapshotsNotDeleted { error, .. } => ("snapshots were not deleted", error),
            Self::EventsNotDeleted { error, .. } => ("events were not deleted", error),
            Self::SnapshotSaved { .. }
            | Self::SnapshotLoaded { .. }
            | Self::SnapshotDeleted { .. }
            | Self::SnapshotsDeleted { .. }
            | Self::EventsDeleted { .. } => return,
        };
        tracing::warn!(%persistence_id, %error, "{what}");
    }
}
