//! What every bench of the write path is fed with: one kind of event in one kind of batch, so that the figures of several crates
//! can be laid side by side and added up. The other crates include this file.

#![allow(dead_code, reason = "no bench uses all of it")]

use std::ops::Range;

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Batch, Command, Event, Payload, PersistenceId, Reply, SequenceNumber, Timestamp, Write, WriteOutcome,
    WriterEpoch, WriterId,
};
use criterion::Throughput;

/// The bytes of an event's payload.
pub const PAYLOAD_BYTES: usize = 256;
/// The writes of a full batch: what a leader gathers while the log syncs, with some hundred busy actors.
pub const BATCH_WRITES: u64 = 128;

/// The name of a journal.
pub fn persistence_id(journal: u64) -> PersistenceId {
    PersistenceId::new(format!("Account|{journal:012}")).expect("a legal name")
}

/// The writer of all journals; named as clients name theirs.
pub fn writer() -> WriterId {
    WriterId::new("0a7b5c1e-9f57-4a9f-8a53-4f4f4c0a2b11").expect("a legal name")
}

/// One event. Its payload does not compress, as most users' bytes do not.
pub fn event(number: u64) -> Event {
    let mut state = number ^ 0x9e37_79b9_7f4a_7c15;
    let bytes = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    let bytes: Bytes = bytes.take(PAYLOAD_BYTES).collect();
    let payload = Payload { serializer_id: 7, manifest: "Deposited".to_owned(), bytes };
    Event { sequence_number: SequenceNumber(number), payload, ..Event::default() }
}

/// Events with dense numbers.
pub fn events(numbers: Range<u64>) -> Vec<Event> {
    numbers.map(event).collect()
}

/// An atomic write of one event, which follows the one before it. The first takes the journal over, which gives epoch 1.
pub fn write(journal: u64, number: u64) -> Write {
    Write {
        persistence_id: persistence_id(journal),
        writer: writer(),
        epoch: (number > 1).then_some(WriterEpoch(1)),
        after: Some(SequenceNumber(number - 1)),
        atomic_writes: vec![AtomicWrite::new(&[event(number)]).expect("within the limits")],
    }
}

/// A batch of writes, each told by its journal and its number.
pub fn batch(writes: impl IntoIterator<Item = (u64, u64)>) -> Batch {
    let commands = writes.into_iter().map(|(journal, number)| Command::Write(write(journal, number)));
    Batch { moment: Timestamp(1), commands: commands.collect() }
}

/// As [`batch`], decoded from one piece of memory, as it comes from the log.
pub fn batch_from_log(writes: impl IntoIterator<Item = (u64, u64)>) -> Batch {
    Batch::decode(&batch(writes).encode()).expect("encoded just now")
}

/// One write to each journal, all with the same number.
pub fn each(journals: Range<u64>, number: u64) -> impl Iterator<Item = (u64, u64)> {
    journals.map(move |journal| (journal, number))
}

/// A bench of refusals would be fast and useless.
pub fn assert_stored(replies: &[Reply]) {
    let is_stored = |outcome: &WriteOutcome| matches!(outcome, WriteOutcome::Stored { .. });
    let are_stored = |reply: &Reply| matches!(reply, Reply::Write(reply) if reply.outcomes.iter().all(is_stored));
    assert!(replies.iter().all(are_stored), "every write is stored");
}

/// Counts what goes through in events and in bytes.
pub fn throughput(events: u64, bytes: usize) -> Throughput {
    Throughput::ElementsAndBytes { elements: events, bytes: bytes as u64 }
}
