//! What is written, as users say it, and as it goes over the wire.

use bytes::{Bytes, BytesMut};
use cairn_api::event::{check_event, persistence_id};
use cairn_api::v1;
use cairn_machine::limits::{ATOMIC_WRITE_BYTES_MAX, ATOMIC_WRITE_EVENTS_MAX, WRITE_ATOMIC_WRITES_MAX, WRITE_BYTES_MAX};
use cairn_machine::{
    Event, Invalid, Payload, PersistenceId, Position, SequenceNumber, Timestamp, WriteOutcome, WriteReply, WriterEpoch, WriterId,
};
use prost::Message;
use prost::encoding::{encoded_len_varint, message};

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
    pub(crate) fn encode(self) -> Result<Bytes, Error> {
        let mut last = SequenceNumber(0);
        let mut atomic_writes = Vec::with_capacity(self.atomic_writes.len());
        for events in self.atomic_writes {
            for event in &events {
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
            atomic_writes.push(atomic_write(events)?);
        }
        encode_write(&prefix(&self.persistence_id, &self.writer, self.epoch), self.after, &atomic_writes)
    }
}

/// The fields that are the same in every write of a writer, encoded: protobuf fields may stand in any pieces.
pub(crate) fn prefix(persistence_id: &PersistenceId, writer: &WriterId, epoch: Option<WriterEpoch>) -> Bytes {
    let request = v1::WriteRequest {
        persistence_id: persistence_id.as_str().to_owned(),
        writer_id: writer.as_str().to_owned(),
        epoch: epoch.map(|epoch| epoch.0.cast_signed()),
        ..Default::default()
    };
    request.encode_to_vec().into()
}

/// Events that are stored all or none, checked against every limit: the server will not refuse them.
pub(crate) fn atomic_write(events: Vec<Event>) -> Result<v1::AtomicWrite, Error> {
    if events.is_empty() {
        return Err(Invalid::Empty.into());
    }
    check_count("events in an atomic write", events.len(), ATOMIC_WRITE_EVENTS_MAX)?;
    for event in &events {
        check_event(event)?;
        if event.tags.iter().any(String::is_empty) {
            return Err(Invalid::Field { field: "tags", reason: "a tag is empty" }.into());
        }
    }
    Ok(v1::AtomicWrite { events: events.into_iter().map(v1::Event::from).collect() })
}

/// Encodes a write.
pub(crate) fn encode_write(
    prefix: &Bytes,
    after: Option<SequenceNumber>,
    atomic_writes: &[v1::AtomicWrite],
) -> Result<Bytes, Error> {
    check_count("atomic writes of a write", atomic_writes.len(), WRITE_ATOMIC_WRITES_MAX)?;
    let tail = v1::WriteRequest { after: after.map(|after| after.0.cast_signed()), ..Default::default() };
    let mut len = prefix.len() + tail.encoded_len();
    for atomic_write in atomic_writes {
        let body = atomic_write.encoded_len();
        // The wire's form is never smaller than the stored one by more than a few bytes, so that this is the server's check.
        check_count("bytes of an atomic write", body, ATOMIC_WRITE_BYTES_MAX)?;
        len += 1 + encoded_len_varint(body as u64) + body;
    }
    check_count("bytes of a write", len, WRITE_BYTES_MAX)?;
    let mut buffer = BytesMut::with_capacity(len);
    buffer.extend_from_slice(prefix);
    tail.encode(&mut buffer).expect("a buffer that grows has room");
    for atomic_write in atomic_writes {
        message::encode(ATOMIC_WRITES, atomic_write, &mut buffer);
    }
    Ok(buffer.freeze())
}

/// The field number of `cairn.v1.WriteRequest.atomic_writes`.
const ATOMIC_WRITES: u32 = 5;

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
