//! What is written, as users say it, and as it goes over the wire.

use bytes::{Bytes, BytesMut};
use cairn_api::event::{check_event, persistence_id};
use cairn_api::event_codec::{encode_event, event_len, length_delimited_len};
use cairn_api::v1;
use cairn_machine::limits::{ATOMIC_WRITE_BYTES_MAX, ATOMIC_WRITE_EVENTS_MAX, WRITE_ATOMIC_WRITES_MAX, WRITE_BYTES_MAX};
use cairn_machine::{
    Event, Invalid, Payload, PersistenceId, Position, SequenceNumber, Timestamp, WriteOutcome, WriteReply, WriterEpoch, WriterId,
};
use prost::encoding::{self, WireType};

use crate::error::Error;

/// An event that has no number yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// The event itself.
    pub payload: Payload,
    /// The event adapter's manifest; empty = none.
    pub adapter_manifest: String,
    /// Optional metadata with a serializer of its own; at most 64 KiB.
    pub metadata: Option<Payload>,
    /// Tags: at most 64, each of 1 to 256 bytes.
    pub tags: Vec<String>,
}

impl NewEvent {
    /// Adds a tag.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    pub(crate) fn numbered(self, sequence_number: SequenceNumber) -> Event {
        Event {
            sequence_number,
            payload: self.payload,
            adapter_manifest: self.adapter_manifest,
            metadata: self.metadata,
            tags: self.tags,
        }
    }
}

impl From<Payload> for NewEvent {
    fn from(payload: Payload) -> Self {
        Self { payload, ..Self::default() }
    }
}

macro_rules! from_bytes {
    ($($bytes:ty),*) => {$(
        impl From<$bytes> for NewEvent {
            fn from(bytes: $bytes) -> Self {
                Payload { bytes: Bytes::from(bytes), ..Payload::default() }.into()
            }
        }
    )*};
}

from_bytes!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);

/// Where an atomic write was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The number of its first event.
    pub first: SequenceNumber,
    /// The number of its last event.
    pub last: SequenceNumber,
    /// The journal's highest number before it.
    pub previous: SequenceNumber,
    /// The position of its first event in the shard; the others follow densely.
    pub position: Position,
    /// When it was stored, by the leader's clock.
    pub timestamp: Timestamp,
}

/// A write with everything chosen by the caller: for importing, and for writers that keep their own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The journal.
    pub persistence_id: PersistenceId,
    /// Who writes. The same writer sending the same events again gets the first answer.
    pub writer: WriterId,
    /// The epoch of the writer's claim, if it has one.
    pub epoch: Option<WriterEpoch>,
    /// Stored only if the journal's highest number is exactly this.
    pub after: Option<SequenceNumber>,
    /// Each stored all or none, their numbers strictly rising; none makes the write a check of `after`.
    pub atomic_writes: Vec<Vec<Event>>,
}

impl Write {
    /// Checks all limits and encodes it.
    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        let mut last = SequenceNumber(0);
        for event in self.atomic_writes.iter().flatten() {
            if event.sequence_number <= last {
                let found = event.sequence_number.to_wire();
                return Err(Invalid::SequenceNumber { found, reason: "numbers rise strictly over all atomic writes" }.into());
            }
            if event.sequence_number > SequenceNumber::MAX {
                let found = event.sequence_number.0;
                return Err(Error::Invalid { message: format!("sequence number {found} is above {}", SequenceNumber::MAX) });
            }
            last = event.sequence_number;
        }
        encode_write(&prefix(&self.persistence_id, &self.writer, self.epoch), self.after, &self.atomic_writes)
    }
}

/// The fields that are the same in every write of a writer, encoded: protobuf fields may stand in any pieces.
pub(crate) fn prefix(persistence_id: &PersistenceId, writer: &WriterId, epoch: Option<WriterEpoch>) -> Bytes {
    let (persistence_id, writer) = (persistence_id.as_bytes(), writer.as_bytes());
    let mut buffer = BytesMut::with_capacity(persistence_id.len() + writer.len() + PREFIX_BYTES_MAX);
    encoding::bytes::encode(PERSISTENCE_ID, persistence_id, &mut buffer);
    if !writer.is_empty() {
        encoding::bytes::encode(WRITER_ID, writer, &mut buffer);
    }
    if let Some(epoch) = epoch {
        encoding::int64::encode(EPOCH, &epoch.0.cast_signed(), &mut buffer);
    }
    buffer.freeze()
}

/// Checks events that are stored all or none against every limit of their own: the server will not refuse them.
fn check_atomic_write(events: &[Event]) -> Result<(), Error> {
    if events.is_empty() {
        return Err(Invalid::Empty.into());
    }
    check_count("events in an atomic write", events.len(), ATOMIC_WRITE_EVENTS_MAX)?;
    Ok(events.iter().try_for_each(check_event)?)
}

