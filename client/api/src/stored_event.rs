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
use cairn_machine::{Event, Invalid, Payload, StoredEvent as Stored, Timestamp, WriterId};
use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encoded_len_varint, int64, skip_field};

use crate::event::writer_id;
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

const SEQUENCE_NUMBER: u32 = 1;
const PAYLOAD: u32 = 2;
const ADAPTER_MANIFEST: u32 = 3;
const METADATA: u32 = 4;
const TAG: u32 = 5;

const SERIALIZER: u32 = 1;
const MANIFEST: u32 = 2;
const DATA: u32 = 3;

impl prost::Message for StoredEvent {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        let mut out = Gathered { buf, waiting: [0; GATHERED_BYTES], len: 0 };
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

/// One field of a message that is read along its bytes.
enum Field<'a> {
    Number(u32, i64),
    Bytes(u32, &'a [u8]),
    /// Of a kind that no field of ours has.
    Other(u32),
}

const MALFORMED: Invalid = Invalid::Field { field: "event", reason: "malformed" };

/// Takes the next field off a message.
fn field<'a>(message: &mut &'a [u8]) -> Result<Field<'a>, Invalid> {
    let (tag, wire_type) = decode_key(message).map_err(|_| MALFORMED)?;
    match wire_type {
        WireType::Varint => Ok(Field::Number(tag, decode_varint(message).map_err(|_| MALFORMED)?.cast_signed())),
        WireType::LengthDelimited => {
            let len = usize::try_from(decode_varint(message).map_err(|_| MALFORMED)?).map_err(|_| MALFORMED)?;
            let (bytes, rest) = message.split_at_checked(len).ok_or(MALFORMED)?;
            *message = rest;
            Ok(Field::Bytes(tag, bytes))
        }
        _ => {
            skip_field(wire_type, tag, message, DecodeContext::default()).map_err(|_| MALFORMED)?;
            Ok(Field::Other(tag))
        }
    }
}

fn take_event(event: &mut Event, message: &Bytes) -> Result<(), Invalid> {
    let mut rest = &message[..];
    while !rest.is_empty() {
        match field(&mut rest)? {
            Field::Number(SEQUENCE_NUMBER, number) => event.sequence_number = sequence_number(number)?,
            Field::Bytes(PAYLOAD, payload) => take_payload(&mut event.payload, message, payload)?,
            Field::Bytes(ADAPTER_MANIFEST, manifest) => event.adapter_manifest = text("adapter_manifest", manifest)?,
            Field::Bytes(METADATA, metadata) => take_payload(event.metadata.get_or_insert_default(), message, metadata)?,
            // An empty tag would mean "all" to a follower.
            Field::Bytes(TAG, []) => return Err(Invalid::Field { field: "tags", reason: "a tag is empty" }),
            Field::Bytes(TAG, tag) => event.tags.push(text("tags", tag)?),
            Field::Number(PAYLOAD..=TAG, _) | Field::Bytes(SEQUENCE_NUMBER, _) | Field::Other(SEQUENCE_NUMBER..=TAG) => {
                return Err(MALFORMED);
            }
            Field::Number(..) | Field::Bytes(..) | Field::Other(_) => {}
        }
    }
    Ok(())
}

/// `payload` lies within `message`, whose memory its bytes share.
fn take_payload(payload: &mut Payload, message: &Bytes, fields: &[u8]) -> Result<(), Invalid> {
    let mut rest = fields;
    while !rest.is_empty() {
        match field(&mut rest)? {
            // Cut down as generated code does.
            Field::Number(SERIALIZER, id) => payload.serializer_id = id as i32,
            Field::Bytes(MANIFEST, manifest) => payload.manifest = text("manifest", manifest)?,
            Field::Bytes(DATA, data) => payload.bytes = message.slice_ref(data),
            Field::Number(MANIFEST | DATA, _) | Field::Bytes(SERIALIZER, _) | Field::Other(SERIALIZER..=DATA) => {
                return Err(MALFORMED);
            }
            Field::Number(..) | Field::Bytes(..) | Field::Other(_) => {}
        }
    }
    Ok(())
}

