//! Events as they are stored, before they take their numbers: what no journal would take is rejected here, and leaves no gap.

use cairn_client::{NewEvent, Payload, SequenceNumber};
use cairn_machine::Event;
use cairn_machine::limits::{
    ATOMIC_WRITE_BYTES_MAX, ATOMIC_WRITE_EVENTS_MAX, MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX,
};

use crate::behavior::RejectedError;
use crate::format::EventFormat;

/// More bytes than the fields of an event and of each tag need beside their contents, in every form that is sent or stored.
const FIELD_BYTES: usize = 128;
const TAG_FIELD_BYTES: usize = 8;

/// The events of an atomic write as bytes, and for each of them how many stored ones it became.
pub(super) struct Encoded {
    pub(super) stored: Vec<NewEvent>,
    pub(super) counts: Vec<usize>,
    /// At least as many as the write needs.
    pub(super) bytes: usize,
}

/// Encodes the events of an atomic write.
pub(super) fn encode<E: 'static>(format: &dyn EventFormat<E>, events: &[E]) -> Result<Encoded, RejectedError> {
    let mut encoded = Encoded { stored: Vec::with_capacity(events.len()), counts: Vec::with_capacity(events.len()), bytes: 0 };
    for event in events {
        let stored = format.to_journal(event)?;
        encoded.counts.push(stored.len());
        for event in stored {
            encoded.bytes += check(&event)?;
            encoded.stored.push(event);
        }
    }
    check_size("events in an atomic write", encoded.stored.len(), ATOMIC_WRITE_EVENTS_MAX)?;
    check_size("bytes of an atomic write", encoded.bytes, ATOMIC_WRITE_BYTES_MAX)?;
    Ok(encoded)
}

/// Checks an event against every limit, and says how many bytes it needs at most.
fn check(event: &NewEvent) -> Result<usize, RejectedError> {
    check_size("bytes of a manifest", event.payload.manifest.len(), MANIFEST_BYTES_MAX)?;
    check_size("bytes of an adapter's manifest", event.adapter_manifest.len(), MANIFEST_BYTES_MAX)?;
    check_size("tags of an event", event.tags.len(), TAGS_MAX)?;
    let mut bytes = FIELD_BYTES + payload_bytes(&event.payload) + event.adapter_manifest.len();
    for tag in &event.tags {
        if tag.is_empty() {
            return Err(RejectedError::EmptyTag);
        }
        check_size("bytes of a tag", tag.len(), TAG_BYTES_MAX)?;
        bytes += tag.len() + TAG_FIELD_BYTES;
    }
    if let Some(metadata) = &event.metadata {
        check_size("bytes of metadata", metadata.bytes.len(), METADATA_BYTES_MAX)?;
        check_size("bytes of a manifest", metadata.manifest.len(), MANIFEST_BYTES_MAX)?;
        bytes += payload_bytes(metadata);
    }
    Ok(bytes)
}

fn payload_bytes(payload: &Payload) -> usize {
    payload.bytes.len() + payload.manifest.len()
}

fn check_size(what: &'static str, found: usize, limit: usize) -> Result<(), RejectedError> {
    if found > limit { Err(RejectedError::TooLarge { what, found, limit }) } else { Ok(()) }
}

/// Gives an event its number.
pub(super) fn numbered(event: NewEvent, sequence_number: SequenceNumber) -> Event {
    let NewEvent { payload, adapter_manifest, metadata, tags } = event;
    Event { sequence_number, payload, adapter_manifest, metadata, tags }
}
