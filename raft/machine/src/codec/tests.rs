//! Round trips of anything legal, and totality on anything at all.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::batch::{Batch, RULES_VERSION};
use crate::change::{FormerWriter, Head, LastWrite, RecentSave, ShardState, SnapshotRecord, StoredWrite, Upload};
use crate::command::{
    Claim, Command, Criteria, DeleteSnapshot, DeleteSnapshots, DeleteTo, SaveSnapshot, SnapshotChunk, SnapshotData, Write,
};
use crate::event::{AtomicWrite, Event, Invalid, Payload};
use crate::ids::{JournalId, PersistenceId, Position, SaveId, SaveNumber, SequenceNumber, Timestamp, WriterEpoch, WriterId};
use crate::limits;

fn sequence_number() -> impl Strategy<Value = SequenceNumber> {
    prop_oneof![0u64..10, 0..=SequenceNumber::MAX.0, Just(SequenceNumber::MAX.0)].prop_map(SequenceNumber)
}

fn any_u64() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..300, any::<u64>(), Just(u64::MAX)]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..8), vec(any::<u8>(), 120..140)].prop_map(Bytes::from)
}

fn persistence_id() -> impl Strategy<Value = PersistenceId> {
    "[^ ]{1,12}".prop_filter_map("blank", |text| PersistenceId::new(text).ok())
}

fn writer() -> impl Strategy<Value = WriterId> {
    ".{0,12}".prop_map(|text| WriterId::new(text).expect("short"))
}

fn payload() -> impl Strategy<Value = Payload> {
    (any::<i32>(), ".{0,5}", bytes()).prop_map(|(serializer_id, manifest, bytes)| Payload { serializer_id, manifest, bytes })
}

/// Events as a writer sends them, beginning at any number: tags in any order and repeated.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let parts = (1u64..200, payload(), ".{0,3}", option::of(payload()), vec("[a-c]{1,2}", 0..4));
    (0u64..1 << 60, vec(parts, 1..6)).prop_map(|(base, parts)| {
        let mut number = base;
        let event = |(rise, payload, adapter_manifest, metadata, tags)| {
            number += rise;
            Event { sequence_number: SequenceNumber(number), payload, adapter_manifest, metadata, tags }
        };
        parts.into_iter().map(event).collect()
    })
}

fn atomic_write() -> impl Strategy<Value = AtomicWrite> {
    events().prop_map(|events| AtomicWrite::new(&events).expect("legal"))
}

fn save_id() -> impl Strategy<Value = SaveId> {
    any::<u128>().prop_map(|number| SaveId(Uuid::from_u128(number)))
}

fn sender() -> impl Strategy<Value = (PersistenceId, WriterId, Option<WriterEpoch>)> {
    (persistence_id(), writer(), option::of(any_u64().prop_map(WriterEpoch)))
}

fn criteria() -> impl Strategy<Value = Criteria> {
    (sequence_number(), sequence_number(), any::<i64>(), any::<i64>()).prop_map(|(from, to, since, until)| Criteria {
        sequence_number_min: from,
        sequence_number_max: to,
        timestamp_min: since,
        timestamp_max: until,
    })
}

fn save_snapshot() -> impl Strategy<Value = SaveSnapshot> {
    let data = prop_oneof![
        bytes().prop_map(SnapshotData::Inline),
        (any::<u32>(), any_u64()).prop_map(|(chunks, bytes_total)| SnapshotData::Uploaded { chunks, bytes_total }),
    ];
    let place = (sequence_number(), option::of(any::<i64>()), save_id(), any_u64());
    (sender(), place, payload(), data, option::of(payload())).prop_map(|(sender, place, payload, data, metadata)| {
        let (persistence_id, writer, epoch) = sender;
        let (sequence_number, timestamp, save_id, saves_read) = place;
        SaveSnapshot {
            persistence_id,
            sequence_number,
            timestamp,
            save_id,
            saves_read: SaveNumber(saves_read),
            payload,
            data,
            metadata,
            writer,
            epoch,
        }
    })
}

