//! Bytes of version 1, kept for ever: what they hold is what they held when they were written.
//!
//! Set `CAIRN_REWRITE=1` to write a fixture that is not there yet; one that is there is never written again.

use std::path::Path;

use super::*;

fn payload(serializer_id: i32, manifest: &str, bytes: &'static [u8]) -> Payload {
    Payload { serializer_id, manifest: manifest.to_owned(), bytes: Bytes::from_static(bytes) }
}

fn name(text: &'static str) -> PersistenceId {
    PersistenceId::new(text).expect("a legal name")
}

fn writer(text: &'static str) -> WriterId {
    WriterId::new(text).expect("a legal writer")
}

fn save_id(number: u128) -> SaveId {
    SaveId(Uuid::from_u128(number))
}

fn events() -> Vec<Event> {
    let full = Event {
        sequence_number: SequenceNumber(300),
        payload: payload(-7, "a.Manifest", b"payload"),
        adapter_manifest: "adapter".to_owned(),
        metadata: Some(payload(34, "meta", b"data")),
        tags: vec!["red".to_owned(), "blue".to_owned(), "red".to_owned()],
    };
    let bare = Event { sequence_number: SequenceNumber(70_000), ..Event::default() };
    vec![full, bare]
}

fn atomic_write() -> AtomicWrite {
    AtomicWrite::new(&events()).expect("legal")
}

fn batch() -> Batch {
    let epoch = Some(WriterEpoch(200));
    Batch {
        moment: Timestamp(1_767_225_600_000_000),
        commands: vec![
            Command::Write(Write {
                persistence_id: name("cart|ä"),
                writer: writer("writer"),
                epoch,
                after: Some(SequenceNumber(299)),
                atomic_writes: vec![atomic_write()],
            }),
            Command::Claim(Claim { persistence_id: name("b"), writer: writer("w"), epoch_read: WriterEpoch(u64::MAX) }),
            Command::DeleteTo(DeleteTo {
                persistence_id: name("c"),
                to: SequenceNumber::MAX,
                permanent: true,
                writer: writer(""),
                epoch: None,
            }),
            Command::SnapshotChunk(SnapshotChunk {
                persistence_id: name("d"),
                save_id: save_id(1),
                index: 130,
                bytes: Bytes::from_static(b"chunk"),
            }),
            Command::SaveSnapshot(SaveSnapshot {
                persistence_id: name("e"),
                sequence_number: SequenceNumber(5),
                timestamp: Some(-62_135_596_800_000),
                save_id: save_id(2),
                saves_read: SaveNumber(3),
                payload: payload(8, "state", b""),
                data: SnapshotData::Inline(Bytes::from_static(b"inline")),
                metadata: Some(payload(1, "", b"m")),
                writer: writer("w"),
                epoch,
            }),
            Command::SaveSnapshot(SaveSnapshot {
                persistence_id: name("f"),
                sequence_number: SequenceNumber(0),
                timestamp: None,
                save_id: save_id(3),
                saves_read: SaveNumber(0),
                payload: Payload::default(),
                data: SnapshotData::Uploaded { chunks: 3, bytes_total: 1 << 20 },
                metadata: None,
                writer: writer(""),
                epoch: None,
            }),
            Command::DeleteSnapshot(DeleteSnapshot {
                persistence_id: name("g"),
                sequence_number: SequenceNumber(9),
                timestamp: Some(1),
                saves_read: Some(SaveNumber(4)),
                writer: writer("w"),
                epoch,
            }),
            Command::DeleteSnapshots(DeleteSnapshots {
                persistence_id: name("h"),
                criteria: Criteria::LATEST,
                saves_read: None,
                writer: writer(""),
                epoch: None,
            }),
        ],
    }
}

