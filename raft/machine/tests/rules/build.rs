//! Short ways to say what tests say often.

use bytes::Bytes;
use cairn_machine::{
    AtomicWrite, Batch, Claim, Command, DeleteTo, Event, MemoryStore, Payload, PersistenceId, Reply, SaveId, SaveNumber,
    SaveSnapshot, SequenceNumber, SnapshotData, StoredEvent, Timestamp, Write, WriteOutcome, WriteReply, WriterEpoch, WriterId,
};
use uuid::Uuid;

pub fn name(text: &str) -> PersistenceId {
    PersistenceId::new(text.to_owned()).expect("a legal name")
}

pub fn writer(text: &str) -> WriterId {
    WriterId::new(text.to_owned()).expect("a legal writer")
}

pub fn save_id(number: u64) -> SaveId {
    SaveId(Uuid::from_u128(u128::from(number)))
}

pub fn event(number: u64, text: &str) -> Event {
    Event {
        sequence_number: SequenceNumber(number),
        payload: Payload { serializer_id: 0, manifest: String::new(), bytes: Bytes::copy_from_slice(text.as_bytes()) },
        ..Event::default()
    }
}

pub fn atomic(events: &[Event]) -> AtomicWrite {
    AtomicWrite::new(events).expect("a legal atomic write")
}

/// One atomic write for each number, each of one event.
pub fn singles(numbers: impl IntoIterator<Item = u64>) -> Vec<AtomicWrite> {
    numbers.into_iter().map(|number| atomic(&[event(number, &format!("event {number}"))])).collect()
}

pub fn write(journal: &str, by: &str, atomic_writes: Vec<AtomicWrite>) -> Write {
    Write { persistence_id: name(journal), writer: writer(by), epoch: None, after: None, atomic_writes }
}

pub fn claim(journal: &str, by: &str, epoch_read: u64) -> Command {
    Command::Claim(Claim { persistence_id: name(journal), writer: writer(by), epoch_read: WriterEpoch(epoch_read) })
}

pub fn delete_to(journal: &str, to: SequenceNumber, permanent: bool) -> Command {
    Command::DeleteTo(DeleteTo { persistence_id: name(journal), to, permanent, writer: writer(""), epoch: None })
}

pub fn save(journal: &str, number: u64, id: u64, text: &str) -> SaveSnapshot {
    SaveSnapshot {
        persistence_id: name(journal),
        sequence_number: SequenceNumber(number),
        timestamp: None,
        save_id: save_id(id),
        saves_read: SaveNumber(0),
        payload: Payload::default(),
        data: SnapshotData::Inline(Bytes::copy_from_slice(text.as_bytes())),
        metadata: None,
        writer: writer(""),
        epoch: None,
    }
}

/// Applies one command, by way of its encoded form, as it travels between nodes.
pub fn send(store: &mut MemoryStore, command: Command) -> Reply {
    send_at(store, command, 1_000_000)
}

pub fn send_at(store: &mut MemoryStore, command: Command, moment: i64) -> Reply {
    command.check().expect("admission accepts it");
    let batch = Batch { moment: Timestamp(moment), commands: vec![command] };
    let batch = Batch::decode(&batch.encode()).expect("what was encoded decodes");
    store.apply(&batch).pop().expect("one answer for one command")
}

pub fn send_write(store: &mut MemoryStore, write: Write) -> WriteReply {
    match send(store, Command::Write(write)) {
        Reply::Write(reply) => reply,
        other => panic!("a write is answered by a write's reply: {other:?}"),
    }
}

pub fn is_stored(outcome: &WriteOutcome) -> bool {
    matches!(outcome, WriteOutcome::Stored { .. })
}

/// The numbers that a replay of everything shows.
pub fn numbers(store: &MemoryStore, journal: &str) -> Vec<u64> {
    replay(store, journal, 0, u64::MAX, usize::MAX).iter().map(|event| event.event.sequence_number.0).collect()
}

pub fn replay(store: &MemoryStore, journal: &str, from: u64, to: u64, max: usize) -> Vec<StoredEvent> {
    let to = SequenceNumber(to).min(SequenceNumber::MAX);
    store.replay(&name(journal), SequenceNumber(from), to, max).expect("stored bodies decode")
}
