//! Events and payloads, and the names that stand in nearly every message.

use bytes::Bytes;
use cairn_machine::limits::{
    MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, PERSISTENCE_ID_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX, WRITER_ID_BYTES_MAX,
};
use cairn_machine::{Event, Invalid, Payload, PersistenceId, SequenceNumber, WriterId};

use crate::number::{sequence_number, signed};
use crate::v1;

/// Parses a persistence id.
///
/// # Errors
/// [`Invalid::TooLarge`] with size and limit, or [`Invalid::PersistenceId`] if it is blank.
pub fn persistence_id(text: String) -> Result<PersistenceId, Invalid> {
    within("persistence_id bytes", text.len(), PERSISTENCE_ID_BYTES_MAX)?;
    PersistenceId::new(text)
}

/// Parses a writer id; empty = unknown.
///
/// # Errors
/// [`Invalid::TooLarge`] with size and limit, or [`Invalid::WriterId`] if it is not UTF-8.
pub fn writer_id(text: impl Into<Bytes>) -> Result<WriterId, Invalid> {
    let text = text.into();
    within("writer_id bytes", text.len(), WRITER_ID_BYTES_MAX)?;
    WriterId::new(text)
}

/// Checks everything about an event that has a limit of its own, as the server will: for callers that number events and must
/// not have one refused.
///
/// # Errors
/// [`Invalid`], naming the field, what was found and the limit.
pub fn check_event(event: &Event) -> Result<(), Invalid> {
    if event.sequence_number == SequenceNumber(0) {
        return Err(Invalid::SequenceNumber { found: 0, reason: "numbers begin at 1" });
    }
    within("manifest bytes", event.payload.manifest.len(), MANIFEST_BYTES_MAX)?;
    within("adapter_manifest bytes", event.adapter_manifest.len(), MANIFEST_BYTES_MAX)?;
    check_metadata(event.metadata.as_ref())?;
    within("tags of an event", event.tags.len(), TAGS_MAX)?;
    for tag in &event.tags {
        if tag.is_empty() {
            return Err(Invalid::Field { field: "tags", reason: "a tag is empty" });
        }
        within("tag bytes", tag.len(), TAG_BYTES_MAX)?;
    }
    Ok(())
}

pub(crate) fn check_metadata(metadata: Option<&Payload>) -> Result<(), Invalid> {
    let Some(metadata) = metadata else { return Ok(()) };
    within("metadata manifest bytes", metadata.manifest.len(), MANIFEST_BYTES_MAX)?;
    within("metadata bytes", metadata.bytes.len(), METADATA_BYTES_MAX)
}

pub(crate) fn within(what: &'static str, found: usize, limit: usize) -> Result<(), Invalid> {
    if found > limit {
        return Err(Invalid::TooLarge { what, found: found as u64, limit: limit as u64 });
    }
    Ok(())
}

impl From<v1::Payload> for Payload {
    fn from(wire: v1::Payload) -> Self {
        Self { serializer_id: wire.serializer_id, manifest: wire.manifest, bytes: wire.data }
    }
}

impl From<Payload> for v1::Payload {
    fn from(payload: Payload) -> Self {
        Self { serializer_id: payload.serializer_id, manifest: payload.manifest, data: payload.bytes }
    }
}

impl TryFrom<v1::Event> for Event {
    type Error = Invalid;

    fn try_from(wire: v1::Event) -> Result<Self, Invalid> {
        // An empty tag would mean "all" to a follower; every other limit is checked where the atomic write is encoded.
        if wire.tags.iter().any(String::is_empty) {
            return Err(Invalid::Field { field: "tags", reason: "a tag is empty" });
        }
        Ok(Self {
            sequence_number: sequence_number(wire.sequence_number)?,
            // Absent and empty are the same message on the wire of several languages.
            payload: wire.payload.unwrap_or_default().into(),
            adapter_manifest: wire.adapter_manifest,
            metadata: wire.metadata.map(Payload::from),
            tags: wire.tags,
        })
    }
}

impl From<Event> for v1::Event {
    fn from(event: Event) -> Self {
        Self {
            sequence_number: signed(event.sequence_number.0),
            payload: Some(event.payload.into()),
            adapter_manifest: event.adapter_manifest,
            metadata: event.metadata.map(v1::Payload::from),
            tags: event.tags,
        }
    }
}
