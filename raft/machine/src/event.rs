//! Events and atomic writes: what a user stores, and the form in which it travels.
//!
//! An atomic write is encoded once, where it enters the system, into one contiguous body; the same bytes go to the log, to the
//! other replicas, into the tables and are what a retry is compared by. The encoding is canonical: equal events give equal bytes.

use bytes::Bytes;

use crate::change::StoredWrite;
use crate::codec::{DecodeError, Events, TaggedEvent, encode_events, has_tags};
use crate::ids::{Position, SequenceNumber, Timestamp, WriterId};
use crate::limits::{
    ATOMIC_WRITE_BYTES_MAX, ATOMIC_WRITE_EVENTS_MAX, MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX,
};

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
    /// Tags: a set; kept sorted and without duplicates; none is empty.
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

impl AtomicWrite {
    /// Checks and encodes events that are stored all or none.
    ///
    /// # Errors
    /// [`Invalid`] if there is no event, if a number is outside 1..=[`SequenceNumber::MAX`] or does not rise, or if anything is
    /// larger than its limit in [`crate::limits`].
    pub fn new(events: &[Event]) -> Result<Self, Invalid> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return Err(Invalid::Empty);
        };
        check_size("events in an atomic write", events.len(), ATOMIC_WRITE_EVENTS_MAX)?;
        let mut previous = SequenceNumber(0);
        for event in events {
            check_number(event.sequence_number, previous)?;
            check_event(event)?;
            previous = event.sequence_number;
        }
        let body = encode_events(events, ATOMIC_WRITE_BYTES_MAX)
            .map_err(|found| too_large("bytes of an atomic write", found, ATOMIC_WRITE_BYTES_MAX))?;
        Ok(Self {
            first: first.sequence_number,
            last: last.sequence_number,
            count: u32::try_from(events.len()).expect("checked against its limit"),
            body,
        })
    }

    /// The first event's number.
    #[must_use]
    pub fn first(&self) -> SequenceNumber {
        self.first
    }

    /// The last event's number.
    #[must_use]
    pub fn last(&self) -> SequenceNumber {
        self.last
    }

    /// How many events; at least one.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The encoded events.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether any event carries a tag.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        has_tags(&self.body)
    }

    /// The events, decoded; payload bytes share the body's memory.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(self.first, self.count, &self.body)
    }

    /// Decodes a body that holds `count` events beginning at `first`; payload bytes share its memory.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`].
    pub fn decode_events(first: SequenceNumber, count: u32, body: &Bytes) -> Result<Vec<Event>, DecodeError> {
        let events = Events::new(first, count, body);
        let mut decoded = Vec::with_capacity(events.size_hint().1.unwrap_or(0));
        for event in events {
            decoded.push(event?);
        }
        Ok(decoded)
    }

    /// Whether numbers and count can belong together. The body is not looked into.
    pub(crate) fn holds_together(&self) -> bool {
        let numbers = self.last.0.saturating_sub(self.first.0).saturating_add(1);
        self.first.0 >= 1
            && self.first <= self.last
            && self.last <= SequenceNumber::MAX
            && self.count >= 1
            && u64::from(self.count) <= numbers
            // One event has one number.
            && (self.count > 1 || self.first == self.last)
            && !self.body.is_empty()
    }
}

impl StoredWrite {
    /// The events as they are replayed; those at or below `deleted_to` are marked as deleted.
    pub fn events(&self, deleted_to: SequenceNumber) -> impl Iterator<Item = Result<StoredEvent, DecodeError>> + use<> {
        self.events_from(SequenceNumber(0), deleted_to)
    }

    /// The events from number `from` on; those before it are skipped without being built.
    pub fn events_from(
        &self,
        from: SequenceNumber,
        deleted_to: SequenceNumber,
    ) -> impl Iterator<Item = Result<StoredEvent, DecodeError>> + use<> {
        let mut events = Events::new(self.first, self.count, &self.body);
        let skipped = if from > self.first { events.skip_below(from) } else { Ok(0) };
        let (mut position, failure) = match skipped {
            Ok(skipped) => (self.position.0.saturating_add(u64::from(skipped)), None),
            Err(error) => (self.position.0, Some(Err(error))),
        };
        let (timestamp, writer, write_first) = (self.timestamp, self.writer.clone(), self.first);
        let events = if failure.is_some() { None } else { Some(events) };
        failure.into_iter().chain(events.into_iter().flatten().map(move |event| {
            let event = event?;
            let stored = StoredEvent {
                deleted: event.sequence_number <= deleted_to,
                event,
                position: Position(position),
                timestamp,
                writer: writer.clone(),
                write_first,
            };
            position = position.saturating_add(1);
            Ok(stored)
        }))
    }

    /// Whether any event carries a tag; looks at one byte.
    #[must_use]
    pub fn has_tags(&self) -> bool {
        has_tags(&self.body)
    }

    /// The events that carry tags, in order; costs nothing if none does.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`].
    pub fn tags_by_event(&self) -> Result<Vec<TaggedEvent>, DecodeError> {
        if !self.has_tags() {
            return Ok(Vec::new());
        }
        Events::new(self.first, self.count, &self.body).tagged(self.position)
    }

    /// What was sent.
    pub(crate) fn atomic_write(&self) -> AtomicWrite {
        AtomicWrite { first: self.first, last: self.last, count: self.count, body: self.body.clone() }
    }
}

fn check_number(number: SequenceNumber, previous: SequenceNumber) -> Result<(), Invalid> {
    let reason = if number.0 == 0 {
        "numbers begin at 1"
    } else if number > SequenceNumber::MAX {
        "above the greatest number"
    } else if number <= previous {
        "numbers rise strictly"
    } else {
        return Ok(());
    };
    Err(Invalid::SequenceNumber { found: number.0.cast_signed(), reason })
}

fn check_event(event: &Event) -> Result<(), Invalid> {
    check_size("bytes of a serializer manifest", event.payload.manifest.len(), MANIFEST_BYTES_MAX)?;
    check_size("bytes of an adapter manifest", event.adapter_manifest.len(), MANIFEST_BYTES_MAX)?;
    if let Some(metadata) = &event.metadata {
        check_metadata(metadata)?;
    }
    check_size("tags of an event", event.tags.len(), TAGS_MAX)?;
    for tag in &event.tags {
        if tag.is_empty() {
            return Err(Invalid::Field { field: "tags", reason: "a tag is not empty" });
        }
        check_size("bytes of a tag", tag.len(), TAG_BYTES_MAX)?;
    }
    Ok(())
}

/// Checks the metadata of an event or a snapshot.
pub(crate) fn check_metadata(metadata: &Payload) -> Result<(), Invalid> {
    check_size("bytes of a metadata manifest", metadata.manifest.len(), MANIFEST_BYTES_MAX)?;
    check_size("bytes of metadata", metadata.bytes.len(), METADATA_BYTES_MAX)
}

/// Checks a size against its limit, both in the unit that `what` names.
pub(crate) fn check_size(what: &'static str, found: usize, limit: usize) -> Result<(), Invalid> {
    if found > limit { Err(too_large(what, found, limit)) } else { Ok(()) }
}

fn too_large(what: &'static str, found: usize, limit: usize) -> Invalid {
    Invalid::TooLarge { what, found: found as u64, limit: limit as u64 }
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
