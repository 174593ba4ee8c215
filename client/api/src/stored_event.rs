//! `cairn.v1.StoredEvent`, written and read without anything in between.
//!
//! Replays are made of nothing else, so what one costs decides how fast an actor recovers. The generated type would be a second copy of
//! every event on both sides, and would ask for the length of each nested message once for every level above it. This one is the event of
//! the rules itself, with the same bytes on the wire as the schema says.
//!
//! Invariants
//! - The bytes are those that generated code writes, and any order and any unknown field is read that generated code reads.
//! - Payloads and the writer's id share the memory of the message that they came with.
//! - What is not a legal event is told when the event is taken out, with the field's name; nothing is guessed.

use bytes::{Buf, BufMut, Bytes};
use cairn_machine::{Event, Invalid, StoredEvent as Stored, Timestamp, WriterId};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, int64, skip_field};

use crate::event::writer_id;
use crate::event_codec::{Gathered, bytes_len, event_len, length_delimited_len, number_len, put_event, take_event};
use crate::number::{position, sequence_number, signed};

/// An event as it is stored, on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    stored: Stored,
    has_event: bool,
    /// The first thing found that no event of ours has.
    problem: Option<Box<Invalid>>,
}

impl Default for StoredEvent {
    fn default() -> Self {
        let stored = Stored {
            event: Event::default(),
            position: cairn_machine::Position(0),
            timestamp: Timestamp(0),
            writer: WriterId::default(),
            write_first: cairn_machine::SequenceNumber(0),
            deleted: false,
        };
        Self { stored, has_event: false, problem: None }
    }
}

/// Generated messages that hold events want it. A shard's position names an event.
impl std::hash::Hash for StoredEvent {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.stored.position.hash(state);
    }
}

impl From<Stored> for StoredEvent {
    fn from(stored: Stored) -> Self {
        Self { stored, has_event: true, problem: None }
    }
}

impl TryFrom<StoredEvent> for Stored {
    type Error = Invalid;

    fn try_from(wire: StoredEvent) -> Result<Self, Invalid> {
        match wire.problem {
            Some(problem) => Err(*problem),
            None if !wire.has_event => Err(Invalid::Field { field: "event", reason: "missing" }),
            None => Ok(wire.stored),
        }
    }
}

// Numbers of fields, as the schema has them.
const EVENT: u32 = 1;
const POSITION: u32 = 2;
const TIMESTAMP: u32 = 3;
const WRITER: u32 = 4;
const WRITE_FIRST: u32 = 5;
const DELETED: u32 = 6;

impl prost::Message for StoredEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let mut out = Gathered::into(buf);
        if self.has_event {
            out.length_delimited(EVENT, event_len(&self.stored.event));
            put_event(&mut out, &self.stored.event);
        }
        out.number(POSITION, signed(self.stored.position.0));
        out.number(TIMESTAMP, self.stored.timestamp.0);
        out.bytes(WRITER, self.stored.writer.as_bytes());
        out.number(WRITE_FIRST, signed(self.stored.write_first.0));
        out.number(DELETED, i64::from(self.stored.deleted));
        out.flush();
    }

    fn encoded_len(&self) -> usize {
        let event = if self.has_event { length_delimited_len(event_len(&self.stored.event)) } else { 0 };
        event
            + number_len(signed(self.stored.position.0))
            + number_len(self.stored.timestamp.0)
            + bytes_len(self.stored.writer.as_bytes().len())
            + number_len(signed(self.stored.write_first.0))
            + number_len(i64::from(self.stored.deleted))
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        let stored = &mut self.stored;
        let read = match tag {
            EVENT => {
                self.has_event = true;
                let event = bytes(wire_type, buf, context)?;
                take_event(&mut stored.event, &event)
            }
            POSITION => position("position", number(wire_type, buf, context)?).map(|position| stored.position = position),
            TIMESTAMP => {
                stored.timestamp = Timestamp(number(wire_type, buf, context)?);
                Ok(())
            }
            WRITER => writer_id(bytes(wire_type, buf, context)?).map(|writer| stored.writer = writer),
            WRITE_FIRST => sequence_number(number(wire_type, buf, context)?).map(|first| stored.write_first = first),
            DELETED => {
                stored.deleted = number(wire_type, buf, context)? != 0;
                Ok(())
            }
            _ => return skip_field(wire_type, tag, buf, context),
        };
        if let Err(problem) = read {
            self.problem.get_or_insert_with(|| Box::new(problem));
        }
        Ok(())
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn number(wire_type: WireType, buf: &mut impl Buf, context: DecodeContext) -> Result<i64, DecodeError> {
    let mut number = 0;
    int64::merge(wire_type, &mut number, buf, context)?;
    Ok(number)
}

fn bytes(wire_type: WireType, buf: &mut impl Buf, context: DecodeContext) -> Result<Bytes, DecodeError> {
    let mut bytes = Bytes::new();
    prost::encoding::bytes::merge(wire_type, &mut bytes, buf, context)?;
    Ok(bytes)
}