fn command() -> impl Strategy<Value = Command> {
    let write = (sender(), option::of(sequence_number()), vec(atomic_write(), 0..4)).prop_map(
        |((persistence_id, writer, epoch), after, atomic_writes)| {
            Command::Write(Write { persistence_id, writer, epoch, after, atomic_writes })
        },
    );
    let claim = (persistence_id(), writer(), any_u64()).prop_map(|(persistence_id, writer, epoch_read)| {
        Command::Claim(Claim { persistence_id, writer, epoch_read: WriterEpoch(epoch_read) })
    });
    let delete = (sender(), sequence_number(), any::<bool>()).prop_map(|((persistence_id, writer, epoch), to, permanent)| {
        Command::DeleteTo(DeleteTo { persistence_id, to, permanent, writer, epoch })
    });
    let chunk = (persistence_id(), save_id(), any::<u32>(), bytes()).prop_map(|(persistence_id, save_id, index, bytes)| {
        Command::SnapshotChunk(SnapshotChunk { persistence_id, save_id, index, bytes })
    });
    let saves_read = || option::of(any_u64().prop_map(SaveNumber));
    let delete_one = (sender(), sequence_number(), option::of(any::<i64>()), saves_read()).prop_map(
        |((persistence_id, writer, epoch), sequence_number, timestamp, saves_read)| {
            Command::DeleteSnapshot(DeleteSnapshot { persistence_id, sequence_number, timestamp, saves_read, writer, epoch })
        },
    );
    let delete_matching =
        (sender(), criteria(), saves_read()).prop_map(|((persistence_id, writer, epoch), criteria, saves_read)| {
            Command::DeleteSnapshots(DeleteSnapshots { persistence_id, criteria, saves_read, writer, epoch })
        });
    let save = save_snapshot().prop_map(Command::SaveSnapshot);
    prop_oneof![write, claim, delete, chunk, save, delete_one, delete_matching]
}

fn batch() -> impl Strategy<Value = Batch> {
    (any::<i64>(), vec(command(), 0..5)).prop_map(|(moment, commands)| Batch { moment: Timestamp(moment), commands })
}

fn head() -> impl Strategy<Value = Head> {
    let marks = (any_u64(), sequence_number(), sequence_number(), sequence_number());
    let former = (writer(), any_u64()).prop_map(|(writer, epoch)| FormerWriter { writer, epoch: WriterEpoch(epoch) });
    let saved = (save_id(), any_u64(), any::<i64>(), any::<u64>()).prop_map(|(save_id, number, timestamp, digest)| RecentSave {
        save_id,
        number: SaveNumber(number),
        timestamp,
        digest,
    });
    let last = (sequence_number(), 0u64..99, sequence_number(), any_u64(), any::<i64>(), any::<u128>());
    let rest = (any_u64(), writer(), any::<i64>(), any_u64(), any::<u32>());
    (marks, rest, option::of(last), vec(former, 0..4), vec(saved, 0..4)).prop_map(
        |((journal, one, two, three), rest, last, former_writers, recent_saves)| {
            let mut marks = [one, two, three];
            marks.sort();
            let [removed_to, deleted_to, highest] = marks;
            let (epoch, writer, timestamp, saves, snapshots) = rest;
            let last_write = last.map(|(first, more, previous, position, timestamp, digest)| LastWrite {
                first,
                last: SequenceNumber(first.0 + more).min(SequenceNumber::MAX),
                previous,
                position: Position(position),
                timestamp: Timestamp(timestamp),
                digest,
            });
            Head {
                journal: JournalId(journal),
                highest,
                deleted_to,
                removed_to,
                epoch: WriterEpoch(epoch),
                writer,
                former_writers,
                last_write,
                timestamp: Timestamp(timestamp),
                saves: SaveNumber(saves),
                recent_saves,
                snapshots,
            }
        },
    )
}

fn stored_write() -> impl Strategy<Value = StoredWrite> {
    (atomic_write(), any_u64(), 0u64..1 << 63, any::<i64>(), writer()).prop_map(
        |(atomic_write, journal, position, timestamp, writer)| StoredWrite {
            journal: JournalId(journal),
            previous: SequenceNumber(atomic_write.first.0 - 1),
            first: atomic_write.first,
            last: atomic_write.last,
            count: atomic_write.count,
            position: Position(position),
            timestamp: Timestamp(timestamp),
            writer,
            body: atomic_write.body,
        },
    )
}

fn upload() -> impl Strategy<Value = Upload> {
    (any_u64(), any::<u32>(), any_u64(), any::<i64>()).prop_map(|(journal, chunks, bytes_total, timestamp)| Upload {
        journal: JournalId(journal),
        chunks,
        bytes_total,
        timestamp: Timestamp(timestamp),
    })
}

