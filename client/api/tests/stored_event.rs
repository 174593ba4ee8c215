//! The event that is written by hand stands on the wire as the schema says: held against the code that would be generated for it.

use bytes::Bytes;
use cairn_api::v1;
use cairn_machine::{Event, Invalid, Payload, Position, SequenceNumber, StoredEvent, Timestamp, WriterId};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

/// `cairn.v1.StoredEvent` as it is generated.
#[derive(Clone, PartialEq, Message)]
struct Generated {
    #[prost(message, optional, tag = "1")]
    event: Option<v1::Event>,
    #[prost(int64, tag = "2")]
    position: i64,
    #[prost(int64, tag = "3")]
    timestamp_micros: i64,
    #[prost(string, tag = "4")]
    writer_id: String,
    #[prost(int64, tag = "5")]
    write_first: i64,
    #[prost(bool, tag = "6")]
    deleted: bool,
}

/// The same from a later version: fields that nobody knows yet, of every kind.
#[derive(Clone, PartialEq, Message)]
struct Later {
    #[prost(message, optional, tag = "1")]
    event: Option<LaterEvent>,
    #[prost(fixed64, tag = "7")]
    eight_bytes: u64,
    #[prost(fixed32, tag = "8")]
    four_bytes: u32,
    #[prost(string, tag = "9")]
    text: String,
    #[prost(uint64, tag = "10")]
    number: u64,
}

#[derive(Clone, PartialEq, Message)]
struct LaterEvent {
    #[prost(int64, tag = "1")]
    sequence_number: i64,
    #[prost(fixed64, tag = "6")]
    eight_bytes: u64,
    #[prost(string, tag = "7")]
    text: String,
    #[prost(uint64, tag = "8")]
    number: u64,
}

impl From<StoredEvent> for Generated {
    fn from(stored: StoredEvent) -> Self {
        Self {
            event: Some(stored.event.into()),
            position: stored.position.0 as i64,
            timestamp_micros: stored.timestamp.0,
            writer_id: stored.writer.as_str().to_owned(),
            write_first: stored.write_first.0 as i64,
            deleted: stored.deleted,
        }
    }
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..300, Just(i64::MAX as u64), 0..=i64::MAX as u64]
}

/// Around everything that is gathered before it is written, and every length of a length.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 100..150), vec(any::<u8>(), 16_370..16_400)]
}

fn payload() -> impl Strategy<Value = Payload> {
    (prop_oneof![0..3i32, any::<i32>()], prop_oneof![".{0,12}", ".{110,150}"], bytes())
        .prop_map(|(serializer_id, manifest, bytes)| Payload { serializer_id, manifest, bytes: bytes.into() })
}

fn event() -> impl Strategy<Value = Event> {
    (number(), payload(), prop_oneof![".{0,12}", ".{120,130}"], option::of(payload()), vec(".{1,40}", 0..6)).prop_map(
        |(number, payload, adapter_manifest, metadata, tags)| Event {
            sequence_number: SequenceNumber(number),
            payload,
            adapter_manifest,
            metadata,
            tags,
        },
    )
}

fn stored() -> impl Strategy<Value = StoredEvent> {
    (event(), number(), any::<i64>(), "[a-z\u{e9}]{0,30}", number(), any::<bool>()).prop_map(
        |(event, position, timestamp, writer, write_first, deleted)| StoredEvent {
            event,
            position: Position(position),
            timestamp: Timestamp(timestamp),
            writer: WriterId::new(writer).unwrap(),
            write_first: SequenceNumber(write_first),
            deleted,
        },
    )
}

/// What the bytes of a message say.
fn read(bytes: impl Into<Bytes>) -> Result<StoredEvent, String> {
    let wire = v1::StoredEvent::decode(bytes.into()).map_err(|error| error.to_string())?;
    StoredEvent::try_from(wire).map_err(|invalid| invalid.to_string())
}