/// Checks a write against every limit, and encodes it; each of the atomic writes is stored all or none.
pub(crate) fn encode_write(prefix: &Bytes, after: Option<SequenceNumber>, atomic_writes: &[Vec<Event>]) -> Result<Bytes, Error> {
    check_count("atomic writes of a write", atomic_writes.len(), WRITE_ATOMIC_WRITES_MAX)?;
    let after = after.map(|after| after.0.cast_signed());
    let mut len = prefix.len() + after.map_or(0, |after| encoding::int64::encoded_len(AFTER, &after));
    for events in atomic_writes {
        check_atomic_write(events)?;
        let body = atomic_write_len(events);
        // The wire's form is never smaller than the stored one by more than a few bytes, so that this is the server's check.
        check_count("bytes of an atomic write", body, ATOMIC_WRITE_BYTES_MAX)?;
        len += length_delimited_len(body);
    }
    check_count("bytes of a write", len, WRITE_BYTES_MAX)?;
    let mut buffer = BytesMut::with_capacity(len);
    buffer.extend_from_slice(prefix);
    if let Some(after) = after {
        encoding::int64::encode(AFTER, &after, &mut buffer);
    }
    for events in atomic_writes {
        encoding::encode_key(ATOMIC_WRITES, WireType::LengthDelimited, &mut buffer);
        encoding::encode_varint(atomic_write_len(events) as u64, &mut buffer);
        for event in events {
            encode_event(EVENTS, event, &mut buffer);
        }
    }
    debug_assert_eq!(buffer.len(), len, "an event is as long as it says");
    Ok(buffer.freeze())
}

// Numbers of fields, as the schema has them: of `cairn.v1.WriteRequest`, and of `cairn.v1.AtomicWrite`.
const PERSISTENCE_ID: u32 = 1;
const WRITER_ID: u32 = 2;
const EPOCH: u32 = 3;
const AFTER: u32 = 4;
const ATOMIC_WRITES: u32 = 5;
const EVENTS: u32 = 1;

/// What a prefix needs beside the names in it, in bytes: two keys with lengths, and a key with a number.
const PREFIX_BYTES_MAX: usize = 2 * (1 + 2) + 1 + 10;

fn atomic_write_len(events: &[Event]) -> usize {
    events.iter().map(|event| length_delimited_len(event_len(event))).sum()
}

fn check_count(what: &'static str, found: usize, limit: usize) -> Result<(), Error> {
    if found > limit {
        return Err(Invalid::TooLarge { what, found: found as u64, limit: limit as u64 }.into());
    }
    Ok(())
}

/// Reads the answer to a write of `count` atomic writes.
pub(crate) fn write_reply(response: v1::WriteResponse, count: usize) -> Result<WriteReply, Error> {
    let reply = WriteReply::try_from(response).map_err(|invalid| Error::protocol(invalid.to_string()))?;
    if reply.outcomes.len() != count {
        return Err(Error::protocol(format!("{} outcomes for {count} atomic writes", reply.outcomes.len())));
    }
    Ok(reply)
}

/// Where an atomic write with these numbers was stored, or why it was refused.
pub(crate) fn appended(outcome: WriteOutcome, first: SequenceNumber, last: SequenceNumber) -> Result<Appended, Error> {
    match outcome {
        WriteOutcome::Stored { previous, position, timestamp } => Ok(Appended { first, last, previous, position, timestamp }),
        WriteOutcome::Refused(refusal) => Err(refusal.into()),
    }
}

/// Parses a persistence id as the server would.
pub(crate) fn parse_persistence_id(text: impl Into<String>) -> Result<PersistenceId, Error> {
    Ok(persistence_id(text.into())?)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn payload(id: i32, manifest: &str, bytes: usize) -> Payload {
        Payload { serializer_id: id, manifest: manifest.to_owned(), bytes: vec![7; bytes].into() }
    }

    fn write(epoch: Option<u64>, after: Option<u64>, atomic_writes: Vec<Vec<Event>>) -> Write {
        Write {
            persistence_id: PersistenceId::new("journal").expect("not blank"),
            writer: WriterId::new("writer").expect("is text"),
            epoch: epoch.map(WriterEpoch),
            after: after.map(SequenceNumber),
            atomic_writes,
        }
    }

    fn generated(write: &Write) -> Vec<u8> {
        let atomic_write =
            |events: &Vec<Event>| v1::AtomicWrite { events: events.iter().cloned().map(v1::Event::from).collect() };
        let request = v1::WriteRequest {
            persistence_id: write.persistence_id.as_str().to_owned(),
            writer_id: write.writer.as_str().to_owned(),
            epoch: write.epoch.map(|epoch| epoch.0.cast_signed()),
            after: write.after.map(|after| after.0.cast_signed()),
            atomic_writes: write.atomic_writes.iter().map(atomic_write).collect(),
        };
        request.encode_to_vec()
    }

    #[test]
    fn a_write_encodes_to_the_bytes_of_the_generated_message() {
        let plain = NewEvent::from("small").numbered(SequenceNumber(1));
        let full = NewEvent {
            payload: payload(-3, "manifest", 70_000),
            adapter_manifest: "adapter".repeat(60),
            metadata: Some(payload(9, "", 300)),
            tags: vec!["a".to_owned(), "b".repeat(200)],
        };
        let full = full.numbered(SequenceNumber(1 << 40));
        let empty = NewEvent::default().numbered(SequenceNumber(2));
        let cases = [
            write(None, None, vec![]),
            write(Some(0), Some(0), vec![vec![plain.clone()]]),
            write(Some(u64::MAX >> 1), Some(SequenceNumber::MAX.0), vec![vec![plain, empty], vec![full]]),
        ];
        for case in cases {
            assert_eq!(case.encode().expect("is within the limits"), generated(&case));
        }
        let unknown_writer = Write { writer: WriterId::default(), ..write(None, None, vec![]) };
        assert_eq!(unknown_writer.encode().expect("is within the limits"), generated(&unknown_writer));
    }
}