fn shard_state() -> impl Strategy<Value = ShardState> {
    let uploads = proptest::collection::btree_map(save_id(), upload(), 0..4);
    (any_u64(), any_u64(), uploads, any::<u128>()).prop_map(|(next_journal, next_position, uploads, chain)| ShardState {
        next_journal: JournalId(next_journal),
        next_position: Position(next_position),
        uploads,
        chain,
    })
}

fn snapshot_record() -> impl Strategy<Value = SnapshotRecord> {
    let place = (any_u64(), sequence_number(), any::<i64>(), save_id(), any_u64());
    (place, writer(), payload(), option::of(payload()), any::<u32>(), any_u64()).prop_map(
        |(place, writer, payload, metadata, chunks, bytes_total)| {
            let (journal, sequence_number, timestamp, save_id, save_number) = place;
            SnapshotRecord {
                journal: JournalId(journal),
                sequence_number,
                timestamp,
                save_id,
                save_number: SaveNumber(save_number),
                writer,
                payload,
                metadata,
                chunks,
                bytes_total,
            }
        },
    )
}

fn encoded<T>(value: &T, encode: impl Fn(&T, &mut Vec<u8>)) -> Bytes {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    Bytes::from(bytes)
}

/// The record comes back from its bytes, and from none of their beginnings, nor with more behind them.
fn check_record<T: PartialEq + std::fmt::Debug>(
    value: &T,
    encode: impl Fn(&T, &mut Vec<u8>),
    decode: impl Fn(&Bytes) -> Result<T, DecodeError>,
) {
    let bytes = encoded(value, encode);
    assert_eq!(decode(&bytes).as_ref(), Ok(value));
    for length in 0..bytes.len() {
        assert!(decode(&bytes.slice(..length)).is_err(), "cut at {length} of {}", bytes.len());
    }
    let mut longer = bytes.to_vec();
    longer.push(0);
    assert!(decode(&Bytes::from(longer)).is_err(), "one byte more");
    let mut newer = bytes.to_vec();
    newer[0] = FORMAT_VERSION + 1;
    assert!(matches!(decode(&Bytes::from(newer)), Err(DecodeError::UnknownFormat { found: 2, known: 1, .. })));
}