fn head() -> Head {
    Head {
        journal: JournalId(7),
        highest: SequenceNumber(70_000),
        deleted_to: SequenceNumber(300),
        removed_to: SequenceNumber(299),
        epoch: WriterEpoch(3),
        writer: writer("writer"),
        former_writers: vec![
            FormerWriter { writer: writer(""), epoch: WriterEpoch(1) },
            FormerWriter { writer: writer("old"), epoch: WriterEpoch(2) },
        ],
        last_write: Some(LastWrite {
            first: SequenceNumber(300),
            last: SequenceNumber(70_000),
            previous: SequenceNumber(299),
            position: Position(1_000),
            timestamp: Timestamp(1_767_225_600_000_000),
            digest: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        }),
        timestamp: Timestamp(1_767_225_600_000_000),
        saves: SaveNumber(2),
        recent_saves: vec![RecentSave { save_id: save_id(2), number: SaveNumber(2), timestamp: -1, digest: u64::MAX - 2 }],
        snapshots: 1,
    }
}

fn stored_write() -> StoredWrite {
    let atomic_write = atomic_write();
    StoredWrite {
        journal: JournalId(7),
        previous: SequenceNumber(299),
        first: atomic_write.first,
        last: atomic_write.last,
        count: atomic_write.count,
        position: Position(1_000),
        timestamp: Timestamp(1_767_225_600_000_000),
        writer: writer("writer"),
        body: atomic_write.body,
    }
}

fn snapshot_record() -> SnapshotRecord {
    SnapshotRecord {
        journal: JournalId(7),
        sequence_number: SequenceNumber(5),
        timestamp: -62_135_596_800_000,
        save_id: save_id(2),
        save_number: SaveNumber(2),
        writer: writer("writer"),
        payload: payload(8, "state", b""),
        metadata: Some(payload(1, "", b"m")),
        chunks: 3,
        bytes_total: 1 << 20,
    }
}

fn upload() -> Upload {
    Upload { journal: JournalId(7), chunks: 2, bytes_total: 600_000, timestamp: Timestamp(5) }
}

fn shard_state() -> ShardState {
    ShardState {
        next_journal: JournalId(8),
        next_position: Position(1_002),
        uploads: [(save_id(4), upload())].into(),
        chain: u128::MAX - 1,
    }
}

fn on_file(file: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format-v1").join(file);
    Bytes::from(std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display())))
}

/// The bytes on file are those that are written now, and they are read as the same value.
fn check<T: PartialEq + std::fmt::Debug>(
    file: &str,
    value: &T,
    bytes: &Bytes,
    decode: impl Fn(&Bytes) -> Result<T, DecodeError>,
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/format-v1").join(file);
    if !path.exists() && std::env::var_os("CAIRN_REWRITE").is_some() {
        std::fs::write(&path, bytes).expect("writable");
    }
    assert_eq!(decode(&on_file(file)).as_ref(), Ok(value), "{file} is read differently");
    assert_eq!(&on_file(file), bytes, "{file} is written differently");
}

#[test]
fn bytes_of_version_1_are_read_and_written_as_ever() {
    check("batch", &batch(), &batch().encode(), Batch::decode);
    check("head", &head(), &encoded(&head(), Head::encode), Head::decode);
    check("stored-write", &stored_write(), &encoded(&stored_write(), StoredWrite::encode), StoredWrite::decode);
    check("snapshot-record", &snapshot_record(), &encoded(&snapshot_record(), SnapshotRecord::encode), SnapshotRecord::decode);
    check("upload", &upload(), &encoded(&upload(), Upload::encode), Upload::decode);
    check("shard-state", &shard_state(), &encoded(&shard_state(), ShardState::encode), ShardState::decode);
}

#[test]
fn events_of_version_1_are_read_as_ever() {
    let write = StoredWrite::decode(&on_file("stored-write")).expect("read as ever");
    let read: Vec<Event> = write.events(SequenceNumber(0)).map(|event| event.expect("read as ever").event).collect();
    assert_eq!(read, canonical(&events()));
}