proptest! {
    #[test]
    fn the_bytes_are_those_of_generated_code_in_both_directions(stored in stored()) {
        let wire = v1::StoredEvent::from(stored.clone());
        let generated = Generated::from(stored.clone()).encode_to_vec();
        prop_assert_eq!(wire.encoded_len(), generated.len());
        prop_assert_eq!(&wire.encode_to_vec(), &generated);
        prop_assert_eq!(read(generated), Ok(stored));
    }

    #[test]
    fn fields_may_come_in_any_order_and_in_parts(stored in stored(), other in stored()) {
        let generated = Generated::from(stored.clone());
        let event = Generated { event: generated.event.clone(), ..Generated::default() }.encode_to_vec();
        let rest = Generated { event: None, ..generated }.encode_to_vec();
        let backwards: Vec<u8> = [rest.clone(), event.clone()].concat();
        prop_assert_eq!(read(backwards), Ok(stored));
        // What comes twice is merged.
        let twice = [Generated::from(other).encode_to_vec(), event, rest].concat();
        let expected = Generated::decode(&twice[..]).unwrap();
        prop_assert_eq!(Generated::from(read(twice).unwrap()), expected);
    }

    #[test]
    fn fields_of_later_versions_are_passed_over(number in any::<u64>(), text in ".{0,200}") {
        let event = LaterEvent { sequence_number: 7, eight_bytes: number, text: text.clone(), number };
        let later = Later { event: Some(event), eight_bytes: number, four_bytes: number as u32, text, number };
        let read = read(later.encode_to_vec()).unwrap();
        prop_assert_eq!(read.event, Event { sequence_number: SequenceNumber(7), ..Event::default() });
    }

    #[test]
    fn what_is_read_of_damaged_bytes_is_what_generated_code_reads(stored in stored(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = v1::StoredEvent::from(stored).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(read) = read(bytes.clone()) {
            prop_assert_eq!(Ok(Generated::from(read)), Generated::decode(&bytes[..]));
        }
        bytes.truncate(at);
        if let Ok(read) = read(bytes.clone()) {
            prop_assert_eq!(Ok(Generated::from(read)), Generated::decode(&bytes[..]));
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in vec(any::<u8>(), 0..64)) {
        let _ = read(bytes);
    }
}

#[test]
fn what_no_event_of_ours_has_is_named() {
    let good = || Generated { event: Some(v1::Event { sequence_number: 1, ..v1::Event::default() }), ..Generated::default() };
    let refused = |change: fn(&mut Generated)| {
        let mut wire = good();
        change(&mut wire);
        read(wire.encode_to_vec()).unwrap_err()
    };
    let event = |wire: &mut Generated| wire.event.take().unwrap();
    assert!(read(good().encode_to_vec()).is_ok());
    assert_eq!(refused(|wire| wire.event = None), Invalid::Field { field: "event", reason: "missing" }.to_string());
    assert!(refused(|wire| wire.position = -1).contains("position"));
    assert!(refused(|wire| wire.write_first = -1).contains("sequence number -1"));
    assert!(refused(|wire| wire.writer_id = "w".repeat(1000)).contains("writer_id bytes"));
    let negative = v1::Event { sequence_number: -7, ..event(&mut good()) };
    assert!(read(Generated { event: Some(negative), ..good() }.encode_to_vec()).unwrap_err().contains("-7"));
    let tagged = v1::Event { tags: vec![String::new()], ..event(&mut good()) };
    assert!(read(Generated { event: Some(tagged), ..good() }.encode_to_vec()).unwrap_err().contains("tag"));
}

/// One damaged byte makes another kind of a known field: it is not passed over as one that nobody knows.
#[test]
fn a_known_field_of_another_kind_is_refused() {
    let good = [0x0a, 0x09, 0x08, 1, 0x12, 0, 0x2a, 3, b'a', b'b', b'c'];
    assert_eq!(read(good.to_vec()).unwrap().event.tags, ["abc"]);
    let payload = [0x0a, 0x09, 0x08, 1, 0x12, 5, 0x1a, 3, b'a', b'b', b'c'];
    assert_eq!(&read(payload.to_vec()).unwrap().event.payload.bytes[..], b"abc");
    for (bytes, at, key) in [(good, 6, 0x2d), (good, 2, 0x09), (good, 6, 0x28), (payload, 6, 0x1d), (payload, 6, 0x18)] {
        let mut damaged = bytes.to_vec();
        damaged[at] = key;
        assert!(Generated::decode(&damaged[..]).is_err(), "{damaged:x?}");
        assert!(read(damaged.clone()).unwrap_err().contains("malformed"), "{damaged:x?}");
    }
}

#[test]
fn a_payload_shares_the_memory_of_its_message() {
    let payload = Payload { bytes: Bytes::from(vec![7; 1000]), ..Payload::default() };
    let event = Event { sequence_number: SequenceNumber(1), payload, ..Event::default() };
    let stored = StoredEvent {
        event,
        position: Position(1),
        timestamp: Timestamp(0),
        writer: WriterId::default(),
        write_first: SequenceNumber(1),
        deleted: false,
    };
    let message = Bytes::from(v1::StoredEvent::from(stored).encode_to_vec());
    let read = read(message.clone()).unwrap();
    assert!(message.as_ptr_range().contains(&read.event.payload.bytes.as_ptr()));
}
