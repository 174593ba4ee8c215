//! `cairn.v1.Event`, written from and read into the event of the rules.
//!
//! Invariants
//! - The bytes are those that generated code writes, and any order and any unknown field is read that generated code reads.
//! - The length of an event is counted before it is written, and is what is written.

use bytes::{BufMut, Bytes};
use cairn_machine::{Event, Invalid, Payload};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, encoded_len_varint, skip_field};

use crate::number::{sequence_number, signed};

// Numbers of fields, as the schema has them.
const SEQUENCE_NUMBER: u32 = 1;
const PAYLOAD: u32 = 2;
const ADAPTER_MANIFEST: u32 = 3;
const METADATA: u32 = 4;
const TAG: u32 = 5;

const SERIALIZER: u32 = 1;
const MANIFEST: u32 = 2;
const DATA: u32 = 3;

/// Writes an event as the field `field`, below 16, of a message.
pub fn encode_event(field: u32, event: &Event, buf: &mut impl BufMut) {
    let mut out = Gathered::into(buf);
    out.length_delimited(field, event_len(event));
    put_event(&mut out, event);
    out.flush();
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

/// Reads an event along its bytes, whose memory its payloads share.
pub(crate) fn take_event(event: &mut Event, message: &Bytes) -> Result<(), Invalid> {
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

pub(crate) fn put_event<B: BufMut>(out: &mut Gathered<'_, B>, event: &Event) {
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

/// How many bytes an event takes on the wire, its own key and length not counted.
#[must_use]
pub fn event_len(event: &Event) -> usize {
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
pub(crate) fn number_len(number: i64) -> usize {
    if number == 0 { 0 } else { KEY_BYTES + encoded_len_varint(number.cast_unsigned()) }
}

/// Bytes or a text: left out if empty.
pub(crate) fn bytes_len(len: usize) -> usize {
    if len == 0 { 0 } else { length_delimited_len(len) }
}

/// How many bytes so many take on the wire together with a key and their length, if the number of their field is below 16.
#[must_use]
pub fn length_delimited_len(len: usize) -> usize {
    KEY_BYTES + encoded_len_varint(len as u64) + len
}

/// What is gathered before it goes into the buffer, in bytes.
const GATHERED_BYTES: usize = 128;
/// A key and the longest number.
const NUMBER_BYTES_MAX: usize = KEY_BYTES + 10;

/// Small fields are gathered: to put each byte into the buffer by itself costs more than all the rest.
pub(crate) struct Gathered<'a, B> {
    buf: &'a mut B,
    waiting: [u8; GATHERED_BYTES],
    len: usize,
}

impl<'a, B: BufMut> Gathered<'a, B> {
    pub(crate) fn into(buf: &'a mut B) -> Self {
        Self { buf, waiting: [0; GATHERED_BYTES], len: 0 }
    }

    /// Puts what has been gathered into the buffer: at the end, as the last bytes are lost otherwise.
    pub(crate) fn flush(&mut self) {
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

    pub(crate) fn number(&mut self, tag: u32, number: i64) {
        if number != 0 {
            self.key_and_varint(tag, WireType::Varint, number.cast_unsigned());
        }
    }

    pub(crate) fn length_delimited(&mut self, tag: u32, len: usize) {
        self.key_and_varint(tag, WireType::LengthDelimited, len as u64);
    }

    pub(crate) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
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
