//! Events as they are stored, before they take their numbers: what no journal would take is rejected here, and leaves no gap.

use cairn_client::{NewEvent, Payload, SequenceNumber};
use cairn_machine::Event;
use cairn_machine::limits::{
    ATOMIC_WRITE_BYTES_MAX, ATOMIC_WRITE_EVENTS_MAX, MANIFEST_BYTES_MAX, METADATA_BYTES_MAX, TAG_BYTES_MAX, TAGS_MAX,
};

use crate::behavior::RejectedError;
use crate::format::EventFormat;

/// More bytes than the fields of an event, of its metadata and of each tag need beside their contents, in every form that is sent or
/// stored.
const FIELD_BYTES: usize = 64;
const METADATA_FIELD_BYTES: usize = 32;
const TAG_FIELD_BYTES: usize = 8;

/// The events of an atomic write as they are stored.
pub(super) struct Encoded {
    pub(super) stored: Vec<Event>,
    /// For each event the number of the last one that it is stored as; that of the event before it, if it is stored as none.
    pub(super) numbers: Vec<SequenceNumber>,
    /// At least as many as the write needs.
    pub(super) bytes: usize,
}

/// Encodes the events of an atomic write, and numbers them from behind `last` on.
pub(super) fn encode<E: 'static>(
    format: &dyn EventFormat<E>,
    events: &[E],
    mut last: SequenceNumber,
) -> Result<Encoded, RejectedError> {
    let mut encoded = Encoded { stored: Vec::with_capacity(events.len()), numbers: Vec::with_capacity(events.len()), bytes: 0 };
    for event in events {
        for event in format.to_journal(event)? {
            encoded.bytes += check(&event)?;
            last = SequenceNumber(last.0 + 1);
            encoded.stored.push(numbered(event, last));
        }
        encoded.numbers.push(last);
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
        bytes += METADATA_FIELD_BYTES + payload_bytes(metadata);
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
fn numbered(event: NewEvent, sequence_number: SequenceNumber) -> Event {
    let NewEvent { payload, adapter_manifest, metadata, tags } = event;
    Event { sequence_number, payload, adapter_manifest, metadata, tags }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FormatError;
    use cairn_client::memory::MemoryCairn;
    use cairn_client::{Write, WriterId};

    /// Events that are what is stored.
    struct AsIs;

    impl EventFormat<NewEvent> for AsIs {
        fn to_journal(&self, event: &NewEvent) -> Result<Vec<NewEvent>, FormatError> {
            Ok(vec![event.clone()])
        }

        fn from_journal(&self, stored: &cairn_client::StoredEvent) -> Result<Vec<NewEvent>, FormatError> {
            Ok(vec![stored.event.payload.clone().into()])
        }
    }

    /// Whose every field needs the most bytes beside its contents.
    fn widest(bytes: usize) -> NewEvent {
        let payload = |bytes: usize| Payload { serializer_id: i32::MIN, manifest: "m".repeat(300), bytes: vec![1; bytes].into() };
        NewEvent {
            payload: payload(bytes),
            adapter_manifest: "a".repeat(300),
            metadata: Some(payload(300)),
            tags: vec!["t".repeat(200), "u".repeat(200)],
        }
    }

    fn refused(event: NewEvent) -> String {
        encode(&AsIs, &[event], SequenceNumber(0)).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused_and_what_is_at_it_is_not() {
        let with = |change: &dyn Fn(&mut NewEvent)| {
            let mut event = NewEvent::default();
            change(&mut event);
            refused(event)
        };
        let tags = |count: usize| move |event: &mut NewEvent| event.tags = vec!["tag".to_owned(); count];
        let tag = |length: usize| move |event: &mut NewEvent| event.tags = vec!["x".repeat(length)];
        let manifest = |length: usize| move |event: &mut NewEvent| event.payload.manifest = "x".repeat(length);
        let adapter = |length: usize| move |event: &mut NewEvent| event.adapter_manifest = "x".repeat(length);
        let metadata = |length: usize| {
            move |event: &mut NewEvent| event.metadata = Some(Payload { bytes: vec![0; length].into(), ..Payload::default() })
        };
        for admitted in
            [with(&tags(64)), with(&tag(256)), with(&manifest(4096)), with(&adapter(4096)), with(&metadata(64 * 1024))]
        {
            assert_eq!(admitted, "");
        }
        assert_eq!(with(&tags(65)), "tags of an event 65 is more than 64");
        assert_eq!(with(&tag(257)), "bytes of a tag 257 is more than 256");
        assert_eq!(with(&tag(0)), "a tag is empty");
        assert_eq!(with(&manifest(4097)), "bytes of a manifest 4097 is more than 4096");
        assert_eq!(with(&adapter(4097)), "bytes of an adapter's manifest 4097 is more than 4096");
        assert_eq!(with(&metadata(64 * 1024 + 1)), "bytes of metadata 65537 is more than 65536");
        let too_many = vec![NewEvent::default(); ATOMIC_WRITE_EVENTS_MAX + 1];
        assert!(matches!(encode(&AsIs, &too_many, SequenceNumber(0)), Err(RejectedError::TooLarge { found: 10_001, .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn journal_takes_whatever_is_admitted() {
        let cairn = MemoryCairn::new().client();
        for (case, count) in [1, 2, 1_000, 2_000].into_iter().enumerate() {
            let beside = encode(&AsIs, &[widest(0)], SequenceNumber(0)).unwrap_or_else(|error| panic!("{error}")).bytes;
            let events = vec![widest(ATOMIC_WRITE_BYTES_MAX / count - beside); count];
            // Numbers that need many bytes, too.
            let last = SequenceNumber(SequenceNumber::MAX.0 - 10_000);
            let encoded = encode(&AsIs, &events, last).unwrap_or_else(|error| panic!("{error}"));
            assert!(encoded.bytes > ATOMIC_WRITE_BYTES_MAX - count, "it is nearly too large");
            let write = Write {
                persistence_id: cairn_client::PersistenceId::new(format!("case-{case}")).unwrap(),
                writer: WriterId::new("writer").unwrap(),
                epoch: None,
                after: None,
                atomic_writes: vec![encoded.stored],
            };
            let reply = cairn.write(&write).await.unwrap();
            assert!(matches!(reply.outcomes[..], [cairn_client::WriteOutcome::Stored { .. }]), "{reply:?}");
        }
    }
}