/// What the events look like when they come back: tags are a set.
fn canonical(events: &[Event]) -> Vec<Event> {
    let mut events = events.to_vec();
    for event in &mut events {
        event.tags.sort();
        event.tags.dedup();
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn batches_come_back_and_are_as_long_as_announced(batch in batch()) {
        let bytes = batch.encode();
        prop_assert_eq!(Batch::decode(&bytes), Ok(batch.clone()));
        let commands: usize = batch.commands.iter().map(Command::encoded_len).sum();
        let header = Batch { moment: batch.moment, commands: Vec::new() }.encode().len();
        prop_assert_eq!(bytes.len(), header + commands);
        for length in 0..bytes.len() {
            prop_assert!(Batch::decode(&bytes.slice(..length)).is_err(), "cut at {} of {}", length, bytes.len());
        }
    }

    #[test]
    fn atomic_writes_come_back_and_equal_events_give_equal_bytes(events in events()) {
        let atomic_write = AtomicWrite::new(&events).expect("legal");
        let expected = canonical(&events);
        let decoded = AtomicWrite::decode_events(atomic_write.first(), atomic_write.count(), atomic_write.body());
        prop_assert_eq!(decoded.as_ref(), Ok(&expected));
        prop_assert_eq!(AtomicWrite::new(&expected), Ok(atomic_write.clone()));
        prop_assert_eq!(atomic_write.has_tags(), expected.iter().any(|event| !event.tags.is_empty()));
        prop_assert_eq!(atomic_write.last(), expected.last().expect("not empty").sequence_number);
        let body = atomic_write.body();
        for length in 0..body.len() {
            let cut = body.slice(..length);
            prop_assert!(AtomicWrite::decode_events(atomic_write.first(), atomic_write.count(), &cut).is_err());
        }
    }

    #[test]
    fn stored_writes_replay_from_any_number_and_list_their_tags(write in stored_write(), from in 0usize..7) {
        let all: Vec<_> = write.events(SequenceNumber(0)).map(|event| event.expect("legal")).collect();
        prop_assert_eq!(all.len(), write.count as usize);
        for (ordinal, event) in all.iter().enumerate() {
            prop_assert_eq!(event.position, Position(write.position.0 + ordinal as u64));
            prop_assert_eq!((event.write_first, event.deleted), (write.first, false));
        }
        let from = all.get(from).map_or(SequenceNumber::MAX, |event| event.event.sequence_number);
        let later: Vec<_> = write.events_from(from, SequenceNumber(0)).map(|event| event.expect("legal")).collect();
        let expected: Vec<_> = all.iter().filter(|event| event.event.sequence_number >= from).cloned().collect();
        prop_assert_eq!(later, expected);
        let tagged: Vec<_> = all.iter().filter(|event| !event.event.tags.is_empty()).map(|event| TaggedEvent {
            sequence_number: event.event.sequence_number,
            position: event.position,
            tags: event.event.tags.clone(),
        }).collect();
        prop_assert_eq!(write.tags_by_event(), Ok(tagged));
        prop_assert!(write.events(write.last).all(|event| event.expect("legal").deleted));
    }

    #[test]
    fn stored_writes_come_back_one_behind_the_other(writes in vec(stored_write(), 0..4)) {
        let mut bytes = Vec::new();
        writes.iter().for_each(|write| write.encode(&mut bytes));
        let mut rest = Bytes::from(bytes);
        for write in &writes {
            prop_assert_eq!(&StoredWrite::decode_from(&mut rest).expect("legal"), write);
        }
        prop_assert!(rest.is_empty());
        prop_assert!(StoredWrite::decode_from(&mut rest).is_err());
    }

    #[test]
    fn records_come_back(
        head in head(), write in stored_write(), snapshot in snapshot_record(), upload in upload(), shard in shard_state(),
    ) {
        check_record(&head, Head::encode, Head::decode);
        check_record(&write, StoredWrite::encode, StoredWrite::decode);
        check_record(&snapshot, SnapshotRecord::encode, SnapshotRecord::decode);
        check_record(&upload, Upload::encode, Upload::decode);
        check_record(&shard, ShardState::encode, ShardState::decode);
    }

    #[test]
    fn damaged_batch_never_panics_in_decoder_or_rules(batch in batch(), damage in vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut bytes = batch.encode().to_vec();
        for (at, value) in damage {
            let at = usize::from(at) % bytes.len();
            bytes[at] = value;
        }
        if let Ok(batch) = Batch::decode(&Bytes::from(bytes)) {
            let mut store = crate::MemoryStore::new();
            let replies = store.apply(&batch);
            prop_assert_eq!(replies.len(), batch.commands.len());
            let _ = store.events_from_position(Position(0), 100);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..200), first in any::<u64>(), count in any::<u32>()) {
        let bytes = Bytes::from(bytes);
        let mut versioned = RULES_VERSION.to_le_bytes().to_vec();
        versioned.extend_from_slice(&bytes);
        let _ = (Batch::decode(&bytes), Batch::decode(&Bytes::from(versioned)));
        let mut record = vec![FORMAT_VERSION];
        record.extend_from_slice(&bytes);
        for bytes in [&bytes, &Bytes::from(record)] {
            let _ = (Head::decode(bytes), StoredWrite::decode(bytes), SnapshotRecord::decode(bytes));
            let _ = (Upload::decode(bytes), ShardState::decode(bytes), AtomicWrite::decode_events(SequenceNumber(first), count, bytes));
            if let Ok(write) = StoredWrite::decode_from(&mut bytes.clone()) {
                let _ = (write.events(SequenceNumber(first)).count(), write.tags_by_event());
                let _ = write.events_from(SequenceNumber(first), SequenceNumber(0)).count();
            }
        }
    }
}

#[test]
fn counts_that_lie_allocate_nothing() {
    // A batch that announces 2^63 commands, one of 2^63 atomic writes, events without a body, lists without entries.
    let mut batch = RULES_VERSION.to_le_bytes().to_vec();
    batch.extend_from_slice(&[0; 8]);
    varint(&mut batch, 1 << 63);
    assert_eq!(Batch::decode(&Bytes::from(batch)), Err(DecodeError::Malformed { what: "batch" }));
    let events = Events::new(SequenceNumber(1), u32::MAX, &Bytes::from_static(&[0, 0, 0, 0, 0]));
    assert!(events.size_hint().1.is_some_and(|events| events <= 2));
    assert_eq!(events.filter(Result::is_ok).count(), 1);
}

#[test]
fn other_rules_are_named_and_not_guessed() {
    for found in [0, RULES_VERSION + 1, u16::MAX] {
        let mut bytes = Batch { moment: Timestamp(1), commands: Vec::new() }.encode().to_vec();
        bytes[..2].copy_from_slice(&found.to_le_bytes());
        let expected = DecodeError::UnknownRules { found, known: RULES_VERSION };
        assert_eq!(Batch::decode(&Bytes::from(bytes)), Err(expected));
    }
}

#[test]
fn numbers_have_one_form() {
    for bytes in [&[0x80u8, 0x00][..], &[0xff; 10], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]] {
        let bytes = Bytes::copy_from_slice(bytes);
        assert!(wire::Reader::new(&bytes, "number").varint().is_err(), "{bytes:?}");
    }
    for value in [0, 0x7f, 0x80, u64::from(u32::MAX), u64::MAX] {
        let mut bytes = Vec::new();
        varint(&mut bytes, value);
        assert_eq!(wire::Reader::new(&Bytes::from(bytes), "number").varint(), Ok(value));
    }
    for value in [0, -1, 1, i64::MIN, i64::MAX] {
        let mut bytes = Vec::new();
        signed(&mut bytes, value);
        assert_eq!(wire::Reader::new(&Bytes::from(bytes), "number").signed(), Ok(value));
    }
}

