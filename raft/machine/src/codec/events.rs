//! The body of an atomic write.
//!
//! A byte of flags over all events, then each event: how far its number lies above the one before (0 for the first), its own
//! flags, serializer id, and what the flags announce. What most events do not have costs them no byte.

use std::iter::FusedIterator;
use std::ops::Range;

use bytes::Bytes;

use super::DecodeError;
use super::wire::{Length, Reader, Sink, bytes_field, signed, varint};
use crate::event::{Event, Payload};
use crate::ids::{Position, SequenceNumber};

const ANY_TAGS: u8 = 1;
const ANY_METADATA: u8 = 1 << 1;

const HAS_MANIFEST: u8 = 1;
const HAS_ADAPTER_MANIFEST: u8 = 1 << 1;
const HAS_METADATA: u8 = 1 << 2;
const HAS_TAGS: u8 = 1 << 3;

const WHAT: &str = "atomic write";

/// A position in the shard whose event carries tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedEvent {
    /// The event's place in its journal.
    pub sequence_number: SequenceNumber,
    /// The event's place in its shard.
    pub position: Position,
    /// Its tags, sorted, without duplicates, at least one.
    pub tags: Vec<String>,
}

/// Encodes events whose numbers rise strictly. More than `bytes_max` bytes are not encoded; the error is how many there would be.
pub(crate) fn encode_events(events: &[Event], bytes_max: usize) -> Result<Bytes, usize> {
    let mut length = Length::default();
    put_events(&mut length, events);
    if length.0 > bytes_max {
        return Err(length.0);
    }
    let mut body = Vec::with_capacity(length.0);
    put_events(&mut body, events);
    Ok(Bytes::from(body))
}

/// Whether any event of this body carries a tag.
pub(crate) fn has_tags(body: &Bytes) -> bool {
    body.first().is_some_and(|flags| flags & ANY_TAGS != 0)
}

fn put_events(sink: &mut impl Sink, events: &[Event]) {
    let mut flags = 0;
    for event in events {
        flags |= if event.tags.is_empty() { 0 } else { ANY_TAGS };
        flags |= if event.metadata.is_none() { 0 } else { ANY_METADATA };
    }
    sink.put_byte(flags);
    let mut previous = events.first().map_or(0, |event| event.sequence_number.0);
    for event in events {
        varint(sink, event.sequence_number.0 - previous);
        previous = event.sequence_number.0;
        put_event(sink, event);
    }
}

fn put_event(sink: &mut impl Sink, event: &Event) {
    let mut flags = 0;
    flags |= if event.payload.manifest.is_empty() { 0 } else { HAS_MANIFEST };
    flags |= if event.adapter_manifest.is_empty() { 0 } else { HAS_ADAPTER_MANIFEST };
    flags |= if event.metadata.is_none() { 0 } else { HAS_METADATA };
    flags |= if event.tags.is_empty() { 0 } else { HAS_TAGS };
    sink.put_byte(flags);
    signed(sink, i64::from(event.payload.serializer_id));
    if flags & HAS_MANIFEST != 0 {
        bytes_field(sink, event.payload.manifest.as_bytes());
    }
    bytes_field(sink, &event.payload.bytes);
    if flags & HAS_ADAPTER_MANIFEST != 0 {
        bytes_field(sink, event.adapter_manifest.as_bytes());
    }
    if let Some(metadata) = &event.metadata {
        signed(sink, i64::from(metadata.serializer_id));
        bytes_field(sink, metadata.manifest.as_bytes());
        bytes_field(sink, &metadata.bytes);
    }
    if flags & HAS_TAGS != 0 {
        put_tags(sink, &event.tags);
    }
}

/// Tags are a set: sorted and without duplicates, so that equal sets give equal bytes.
fn put_tags(sink: &mut impl Sink, tags: &[String]) {
    if tags.is_sorted_by(|left, right| left < right) {
        varint(sink, tags.len() as u64);
        tags.iter().for_each(|tag| bytes_field(sink, tag.as_bytes()));
        return;
    }
    let mut sorted: Vec<&str> = tags.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    sorted.dedup();
    varint(sink, sorted.len() as u64);
    sorted.iter().for_each(|tag| bytes_field(sink, tag.as_bytes()));
}

/// The events of one body, in order; payload bytes share the body's memory. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Events {
    body: Bytes,
    at: usize,
    flags: u8,
    previous: SequenceNumber,
    left: u32,
    started: bool,
}

impl Events {
    /// The events of a body of `count` events whose first number is `first`.
    #[must_use]
    pub fn new(first: SequenceNumber, count: u32, body: &Bytes) -> Self {
        // The flags byte is read with the first event, so that an empty body is an error there.
        Self { body: body.clone(), at: 0, flags: 0, previous: first, left: count, started: false }
    }

    /// How many events were not taken yet.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Leaves out every event below `from`, without building it. Returns how many.
    ///
    /// # Errors
    /// [`DecodeError::Malformed`].
    pub fn skip_below(&mut self, from: SequenceNumber) -> Result<u32, DecodeError> {
        let mut skipped = 0;
        while self.left > 0 {
            let before = self.clone_place();
            if self.raw()?.sequence_number >= from {
                self.restore(before);
                break;
            }
            skipped += 1;
        }
        Ok(skipped)
    }

    fn clone_place(&self) -> Place {
        Place { at: self.at, previous: self.previous, left: self.left, started: self.started }
    }

    fn restore(&mut self, place: Place) {
        self.at = place.at;
        self.previous = place.previous;
        self.left = place.left;
        self.started = place.started;
    }