fn text(field: &'static str, bytes: &[u8]) -> Result<String, Invalid> {
    let text = std::str::from_utf8(bytes).map_err(|_| Invalid::Field { field, reason: "not UTF-8" })?;
    Ok(text.to_owned())
}

fn put_event<B: BufMut>(out: &mut Gathered<'_, B>, event: &Event) {
    out.number(SEQUENCE_NUMBER, signed(event.sequence_number.0));
    out.length_delimited(PAYLOAD, payload_len(&event.payload));
    put_payload(out, &event.payload);
    out.bytes(ADAPTER_MANIFEST, event.adapter_manifest.as_bytes());
    if let Some(metadata) = &event.metadata {
        out.length_delimited(METADATA, payload_len(metadata));
        put_payload(out, metadata);
    }
    for tag in &event.tags {
        out.length_delimited(TAG, tag.len());
        out.slice(tag.as_bytes());
    }
}

fn put_payload<B: BufMut>(out: &mut Gathered<'_, B>, payload: &Payload) {
    out.number(SERIALIZER, i64::from(payload.serializer_id));
    out.bytes(MANIFEST, payload.manifest.as_bytes());
    out.bytes(DATA, &payload.bytes);
}

fn event_len(event: &Event) -> usize {
    let tags: usize = event.tags.iter().map(|tag| length_delimited_len(tag.len())).sum();
    number_len(signed(event.sequence_number.0))
        + length_delimited_len(payload_len(&event.payload))
        + bytes_len(event.adapter_manifest.len())
        + event.metadata.as_ref().map_or(0, |metadata| length_delimited_len(payload_len(metadata)))
        + tags
}

fn payload_len(payload: &Payload) -> usize {
    number_len(i64::from(payload.serializer_id)) + bytes_len(payload.manifest.len()) + bytes_len(payload.bytes.len())
}

/// All numbers of fields here are below 16: a key is one byte.
const KEY_BYTES: usize = 1;

/// A number that is 0 is left out.
fn number_len(number: i64) -> usize {
    if number == 0 { 0 } else { KEY_BYTES + encoded_len_varint(number.cast_unsigned()) }
}

/// Bytes or a text: left out if empty.
fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { length_delimited_len(len) }
}

fn length_delimited_len(len: usize) -> usize {
    KEY_BYTES + encoded_len_varint(len as u64) + len
}

/// What is gathered before it goes into the buffer, in bytes.
const GATHERED_BYTES: usize = 128;
/// A key and the longest number.
const NUMBER_BYTES_MAX: usize = KEY_BYTES + 10;

/// Small fields are gathered: to put each byte into the buffer by itself costs more than all the rest.
struct Gathered<'a, B> {
    buf: &'a mut B,
    waiting: [u8; GATHERED_BYTES],
    len: usize,
}

impl<B: BufMut> Gathered<'_, B> {
    fn flush(&mut self) {
        self.buf.put_slice(&self.waiting[..self.len]);
        self.len = 0;
    }

    fn key_and_varint(&mut self, tag: u32, wire_type: WireType, mut value: u64) {
        if self.len + NUMBER_BYTES_MAX > GATHERED_BYTES {
            self.flush();
        }
        self.waiting[self.len] = (tag << 3) as u8 | wire_type as u8;
        self.len += KEY_BYTES;
        while value >= 0x80 {
            self.waiting[self.len] = value as u8 | 0x80;
            self.len += 1;
            value >>= 7;
        }
        self.waiting[self.len] = value as u8;
        self.len += 1;
    }

    fn number(&mut self, tag: u32, number: i64) {
        if number != 0 {
            self.key_and_varint(tag, WireType::Varint, number.cast_unsigned());
        }
    }

    fn length_delimited(&mut self, tag: u32, len: usize) {
        self.key_and_varint(tag, WireType::LengthDelimited, len as u64);
    }

    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.length_delimited(tag, bytes.len());
            self.slice(bytes);
        }
    }

    fn slice(&mut self, bytes: &[u8]) {
        if bytes.len() <= GATHERED_BYTES - self.len {
            self.waiting[self.len..self.len + bytes.len()].copy_from_slice(bytes);
            self.len += bytes.len();
            return;
        }
        self.flush();
        self.buf.put_slice(bytes);
    }
}