fn numbered(number: u64) -> Event {
    Event { sequence_number: SequenceNumber(number), ..Event::default() }
}

#[test]
fn each_limit_of_an_atomic_write_has_its_own_error() {
    let too_large = |event: Event| match AtomicWrite::new(&[event]) {
        Err(Invalid::TooLarge { what, found, limit }) if found > limit => what,
        other => panic!("above a limit: {other:?}"),
    };
    let text = |length: usize| "x".repeat(length + 1);
    let payload = |manifest: String, length: usize| Payload { serializer_id: 1, manifest, bytes: vec![0; length].into() };
    let manifest = text(limits::MANIFEST_BYTES_MAX);
    let cases = [
        (Event { payload: payload(manifest.clone(), 0), ..numbered(1) }, "bytes of a serializer manifest"),
        (Event { adapter_manifest: manifest.clone(), ..numbered(1) }, "bytes of an adapter manifest"),
        (Event { metadata: Some(payload(manifest, 0)), ..numbered(1) }, "bytes of a metadata manifest"),
        (Event { metadata: Some(payload(String::new(), limits::METADATA_BYTES_MAX + 1)), ..numbered(1) }, "bytes of metadata"),
        (Event { tags: vec![String::new(); limits::TAGS_MAX + 1], ..numbered(1) }, "tags of an event"),
        (Event { tags: vec![text(limits::TAG_BYTES_MAX)], ..numbered(1) }, "bytes of a tag"),
        (Event { payload: payload(String::new(), limits::ATOMIC_WRITE_BYTES_MAX), ..numbered(1) }, "bytes of an atomic write"),
    ];
    for (event, expected) in cases {
        assert_eq!(too_large(event), expected);
    }
    assert_eq!(AtomicWrite::new(&[]), Err(Invalid::Empty));
    let blank = Event { tags: vec![String::new()], ..numbered(1) };
    assert_eq!(AtomicWrite::new(&[blank]), Err(Invalid::Field { field: "tags", reason: "a tag is not empty" }));
    let reason = |numbers: &[u64]| match AtomicWrite::new(&numbers.iter().copied().map(numbered).collect::<Vec<_>>()) {
        Err(Invalid::SequenceNumber { reason, .. }) => reason,
        other => panic!("an illegal number: {other:?}"),
    };
    assert_eq!(reason(&[0]), "numbers begin at 1");
    assert_eq!(reason(&[1 << 63]), "above the greatest number");
    assert_eq!(reason(&[2, 2]), "numbers rise strictly");
    assert_eq!(reason(&[2, 1]), "numbers rise strictly");
    assert!(AtomicWrite::new(&[numbered(1), numbered(SequenceNumber::MAX.0)]).is_ok());
}

#[test]
fn bounds_of_ranges_are_not_negative() {
    assert_eq!(SequenceNumber::from_wire(0), Ok(SequenceNumber(0)));
    assert_eq!(SequenceNumber::from_wire(i64::MAX), Ok(SequenceNumber::MAX));
    for found in [-1, i64::MIN] {
        assert_eq!(SequenceNumber::from_wire(found), Err(Invalid::SequenceNumber { found, reason: "negative" }));
    }
    assert_eq!(SequenceNumber::MAX.to_wire(), i64::MAX);
}

mod fixture;
