//! What is refused before it is proposed: each limit of a command, at the limit and one above.

use bytes::Bytes;
use cairn_machine::{
    Command, Criteria, DeleteSnapshot, DeleteSnapshots, Event, Invalid, Payload, SaveSnapshot, SequenceNumber, SnapshotChunk,
    SnapshotData, Write, limits,
};

use crate::build::{atomic, claim, delete_to, event, name, save, save_id, singles, write, writer};

const ABOVE: SequenceNumber = SequenceNumber(SequenceNumber::MAX.0 + 1);

fn check_admitted(command: Command) {
    assert_eq!(command.check(), Ok(()), "{command:?}");
}

fn check_refused(command: Command, expected: &str) {
    let invalid = command.check().expect_err("it is above a limit");
    assert!(invalid.to_string().contains(expected), "{invalid} is not about {expected}");
}

fn of(atomic_writes: Vec<cairn_machine::AtomicWrite>) -> Command {
    Command::Write(write("cart", "A", atomic_writes))
}

#[test]
fn write_is_bounded_in_number_and_bytes_and_rises_throughout() {
    let most = limits::WRITE_ATOMIC_WRITES_MAX as u64;
    check_admitted(of(singles(1..=most)));
    check_refused(of(singles(1..=most + 1)), "atomic writes in a write");
    check_admitted(of(vec![]));
    check_refused(of(singles([1, 3, 3])), "numbers rise strictly");
    check_refused(of(singles([2, 1])), "numbers rise strictly");
    let half = |number| {
        let payload = Payload { bytes: vec![0; limits::WRITE_BYTES_MAX / 2].into(), ..Payload::default() };
        atomic(&[Event { payload, ..event(number, "") }])
    };
    check_admitted(of(vec![half(1)]));
    check_refused(of(vec![half(1), half(2)]), "bytes of a write");
    let after = |after| Command::Write(Write { after: Some(after), ..write("cart", "A", vec![]) });
    check_admitted(after(SequenceNumber::MAX));
    check_refused(after(ABOVE), "above the greatest number");
}

#[test]
fn claim_needs_a_writer() {
    check_admitted(claim("cart", "A", u64::MAX));
    assert!(matches!(claim("cart", "", 0).check(), Err(Invalid::WriterId { .. })));
}

#[test]
fn bounds_of_deletions_are_numbers_of_the_wire() {
    check_admitted(delete_to("cart", SequenceNumber::MAX, true));
    check_refused(delete_to("cart", ABOVE, true), "above the greatest number");
    let one = |sequence_number| {
        Command::DeleteSnapshot(DeleteSnapshot {
            persistence_id: name("cart"),
            sequence_number,
            timestamp: None,
            saves_read: None,
            writer: writer(""),
            epoch: None,
        })
    };
    check_admitted(one(SequenceNumber(0)));
    check_refused(one(ABOVE), "above the greatest number");
    let matching = |criteria| {
        Command::DeleteSnapshots(DeleteSnapshots {
            persistence_id: name("cart"),
            criteria,
            saves_read: None,
            writer: writer(""),
            epoch: None,
        })
    };
    check_admitted(matching(Criteria::LATEST));
    check_refused(matching(Criteria { sequence_number_min: ABOVE, ..Criteria::LATEST }), "above the greatest number");
    check_refused(matching(Criteria { sequence_number_max: ABOVE, ..Criteria::LATEST }), "above the greatest number");
}

#[test]
fn snapshot_and_its_chunks_are_bounded() {
    let chunk = |bytes: usize| {
        let bytes = Bytes::from(vec![0; bytes]);
        Command::SnapshotChunk(SnapshotChunk { persistence_id: name("cart"), save_id: save_id(1), index: 0, bytes })
    };
    check_admitted(chunk(limits::SNAPSHOT_CHUNK_BYTES_MAX));
    check_refused(chunk(limits::SNAPSHOT_CHUNK_BYTES_MAX + 1), "bytes of a snapshot's chunk");
    check_refused(chunk(0), "not empty");
    let saved = |data| Command::SaveSnapshot(SaveSnapshot { data, ..save("cart", 1, 1, "") });
    let inline = |bytes: usize| saved(SnapshotData::Inline(vec![0; bytes].into()));
    check_admitted(inline(0));
    check_admitted(inline(limits::SNAPSHOT_CHUNK_BYTES_MAX));
    check_refused(inline(limits::SNAPSHOT_CHUNK_BYTES_MAX + 1), "bytes of a snapshot in one command");
    let uploaded = |bytes_total| saved(SnapshotData::Uploaded { chunks: 1, bytes_total });
    check_admitted(uploaded(limits::SNAPSHOT_BYTES_MAX));
    check_refused(uploaded(limits::SNAPSHOT_BYTES_MAX + 1), "bytes of a snapshot");
    let with = |payload, metadata| Command::SaveSnapshot(SaveSnapshot { payload, metadata, ..save("cart", 1, 1, "") });
    let manifest = |bytes: usize| Payload { manifest: "m".repeat(bytes), ..Payload::default() };
    let bytes = |bytes: usize| Payload { bytes: vec![0; bytes].into(), ..Payload::default() };
    check_admitted(with(manifest(limits::MANIFEST_BYTES_MAX), Some(bytes(limits::METADATA_BYTES_MAX))));
    check_refused(with(manifest(limits::MANIFEST_BYTES_MAX + 1), None), "bytes of a serializer manifest");
    check_refused(with(bytes(1), None), "a snapshot's bytes stand in its data");
    check_refused(with(bytes(0), Some(bytes(limits::METADATA_BYTES_MAX + 1))), "bytes of metadata");
    check_refused(with(bytes(0), Some(manifest(limits::MANIFEST_BYTES_MAX + 1))), "bytes of a metadata manifest");
}
