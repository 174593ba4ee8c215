//! Events and atomic writes: what a user stores, and the form in which it travels.
//!
//! An atomic write is encoded once, where it enters the system, into one contiguous body; the same bytes go to the log, to the
//! other replicas, into the tables and are what a retry is compared by. The encoding is canonical: equal events give equal bytes.

use bytes::Bytes;

use crate::ids::{Position, SequenceNumber, Timestamp, WriterId};

/// A serialised value: the triple must round-trip exactly (contract 1.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The id of the serializer in the user's actor system.
    pub serializer_id: i32,
    /// The serializer's manifest; may be empty.
    pub manifest: String,
    /// The bytes; may be empty.
    pub bytes: Bytes,
}

/// One event as its writer sends it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its place in the journal, assigned by the writer.
    pub sequence_number: SequenceNumber,
    /// The event itself.
    pub payload: Payload,
    /// The event adapter's manifest, independent of the serializer's; empty = none.
    pub adapter_manifest: String,
    /// Optional metadata with a serializer of its own.
    pub metadata: Option<Payload>,
    /// Tags: a set; kept sorted and without duplicates.
    pub tags: Vec<String>,
}

/// One event as it is stored and replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// What the writer sent.
    pub event: Event,
    /// Its place in the shard.
    pub position: Position,
    /// When it was stored, by the leader's clock.
    pub timestamp: Timestamp,
    /// Who wrote it.
    pub writer: WriterId,
    /// The first sequence number of its atomic write.
    pub write_first: SequenceNumber,
    /// Whether it is logically deleted; such an event is seen only by those who ask for it.
    pub deleted: bool,
}

/// Events that are stored all or none, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct AtomicWrite {
    pub(crate) first: SequenceNumber,
    pub(crate) last: SequenceNumber,
    pub(crate) count: u32,
    pub(crate) body: Bytes,
}

/// What is wrong with an input, found before anything is proposed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// The persistence id cannot be used.
    #[error("persistence id: {reason}")]
    PersistenceId {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The writer id cannot be used.
    #[error("writer id: {reason}")]
    WriterId {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A sequence number is out of its range.
    #[error("sequence number {found}: {reason}")]
    SequenceNumber {
        /// The number as it came.
        found: i64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An atomic write holds no event.
    #[error("an atomic write holds at least one event")]
    Empty,
    /// Something is larger than its limit.
    #[error("{what}: {found} is more than the limit of {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        found: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A field that must be present is not, or is malformed.
    #[error("{field}: {reason}")]
    Field {
        /// The field's name on the wire.
        field: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl std::fmt::Debug for AtomicWrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AtomicWrite({}..={}, {} events, {} bytes)", self.first, self.last, self.count, self.body.len())
    }
}