    /// The next event's parts; there must be one left.
    fn raw(&mut self) -> Result<RawEvent, DecodeError> {
        let mut reader = Reader::at(&self.body, self.at, WHAT);
        let is_first = !self.started;
        if is_first {
            self.flags = reader.byte()?;
            if self.flags & !(ANY_TAGS | ANY_METADATA) != 0 {
                return Err(reader.malformed());
            }
        }
        let raw = RawEvent::read(&mut reader, self.previous, is_first)?;
        if self.left == 1 {
            reader.end()?;
        }
        self.at = reader.position();
        self.previous = raw.sequence_number;
        self.started = true;
        self.left -= 1;
        Ok(raw)
    }

    /// Tags of the events that have some, with their places from `position` on.
    pub(crate) fn tagged(mut self, position: Position) -> Result<Vec<TaggedEvent>, DecodeError> {
        let mut tagged = Vec::new();
        let mut position = position;
        while self.left > 0 {
            let raw = self.raw()?;
            if let Some(at) = raw.tags {
                tagged.push(TaggedEvent {
                    sequence_number: raw.sequence_number,
                    position,
                    tags: read_tags(&mut Reader::at(&self.body, at, WHAT))?,
                });
            }
            position.0 += 1;
        }
        Ok(tagged)
    }

    fn build(&self, raw: RawEvent) -> Result<Event, DecodeError> {
        Ok(Event {
            sequence_number: raw.sequence_number,
            payload: self.payload(&raw.payload)?,
            adapter_manifest: self.text(&raw.adapter_manifest)?,
            metadata: raw.metadata.map(|metadata| self.payload(&metadata)).transpose()?,
            tags: match raw.tags {
                None => Vec::new(),
                Some(at) => read_tags(&mut Reader::at(&self.body, at, WHAT))?,
            },
        })
    }

    fn payload(&self, raw: &RawPayload) -> Result<Payload, DecodeError> {
        Ok(Payload {
            serializer_id: raw.serializer_id,
            manifest: self.text(&raw.manifest)?,
            bytes: if raw.bytes.is_empty() { Bytes::new() } else { self.body.slice(raw.bytes.clone()) },
        })
    }

    fn text(&self, range: &Range<usize>) -> Result<String, DecodeError> {
        if range.is_empty() {
            return Ok(String::new());
        }
        match std::str::from_utf8(&self.body[range.clone()]) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::Malformed { what: WHAT }),
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let event = match self.raw() {
            Ok(raw) => self.build(raw),
            Err(error) => Err(error),
        };
        if event.is_err() {
            self.left = 0;
        }
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An event takes at least four bytes: a wrong count cannot make a caller allocate more than the body justifies.
        let at_most = (self.body.len() - self.at) / EVENT_BYTES_MIN + 1;
        (0, Some(at_most.min(self.left as usize)))
    }
}

impl FusedIterator for Events {}

/// Number, flags, serializer id and the length of the payload.
const EVENT_BYTES_MIN: usize = 4;

struct Place {
    at: usize,
    previous: SequenceNumber,
    left: u32,
    started: bool,
}

/// One event's parts by their places in the body.
struct RawEvent {
    sequence_number: SequenceNumber,
    payload: RawPayload,
    adapter_manifest: Range<usize>,
    metadata: Option<RawPayload>,
    /// Where the tags begin.
    tags: Option<usize>,
}

struct RawPayload {
    serializer_id: i32,
    manifest: Range<usize>,
    bytes: Range<usize>,
}

impl RawEvent {
    fn read(reader: &mut Reader<'_>, previous: SequenceNumber, is_first: bool) -> Result<Self, DecodeError> {
        let rise = reader.varint()?;
        // Numbers rise strictly, and the first one stands outside the body.
        if is_first != (rise == 0) {
            return Err(reader.malformed());
        }
        let sequence_number = SequenceNumber(previous.0.checked_add(rise).ok_or_else(|| reader.malformed())?);
        if sequence_number > SequenceNumber::MAX {
            return Err(reader.malformed());
        }
        let flags = reader.byte()?;
        if flags & !(HAS_MANIFEST | HAS_ADAPTER_MANIFEST | HAS_METADATA | HAS_TAGS) != 0 {
            return Err(reader.malformed());
        }
        let payload = RawPayload {
            serializer_id: reader.signed_i32()?,
            manifest: if flags & HAS_MANIFEST != 0 { reader.bytes_range()? } else { 0..0 },
            bytes: reader.bytes_range()?,
        };
        let adapter_manifest = if flags & HAS_ADAPTER_MANIFEST != 0 { reader.bytes_range()? } else { 0..0 };
        let metadata = if flags & HAS_METADATA != 0 {
            Some(RawPayload {
                serializer_id: reader.signed_i32()?,
                manifest: reader.bytes_range()?,
                bytes: reader.bytes_range()?,
            })
        } else {
            None
        };
        let tags = if flags & HAS_TAGS != 0 {
            let at = reader.position();
            for _ in 0..reader.count()? {
                reader.bytes_range()?;
            }
            Some(at)
        } else {
            None
        };
        Ok(Self { sequence_number, payload, adapter_manifest, metadata, tags })
    }
}

fn read_tags(reader: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    let count = reader.count()?;
    // Each takes at least one byte, checked by `count`; room is made as they come.
    let mut tags = Vec::new();
    for _ in 0..count {
        tags.push(reader.text()?);
    }
    Ok(tags)
}
